// Map and structures together: pick a place, see the molecule; select a region, see what is common to it.
import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { divergence, extent, histogram, inside, nearest, thin, weightsOf } from "./density.js";
import { EnsembleMap } from "./map.js";
import { MoleculeView } from "./molecule.js";
import { Choice, Drawn, Panel, Ramp, Steps, download } from "./parts.js";
import { keep, kept, useAnswer } from "./state.js";
import { axisTicks, count, short } from "./ticks.js";

const TOOLS = [["pick", "Pick", "click: the frame there; drag: pan; wheel: zoom"], ["lasso", "Lasso", "draw around frames"], ["box", "Box", "drag a rectangle"],
  ["polygon", "Polygon", "click corners, double click or Enter ends"], ["path", "Path", "click stations, double click or Enter plays along them"]];
const PATIENCE = 100, OVERLAID = 200, IMAGES = 60, GROUPS = /cluster|state|trajectory/, LATENT = /^z\d+$/;

/** Columns of an ensemble by name, fetched when first needed and kept while the ensemble has as many frames. */
export function useColumns(source, name, about, wanted) {
  const kept = useRef({ key: "" }), [, again] = useState(0), [error, fail] = useState(null);
  const key = `${name} ${about?.frames}`;
  if (kept.current.key !== key) kept.current = { key, columns: name && kept.current.name === name ? kept.current.columns : {}, name, asked: new Set() };
  useEffect(() => {
    const now = kept.current;
    for (const column of wanted) {
      if (!about || !column || now.asked.has(column) || !about.columns.some((c) => c.name === column)) continue;
      now.asked.add(column);
      source.ask("column", { name, column }).then((a) => { if (kept.current === now) { now.columns = { ...now.columns, [column]: a.values }; again((n) => n + 1); } }, (e) => fail(e.message));
    }
  });
  return [kept.current.columns, error];
}

/** Two columns that are there: what was chosen, or those that a map has at first. */
export const axesOf = (about, state) => [state.x, state.y].map((n, i) => (about?.columns.some((c) => c.name === n) ? n : about?.axes[i]));
export const columnOptions = (about) => about?.options ?? [];

