// Ensembles side by side: the same axes, view and selection in all of them, and how the first differs from each other.
import { html } from "htm/preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Choice, Drawn, Panel, Ramp } from "./parts.js";
import { axesOf, columnOptions, useColumns } from "./conformations.js";
import { contrast, inside, weightsOf } from "./density.js";
import { EnsembleMap } from "./map.js";
import { useAnswer } from "./state.js";
import { count, short } from "./ticks.js";

const SIDE_HELP = ["All maps share axes, view and selection. Shift draws a lasso: its share of each ensemble stands below the map.", "Healthy: the same basins at the same depth.", "Otherwise: lasso what one of them lacks and compare the shares; what differs there, torsion by torsion, is on the page Conformations."];
const LEAST = 1, MOST = 4; // kT to which the scale of a difference reaches
const DIFFERENCE_HELP = ["The first map minus the other one; grey where that is below three standard errors (from 20 blocks of frames in order, so frames that remember each other and heavy weights count for what they are worth). Below: the total variation between them, and that of noise alone.",
  "Healthy: grey, and a total variation near its noise.", "Otherwise: red where the first has too few frames (higher free energy), blue where it has too many; draw a lasso there."];

export function Compare({ source, state, change, known, ensemble }) {
  const names = known.ensembles.filter((e) => e.frames > 0).map((e) => e.name);
  const chosen = (state.side ?? []).filter((n) => names.includes(parted(n)[0]));
  const side = chosen.length ? chosen : [ensemble, names.find((n) => n === ensemble.replace(/[^/]+$/, "reference") && n !== ensemble) ?? names.find((n) => n !== ensemble)].filter(Boolean);
  const maps = useRef(new Map()), [view, setView] = useState(null), [got, take] = useState({});
  const first = useAnswer(source, "ensemble", { name: parted(side[0] ?? "")[0] }, { skip: !side.length });
  const [x, y] = axesOf(first.value, state);
  if (!names.length) return html`<p class="empty">No conformations yet.</p>`;
  const select = (points) => { const n = `region ${Object.keys(state.polygons).length + 1}`; change({ polygons: { ...state.polygons, [n]: { x, y, points } }, selected: n }); };
  const follow = (from, v) => { for (const [name, m] of maps.current) if (name !== from) { m.view = { ...v }; m.image = null; m.redraw(); } setView(v); };
  const put = (i, name) => { const next = [...side]; if (name) next[i] = name; else next.splice(i, 1); change({ side: next }); };
  return html`<div class="page"><div class="bar">
      <${Choice} label="x" value=${x} options=${columnOptions(first.value)} onChange=${(v) => change({ x: v })} /><${Choice} label="y" value=${y} options=${columnOptions(first.value)} onChange=${(v) => change({ y: v })} />
      <${Choice} label="show" value=${state.colour} options=${["free energy", "density"]} onChange=${(v) => change({ colour: v })} />
      <label class="choice"><input type="checkbox" checked=${state.weighted} onChange=${(e) => change({ weighted: e.target.checked })} /><span>reweighted</span></label>
      <span class="grow"></span>${side.length < 4 && names.some((n) => !side.includes(n)) ? html`<button onClick=${() => put(side.length, names.find((n) => !side.includes(n)))}>add another</button>` : null}</div>
    <div class="grid">${side.map((name, i) => html`<${Side} key=${`${i} ${name}`} ...${{ source, name, names, x, y, state, view, maps, follow, select, take, put: (n) => put(i, n), many: side.length > 1 }} />`)}
      ${got[side[0]] && side.slice(1).filter((n) => got[n]).map((n) => html`<${Difference} key=${`${side[0]} - ${n}`} ...${{ a: got[side[0]], b: got[n], state, view, maps, follow, select }} />`)}</div></div>`;
}

