// Live curves of one or several runs, what happened, and what can be asked of a running training.
import { html } from "htm/preact";
import { useMemo, useState } from "preact/hooks";
import { series } from "./colours.js";
import { Badge, CurvePanel, Panel } from "./parts.js";
import { useTail } from "./state.js";
import { duration, short } from "./ticks.js";

const ASK = [["pause", "Pause"], ["resume", "Resume"], ["checkpoint", "Checkpoint"], ["probe", "Probe now"], ["stop", "Stop"]];
const CLOCK = ["step", "time", "seconds", "progress"]; // no curves of their own
const FITS = { pause: "running", resume: "paused" }; // what can be asked in one state only

export function Training({ source, state, change, known, run, about, help, guide }) {
  const others = state.runs.filter((r) => r !== run && known.runs.some((k) => k.name === r)).slice(0, 3);
  const main = useTail(source, run), second = useTail(source, others[0]), third = useTail(source, others[1]), fourth = useTail(source, others[2]);
  const [options, set] = useState({ smooth: 0, logX: false }), [range, setRange] = useState(null);
  const tails = [[run, main], [others[0], second], [others[1], third], [others[2], fourth]].filter(([name]) => name);
  const names = Object.keys(main.columns).filter((k) => !CLOCK.includes(k)), groups = guide.curves.map((g) => ({ ...g, is: new RegExp(g.names) }));
  // Known curves first, in the order of the guide; then whatever else the run writes.
  const usual = groups.flatMap((g) => names.filter((n) => g.is.test(n)).map((n) => ({ ...g, name: n })));
  const rest = names.filter((n) => !usual.some((c) => c.name === n)).map((n) => ({ name: n, help: `The scalar "${n}" that this run writes.` }));
  if (!run) return html`<p class="empty">No run yet. Start one with <code>molifold train alanine-dipeptide</code>: it appears here by itself.</p>`;
  const asked = source.live && (main.state === "running" || main.state === "paused"), beside = known.runs.filter((r) => r.name !== run);
  return html`<div class="page">
    <div class="bar"><${Badge} state=${main.state ?? about?.state ?? ""} /><span>step <b>${short(main.columns.step.at(-1) ?? 0, 8)}</b></span>
      ${about?.left ? html`<span>${duration(about.left)} left</span>` : null}
      ${Number.isFinite(about?.progress) ? html`<progress max="1" value=${about.progress} aria-label="progress"></progress>` : null}
      ${about?.advice ? html`<span>${about.advice}</span>` : null}<span class="grow"></span>
      <label class="choice"><span>smooth</span><input type="range" min="0" max="0.98" step="0.02" value=${options.smooth} onInput=${(e) => set({ ...options, smooth: Number(e.target.value) })} /></label>
      <label class="choice"><input type="checkbox" checked=${options.logX} onChange=${(e) => set({ ...options, logX: e.target.checked })} /><span>log steps</span></label>
      ${range?.[0] != null ? html`<button onClick=${() => setRange([null, null])}>all steps</button>` : null}
      ${beside.length ? html`<label class="choice"><span>with</span><select multiple size="1" onChange=${(e) => change({ runs: [run, ...[...e.target.selectedOptions].map((o) => o.value)] })}>
        ${beside.map((r) => html`<option selected=${others.includes(r.name)}>${r.name}</option>`)}</select></label>` : null}
    </div>
    ${main.error || about?.error ? html`<p class="error" role="alert">${main.error ?? about.error}</p>` : null}
    ${names.length || main.error ? null : html`<p class="empty">No numbers yet${about?.stage ? `: ${about.stage}` : ""}. Curves appear with the first logged step.</p>`}
    <div class="grid">${[...usual, ...rest].map((c) => html`<${OneCurve} key=${c.name} curve=${c} tails=${tails} options=${{ ...options, theme: state.theme }} range=${range} onRange=${(a, b) => setRange([a, b])} />`)}</div>
    ${asked ? html`<${Ask} source=${source} run=${run} state=${main.state} help=${help.ask} />` : null}
    <${Panel} title="What happened" help=${help.events} wide>
      <ol class="events">${[...main.news].reverse().slice(0, 60).map((e) => html`<li class=${e.kind}><time>${new Date(1000 * e.time).toLocaleTimeString()}</time>
        <span>step ${e.step}</span><b>${e.title}</b><span>${e.message}</span>${e.traceback ? html`<details><summary>traceback</summary><pre>${e.traceback}</pre></details>` : null}</li>`)}</ol>
      ${main.news.length ? null : html`<p class="empty">Nothing yet.</p>`}<//></div>`;
}

const words = (name) => name.replace("/", ": ").replaceAll("_", " ").replace("nll", "NLL").replace(/\bess\b/, "ESS").replace(/^./, (c) => c.toUpperCase());

function OneCurve({ curve: { name, help, log: powers = false }, tails, options, range, onRange }) {
  const [log, set] = useState(powers), length = tails.map(([, t]) => t.columns.step.length).join();
  const curves = useMemo(() => tails.map(([run, t], r) => ({ label: tails.length > 1 ? run : name, x: t.columns.step, y: t.columns[name], colour: series(r) })).filter((c) => c.y), [length, name]);
  return html`<${Panel} title=${words(name)} help=${help} actions=${html`<label class="choice"><input type="checkbox" checked=${log} onChange=${(e) => set(e.target.checked)} /><span>log</span></label>`}>
    <${CurvePanel} curves=${curves} options=${{ ...options, log }} range=${range} onRange=${onRange} /><//>`;
}

function Ask({ source, run, state, help }) {
  const [said, set] = useState(""), [frames, count] = useState(1000);
  const ask = async (kind, more = {}) => {
    if (kind === "stop" && !confirm("Stop the training? It keeps a checkpoint and can be resumed.")) return;
    try { await source.ask("request", { name: run, kind, ...more }); set(`asked: ${kind}; the training answers within a second or two`); } catch (error) { set(error.message); }
  };
  return html`<${Panel} title="Ask the training" help=${help} wide>
    <div class="bar">${ASK.filter(([kind]) => (FITS[kind] ?? state) === state).map(([kind, label]) => html`<button key=${kind} onClick=${() => ask(kind)}>${label}</button>`)}
      <span class="choice"><button title="draw now, and measure the draws" onClick=${() => ask("evaluate", { frames })}>Evaluate</button>
        <input type="number" min="100" max="100000" step="100" value=${frames} aria-label="draws to evaluate with" onInput=${(e) => count(Math.max(1, Number(e.target.value)))} /><span>draws</span></span>
      <span role="status">${said}</span></div><//>`;
}
