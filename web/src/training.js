// Live curves of one or several runs, what happened, and what can be asked of a running training.
import { html } from "htm/preact";
import { useMemo, useState } from "preact/hooks";
import { series } from "./colours.js";
import { Badge, CurvePanel, Panel } from "./parts.js";
import { useTail } from "./state.js";
import { duration, short } from "./ticks.js";

const GROUPS = [
  { title: "Loss", names: /^loss(\/|$)/, help: ["The objective and its terms, at every logged step.", "Healthy: falls fast, then slowly, without jumps.", "Otherwise: a jump that does not come back is a learning rate too high or a broken batch: see the events."] },
  { title: "Validation", names: /^validation/, help: ["Loss on frames that are never trained on, with averaged weights.", "Healthy: follows the training loss.", "Otherwise: it rises while the training loss falls: more data, or a smaller network."] },
  { title: "Sampling", names: /^(ess|pareto|acceptance|distance|log_z)/, help: ["Effective sample size (share of draws), Pareto k-hat, distance to the reference over its noise floor; from draws during training.", "Healthy: ESS rises, k-hat below 0.7, ratio falls towards 1.", "Otherwise: ESS flat while the loss falls: tails are not learnt; look at Network."] },
  { title: "Gradient", names: /^gradient/, log: true, help: ["Norm of the gradient before clipping.", "Healthy: within one power of ten, falling slowly.", "Otherwise: spikes far above the clip norm: lower the learning rate."] },
  { title: "Learning rate", names: /^learning_rate/, help: "What the schedule gives at every step." },
  { title: "Seconds per step", names: /^step_seconds/, help: "Time of one step without probes." },
  { title: "Cost of looking", names: /^(evaluation_seconds|probe_share)/, help: "Seconds that a look at draws takes, and the share of the time that probes and such looks take; their budgets keep it below 0.05 and 0.02 in the long run." },
];
const ASK = [["pause", "Pause"], ["resume", "Resume"], ["checkpoint", "Checkpoint"], ["probe", "Probe now"], ["stop", "Stop"]];

export function Training({ source, state, change, known, run, about }) {
  const others = state.runs.filter((r) => r !== run && known.runs.some((k) => k.name === r)).slice(0, 3);
  const main = useTail(source, run), second = useTail(source, others[0]), third = useTail(source, others[1]), fourth = useTail(source, others[2]);
  const [options, set] = useState({ smooth: 0, logX: false });
  const [range, setRange] = useState(null);
  const tails = [[run, main], [others[0], second], [others[1], third], [others[2], fourth]].filter(([name]) => name);
  const names = Object.keys(main.columns).filter((k) => !["step", "time", "seconds", "progress"].includes(k));
  const rest = names.filter((n) => !GROUPS.some((g) => g.names.test(n)));
  const groups = [...GROUPS.flatMap((g) => names.filter((n) => g.names.test(n)).map((n) => ({ ...g, title: words(n), members: [n] }))), ...rest.map((n) => ({ title: words(n), members: [n], help: `The scalar "${n}" that this run writes.` }))];
  if (!run) return html`<p class="empty">No run yet.</p>`;
  return html`<div class="page">
    <div class="bar"><${Badge} state=${main.state ?? about?.state ?? ""} /><span>step <b>${short(main.columns.step.at(-1) ?? 0, 8)}</b></span>
      ${about?.left ? html`<span>${duration(about.left)} left</span>` : null}${about?.progress !== null && about?.progress !== undefined ? html`<progress max="1" value=${about.progress}></progress>` : null}
      <span class="grow"></span>
      <label class="choice"><span>smooth</span><input type="range" min="0" max="0.98" step="0.02" value=${options.smooth} onInput=${(e) => set({ ...options, smooth: Number(e.target.value) })} /></label>
      <label class="choice"><input type="checkbox" checked=${options.logX} onChange=${(e) => set({ ...options, logX: e.target.checked })} /><span>log steps</span></label>
      ${range?.[0] != null ? html`<button onClick=${() => setRange([null, null])}>all steps</button>` : null}
      ${known.runs.length > 1 ? html`<label class="choice"><span>with</span><select multiple size="1"
        onChange=${(e) => change({ runs: [run, ...[...e.target.selectedOptions].map((o) => o.value)] })}>${known.runs.filter((r) => r.name !== run).map((r) => html`<option selected=${others.includes(r.name)}>${r.name}</option>`)}</select></label>` : null}
    </div>
    ${main.error ? html`<p class="error" role="alert">${main.error}</p>` : null}
    <div class="grid">${groups.map((g) => html`<${CurveGroup} key=${g.title} group=${g} tails=${tails} options=${{ ...options, theme: state.theme }} range=${range} onRange=${(a, b) => setRange([a, b])} />`)}</div>
    ${source.live && (main.state === "running" || main.state === "paused") ? html`<${Ask} source=${source} run=${run} state=${main.state} />` : null}
    <${Panel} title="What happened" help="Events in the order in which they came: stages, requests, batches that were skipped, probes that failed." wide>
      <ol class="events">${[...main.news].reverse().slice(0, 60).map((e) => html`<li class=${e.kind}><time>${new Date(1000 * e.time).toLocaleTimeString()}</time><span>step ${e.step}</span><b>${e.kind.replaceAll("_", " ")}</b><span>${e.message}</span>${e.traceback ? html`<details><summary>traceback</summary><pre>${e.traceback}</pre></details>` : null}</li>`)}</ol>
      ${main.news.length ? null : html`<p class="empty">Nothing yet.</p>`}
    <//></div>`;
}

