// Ensembles side by side: the same axes, view, selection and camera in all, and how the first differs from each other.
import { html } from "htm/preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Choice, Drawn, Panel, Ramp } from "./parts.js";
import { axesOf, columnOptions, useColumns } from "./conformations.js";
import { contrast, inside, nearest, thin, weightsOf } from "./density.js";
import { EnsembleMap } from "./map.js";
import { MoleculeView } from "./molecule.js";
import { useAnswer } from "./state.js";
import { count, short } from "./ticks.js";

const LEAST = 1, MOST = 4; // kT to which the scale of a difference reaches
const OVERLAID = 100, SOME = 20, REACH = 0.04; // structures of a region and of all frames; share of the axes within which a pick finds a frame

export function Compare({ source, state, change, known, ensemble, help }) {
  const names = known.ensembles.filter((e) => e.frames > 0).map((e) => e.name);
  const chosen = (state.side ?? []).filter((n) => names.includes(parted(n)[0]));
  const other = names.find((n) => n === ensemble.replace(/[^/]+$/, "reference") && n !== ensemble) ?? names.find((n) => n !== ensemble);
  const side = chosen.length ? chosen : [ensemble, other].filter(Boolean);
  const maps = useRef(new Map()), bodies = useRef(new Set());
  const [view, setView] = useState(null), [got, take] = useState({}), [lead, setLead] = useState(null);
  const first = useAnswer(source, "ensemble", { name: parted(side[0] ?? "")[0] }, { skip: !side.length });
  const [x, y] = axesOf(first.value, state);
  if (!names.length) return html`<p class="empty">No conformations yet. <code>molifold sample RUN</code> draws some; a simulation that is running appears by itself.</p>`;
  const select = (points) => {
    const name = `region ${Object.keys(state.polygons).length + 1}`;
    change({ polygons: { ...state.polygons, [name]: { x, y, points } }, selected: name, at: null });
  };
  const follow = (from, v) => {
    for (const [name, m] of maps.current) if (name !== from) { m.view = { ...v }; m.image = null; m.redraw(); }
    setView(v);
  };
  const put = (i, name) => { const next = [...side]; if (name) next[i] = name; else next.splice(i, 1); change({ side: next }); };
  const free = names.find((n) => !side.includes(n)), columns = columnOptions(first.value);
  const acts = (name) => ({ onView: (v) => follow(name, v), onSelect: select, onAim: () => {}, onPick: (_, at) => change({ at, selected: "" }) });
  const drawn = side.filter((n) => got[n]);
  const sides = side.map((name, i) => html`<${Side} key=${`${i} ${name}`} ...${{ source, name, names, x, y, state, view, maps, acts, take, help: help.side, put: (n) => put(i, n), many: side.length > 1 }} />`);
  const differences = got[side[0]] ? drawn.slice(1).map((n) => html`<${Difference} key=${`${side[0]} - ${n}`} ...${{ a: got[side[0]], b: got[n], state, view, maps, acts, help: help.difference }} />`) : null;
  return html`<div class="page compare"><div class="bar">
      <${Choice} label="x" value=${x} options=${columns} onChange=${(v) => change({ x: v })} /><${Choice} label="y" value=${y} options=${columns} onChange=${(v) => change({ y: v })} />
      <${Choice} label="show" value=${state.colour} options=${["free energy", "density"]} onChange=${(v) => change({ colour: v })} />
      <label class="choice"><input type="checkbox" checked=${state.weighted} onChange=${(e) => change({ weighted: e.target.checked })} /><span>reweighted</span></label>
      <small>click: a place in all · Shift and drag: a region</small><span class="grow"></span>
      ${state.at || state.selected ? html`<button onClick=${() => change({ at: null, selected: "" })}>show all</button>` : null}
      ${side.length < 4 && free ? html`<button onClick=${() => put(side.length, free)}>add another</button>` : null}</div>
    ${(side.length > 2 ? [sides, differences] : [[sides, differences]]).map((maps) => html`<div class="grid">${maps}</div>`)}
    <div class="grid bodies">${drawn.map((n, i) => html`<${Body} key=${n} ...${{ source, side: got[n], state, bodies: bodies.current, lead, help: help.bodies, tell: i ? null : setLead }} />`)}</div></div>`;
}

