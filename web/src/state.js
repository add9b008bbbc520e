// What is open, as one small object: in the address (deep links), in a widget's trait, or only here.
import { useEffect, useRef, useState } from "preact/hooks";

export const DEFAULTS = { page: "overview", runs: [], ensemble: "", x: "", y: "", colour: "free energy", weighted: true, polygons: {}, selected: "", row: -1, at: null, step: null, paint: "element", theme: "" };

/** Regions of a run as the reader named them: this browser keeps them, whatever the address says. */
const place = (run) => `molifold regions ${run}`;
export function kept(run) { try { return JSON.parse(localStorage.getItem(place(run))) ?? {}; } catch { return {}; } }
export function keep(run, regions) { try { localStorage.setItem(place(run), JSON.stringify(regions)); } catch { /* a browser may forbid it */ } }

const fromHash = () => {
  try { return JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}"); } catch { return {}; }
};

/** [state, change(part)]; with `hash` it lives in the address, so that a link or the back button restores it. */
export function useStored({ hash, model, start }) {
  const [state, set] = useState(() => ({ ...DEFAULTS, ...start, ...(hash ? fromHash() : {}) }));
  const now = useRef(state);
  now.current = state;
  const change = (part) => {
    const next = { ...now.current, ...part };
    now.current = next;
    set(next);
    if (model && part !== model.get("state")) { model.set("state", next); model.save_changes(); }
    if (hash) {
      const kept = Object.fromEntries(Object.entries(next).filter(([k, v]) => JSON.stringify(v) !== JSON.stringify(DEFAULTS[k])));
      const address = `#${encodeURIComponent(JSON.stringify(kept))}`;
      if (part.page && part.page !== state.page) history.pushState(null, "", address); else history.replaceState(null, "", address);
    }
  };
  useEffect(() => {
    if (!hash) return undefined;
    const back = () => { const s = { ...DEFAULTS, ...start, ...fromHash() }; now.current = s; set(s); };
    addEventListener("popstate", back);
    addEventListener("hashchange", back);
    return () => { removeEventListener("popstate", back); removeEventListener("hashchange", back); };
  }, []);
  useEffect(() => {
    if (!model) return undefined;
    const told = () => change(model.get("state") ?? {});
    model.on("change:state", told);
    return () => model.off("change:state", told);
  }, []);
  return [state, change];
}

/** The answer to a question, asked anew when its arguments change: {value, error, busy}. */
export function useAnswer(source, question, args, { every = 0, skip = false } = {}) {
  const [answer, set] = useState({ busy: true });
  const name = JSON.stringify([question, args]);
  useEffect(() => {
    if (skip) { set({}); return undefined; }
    let over = false, timer = null;
    const look = async () => {
      try {
        const value = await source.ask(question, args);
        if (!over) set({ value });
      } catch (error) {
        if (!over) set((was) => ({ value: was.value, error: error.message }));
      }
      if (!over && every && source.live) timer = setTimeout(look, document.hidden ? 4 * every : every);
    };
    set((was) => ({ ...was, busy: true }));
    look();
    return () => { over = true; clearTimeout(timer); };
  }, [name, skip, every]);
  return answer;
}

/** Scalars and events of a run, followed by cursors: {columns: {name: number[]}, news, state, records}. */
export function useTail(source, run, every = 1000) {
  const [tail, set] = useState({ columns: { step: [] }, news: [] });
  useEffect(() => {
    if (!run) return undefined;
    let over = false, timer = null, rows = new Map(), news = [], scalars = 0, events = 0;
    const names = new Set(["step"]);
    const look = async () => {
      try {
        const answer = await source.ask("tail", source.live ? { name: run, scalars, events } : { name: run });
        if (over) return;
        ({ scalars, events } = answer);
        const steps = answer.columns.step ?? [];
        if (steps.length) {
          // A row at or below a step already seen replaces everything from there on (a resumed training).
          const first = steps[0];
          if (rows.has(first) || [...rows.keys()].at(-1) >= first) rows = new Map([...rows].filter(([s]) => s < first));
          for (let i = 0; i < steps.length; i += 1) rows.set(steps[i], Object.fromEntries(Object.keys(answer.columns).map((k) => [k, answer.columns[k][i]])));
          Object.keys(answer.columns).forEach((k) => names.add(k));
        }
        news = [...news, ...answer.news].slice(-400);
        const kept = [...rows.values()];
        const columns = Object.fromEntries([...names].map((k) => [k, kept.map((r) => r[k] ?? NaN)]));
        set({ columns, news, state: answer.state, records: answer.records, time: answer.time });
      } catch (error) {
        if (!over) set((was) => ({ ...was, error: error.message }));
      }
      if (!over && source.live) timer = setTimeout(look, document.hidden ? 4 * every : every);
    };
    set({ columns: { step: [] }, news: [] });
    look();
    return () => { over = true; clearTimeout(timer); };
  }, [run]);
  return tail;
}
