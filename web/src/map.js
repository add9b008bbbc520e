// The map of an ensemble over two columns: density, free energy or a third column; pick, box, lasso, polygon, path.
import { contours } from "d3-contour";
import { bytesOf, series, table } from "./colours.js";
import { bin, extent, freeEnergy, into, nearest, smooth } from "./density.js";
import { axisTicks, css } from "./ticks.js";

const MARGIN = { left: 52, right: 12, top: 10, bottom: 38 };
const FEW = 4000; // so many frames in view, or less, are drawn as points
const COARSE = 90; // cells along each axis of a free-energy map
const HIGHEST = 12; // kT above the minimum that are drawn
const PAINTED = ["about", "x", "y", "weights", "values", "mode", "only", "grid", "ink"]; // what the picture of the frames depends on; the rest lies over it
const SAMPLED = 20_000; // values of which the limits of a colour scale are taken

export class EnsembleMap {
  constructor(element) {
    // Two layers: to paint the frames is dear, a mark over them is cheap. "Frequently" keeps cells and lines on the CPU: without a GPU, its stand-in takes ten times as long.
    const [ground, canvas] = ["ground", "map"].map((className) => Object.assign(document.createElement("canvas"), { className }));
    const [below, above] = [ground.getContext("2d", { willReadFrequently: true }), canvas.getContext("2d")];
    Object.assign(this, { element, ground, canvas, below, above, tool: "pick", data: null, drawn: [] });
    Object.assign(canvas, { tabIndex: 0, role: "img", ariaLabel: "map of conformations; arrow keys pan, plus and minus zoom, 0 shows all" });
    element.append(ground, canvas);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(element);
    this.listen();
    this.resize();
  }

  /** data: {x, y, xc, yc, weights, values, mode, only, polygons, marks, path, grid}; xc, yc are columns, grid(view, columns, rows, wrap) gives cells of its own. */
  show(data, view = null) {
    const fresh = !this.data || this.data.xc.name !== data.xc.name || this.data.yc.name !== data.yc.name || this.data.about !== data.about;
    data.ink = css("--ink"); // light or dark
    if (!this.data || PAINTED.some((k) => this.data[k] !== data[k])) this.image = this.groups = null;
    this.data = data;
    if (view || fresh || !this.view) { this.view = view ?? this.whole(); this.image = null; }
    this.redraw();
  }

  whole() {
    const { x, y, xc, yc } = this.data;
    const range = (v, c) => {
      const [low, high] = c.period ? [-c.period / 2, c.period / 2] : extent(v), room = c.period ? 0 : 0.03 * (high - low);
      return high > low ? [low - room, high + room] : [(low || 0) - 1, (low || 0) + 1];
    };
    const [x0, x1] = range(x, xc), [y0, y1] = range(y, yc);
    return { x0, x1, y0, y1, px: xc.period, py: yc.period };
  }

  resize() {
    const box = this.element.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(120, box.width); this.height = Math.max(120, box.height);
    for (const c of [this.ground, this.canvas]) {
      Object.assign(c, { width: Math.round(this.width * this.ratio), height: Math.round(this.height * this.ratio) });
      Object.assign(c.style, { width: `${this.width}px`, height: `${this.height}px` });
    }
    this.image = null;
    this.redraw();
  }

