// Curves over steps by uPlot: log axes, smoothing, ranges by brushing (drag), a double click shows all again.
import uPlot from "uplot";
import { series } from "./colours.js";
import { css, short } from "./ticks.js";

/** Exponential moving average of the finite values; `memory` in [0, 1). */
export function smoothed(values, memory) {
  if (!memory) return values;
  let last = NaN;
  return Float64Array.from(values, (v) => {
    if (!Number.isFinite(v)) return NaN;
    last = Number.isFinite(last) ? memory * last + (1 - memory) * v : v;
    return last;
  });
}

/** Several x arrays merged into one; values where a curve has none are null, which uPlot bridges. */
export function merged(curves) {
  const steps = [...new Set(curves.flatMap((c) => Array.from(c.x)))].sort((a, b) => a - b);
  const at = new Map(steps.map((s, i) => [s, i]));
  const columns = curves.map((c) => {
    const out = new Array(steps.length).fill(null);
    c.x.forEach((s, i) => { if (Number.isFinite(c.y[i])) out[at.get(s)] = c.y[i]; });
    return out;
  });
  return [steps, ...columns];
}

const HEIGHT = 200;

export class Curves {
  constructor(element, onRange) {
    this.element = element;
    this.onRange = onRange;
    this.observer = new ResizeObserver(() => this.plot?.setSize({ width: element.clientWidth, height: HEIGHT }));
    this.observer.observe(element);
  }

  /** curves: [{label, x, y}]; options: {log, logX, smooth, title}. */
  show(curves, options = {}) {
    const shape = JSON.stringify([curves.map((c) => c.label), options.log, options.logX, css("--ink")]);
    const positive = (v) => (options.log ? (v > 0 ? v : null) : v);
    const data = merged(curves.map((c) => ({ x: c.x, y: Array.from(smoothed(c.y, options.smooth ?? 0), positive) })));
    if (options.logX) { while (data[0].length && data[0][0] <= 0) data.forEach((column) => column.shift()); }
    const idle = (u) => { if (!(u.cursor.left >= 0)) u.setLegend({ idxs: data.map((column) => column.findLastIndex((v) => v !== null)) }); };
    if (this.plot && this.shape === shape) { this.plot.setData(data, !this.zoomed); idle(this.plot); return; }
    this.plot?.destroy();
    this.shape = shape;
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 0.5 }, ticks: { stroke: css("--line"), size: 4 }, font: "11px system-ui" };
    const told = (s) => (s === null || (options.log && !/^[125](\.0*)?e/.test(s.toExponential(3))) ? "" : short(s));
    const safeRange = (u, low, high) => {
      if (low === null || high === null) return options.log ? [0.1, 1] : [0, 1];
      if (options.log) return [low / 1.3, high * 1.3];
      const pad = 0.06 * (high - low) || 0.05 * Math.abs(high) || 1;
      return [low - pad, high + pad];
    };
    this.plot = new uPlot({
      width: this.element.clientWidth || 400, height: HEIGHT, padding: [10, 14, 0, 0], cursor: { drag: { x: true, y: false }, focus: { prox: 16 } },
      scales: { x: { time: false, distr: options.logX ? 3 : 1 }, y: { distr: options.log ? 3 : 1, range: safeRange } },
      series: [{ label: "step" }, ...curves.map((c, i) => ({ label: c.label, stroke: i || curves.length > 1 ? c.colour ?? series(i) : css("--point"), width: 1.6, spanGaps: true,
        points: { show: Array.from(c.y).filter(Number.isFinite).length < 40, fill: css("--paper") }, value: (_, v) => short(v) }))],
      axes: [{ ...axis, size: 28, values: (_, v) => v.map((s) => (s === null ? "" : s >= 1000 ? `${short(s / 1000)}k` : short(s))) }, { ...axis, size: 54, values: (_, v) => v.map(told) }],
      hooks: { ready: [idle], setCursor: [idle], setSelect: [(u) => { this.zoomed = u.select.width > 2; if (this.zoomed) this.onRange?.(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")); }] },
    }, data, this.element);
    this.element.querySelector(".u-over").addEventListener("dblclick", () => { this.zoomed = false; this.onRange?.(null, null); });
  }

  range(low, high) { if (low !== null && this.plot) this.plot.setScale("x", { min: low, max: high }); else this.plot?.setData(this.plot.data, true); }
  remove() { this.observer.disconnect(); this.plot?.destroy(); }
}
