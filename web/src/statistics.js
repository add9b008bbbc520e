// Everything that `analysis` says about the ensembles of a run, as pictures with their help; also of every step of its training.
import { html } from "htm/preact";
import { useEffect, useState } from "preact/hooks";
import { Choice, Panel, Picture, Steps, Table } from "./parts.js";
import { useAnswer } from "./state.js";
import { count } from "./ticks.js";

const PAUSE = 700; // milliseconds between two steps of a replay

export function Statistics({ source, run, ensemble: open, known, state, change, help }) {
  // A run with draws has one set of statistics, whichever of its ensembles is open.
  const own = known.ensembles.filter((e) => [`${run}/generated`, `${run}/history`].includes(e.name) && e.frames);
  const ensemble = own.length ? "" : open, step = source.live && own.length && state.step !== null ? state.step : undefined;
  const { value, error, busy } = useAnswer(source, "statistics", { run, ensemble, step }, { skip: !ensemble && !own.length });
  const [playing, play] = useState(false), steps = source.live ? value?.steps ?? [] : [];
  const rest = own.some((e) => e.name.endsWith("/generated")) ? "finished" : "last look";
  useEffect(() => {
    if (!playing || busy) return undefined;
    const next = step === undefined ? null : steps[steps.indexOf(step) + 1] ?? null;
    const timer = setTimeout(() => (step === undefined ? play(false) : change({ step: next })), PAUSE);
    return () => clearTimeout(timer);
  }, [playing, busy, step]);
  if (!ensemble && !own.length) return html`<p class="empty">No conformations yet, so there is nothing to count. A training draws some while it learns; <code>molifold sample RUN</code> draws more.</p>`;
  if (!value && error) return html`<p class="error" role="alert">${error}</p>`;
  if (!value) return html`<p class="empty">Computing statistics …</p>`;
  const shown = value.step ?? undefined; // while the next one is computed, all is of this one
  const start = () => { if (!playing) change({ step: steps[0] }); play(!playing); };
  return html`<div class="page">
    ${error ? html`<p class="error" role="alert">${error} <button onClick=${() => change({ step: null })}>show the end</button></p>` : null}
    ${ensemble ? html`<div class="bar"><${Choice} label="ensemble" value=${ensemble} options=${known.ensembles.filter((e) => e.frames).map((e) => e.name)} onChange=${(v) => change({ ensemble: v })} /></div>` : null}
    ${steps.length > 1 ? html`<div class="bar replay"><button onClick=${start}>${playing ? "Stop" : "Replay"}</button>
      <${Steps} label="training step" steps=${steps} at=${step ?? null} rest=${rest} onChange=${(s) => { play(false); change({ step: s }); }} />
      <small role="status">${busy ? "computing …" : `${count(value.draws)} draws`}</small></div>` : null}
    ${value.findings?.length ? html`<${Panel} title=${shown === undefined ? "Verdict" : `Verdict at step ${count(shown)}`} help=${help.verdict} wide>
      <ul class="findings">${value.findings.map((f) => html`<li key=${f.title} class=${f.status}><b>${f.title}</b> <span class="figure">${f.number}</span>
        <p>${f.text}</p>${f.advice ? html`<p class="advice">${f.advice}</p>` : null}</li>`)}</ul><//>` : null}
    <div class="grid big">${value.pictures.map((p) => html`<${Statistic} key=${p.key} source=${source} about=${p} args=${{ run, ensemble, step: shown, key: p.key }} />`)}</div></div>`;
}

function Statistic({ source, about, args }) {
  const picture = useAnswer(source, "statistic", args);
  return html`<${Panel} title=${about.title} help=${about.help} error=${picture.error} wide=${about.wide}>
    ${picture.value ? html`<${Picture} picture=${picture.value} name=${about.key} />` : html`<p class="empty">Computing …</p>`}
    ${about.rows?.length ? html`<${Table} class="numbers" head=${about.rows[0]} rows=${about.rows.slice(1)} />` : null}<//>`;
}
