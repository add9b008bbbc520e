// Every run in a line: state, progress, the numbers one looks at first, what happened.
import { html } from "htm/preact";
import { Badge, Panel } from "./parts.js";
import { count, duration, short } from "./ticks.js";

const HELP = ["Every run and ensemble under the folders that were named, newest state first. A run counts as crashed when it says that it is running and its process is gone.",
  "Healthy: loss and validation fall together, ESS rises, k-hat stays below 0.7.", "Otherwise: open the run and look at the page Training for jumps, Network for what the layers cannot express, Statistics for what the draws miss."];
const FIRST = [["loss", "loss"], ["validation_nll", "validation"], ["ess", "ESS"], ["validation_ess", "ESS"], ["pareto_k", "k-hat"], ["distance", "distance / floor"], ["step_seconds", "s per step"]];

export function Overview({ known, change, state }) {
  const order = { running: 0, paused: 1, crashed: 2, failed: 3 };
  const runs = [...known.runs].sort((a, b) => (order[a.state] ?? 9) - (order[b.state] ?? 9) || (b.created ?? "").localeCompare(a.created ?? ""));
  const open = (r, page) => change({ page, runs: [r.name, ...state.runs.filter((n) => n !== r.name)], ensemble: "" });
  const explore = (e) => change({ page: "conformations", ensemble: e.name, polygons: {}, selected: "", row: -1 });
  const shown = FIRST.filter(([key]) => runs.some((r) => r.values && key in r.values));
  return html`<div class="page">
    <${Panel} title="Runs" help=${HELP} wide>
      ${runs.length ? html`<div class="scroll"><table class="runs"><thead><tr><th>run</th><th>state</th><th>progress</th><th class="number">step</th>${shown.map(([, l]) => html`<th class="number">${l}</th>`)}<th>loss, lately</th><th>what happened</th></tr></thead><tbody>
        ${runs.map((r) => html`<tr key=${r.name}><td><button class="link" onClick=${() => open(r, "training")}>${r.name}</button><small>${r.molecule}</small></td><td><${Badge} state=${r.state} /></td>
          <td>${r.progress === null || r.progress === undefined ? r.stage || "" : html`<progress max="1" value=${r.progress} aria-label="progress"></progress><small>${Math.round(100 * r.progress)} %${r.left ? `, ${duration(r.left)} left` : ""}</small>`}</td>
          <td class="number">${count(r.step ?? 0)}</td>
          ${shown.map(([key]) => html`<td class="number">${key.endsWith("ess") && r.values?.[key] !== undefined ? `${(100 * r.values[key]).toFixed(1)} %` : short(r.values?.[key])}</td>`)}
          <td>${r.curve?.length > 1 ? html`<${Spark} values=${r.curve} />` : null}</td>
          <td class="told">${r.error ? html`<span class="error">${r.error}</span>` : (r.events ?? []).map((e) => html`<div class=${e.kind}><b>${e.kind.replace("_", " ")}</b> ${e.message}</div>`)}</td></tr>`)}
      </tbody></table></div>` : html`<p class="empty">No run yet. Start one with <code>molifold train alanine-dipeptide</code>: it appears here by itself.</p>`}
    <//>
    <${Panel} title="Ensembles" help="Conformations that are kept: draws of a generator, simulations, references. Click one to explore it." wide>
      ${known.ensembles.length ? html`<div class="scroll"><table class="runs"><thead><tr><th>ensemble</th><th>molecule</th><th class="number">frames</th><th class="number">atoms</th></tr></thead><tbody>
        ${known.ensembles.map((e) => html`<tr key=${e.name}><td>${e.error ? e.name : html`<button class="link" onClick=${() => explore(e)}>${e.name}</button>`}</td>
          <td>${e.molecule ?? ""}${e.error ? html`<span class="error">${e.error}</span>` : ""}</td><td class="number">${e.frames === undefined ? "" : count(e.frames)}</td><td class="number">${e.atoms ?? ""}</td></tr>`)}
      </tbody></table></div>` : html`<p class="empty">No ensemble yet.</p>`}
    <//></div>`;
}

/** The way of a few numbers, without axes. */
function Spark({ values }) {
  const low = Math.min(...values), high = Math.max(...values), at = (v, i) => `${(100 * i) / (values.length - 1)} ${20 - (18 * (v - low)) / (high - low || 1)}`;
  return html`<svg class="spark" viewBox="-1 0 102 22" role="img" aria-label="loss, lately"><path d=${`M${values.map(at).join("L")}`} fill="none" stroke="var(--point)" stroke-width="1.5" /></svg>`;
}
