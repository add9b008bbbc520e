// Inside the network: its modules with shapes, health and verdicts; layers over time; every record, its history, its help.
import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { Badge, Panel, Picture, Steps } from "./parts.js";
import { useAnswer, useTail } from "./state.js";
import { count, short } from "./ticks.js";

export function Network({ source, run, change, known }) {
  const about = useAnswer(source, "run", { name: run }, { every: 5000, skip: !run });
  const tail = useTail(source, run, 2000);
  const inside = useAnswer(source, "inside", { name: run }, { every: 10000, skip: !run });
  const has = Boolean(inside.value?.histories.length), health = useAnswer(source, "health", { name: run }, { every: 20000, skip: !has });
  const failed = [...new Map((tail.news ?? []).filter((e) => e.kind === "probe_failed").map((e) => [e.probe, e])).values()];
  const records = about.value?.records ?? [], modules = inside.value?.modules ?? [];
  if (!run) return html`<p class="empty">No run yet: a network is seen through its run. <code>molifold train alanine-dipeptide</code> makes one.</p>`;
  if (about.error && !about.value) return html`<p class="error" role="alert">${about.error}</p>`;
  const show = known.ensembles.some((e) => e.name === `${run}/reference`) &&
    (({ name, worst }) => change({ page: "conformations", ensemble: `${run}/reference`, x: "", y: "", row: worst, selected: "", colour: name, paint: `atoms ${name}` }));
  return html`<div class="page">${about.error ?? inside.error ? html`<p class="error" role="alert">${about.error ?? inside.error}</p>` : null}
    ${failed.map((e) => html`<${Panel} key=${e.probe} title=${`Probe ${e.probe} failed at step ${count(e.step)}`} error=${e.message} wide><details><summary>traceback</summary><pre>${e.traceback}</pre></details><//>`)}
    ${modules.length ? html`<${Modules} key=${run} modules=${modules} help=${inside.value.help.modules} show=${show} />` : null}
    ${has ? html`<${Panel} title="Health of the layers" help=${inside.value.help.health} error=${health.error} wide>${health.value ? html`<${Picture} picture=${health.value} name=${`${run} health`} />` : null}<//>` : null}
    ${records.length ? html`<div class="grid big">${records.map((r) => html`<${Record} key=${`${run} ${r.name}`} source=${source} run=${run} record=${r} show=${show} steps=${tail.records?.[r.name] ?? r.steps} />`)}</div>`
      : html`<p class="empty">No records yet. Probes write them while a run trains; <code>molifold diagnose ${run}</code> adds its verdict afterwards.</p>`}</div>`;
}

function Modules({ modules, help, show }) {
  // Small networks are open at once; of large ones, what has a verdict.
  const told = (m) => m.site.verdict && m.site.verdict !== "sound";
  const [open, set] = useState(() => new Set(modules.filter((m) => modules.length <= 24 || m.depth < 1 || told(m)).map((m) => m.path)));
  const fold = (path) => { const next = new Set(open); if (!next.delete(path)) next.add(path); set(next); };
  const hidden = [], shown = modules.filter((m) => {
    while (hidden.length && !m.path.startsWith(`${hidden.at(-1)}.`)) hidden.pop();
    if (hidden.length) return false;
    if (!m.leaf && !open.has(m.path)) hidden.push(m.path);
    return true;
  });
  return html`<${Panel} title="Modules" help=${help} wide actions=${html`<button class="quiet" onClick=${() => set(new Set(modules.map((m) => m.path)))}>open all</button><button class="quiet" onClick=${() => set(new Set())}>close all</button>`}>
    <div class="modules"><table><thead><tr><th>module</th><th class="number">parameters</th><th>tensors</th><th class="number">gradient</th><th class="number">update / size</th><th>verdict</th><th>misses</th><th class="number">gain / nats</th><th></th></tr></thead><tbody>
    ${shown.map((m) => html`<tr key=${m.path}><td style=${`padding-left:${14 * m.depth}px`} title=${m.path}>${m.leaf ? html`<button class="fold" disabled>·</button>`
      : html`<button class="fold" aria-expanded=${open.has(m.path)} aria-label=${m.path} onClick=${() => fold(m.path)}>${open.has(m.path) ? "▾" : "▸"}</button>`}${m.label}</td>
      <td class="number">${m.parameters ? count(m.parameters) : ""}</td><td class="long">${m.shapes}</td><td class="number">${number(m.gradient)}</td><td class="number">${number(m.update)}</td>
      <td>${m.site.verdict ? html`<${Badge} state=${m.site.verdict} />` : null}</td><td>${m.leaf ? m.site.missing : ""}</td><td class="number">${m.leaf && number(m.site.gain) && `${short(m.site.gain, 3)} ± ${short(m.site.error, 1)}`}</td>
      <td>${told(m) && m.leaf && show ? html`<button class="link" onClick=${() => show({ ...m.site, name: `where it hurts: ${m.site.name}` })}>where</button>` : null}</td></tr>`)}</tbody></table></div><//>`;
}

const number = (v) => (Number.isFinite(v) ? short(v, 2) : "");

function Record({ source, run, record, steps, show }) {
  const [at, set] = useState(null);
  const step = at ?? steps.at(-1);
  const picture = useAnswer(source, "record", { name: run, record: record.name, step });
  const what = /^(.* - atoms|where it hurts - frames)$/.test(record.name) && record.name.split(" - ")[0];
  const onMap = what && show ? html`<button class="link" onClick=${() => show({ name: what, worst: -1 })}>on the map</button>` : null;
  const only = picture.value?.panels.length === 1 && picture.value.panels[0].marks.length === 1 && picture.value.panels[0].marks[0], words = only?.mark === "text" ? only.text : null;
  return html`<${Panel} title=${record.name} help=${record.text} error=${picture.error} wide=${words !== null || picture.value?.size[0] > 8.5 || (picture.value?.size[0] > 7.8 && "broad")} actions=${onMap}>
    ${words !== null ? html`<p class="words">${words}</p>` : picture.value ? html`<${Picture} picture=${picture.value} name=${`${record.name} ${step}`} />` : html`<p class="empty">Loading …</p>`}
    ${steps.length > 1 && source.live ? html`<${Steps} steps=${steps} at=${at} live onChange=${set} />` : null}<//>`;
}