export function Conformations({ source, state, change, known, ensemble, help }) {
  const listed = known.ensembles.find((e) => e.name === ensemble);
  const { value: found, error } = useAnswer(source, "ensemble", { name: ensemble }, { skip: !ensemble, every: listed && source.live ? 3000 : 0 });
  const about = found?.name === ensemble ? found : null, [x, y] = axesOf(about, state); // not of the one that was open before
  const has = (n) => about?.columns.some((c) => c.name === n), third = has(state.colour) ? state.colour : "";
  const stepped = has("step"), run = ensemble.slice(0, Math.max(0, ensemble.lastIndexOf("/")));
  const coloured = state.paint.startsWith("column ") ? state.paint.slice(7) : "";
  const [columns, broken] = useColumns(source, ensemble, about, [x, y, third, coloured, has("log_w") && "log_w", stepped && "step", has("u") && "u"]);
  const [tool, use] = useState("pick");
  const [hover, setHover] = useState(-1), [limits, setLimits] = useState(null);
  const [shown, setShown] = useState(null);
  const [path, setPath] = useState(null);
  const map = useRef(null), molecule = useRef(null);
  const weights = useMemo(() => (columns.log_w && state.weighted ? weightsOf(columns.log_w) : null), [columns.log_w, state.weighted]);
  const steps = useMemo(() => (columns.step ? [...new Set(columns.step)].sort((a, b) => a - b) : []), [columns.step]);
  // Frames of one step; where a record speaks of some frames only, those.
  const only = useMemo(() => {
    const at = steps.length && state.step !== null ? columns.step : null, v = third ? columns[third] : null;
    if (!at && !v?.some(Number.isNaN)) return null;
    const rows = [], n = (at ?? v).length;
    for (let i = 0; i < n; i += 1) if ((!at || at[i] === state.step) && !(v && Number.isNaN(v[i]))) rows.push(i);
    return Int32Array.from(rows);
  }, [columns.step, state.step, third, columns[third]]);
  const polygon = state.polygons[state.selected]?.x === x && state.polygons[state.selected]?.y === y ? state.polygons[state.selected] : null;
  const xc = about?.columns.find((c) => c.name === x), yc = about?.columns.find((c) => c.name === y);
  const ready = about && columns[x] && columns[y] && (!third || columns[third]);
  const selected = useMemo(() => (ready && polygon ? inside(columns[x], columns[y], polygon.points, { px: xc.period, py: yc.period }, only) : null), [ready, polygon, only, columns[x], columns[y]]);
  const marks = ready && state.row >= 0 && state.row < columns[x].length ? [{ at: [columns[x][state.row], columns[y][state.row]] }] : shown?.at ? [{ at: shown.at, text: "drawn" }] : [];
  const data = useMemo(() => (ready ? { about: ensemble, x: columns[x], y: columns[y], xc, yc, weights, values: columns[third],
    mode: third ? (GROUPS.test(third) ? "cluster" : "column") : state.colour === "density" ? "density" : "free energy", only, polygons: polygon ? [polygon.points] : [], path: path?.places } : null),
    [ready, columns[x], columns[y], columns[third], weights, state.colour, only, polygon, path]);

  // A frame is fetched when the button goes down, so that it mostly is there when it comes up.
  const aimed = useRef(null), last = useRef({}); // of several wishes the last one counts, whatever is answered first
  const aim = (row) => { aimed.current = row < 0 ? null : { row, ensemble, answer: source.ask("frames", { name: ensemble, rows: [row] }) }; aimed.current?.answer.catch(() => {}); };
  const structures = async (rows, note, of = null) => {
    const ready = rows.length === 1 && aimed.current?.row === rows[0] && aimed.current.ensemble === ensemble;
    const wish = (last.current.shown = {}), answer = await (ready ? aimed.current.answer : source.ask("frames", { name: ensemble, rows }));
    if (wish === last.current.shown) setShown({ x: answer.x, rows: Array.from(answer.rows), note, of });
  };
  // Asked before the next frame is drawn, not after it.
  const picked = state.row < about?.frames ? state.row : -1; // that of another ensemble may be none of this one
  useLayoutEffect(() => { if (picked >= 0 && !selected) structures([picked], `frame ${picked}`).catch((e) => setShown({ error: e.message })); }, [about?.name, picked, selected === null]);
  useLayoutEffect(() => { if (about && selected?.length) structures(thin(selected, OVERLAID), `${Math.min(OVERLAID, selected.length)} of ${count(selected.length)} selected frames`, selected).catch((e) => setShown({ error: e.message })); }, [about?.name, selected]);
  useEffect(() => { if (run) change({ polygons: { ...kept(run), ...state.polygons } }); }, [run]);
  const regions = (polygons, name) => { keep(run, polygons); change({ polygons, selected: name }); };
  const select = (points) => {
    const taken = Object.keys(state.polygons).map((n) => Number(/^region (\d+)$/.exec(n)?.[1] ?? 0)), name = `region ${Math.max(0, ...taken) + 1}`;
    regions({ ...state.polygons, [name]: { x, y, points: points.map((p) => p.map((v) => Number(v.toPrecision(6)))) } }, name);
  };
  const pick = async (row, at) => {
    const wish = (last.current.picked = {});
    setPath(null);
    // Mark and structure are drawn in one go, unless the structure takes long.
    if (row >= 0) await Promise.race([aimed.current.answer.catch(() => {}), new Promise((then) => setTimeout(then, PATIENCE))]);
    if (wish !== last.current.picked) return;
    if (row < 0) { setShown(null); drawn(at).catch((e) => setShown({ error: e.message })); }
    change({ row, selected: "" });
  };
  const drawn = async (at) => {
    const wish = (last.current.shown = {});
    if (!(LATENT.test(x) && LATENT.test(y))) { setShown({ note: "No frame is there. Where both axes are latent (z1, z2), the network draws one." }); return; }
    setShown({ at, note: "The network draws …" });
    const answer = await source.ask("decode", { name: ensemble, at: { [x]: at[0], [y]: at[1] } });
    if (wish === last.current.shown) setShown({ x: answer.x, rows: [], at, note: `drawn by the network at ${[...answer.z].map((v, i) => `z${i + 1} ${short(v, 3)}`).join(", ")}; log p(x|z) ${short(answer.log_q[0])}` });
  };
  const along = (stations) => {
    const places = [], [lx, ly] = [xc.period, yc.period];
    for (let i = 0; i < stations.length - 1; i += 1) for (let k = 0; k < IMAGES / (stations.length - 1); k += 1) { const t = k / (IMAGES / (stations.length - 1)); places.push([0, 1].map((c) => stations[i][c] + t * (stations[i + 1][c] - stations[i][c]))); }
    places.push(stations.at(-1));
    const v = map.current.view, reach = [0.06 * (v.x1 - v.x0), 0.06 * (v.y1 - v.y0)];
    const rows = places.map((p) => nearest(columns[x], columns[y], p, { px: lx, py: ly }, reach[0], reach[1], only)).filter((r) => r >= 0);
    setPath({ places: rows.map((r) => [columns[x][r], columns[y][r]]), rows, at: 0, playing: true });
  };
  useEffect(() => {
    if (!path?.rows?.length) return undefined;
    let over = false;
    source.ask("frames", { name: ensemble, rows: path.rows }).then((a) => { if (!over) setPath((p) => ({ ...p, x: a.x })); }, () => {});
    return () => { over = true; };
  }, [path?.rows]);
  useEffect(() => {
    if (!path?.playing || !path.x) return undefined;
    const timer = setTimeout(() => setPath((p) => (p ? { ...p, at: (p.at + 1) % p.rows.length } : p)), 120);
    return () => clearTimeout(timer);
  }, [path]);
  const atoms = about?.elements.length ?? 0;
  const image = path?.x ? path.x.subarray(3 * atoms * path.at, 3 * atoms * (path.at + 1)) : null;
  const perAtom = about?.atom_values ?? [], perFrame = (about?.columns ?? []).filter((c) => ["kept", "energy", "weight"].includes(c.kind) || c.name === "cluster" || c.name === third);
  const rows = image ? [path.rows[path.at]] : shown?.rows ?? [], paint = paintOf(state.paint, perAtom, rows.map((r) => columns[coloured]?.[r]), perFrame.find((c) => c.name === coloured)?.label);
  const saveFrames = async (kind) => {
    const chosen = path?.rows ?? (selected?.length ? thin(selected, 1000) : picked >= 0 ? [picked] : []), own = shown?.at && shown.x;
    if (!chosen.length && !own) return;
    const answer = await source.ask("file", { name: ensemble, kind, ...(own && !path ? { x: Array.from(own) } : { rows: chosen }) });
    download(`${ensemble.replaceAll("/", "-")}.${kind}`, answer.bytes);
  };
  const told = (row) => `frame ${row}: ${xc?.label} ${place(columns[x]?.[row], xc)}, ${yc?.label} ${place(columns[y]?.[row], yc)}${columns.u ? `, u ${short(columns.u[row], 5)} kT` : ""}`;
  if (!ensemble) return html`<p class="empty">No conformations yet. <code>molifold sample RUN</code> draws some; a simulation that is running appears by itself.</p>`;
  return html`<div class="page">
    <div class="bar">
      <${Choice} label="ensemble" value=${ensemble} options=${known.ensembles.filter((e) => e.frames > 0).map((e) => ({ value: e.name, label: `${e.name} (${count(e.frames)})` }))} onChange=${(v) => { change({ ensemble: v, row: -1, step: null, selected: "" }); setShown(null); setPath(null); }} />
      <${Choice} label="x" value=${x} options=${columnOptions(about)} onChange=${(v) => change({ x: v })} />
      <${Choice} label="y" value=${y} options=${columnOptions(about)} onChange=${(v) => change({ y: v })} />
      <${Choice} label="show" value=${state.colour} options=${["free energy", "density", ...columnOptions(about)]} onChange=${(v) => change({ colour: v })} />
      ${has("log_w") ? html`<label class="choice"><input type="checkbox" checked=${state.weighted} onChange=${(e) => change({ weighted: e.target.checked })} /><span>reweighted</span></label>` : null}
      ${listed ? html`<small>${count(listed.frames)} frames</small>` : null}
    </div>
    ${error || broken ? html`<p class="error" role="alert">${error ?? broken}</p>` : null}
    <div class="two">
      <${Panel} title="Map" help=${help.map} actions=${TOOLS.map(([name, title, help]) => html`<button key=${name} class=${tool === name ? "on" : ""} aria-pressed=${tool === name} title=${help} onClick=${() => { use(name); map.current?.use(name); }}>${title}</button>`)}>
        <${Drawn} className="mapbox" deps=${[data, marks[0]?.at.join(), tool]} make=${(el) => (map.current = new EnsembleMap(el))}
          update=${(m) => { Object.assign(m, { onAim: aim, onPick: pick, onSelect: select, onPath: along, onHover: setHover, onPaint: (l) => setLimits((was) => (was?.join() === l.join() ? was : l)) }); if (data) m.show({ ...data, marks }); }} />
        <div class="bar small"><span class="status">${hover >= 0 ? told(hover) : ready ? "" : "loading columns …"}</span><span class="grow"></span>${scaleOf(data?.mode, limits, about?.columns.find((c) => c.name === third))}
          <button class="quiet" onClick=${() => map.current?.reset()}>all</button><button class="quiet" onClick=${() => download(`${ensemble.replaceAll("/", "-")}-map.png`, map.current.png())}>PNG</button></div>
        ${steps.length > 1 ? html`<${Steps} label="training step" steps=${steps} at=${state.step} rest="all" live onChange=${(step) => change({ step })} />` : null}
        <${Regions} state=${state} change=${change} store=${regions} selected=${selected} />
      <//>
      <${Panel} title="Structures" error=${shown?.error} help=${help.structures}
        actions=${html`<${Choice} label="colour" value=${state.paint} onChange=${(v) => change({ paint: v })} options=${[{ value: "element", label: "element" }, { value: "frame", label: "frame" },
          ...(perAtom.length ? [{ group: "per atom", options: perAtom.map((a) => ({ value: `atoms ${a.name}`, label: a.label })) }] : []),
          ...(perFrame.length ? [{ group: "per frame", options: perFrame.map((c) => ({ value: `column ${c.name}`, label: c.label })) }] : [])]} />`}>
        <${Drawn} className="molecule" deps=${[about?.name, image ?? shown?.x, state.paint, paint.values?.join()]} make=${(el) => (molecule.current = new MoleculeView(el))}
          update=${(v) => { if (!about) return; const now = image ?? shown?.x; if (now) v.show(about, now, paint); else v.clear(); v.element.dataset.rows = rows.join(" "); }} />
        <div class="bar small"><span class="status">${path?.rows ? `image ${path.at + 1} of ${path.rows.length}: frame ${path.rows[path.at]}` : shown?.note ?? "Pick a place on the map."}</span>${paint.high === undefined ? null : html`<${Ramp} ...${paint} />`}<span class="grow"></span>
          ${path ? html`<button onClick=${() => setPath({ ...path, playing: !path.playing })}>${path.playing ? "Pause" : "Play"}</button><button class="quiet" onClick=${() => setPath(null)}>close</button>` : null}
          ${source.live ? ["pdb", "xtc", "sdf"].map((k) => html`<button key=${k} class="quiet" title="save the structures shown" onClick=${() => saveFrames(k).catch((e) => setShown({ ...shown, error: e.message }))}>${k.toUpperCase()}</button>`) : null}
          <button class="quiet" onClick=${() => download("structures.png", molecule.current.png())}>PNG</button></div>
        ${path && columns.u ? html`<${Profile} values=${path.rows.map((r) => columns.u[r])} at=${path.at} />` : null}
      <//>
    </div>
    ${selected?.length && shown?.of ? html`<${Linked} source=${source} name=${ensemble} about=${about} selected=${shown.of} region=${state.selected} help=${help.linked} />` : null}
  </div>`;
}