const words = (name) => name.replace("/", ": ").replaceAll("_", " ").replace("nll", "NLL").replace(/\bess\b/, "ESS").replace(/^./, (c) => c.toUpperCase());

function CurveGroup({ group, tails, options, range, onRange }) {
  const [log, set] = useState(group.log ?? false);
  const last = tails.map(([, t]) => t.columns.step.length).join();
  const curves = useMemo(() => tails.flatMap(([name, t], r) => group.members.filter((m) => m in t.columns).map((m, i) => ({ label: tails.length > 1 ? `${name} ${m}` : m, x: t.columns.step, y: t.columns[m], colour: series(tails.length > 1 ? r : i) }))), [last, group.members.join()]);
  return html`<${Panel} title=${group.title} help=${group.help} actions=${html`<label class="choice"><input type="checkbox" checked=${log} onChange=${(e) => set(e.target.checked)} /><span>log</span></label>`}>
    <${CurvePanel} curves=${curves} options=${{ ...options, log }} range=${range} onRange=${onRange} /><//>`;
}

function Ask({ source, run, state }) {
  const [said, set] = useState(""), [frames, count] = useState(1000);
  const ask = async (kind, more = {}) => {
    if (kind === "stop" && !confirm("Stop the training? It keeps a checkpoint and can be resumed.")) return;
    try { await source.ask("request", { name: run, kind, ...more }); set(`asked: ${kind}; the training answers within a second or two`); } catch (error) { set(error.message); }
  };
  return html`<${Panel} title="Ask the training" help="Requests go through files in the run's inbox, so they reach a training on any machine that shares the folder. Evaluate draws so many conformations at once; their figures join the curves, their frames the ensemble history." wide>
    <div class="bar">${ASK.filter(([k]) => (k === "pause" ? state === "running" : k === "resume" ? state === "paused" : true)).map(([kind, label]) => html`<button key=${kind} onClick=${() => ask(kind)}>${label}</button>`)}
      <span class="choice"><button title="draw now, and measure the draws" onClick=${() => ask("evaluate", { frames })}>Evaluate</button><input type="number" min="100" max="100000" step="100" value=${frames} aria-label="draws to evaluate with" onInput=${(e) => count(Math.max(1, Number(e.target.value)))} /><span>draws</span></span><span role="status">${said}</span></div><//>`;
}
