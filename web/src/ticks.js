// Numbers on axes, and words for numbers.

/** CSS custom property of the page, so that canvases follow the theme. */
export const css = (name) => getComputedStyle(document.querySelector(".molifold .shell") ?? document.documentElement).getPropertyValue(name).trim() || "#888";

const STEPS = [1, 2, 5];

/** Round values between low and high, about `n` of them. */
export function round(low, high, n) {
  const rough = (high - low) / Math.max(1, n);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * (STEPS.find((s) => s * power >= rough) ?? 10);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) out.push(Math.abs(v) < 1e-12 * step ? 0 : v);
  return out;
}

/** [value, text] of ticks of a column's axis; angles in degrees, brought into (-180, 180]. */
export function axisTicks(low, high, column, n) {
  if (!column.period) return round(low, high, n).map((v) => [v, short(v)]);
  const d = 180 / Math.PI, span = (high - low) * d;
  const step = [5, 10, 15, 30, 45, 60, 90, 180].find((s) => span / s <= n) ?? 180;
  const out = [];
  for (let v = Math.ceil((low * d) / step) * step; v <= high * d + 1e-6; v += step) {
    const turned = v - 360 * Math.ceil((v - 180 - 1e-6) / 360);
    out.push([v / d, `${Math.round(out.length || turned < 180 ? turned : -180)}`]);
  }
  return out;
}

/** A number short enough for a tick or a table cell. */
export function short(v, digits = 4) {
  if (v === null || v === undefined || !Number.isFinite(Number(v))) return v === null || v === undefined ? "" : String(v);
  const a = Math.abs(v);
  if (a !== 0 && (a < 1e-3 || a >= 1e6)) return Number(v).toExponential(Math.min(2, digits - 1)).replace("e+", "e").replace(/\.?0+e/, "e");
  return String(Number(Number(v).toPrecision(digits)));
}

/** Seconds as words: 45 s, 12 min, 3 h 20 min. */
export function duration(s) {
  if (!Number.isFinite(s)) return "";
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
}

export const count = (n) => Math.round(n).toLocaleString("en-US").replaceAll(",", "\u2009");