/** What the colours of the map mean; `third` is the column that they show. */
function scaleOf(mode, limits, third) {
  if (!mode || mode === "cluster" || !limits) return null;
  const [scale, low, high, label] = mode === "free energy" ? ["free_energy", 0, limits[1], "kT"] : mode === "density" ? ["density", "few", "many", "frames"] : ["time", place(limits[0], third), place(limits[1], third), third?.label];
  return html`<${Ramp} scale=${scale} low=${low} high=${high} label=${label} />`;
}

const place = (v, c) => (c?.period ? `${((v * 180) / Math.PI).toFixed(1)}°` : `${short(v)} ${c?.unit ?? ""}`);

/** Colours of structures: by element, by frame, by a column of the frames shown, or by what a record says of atoms. */
function paintOf(how, perAtom, values, name) {
  const atoms = perAtom.find((a) => `atoms ${a.name}` === how);
  if (!atoms && !how.startsWith("column ")) return { by: how === "frame" ? "frame" : "element" };
  if (!atoms && GROUPS.test(how)) return { by: "group", values };
  const finite = [...(atoms?.values ?? values)].filter(Number.isFinite), low = atoms ? Math.min(0, ...finite) : Math.min(...finite), high = Math.max(...finite);
  if (!(high >= low)) return { by: "element" };
  const legend = { low: short(low, 3), high: short(high, 3), label: (atoms?.label ?? name ?? "").split(": ")[0] };
  return { by: atoms ? "atom" : "frame", values: Array.from(atoms?.values ?? values, (v) => (v - low) / (high - low || 1)), scale: atoms ? "hurt" : "time", ...legend };
}