  redraw() { this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); }); }
  get plot() { return { left: MARGIN.left, top: MARGIN.top, width: this.width - MARGIN.left - MARGIN.right, height: this.height - MARGIN.top - MARGIN.bottom }; }

  toPixel([a, b]) { return this.plain([into(a, this.view.x0, this.view.px), into(b, this.view.y0, this.view.py)]); }
  toPlace([px, py]) {
    const v = this.view, p = this.plot;
    return [v.x0 + ((px - p.left) / p.width) * (v.x1 - v.x0), v.y0 + (1 - (py - p.top) / p.height) * (v.y1 - v.y0)];
  }

  draw() {
    if (!this.data) return;
    if (!this.image) {
      const start = performance.now();
      this.within(this.below, (context) => this.paint(context));
      this.axes(this.below);
      this.image = true;
      this.canvas.dataset.painted = (performance.now() - start).toFixed(1); // ms, for whoever measures
    }
    this.within(this.above, (context) => this.overlay(context));
  }

  /** A layer is wiped and drawn upon, inside the axes. */
  within(context, draw) {
    const p = this.plot;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.save(); context.beginPath(); context.rect(p.left, p.top, p.width, p.height); context.clip();
    draw(context); context.restore();
  }

  /** The picture of the frames in view, kept until data or view change. */
  paint(context) {
    const d = this.data, p = this.plot, v = this.view;
    const flow = d.mode === "free energy", wrap = [v.px && v.x1 - v.x0 > 0.99 * v.px, v.py && v.y1 - v.y0 > 0.99 * v.py];
    const put = (canvas, fine = false) => { context.imageSmoothingEnabled = fine; context.drawImage(canvas, p.left, p.top, p.width, p.height); };
    if (d.grid) { const { values, limits, scale } = d.grid(v, COARSE, COARSE, wrap); put(paintGrid(values, COARSE, COARSE, limits, scale)); return; }
    const columns = flow ? COARSE : Math.round(p.width * Math.min(this.ratio, 1)), rows = flow ? COARSE : Math.round(p.height * Math.min(this.ratio, 1));
    let grid = bin(d.x, d.y, v, columns, rows, { weights: d.mode === "column" || d.mode === "cluster" ? null : d.weights, values: d.mode === "column" ? d.values : null, only: d.only });
    if (d.mode === "cluster") { put(this.clusters(columns, rows)); return; }
    const counted = !d.weights || d.mode === "column";
    if (!flow && counted && grid.sum.reduce((n, c) => n + c, 0) <= FEW) { this.points(context, this.visible()); return; }
    if (flow) grid = smooth(grid, 1, ...wrap);
    const values = flow ? freeEnergy(grid) : grid.total ? grid.total.map((t, i) => (grid.sum[i] > 0 ? t / grid.sum[i] : NaN)) : grid.sum.map((s) => (s > 0 ? Math.log(s) : NaN));
    const limits = flow ? [0, HIGHEST] : spread(values, !grid.total);
    this.onPaint?.(limits);
    put(paintGrid(values, columns, rows, limits, flow ? "free_energy" : grid.total ? "time" : "density"), flow);
    if (flow) this.lines(context, values, columns, rows);
  }

  clusters(columns, rows) {
    const d = this.data, most = new Float32Array(columns * rows), of = new Int16Array(columns * rows).fill(-1);
    this.groups ??= grouped(d.values, d.only);
    for (const [label, only] of this.groups) {
      const { sum } = bin(d.x, d.y, this.view, columns, rows, { only });
      for (let i = 0; i < sum.length; i += 1) if (sum[i] > most[i]) { most[i] = sum[i]; of[i] = label; }
    }
    return pixels(columns, rows, (k, data, at) => { if (of[k] >= 0) data.set([...bytesOf(series(of[k])), 110 + Math.min(145, 40 * Math.log(1 + most[k]))], at); });
  }

  visible() {
    const { x, y, only } = this.data, v = this.view, out = [];
    const n = only ? only.length : x.length;
    for (let k = 0; k < n; k += 1) {
      const i = only ? only[k] : k;
      const a = into(x[i], v.x0, v.px), b = into(y[i], v.y0, v.py);
      if (a >= v.x0 && a <= v.x1 && b >= v.y0 && b <= v.y1) out.push(i);
    }
    return out;
  }

  points(context, rows) {
    const { x, y, mode, values } = this.data;
    const limits = mode === "column" ? spread(rows.map((i) => values[i]), false) : null;
    const t = table("time");
    if (limits) this.onPaint?.(limits);
    context.fillStyle = css("--point");
    for (const i of rows) {
      if (limits) {
        const k = 3 * Math.round(255 * Math.max(0, Math.min(1, (values[i] - limits[0]) / (limits[1] - limits[0] || 1))));
        context.fillStyle = `rgb(${t[k]},${t[k + 1]},${t[k + 2]})`;
      }
      const [a, b] = this.toPixel([x[i], y[i]]);
      context.fillRect(a - 1.2, b - 1.2, 2.4, 2.4);
    }
  }

  /** Lines every 2 kT. */
  lines(context, values, columns, rows) {
    const p = this.plot, generator = contours().size([columns, rows]), deep = Array.from(values, (v) => (Number.isFinite(v) ? -v : -HIGHEST - 2));
    context.lineWidth = 0.7; context.strokeStyle = "rgba(20,30,40,.55)"; context.beginPath();
    for (let level = 2; level <= HIGHEST; level += 2) {
      for (const ring of generator.contour(deep, -level).coordinates.flat()) trace(context, ring.map(([c, r]) => [p.left + (c / columns) * p.width, p.top + (1 - r / rows) * p.height]));
    }
    context.stroke();
  }

  overlay(context) {
    const d = this.data;
    context.lineWidth = 1.5; context.strokeStyle = css("--accent");
    for (const polygon of [...(d.polygons ?? []), ...(this.drawn.length ? [this.drawn] : [])]) {
      context.beginPath();
      // Drawn in one piece, shifted by whole periods if it crosses the border of the view.
      const along = (period) => (period ? [-period, 0, period] : [0]);
      for (const dx of along(this.view.px)) for (const dy of along(this.view.py)) {
        trace(context, polygon.map((q) => this.plain([q[0] + dx, q[1] + dy])));
        if (this.tool !== "path" || polygon !== this.drawn) context.closePath();
      }
      context.globalAlpha = 0.12; context.fillStyle = css("--accent"); if (this.tool !== "path") context.fill();
      context.globalAlpha = 1; context.stroke();
    }
    if (d.path?.length) {
      context.strokeStyle = css("--path"); context.lineWidth = 2; context.beginPath();
      let last = null;
      for (const q of d.path) {
        const at = this.toPixel(q);
        if (last && Math.hypot(at[0] - last[0], at[1] - last[1]) < 0.5 * this.plot.width) context.lineTo(...at); else context.moveTo(...at);
        last = at;
      }
      context.stroke();
    }
    for (const mark of d.marks ?? []) {
      const [a, b] = this.toPixel(mark.at);
      context.beginPath(); context.arc(a, b, mark.size ?? 6, 0, 7);
      context.lineWidth = 3; context.strokeStyle = css("--paper"); context.stroke();
      context.lineWidth = 1.8; context.strokeStyle = mark.colour ?? css("--accent"); context.stroke();
      if (mark.text) { context.fillStyle = css("--ink"); context.font = "11px system-ui"; context.fillText(mark.text, a + 8, b - 6); }
    }
  }

  plain([a, b]) {
    const v = this.view, p = this.plot;
    return [p.left + ((a - v.x0) / (v.x1 - v.x0)) * p.width, p.top + (1 - (b - v.y0) / (v.y1 - v.y0)) * p.height];
  }

  axes(context) {
    const p = this.plot, v = this.view, { xc, yc } = this.data;
    context.strokeStyle = css("--line"); context.lineWidth = 1; context.strokeRect(p.left, p.top, p.width, p.height);
    context.fillStyle = css("--muted"); context.font = "11px system-ui"; context.textAlign = "center"; context.textBaseline = "top";
    for (const [value, text] of axisTicks(v.x0, v.x1, xc, p.width / 70)) {
      const [a] = this.plain([value, v.y0]);
      context.fillText(text, a, p.top + p.height + 5); context.fillRect(a, p.top + p.height, 1, 4);
    }
    context.textAlign = "right"; context.textBaseline = "middle";
    for (const [value, text] of axisTicks(v.y0, v.y1, yc, p.height / 50)) {
      const [, b] = this.plain([v.x0, value]);
      context.fillText(text, p.left - 6, b); context.fillRect(p.left - 4, b, 4, 1);
    }
    context.fillStyle = css("--ink"); context.font = "12px system-ui"; context.textAlign = "center"; context.textBaseline = "bottom";
    context.fillText(title(xc), p.left + p.width / 2, this.height - 2);
    context.save(); context.translate(12, p.top + p.height / 2); context.rotate(-Math.PI / 2); context.textBaseline = "middle";
    context.fillText(title(yc), 0, 0); context.restore();
  }

  listen() {
    const c = this.canvas;
    const at = (e) => { const b = c.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    let from = null, moved = 0, start = null, aimed = -1;
    c.addEventListener("pointerdown", (e) => {
      if (!this.data) return;
      c.setPointerCapture(e.pointerId);
      from = at(e); moved = 0; start = this.view;
      if (this.tool === "lasso" || this.tool === "box") this.drawn = [this.toPlace(from)];
      if (this.tool === "pick" && this.onPick) { aimed = this.nearest(from, 14); this.onAim(aimed); }
    });
    c.addEventListener("pointermove", (e) => {
      if (!this.data) return;
      const now = at(e);
      if (!from) { this.onHover?.(this.nearest(now, 8)); return; }
      moved = Math.max(moved, Math.hypot(now[0] - from[0], now[1] - from[1]));
      if (this.tool === "lasso") this.drawn.push(this.toPlace(now));
      else if (this.tool === "box") { const [a, b] = this.toPlace(from), [k, l] = this.toPlace(now); this.drawn = [[a, b], [k, b], [k, l], [a, l]]; }
      else if (moved > 3) this.move(((from[0] - now[0]) / this.plot.width) * (start.x1 - start.x0), ((now[1] - from[1]) / this.plot.height) * (start.y1 - start.y0), start);
      else return;
      this.redraw();
    });
    c.addEventListener("pointerup", (e) => {
      if (!from) return;
      const now = at(e), place = this.toPlace(now);
      from = null;
      if (this.tool === "lasso" || this.tool === "box") { this.select(this.drawn); this.drawn = []; }
      else if (moved <= 3 && (this.tool === "polygon" || this.tool === "path")) { this.drawn = [...this.drawn, place]; }
      else { if (moved <= 3) this.onPick?.(aimed, place); return; } // nothing here has changed yet: a frame less to draw
      this.redraw();
    });
    c.addEventListener("dblclick", () => this.finish());
    c.addEventListener("pointerleave", () => this.onHover?.(-1));
    c.addEventListener("wheel", (e) => { e.preventDefault(); if (this.data) this.zoom(Math.exp(e.deltaY * 0.0015), this.toPlace(at(e))); }, { passive: false });
    c.addEventListener("keydown", (e) => {
      if (!this.data) return;
      const v = this.view, dx = 0.1 * (v.x1 - v.x0), dy = 0.1 * (v.y1 - v.y0);
      const act = { ArrowLeft: () => this.move(-dx, 0), ArrowRight: () => this.move(dx, 0), ArrowUp: () => this.move(0, dy),
        ArrowDown: () => this.move(0, -dy), "+": () => this.zoom(0.8), "=": () => this.zoom(0.8), "-": () => this.zoom(1.25), 0: () => this.reset(),
        Escape: () => { this.drawn = []; this.redraw(); }, Enter: () => this.finish() }[e.key];
      if (act) { e.preventDefault(); act(); }
    });
  }

  /** End of a polygon or path that is drawn click by click. */
  finish() {
    const shape = this.drawn.filter((q, i, all) => !i || q[0] !== all[i - 1][0] || q[1] !== all[i - 1][1]);
    this.drawn = [];
    if (this.tool === "polygon") this.select(shape);
    if (this.tool === "path" && shape.length > 1) this.onPath?.(shape);
    this.redraw();
  }

  select(polygon) { if (polygon.length > 2) this.onSelect?.(polygon); }

  nearest(pixel, reach) {
    const v = this.view, p = this.plot;
    return nearest(this.data.x, this.data.y, this.toPlace(pixel), v, (reach / p.width) * (v.x1 - v.x0), (reach / p.height) * (v.y1 - v.y0), this.data.only);
  }

  move(dx, dy, v = this.view) { this.look({ ...v, x0: v.x0 + dx, x1: v.x1 + dx, y0: v.y0 + dy, y1: v.y1 + dy }); }

  zoom(factor, [a, b] = [(this.view.x0 + this.view.x1) / 2, (this.view.y0 + this.view.y1) / 2]) {
    const v = this.view, [f, g] = [[v.x1 - v.x0, v.px], [v.y1 - v.y0, v.py]].map(([range, period]) => (period ? Math.min(factor, period / range) : factor));
    this.look({ ...v, x0: a + (v.x0 - a) * f, x1: a + (v.x1 - a) * f, y0: b + (v.y0 - b) * g, y1: b + (v.y1 - b) * g });
  }

  look(view) { this.view = view; this.image = null; this.onView?.(view); this.redraw(); }
  reset() { if (this.data) this.look(this.whole()); }
  use(tool) { this.tool = tool; this.drawn = []; this.canvas.style.cursor = tool === "pick" ? "default" : "crosshair"; this.redraw(); }
  png() {
    const both = this.ground.cloneNode(), context = both.getContext("2d");
    for (const c of [this.ground, this.canvas]) context.drawImage(c, 0, 0);
    return both.toDataURL("image/png");
  }

  remove() { this.observer.disconnect(); cancelAnimationFrame(this.waiting); this.ground.remove(); this.canvas.remove(); }
}