function Side({ source, name, names, x, y, state, view, maps, follow, select, take, put, many }) {
  const [store, step] = parted(name), about = useAnswer(source, "ensemble", { name: store });
  const has = (n) => about.value?.columns.some((c) => c.name === n);
  const [all, broken] = useColumns(source, store, about.value, [x, y, has("log_w") && "log_w", has("step") && "step"]);
  const steps = useMemo(() => [...new Set(all.step ?? [])].sort((a, b) => a - b), [all.step]);
  const columns = useMemo(() => (step === null ? all : !all.step ? {} : Object.fromEntries(Object.entries(all).map(([k, v]) => [k, v.filter((_, i) => all.step[i] === step)]))), [all, step]);
  const weights = useMemo(() => (columns.log_w && state.weighted ? weightsOf(columns.log_w) : null), [columns.log_w, state.weighted]);
  const polygon = state.polygons[state.selected];
  const fits = polygon && polygon.x === x && polygon.y === y;
  const xc = about.value?.columns.find((c) => c.name === x), yc = about.value?.columns.find((c) => c.name === y);
  const ready = xc && yc && columns[x] && columns[y];
  const share = useMemo(() => {
    if (!ready || !fits) return null;
    const rows = inside(columns[x], columns[y], polygon.points, { px: xc.period, py: yc.period });
    return weights ? rows.reduce((s, r) => s + weights[r], 0) / weights.reduce((s, w) => s + w, 0) : rows.length / columns[x].length;
  }, [ready, polygon, weights]);
  const data = useMemo(() => (ready ? { about: name, x: columns[x], y: columns[y], xc, yc, weights, mode: state.colour === "density" ? "density" : "free energy", polygons: fits ? [polygon.points] : [] } : null), [ready, columns[x], columns[y], weights, state.colour, polygon]);
  const missing = about.value && (!has(x) || !has(y)) ? `This ensemble has no column ${has(x) ? y : x}; choose other axes.` : null;
  useEffect(() => { take((all) => ({ ...all, [name]: data })); }, [data]);
  return html`<${Panel} title=${last(name)} error=${missing ?? about.error ?? broken} help=${SIDE_HELP} actions=${html`<${Choice} value=${store} options=${names} onChange=${put} />
      ${steps.length > 1 ? html`<${Choice} value=${step ?? ""} options=${[{ value: "", label: "all steps" }, ...steps.map((s) => ({ value: s, label: `step ${s}` }))]} onChange=${(s) => put(s === "" ? store : `${store}@${s}`)} />` : null}${many ? html`<button class="quiet" aria-label="remove" onClick=${() => put("")}>×</button>` : null}`}>
    <${Drawn} className="mapbox" deps=${[data]} make=${(el) => shared(el, maps.current, name)}
      update=${(m) => { m.map.onView = (v) => follow(name, v); m.map.onSelect = select; if (data) m.show(data, view && view.px === xc.period && view.py === yc.period ? { ...view } : null); }} />
    <div class="bar small"><span>${columns[x] ? `${count(columns[x].length)} frames${weights ? ", reweighted" : ""}` : "loading …"}</span><span class="grow"></span>${share === null ? null : html`<b>${(100 * share).toFixed(2)} % in ${state.selected}</b>`}</div><//>`;
}

/** The first map minus another one, where that is more than noise. */
function Difference({ a, b, state, view, maps, follow, select }) {
  const density = state.colour === "density", name = `${a.about} minus ${b.about}`, [found, tell] = useState(null);
  const data = useMemo(() => ({ ...a, about: name, mode: "difference", grid: (v, columns, rows, wrap) => {
    const made = contrast(a, b, v, columns, rows, wrap, density), sizes = made.values.filter(Number.isFinite).map(Math.abs).sort();
    const high = density ? Math.max(0.05, sizes.at(-1) ?? 1) : Math.min(MOST, Math.max(LEAST, sizes[Math.floor(0.95 * sizes.length)] ?? MOST));
    queueMicrotask(() => tell({ ...made, high }));
    return { values: made.values, limits: [-high, high], scale: "difference" };
  } }), [a, b, density]);
  return html`<${Panel} title=${`${last(a.about)} minus ${last(b.about)}`} help=${DIFFERENCE_HELP}>
    <${Drawn} className="mapbox" deps=${[data, state.theme]} make=${(el) => shared(el, maps.current, name)}
      update=${(m) => { m.map.onView = (v) => follow(name, v); m.map.onSelect = select; if (a.xc.name === b.xc.name && a.yc.name === b.yc.name) m.show(data, view && view.px === a.xc.period && view.py === a.yc.period ? { ...view } : null); }} />
    ${found ? html`<div class="bar small"><${Ramp} scale="difference" low=${`−${short(found.high, 2)}`} high=${short(found.high, 2)} label=${density ? "of the highest density" : "kT"} /><span class="swatch"></span><span>within the noise</span>
      <span class="grow"></span><span>total variation <b>${found.distance.toFixed(3)}</b>, of noise alone ${found.noise.toFixed(3)}</span></div>` : null}<//>`;
}

/** An ensemble, and the step of a training at which its frames were drawn (null: of all). */
const parted = (name) => { const found = /^(.*)@(\d+)$/.exec(name); return found ? [found[1], Number(found[2])] : [name, null]; };
const last = (name) => name.split("/").at(-1);

/** A map that the others of the page can move; Shift draws a lasso. */
function shared(element, maps, name) {
  const map = new EnsembleMap(element), shift = (e) => e.key === "Shift" && map.use(e.type === "keydown" ? "lasso" : "pick");
  const remove = () => { removeEventListener("keydown", shift); removeEventListener("keyup", shift); maps.delete(name); map.remove(); };
  maps.set(name, map);
  for (const type of ["keydown", "keyup"]) addEventListener(type, shift);
  return { show: (...a) => map.show(...a), map, remove };
}