function Regions({ state, change, store, selected }) {
  const names = Object.keys(state.polygons);
  if (!names.length) return null;
  const drop = (name) => { const rest = Object.fromEntries(Object.entries(state.polygons).filter(([n]) => n !== name)); store(rest, state.selected === name ? "" : state.selected); };
  const rename = (name) => { const to = prompt("Name of this region", name); if (to && to !== name) { const { [name]: it, ...rest } = state.polygons; store({ ...rest, [to]: it }, to); } };
  const open = (name) => { const p = state.polygons[name]; change({ selected: name === state.selected ? "" : name, x: p.x, y: p.y }); };
  return html`<div class="bar small regions">${names.map((n) => html`<span key=${n} class=${n === state.selected ? "region on" : "region"}>
    <button class="link" onClick=${() => open(n)} onDblClick=${() => rename(n)} title="double click renames">${n}</button>
    ${n === state.selected && selected ? html` <b data-count=${selected.length}>${count(selected.length)}</b>` : null}
    <button class="quiet" aria-label=${`remove ${n}`} onClick=${() => drop(n)}>×</button></span>`)}</div>`;
}

function Profile({ values, at }) {
  const low = Math.min(...values), high = Math.max(...values), w = 320, h = 60;
  const x = (i) => 8 + (i / Math.max(1, values.length - 1)) * (w - 16), y = (v) => h - 8 - ((v - low) / (high - low || 1)) * (h - 20);
  const line = `M${values.map((v, i) => `${x(i)} ${y(v)}`).join("L")}`;
  return html`<svg class="profile" viewBox="0 0 ${w} ${h}" role="img" aria-label="energy along the path">
    <path d=${line} fill="none" stroke="var(--accent)" stroke-width="1.5" /><circle cx=${x(at)} cy=${y(values[at])} r="3.5" fill="var(--path)" /><text x="8" y="10" font-size="9" fill="var(--muted)">reduced energy of the frames: ${short(low, 5)} to ${short(high, 5)} kT</text></svg>`;
}