function Side({ source, name, names, x, y, state, view, maps, acts, take, put, many, help }) {
  const [store, step] = parted(name), about = useAnswer(source, "ensemble", { name: store });
  const column = (n) => about.value?.columns.find((c) => c.name === n), has = (n) => Boolean(column(n));
  const [all, broken] = useColumns(source, store, about.value, [x, y, has("log_w") && "log_w", has("step") && "step"]);
  const steps = useMemo(() => [...new Set(all.step ?? [])].sort((a, b) => a - b), [all.step]);
  // Of one step: which frames of the store these are, and their columns.
  const index = useMemo(() => (step !== null && all.step ? Int32Array.from(all.step.keys()).filter((i) => all.step[i] === step) : null), [all.step, step]);
  const columns = useMemo(() => (step === null ? all : index ? Object.fromEntries(Object.entries(all).map(([k, v]) => [k, Float32Array.from(index, (i) => v[i])])) : {}), [all, index]);
  const weights = useMemo(() => (columns.log_w && state.weighted ? weightsOf(columns.log_w) : null), [columns.log_w, state.weighted]);
  const polygon = state.polygons[state.selected], fits = polygon && polygon.x === x && polygon.y === y;
  const xc = column(x), yc = column(y), ready = xc && yc && columns[x] && columns[y];
  const rows = useMemo(() => (ready && fits ? inside(columns[x], columns[y], polygon.points, { px: xc.period, py: yc.period }) : null), [ready, polygon, columns[x], columns[y]]);
  const share = rows && (weights ? rows.reduce((s, r) => s + weights[r], 0) / weights.reduce((s, w) => s + w, 0) : rows.length / columns[x].length);
  const data = useMemo(() => ready && { about: name, x: columns[x], y: columns[y], xc, yc, weights, mode: state.colour === "density" ? "density" : "free energy", polygons: fits ? [polygon.points] : [] }, [ready, columns[x], columns[y], weights, state.colour, polygon]);
  const picked = useMemo(() => (data && state.at ? near(data, state.at) : -1), [data, state.at]);
  const missing = about.value && (!has(x) || !has(y)) ? `This ensemble has no column ${has(x) ? y : x}; choose other axes.` : null;
  useEffect(() => { take((was) => ({ ...was, [name]: data ? { ...data, store, molecule: about.value, index, rows, picked } : null })); }, [data, rows, picked]);
  const fitting = view && xc && view.px === xc.period && view.py === yc?.period ? { ...view } : null;
  return html`<${Panel} title=${last(name)} error=${missing ?? about.error ?? broken} help=${help} actions=${html`<${Choice} value=${store} options=${names} onChange=${put} title="which ensemble" />
      ${steps.length > 1 ? html`<${Choice} value=${step ?? ""} title="drawn at which step of the training"
        options=${[{ value: "", label: "all steps" }, ...steps.map((s) => ({ value: s, label: `step ${s}` }))]} onChange=${(s) => put(s === "" ? store : `${store}@${s}`)} />` : null}${many ? html`<button class="quiet" aria-label="remove" onClick=${() => put("")}>×</button>` : null}`}>
    <${Drawn} className="mapbox" deps=${[data, picked]} make=${(el) => shared(el, maps.current, name)}
      update=${(m) => { Object.assign(m.map, acts(name)); if (data) m.show({ ...data, marks: picked < 0 ? [] : [{ at: [data.x[picked], data.y[picked]] }] }, fitting); }} />
    <div class="bar small"><span>${columns[x] ? `${count(columns[x].length)} frames${weights ? ", reweighted" : ""}` : "loading …"}</span><span class="grow"></span>
      ${share === null ? null : html`<b>${(100 * share).toFixed(2)} % in ${state.selected}</b>`}</div><//>`;
}

