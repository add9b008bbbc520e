// Small parts that pages share.
import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { shade } from "./colours.js";
import { Curves } from "./curves.js";
import { svg } from "./picture.js";
import { count } from "./ticks.js";

/** A panel: title, help (what it shows, what healthy looks like, what to do otherwise), content or its error. */
export function Panel({ title, help, error, children, actions, wide }) {
  const [open, set] = useState(false);
  const words = typeof help === "string" ? [help] : help ?? [];
  return html`<section class=${`panel${wide ? ` ${wide === true ? "wide" : wide}` : ""}${error ? " broken" : ""}`}>
    <header><h2>${title}</h2><span class="grow"></span>${actions}${words.length ? html`<button class="quiet" aria-expanded=${open} title="What is this?" onClick=${() => set(!open)}>?</button>` : null}</header>
    ${open ? html`<div class="help">${words.map((w) => w.split("\n\n").map((p) => html`<p>${p}</p>`))}</div>` : null}
    ${error ? html`<p class="error" role="alert">${error}</p>` : null}
    ${children}
  </section>`;
}

/** A table that scrolls by itself where it is too wide: cells as in `overview.py`; columns of `figures` hold numbers. */
export const Table = ({ head, rows, figures = [], open, class: name }) => html`<div class="scroll"><table class=${name}>
  <thead><tr>${head.map((c, i) => html`<th key=${i} class=${figures.includes(i) ? "number" : ""}>${c}</th>`)}</tr></thead>
  <tbody>${rows.map((r, k) => html`<tr key=${k}>${r.map((c, i) => html`<td key=${i} class=${figures.includes(i) ? "number" : ""}>${typeof c === "string" ? c : html`<${Cell} ...${c} click=${open} />`}</td>`)}</tr>`)}</tbody></table></div>`;

const Cell = ({ text, open, click, small, state, progress, curve, error, lines = [] }) => html`
  ${state ? html`<${Badge} state=${state} />` : null}${progress === undefined ? null : html`<progress max="1" value=${progress} aria-label="progress"></progress>`}
  ${open ? html`<button class="link" onClick=${() => click(open)}>${text}</button>` : text ? html`<div class="told">${text}</div>` : null}${small ? html`<small>${small}</small>` : null}
  ${curve?.length > 1 ? html`<${Spark} values=${curve} />` : null}${error ? html`<span class="error">${error}</span>` : null}
  ${lines.map((l) => html`<div class=${`told ${l.kind}`}><b>${l.title}</b> ${l.message}</div>`)}`;

/** The way of a few numbers, without axes. */
function Spark({ values }) {
  const low = Math.min(...values), high = Math.max(...values), at = (v, i) => `${(100 * i) / (values.length - 1)} ${20 - (18 * (v - low)) / (high - low || 1)}`;
  return html`<svg class="spark" viewBox="-1 0 102 22" role="img" aria-label="loss, lately"><path d=${`M${values.map(at).join("L")}`} fill="none" stroke="var(--point)" stroke-width="1.5" /></svg>`;
}

/** Words with commands between backticks. */
export const marked = (words) => words.split("`").map((w, i) => (i % 2 ? html`<code>${w}</code>` : w));

/** A slider over steps of a training; its right end (null) is `rest`, or the last step. Unless `live` it tells when let go. */
export function Steps({ label = "step", steps, at, rest = "", live, onChange }) {
  const end = rest ? steps.length : steps.length - 1, place = at === null ? end : steps.indexOf(at);
  const [moved, move] = useState(null), shown = moved ?? place;
  const take = (e) => { move(null); onChange(Number(e.target.value) === end ? null : steps[Number(e.target.value)]); };
  return html`<label class="choice steps"><span>${label} <b>${steps[shown] === undefined ? rest : count(steps[shown])}</b></span>
    <input type="range" min="0" max=${end} value=${shown} aria-label=${label} aria-valuetext=${steps[shown] ?? rest} onInput=${(e) => (live ? take(e) : move(Number(e.target.value)))} onChange=${take} /></label>`;
}

export function Choice({ label, value, options, onChange, title }) {
  return html`<label class="choice" title=${title}>${label ? html`<span>${label}</span>` : null}<select value=${value} onChange=${(e) => onChange(e.target.value)}>
    ${options.map((o) => (o.group ? html`<optgroup label=${o.group}>${o.options.map((i) => html`<option value=${i.value} selected=${i.value === value}>${i.label}</option>`)}</optgroup>` : html`<option value=${o.value ?? o} selected=${(o.value ?? o) === value}>${o.label ?? o}</option>`))}
  </select></label>`;
}

/** Something drawn by a class with show(...) and remove(). */
export function Drawn({ make, update, className, deps, label }) {
  const place = useRef(null), drawing = useRef(null);
  // Before the next frame, not after it: what was clicked is seen a frame earlier.
  useLayoutEffect(() => { drawing.current = make(place.current); return () => drawing.current?.remove?.(); }, []);
  useLayoutEffect(() => { if (drawing.current) update(drawing.current); }, deps);
  return html`<div class=${className} ref=${place} aria-label=${label}></div>`;
}

export const CurvePanel = ({ curves, options, range, onRange }) => html`<${Drawn} className="curves" make=${(el) => new Curves(el, onRange)} deps=${[curves, options.log, options.logX, options.smooth, range?.[0], range?.[1], options.theme]}
  update=${(c) => { c.show(curves, options); if (range) c.range(...range); }} />`;

/** A picture specification as SVG, with buttons that save it. */
export function Picture({ picture, name }) {
  const place = useRef(null);
  useEffect(() => { if (place.current && picture) place.current.innerHTML = svg(picture); }, [picture]);
  return html`<div class="picture" ref=${place}></div>
    <div class="save"><button class="quiet" onClick=${() => saveSvg(place.current.firstChild, name)}>SVG</button><button class="quiet" onClick=${() => savePng(place.current.firstChild, name)}>PNG</button></div>`;
}

export function download(name, content, type = "application/octet-stream") {
  const link = document.createElement("a");
  link.href = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  if (link.href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function standing(image) {
  const copy = image.cloneNode(true), style = getComputedStyle(image);
  let text = new XMLSerializer().serializeToString(copy);
  for (const name of ["--ink", "--muted", "--line", "--paper", "--fill", "--reference", "--point", "--path", "--indigo"]) text = text.replaceAll(`var(${name})`, style.getPropertyValue(name).trim());
  return text;
}

export const saveSvg = (image, name) => download(`${name}.svg`, standing(image), "image/svg+xml");

export function savePng(image, name, scale = 3) {
  const picture = new Image(), box = image.viewBox.baseVal;
  picture.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = box.width * scale; canvas.height = box.height * scale;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(image).getPropertyValue("--paper"); context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    download(`${name}.png`, canvas.toDataURL("image/png"));
  };
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standing(image))}`;
}

/** What colours mean: a scale between two numbers. */
export const Ramp = ({ scale, low, high, label }) => html`<span class="ramp"><span>${low}</span>
  <i style=${`background:linear-gradient(90deg,${[0, 0.25, 0.5, 0.75, 1].map((t) => shade(scale, t)).join()})`}></i><span>${high} ${label}</span></span>`;

export const Badge = ({ state }) => html`<span class=${`badge ${state}`}>${state}</span>`;