function Linked({ source, name, about, selected, region, help }) {
  const [most, more] = useState(12);
  const rows = useMemo(() => thin(selected, 5000), [selected]);
  const mine = useAnswer(source, "rows", { name, rows }), all = useAnswer(source, "rows", { name });
  const list = useMemo(() => {
    if (!mine.value || !all.value) return [];
    const take = (a, i) => a.values.subarray(i * a.values.shape[1], (i + 1) * a.values.shape[1]);
    return all.value.names.map((n, i) => {
      const c = about.columns.find((k) => k.name === n), p = take(mine.value, i), q = take(all.value, i);
      const [low, high] = c?.period ? [-Math.PI, Math.PI] : extent([...p, ...q]);
      if (!(high > low)) return null;
      const bins = Math.max(8, Math.min(48, Math.round(Math.cbrt(p.length) * 3))), a = histogram(p, low, high, bins, c?.period), b = histogram(q, low, high, bins, c?.period);
      const half = (odd) => q.filter((_, k) => k % 2 === odd), share = thin(half(0), Math.min(p.length, half(0).length));
      const floor = divergence(histogram(share, low, high, bins, c?.period), histogram(half(1), low, high, bins, c?.period));
      return { c, low, high, a, b, d: divergence(a, b), floor };
    }).filter(Boolean).sort((s, t) => t.d - t.floor - (s.d - s.floor));
  }, [mine.value, all.value]);
  const csv = () => {
    const names = mine.value.names, n = mine.value.values.shape[1], lines = [["frame", ...names].join(",")];
    for (let k = 0; k < n; k += 1) lines.push([mine.value.rows[k], ...names.map((_, i) => mine.value.values[i * n + k])].join(","));
    download(`${region}.csv`, lines.join("\n"), "text/csv");
  };
  return html`<${Panel} title=${`${region}: what is different there`} help=${help} error=${mine.error ?? all.error} wide actions=${html`<button class="quiet" onClick=${csv} disabled=${!mine.value}>CSV</button>`}>
    ${list.length || mine.error || all.error ? null : html`<p class="empty">Measuring …</p>`}
    <div class="small-multiples">${list.slice(0, most).map((l) => html`<${Small} key=${l.c?.name} ...${l} />`)}</div>
    ${list.length > most ? html`<button onClick=${() => more(most + 24)}>more (${list.length - most})</button>` : null}<//>`;
}