/** The first map minus another one, where that is more than noise. */
function Difference({ a, b, state, view, maps, acts, help }) {
  const density = state.colour === "density", name = `${a.about} minus ${b.about}`, [found, tell] = useState(null);
  const data = useMemo(() => ({ ...a, about: name, mode: "difference", grid: (v, columns, rows, wrap) => {
    const made = contrast(a, b, v, columns, rows, wrap, density), sizes = made.values.filter(Number.isFinite).map(Math.abs).sort();
    const high = density ? Math.max(0.05, sizes.at(-1) ?? 1) : Math.min(MOST, Math.max(LEAST, sizes[Math.floor(0.95 * sizes.length)] ?? MOST));
    queueMicrotask(() => tell({ ...made, high }));
    return { values: made.values, limits: [-high, high], scale: "difference" };
  } }), [a.x, a.y, a.weights, a.polygons, b.x, b.y, b.weights, density]);
  const same = a.xc.name === b.xc.name && a.yc.name === b.yc.name, fitting = view && view.px === a.xc.period && view.py === a.yc.period ? { ...view } : null;
  return html`<${Panel} title=${`${last(a.about)} minus ${last(b.about)}`} help=${help}>
    <${Drawn} className="mapbox" deps=${[data, state.theme]} make=${(el) => shared(el, maps.current, name)}
      update=${(m) => { Object.assign(m.map, acts(name)); if (same) m.show(data, fitting); }} />
    ${found ? html`<div class="bar small"><${Ramp} scale="difference" low=${`−${short(found.high, 2)}`} high=${short(found.high, 2)} label=${density ? "of the highest density" : "kT"} /><span class="swatch"></span><span>within the noise</span>
      <span class="grow"></span><span>total variation <b>${found.distance.toFixed(3)}</b>, of noise alone ${found.noise.toFixed(3)}</span></div>` : null}<//>`;
}

/** Structures of one side; all sides of a molecule lie as the first structure that came, and turn together. */
function Body({ source, side, state, bodies, lead, help, tell }) {
  const { molecule, index, rows, picked, store } = side, kind = molecule.elements.join();
  const some = picked >= 0 ? [picked] : state.at ? [] : rows ? thin(rows, OVERLAID) : evenly(side.x.length, SOME);
  const wanted = some.map((r) => (index ? index[r] : r)), waiting = !tell && !lead;
  const answer = useAnswer(source, "frames", { name: store, rows: wanted, onto: lead?.kind === kind ? lead.x : undefined }, { skip: !wanted.length || waiting });
  const x = wanted.length ? answer.value?.x : null;
  useEffect(() => { if (tell && x && lead?.kind !== kind) tell({ kind, x: Array.from(x.subarray(0, 3 * molecule.elements.length)) }); }, [x]);
  const told = picked >= 0 ? `frame ${wanted[0]}, the nearest to that place` : state.at ? "no frame near that place"
    : rows ? `${count(some.length)} of ${count(rows.length)} frames in ${state.selected}` : `${some.length} of ${count(side.x.length)} frames, evenly`;
  return html`<${Panel} title=${`${last(side.about)}: structures`} help=${help} error=${answer.error}>
    <${Drawn} className="molecule" deps=${[x, molecule.name]} label=${`structures of ${side.about}`} make=${(el) => new MoleculeView(el, bodies)}
      update=${(v) => { if (x) v.show(molecule, x); else v.clear(); v.element.dataset.rows = x ? wanted.join(" ") : ""; }} />
    <div class="bar small"><span class="status">${told}</span></div><//>`;
}

/** The frame nearest to a place of the map, or -1 where none is near. */
function near({ x, y, xc, yc }, at) {
  const range = (values, c) => c.period ?? values.reduce((a, v) => Math.max(a, v), -Infinity) - values.reduce((a, v) => Math.min(a, v), Infinity);
  return nearest(x, y, at, { px: xc.period, py: yc.period }, REACH * range(x, xc), REACH * range(y, yc));
}

const evenly = (n, most) => Array.from({ length: Math.min(n, most) }, (_, i) => Math.floor((i * n) / Math.min(n, most)));
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
