// Everything that `analysis` says about the ensembles of a run, as pictures with their help.
import { html } from "htm/preact";
import { Panel, Picture } from "./parts.js";
import { useAnswer } from "./state.js";

export function Statistics({ source, run, ensemble: open, known }) {
  // A run with draws has one set of statistics, whichever of its ensembles is open.
  const ensemble = known.ensembles.some((e) => [`${run}/generated`, `${run}/history`].includes(e.name) && e.frames) ? "" : open;
  const list = useAnswer(source, "statistics", { run, ensemble }, { skip: !run && !ensemble });
  if (list.error) return html`<p class="error" role="alert">${list.error}</p>`;
  if (!list.value) return html`<p class="empty">Computing statistics …</p>`;
  return html`<div class="page">
    ${list.value.findings?.length ? html`<${Panel} title="Verdict" help="What the numbers say in plain words, most important first." wide><ul class="findings">${list.value.findings.map((f) => html`<li class=${f.status}><b>${f.title}</b> <span class="figure">${f.number}</span><p>${f.text}</p>${f.advice ? html`<p class="advice">${f.advice}</p>` : null}</li>`)}</ul><//>` : null}
    <div class="grid big">${list.value.pictures.map((p) => html`<${Statistic} key=${p.key} source=${source} about=${p} args=${{ run, ensemble, key: p.key }} />`)}</div></div>`;
}

function Statistic({ source, about, args }) {
  const picture = useAnswer(source, "statistic", args);
  return html`<${Panel} title=${about.title} help=${about.help} error=${picture.error} wide=${about.wide}>
    ${picture.value ? html`<${Picture} picture=${picture.value} name=${about.key} />` : html`<p class="empty">Computing …</p>`}
    ${about.rows?.length ? html`<div class="scroll"><table class="numbers"><thead><tr>${about.rows[0].map((c) => html`<th>${c}</th>`)}</tr></thead><tbody>${about.rows.slice(1).map((r) => html`<tr>${r.map((c) => html`<td>${c}</td>`)}</tr>`)}</tbody></table></div>` : null}<//>`;
}
