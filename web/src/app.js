// The shell: what is open, which page, light or dark.
import { html } from "htm/preact";
import { useEffect } from "preact/hooks";
import { Compare } from "./compare.js";
import { Conformations } from "./conformations.js";
import { Network } from "./network.js";
import { Overview } from "./overview.js";
import { Choice } from "./parts.js";
import { Statistics } from "./statistics.js";
import { useAnswer, useStored } from "./state.js";
import { Training } from "./training.js";

const PAGES = { overview: ["Overview", Overview], training: ["Training", Training], conformations: ["Conformations", Conformations], statistics: ["Statistics", Statistics], network: ["Network", Network], compare: ["Compare", Compare] };

export function App({ source, hash, model, start, compact }) {
  const [state, change] = useStored({ hash, model, start });
  const items = useAnswer(source, "items", {}, { every: 2000 });
  const guide = useAnswer(source, "guide", {}).value ?? { help: {}, curves: [] }, { help } = guide;
  const known = items.value ?? { runs: [], ensembles: [] };
  const run = state.runs.find((r) => known.runs.some((k) => k.name === r)) ?? known.runs[0]?.name ?? "";
  const sorted = [...known.ensembles].filter((e) => !e.error && e.frames > 0);
  const own = sorted.filter((e) => e.name.startsWith(`${run}/`));
  const ensemble = sorted.some((e) => e.name === state.ensemble) ? state.ensemble : (own.find((e) => e.name.endsWith("/generated")) ?? own[0] ?? sorted[0])?.name ?? "";
  useEffect(() => { if (model && ensemble && state.ensemble !== ensemble) change({ ensemble }); }, [ensemble]);
  const page = PAGES[state.page] ? state.page : "overview";
  const [, Page] = PAGES[page];
  useEffect(() => { if (hash) document.title = `${PAGES[page][0]} · ${run || "molifold"}`; }, [page, run]);
  useEffect(() => {
    const keys = (e) => {
      if (e.target.closest("input,select,textarea,canvas") || e.ctrlKey || e.metaKey || e.altKey) return;
      const name = Object.keys(PAGES)[Number(e.key) - 1];
      if (name) change({ page: name });
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  return html`<div class=${`shell ${state.theme}${compact ? " compact" : ""}`}>
    <nav aria-label="pages"><b class="brand">molifold</b>
      ${Object.entries(PAGES).map(([name, [title]], i) => html`<button key=${name} class=${name === page ? "tab on" : "tab"} aria-current=${name === page ? "page" : undefined} title=${`key ${i + 1}`} onClick=${() => change({ page: name })}>${title}</button>`)}
      <span class="grow"></span>
      ${known.runs.length > 1 || (known.runs.length && page !== "overview") ? html`<${Choice} label="run" value=${run} options=${known.runs.map((r) => r.name)} onChange=${(name) => change({ runs: [name, ...state.runs.filter((r) => r !== name)], ensemble: "", step: null })} />` : null}
      ${source.live ? null : html`<span class="badge finished" title="This page was written to a file; nothing in it changes.">file</span>`}
      <button class="quiet" title="light or dark" aria-label="light or dark" onClick=${() => change({ theme: state.theme === "dark" ? "light" : "dark" })}>◐</button>
    </nav>
    ${items.error ? html`<p class="error" role="alert">No answer: ${items.error}. ${items.value ? "What you see is the last that came." : ""}</p>` : null}
    ${items.value || page === "overview" ? html`<${Page} key=${`${page} ${run}`} ...${{ source, state, change, known, run, ensemble, help, guide, about: known.runs.find((r) => r.name === run) }} />` : html`<p class="empty">Loading …</p>`}
  </div>`;
}