const title = (c) => (c.period ? `${c.label} / °` : c.unit ? `${c.label} / ${c.unit}` : c.label);

/** Frames by label: [[label, rows]], of the 40 lowest labels. */
function grouped(values, only) {
  const found = new Map(), n = only ? only.length : values.length;
  for (let k = 0; k < n; k += 1) {
    const i = only ? only[k] : k, rows = found.get(values[i]);
    if (rows) rows.push(i); else found.set(values[i], [i]);
  }
  return [...found].sort((a, b) => a[0] - b[0]).slice(0, 40);
}

/** Limits of a colour scale: all values and some room below, or what lies between the first and last hundredth. */
function spread(values, all) {
  const step = Math.max(1, Math.floor(values.length / SAMPLED)), some = all ? [] : Float64Array.from(values.filter((v, i) => i % step === 0 && Number.isFinite(v))).sort();
  let [low, high] = all ? extent(values) : [0.01, 0.99].map((share) => some[Math.floor(share * (some.length - 1))]);
  if (!Number.isFinite(low)) [low, high] = [0, 1];
  return [all ? low - 0.15 * (high - low) : low, high > low ? high : low + 1];
}

function paintGrid(values, columns, rows, [low, high], scale) {
  const t = table(scale), quiet = [...bytesOf(css("--fill")), 255]; // a value of infinity: nothing that is certain
  return pixels(columns, rows, (cell, data, at) => {
    const value = values[cell];
    if (!(value <= high) && scale === "free_energy" || Number.isNaN(value)) return;
    const k = 3 * Math.max(0, Math.min(255, Math.round(255 * (value - low) / (high - low))));
    if (value === Infinity) { data.set(quiet, at); return; }
    data[at] = t[k]; data[at + 1] = t[k + 1]; data[at + 2] = t[k + 2];
    data[at + 3] = scale === "free_energy" ? Math.min(255, 1020 * (1 - value / high)) : 255; // fades out at its upper end
  });
}

/** A picture of cells (counted from the bottom): colour(cell, data, at) writes the four bytes of one. */
function pixels(columns, rows, colour) {
  const canvas = new OffscreenCanvas(columns, rows), context = canvas.getContext("2d", { willReadFrequently: true }), image = context.createImageData(columns, rows);
  for (let r = 0; r < rows; r += 1) for (let c = 0; c < columns; c += 1) colour(r * columns + c, image.data, 4 * ((rows - 1 - r) * columns + c));
  context.putImageData(image, 0, 0);
  return canvas;
}

const trace = (context, points) => points.forEach(([a, b], k) => (k ? context.lineTo(a, b) : context.moveTo(a, b)));
