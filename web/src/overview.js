// Every run and every ensemble in a line, as `overview.py` says.
import { html } from "htm/preact";
import { Panel, Table, marked } from "./parts.js";

export function Overview({ known, change, state }) {
  const open = ({ run, ensemble }) => (run
    ? change({ page: "training", runs: [run, ...state.runs.filter((n) => n !== run)], ensemble: "", step: null })
    : change({ page: "conformations", ensemble, polygons: {}, selected: "", row: -1, step: null }));
  return html`<div class="page">${(known.tables ?? []).map((t) => html`<${Panel} key=${t.title} title=${t.title} help=${t.help} wide>
    ${t.rows.length ? html`<${Table} ...${t} class="runs" open=${open} />` : html`<p class="empty">${marked(t.empty)}</p>`}<//>`)}</div>`;
}
