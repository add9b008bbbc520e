// Inside the network: every record that probes wrote, its history, and its help text.
import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { Panel, Picture } from "./parts.js";
import { useAnswer, useTail } from "./state.js";

export function Network({ source, run }) {
  const about = useAnswer(source, "run", { name: run }, { every: 5000, skip: !run });
  const tail = useTail(source, run, 2000);
  const failed = (tail.news ?? []).filter((e) => e.kind === "probe_failed");
  const records = about.value?.records ?? [];
  if (!run) return html`<p class="empty">No run yet.</p>`;
  return html`<div class="page">${about.error ? html`<p class="error" role="alert">${about.error}</p>` : null}
    ${failed.length ? html`<${Panel} title="Probes that failed" error=${failed.at(-1).message} wide><details><summary>traceback</summary><pre>${failed.at(-1).traceback}</pre></details><//>` : null}
    ${records.length ? html`<div class="grid big">${records.map((r) => html`<${Record} key=${r.name} source=${source} run=${run} record=${r} steps=${tail.records?.[r.name] ?? r.steps} />`)}</div>` : html`<p class="empty">No records yet. Probes write them while a run trains; <code>molifold diagnose ${run}</code> adds its verdict afterwards.</p>`}</div>`;
}

function Record({ source, run, record, steps }) {
  const [at, set] = useState(null);
  const step = at === null ? steps.at(-1) : steps[Math.min(at, steps.length - 1)];
  const picture = useAnswer(source, "record", { name: run, record: record.name, step });
  return html`<${Panel} title=${record.name} help=${record.text} error=${picture.error}>
    ${picture.value ? html`<${Picture} picture=${picture.value} name=${`${record.name} ${step}`} />` : html`<p class="empty">Loading …</p>`}
    ${steps.length > 1 && source.live ? html`<label class="choice steps"><span>step ${step}</span><input type="range" min="0" max=${steps.length - 1} value=${at ?? steps.length - 1} aria-label="step" onInput=${(e) => set(Number(e.target.value) === steps.length - 1 ? null : Number(e.target.value))} /></label>` : null}<//>`;
}