function Small({ c, low, high, a, b, d, floor }) {
  const w = 170, h = 92, top = Math.max(...a, ...b), x = (i) => 6 + (i / a.length) * (w - 12), y = (v) => h - 16 - (v / top) * (h - 42);
  const steps = (p) => Array.from(p, (v, i) => `L${x(i)} ${y(v)}L${x(i + 1)} ${y(v)}`).join("");
  return html`<svg viewBox="0 0 ${w} ${h}" role="img" aria-label=${`${c.label}: JSD ${d.toFixed(3)} bits`}><path d=${`M6 ${h - 16}${steps(b)}L${w - 6} ${h - 16}Z`} fill="var(--fill)" /><path d=${`M6 ${h - 16}${steps(a)}L${w - 6} ${h - 16}`} fill="none" stroke="var(--accent)" stroke-width="1.4" />
    <text x="6" y="11" font-size="9.5" fill="var(--ink)">${c.label.length > 24 ? `${c.label.slice(0, 23)}…` : c.label}</text><text x=${w - 6} y="20" text-anchor="end" font-size="8.5" fill="var(--muted)">${d.toFixed(3)} (${floor.toFixed(3)})</text>
    ${axisTicks(low, high, c, 3).map(([v, t]) => html`<text x=${6 + ((v - low) / (high - low)) * (w - 12)} y=${h - 5} text-anchor=${v < low + 0.1 * (high - low) ? "start" : v > high - 0.1 * (high - low) ? "end" : "middle"} font-size="8" fill="var(--muted)">${t}</text>`)}</svg>`;
}
