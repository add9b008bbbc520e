// Draws a picture (plots/FORMAT.md: panels of marks between axes) as SVG, settled as in `settled.py`. Knows marks, not molecules.
import { contours } from "d3-contour";
import { shade, table } from "./colours.js";
import { round, short } from "./ticks.js";

const INCH = 84, GAP = { left: 54, right: 14, top: 26, bottom: 40 };
const PALETTE = { ink: "var(--ink)", muted: "var(--muted)", line: "var(--line)", paper: "var(--paper)", fill: "var(--fill)", reference: "var(--reference)",
  raw: "#d55e00", reweighted: "var(--point)", good: "#009e73", fair: "#e69f00", bad: "#cc3311", blue: "var(--point)", vermilion: "#d55e00", green: "#009e73",
  purple: "#cc79a7", sky: "#56b4e9", orange: "#e69f00", indigo: "var(--indigo)", wine: "var(--path)" };
const CPK = { H: "#ddd", N: "#3a6fd8", O: "#d6402b", S: "#d9b310", P: "#e58a2c" };
const colour = (name) => PALETTE[name] ?? "var(--ink)";
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const f = (v) => (Math.round(v * 100) / 100).toString();
const sum = (parts) => parts.reduce((a, b) => a + b, 0);
/** Where parts begin and end along `total`; `own` is what each takes beside its share. */
const cuts = (total, parts, own = parts.map(() => 0)) => { let at = 0; return [0, ...parts.map((p, i) => (at += own[i] + ((total - sum(own)) * p) / sum(parts)))]; };

/** SVG text of a picture as `Picture.encode` gives it, unpacked. */
export function svg(picture) {
  const width = picture.size[0] * INCH, height = picture.size[1] * INCH;
  const legend = picture.legend ? legendAbove(picture.panels[0]?.marks ?? [], width) : "", top = picture.legend ? 22 : 0;
  // Axes of one width, whatever stands beside them.
  const own = picture.widths.map((_, c) => Math.max(0, ...picture.panels.filter((p) => p.cell[1] === c && p.cell[3] === 1).map((p) => besides(p).left + besides(p).right)));
  const xs = cuts(width, picture.widths, sum(own) < 0.6 * width ? own : undefined), ys = cuts(height - top, picture.heights);
  const panels = picture.panels.map((panel, i) => {
    const [row, column, rows, columns] = panel.cell;
    return drawPanel(panel, { x: xs[column], y: top + ys[row], width: xs[column + columns] - xs[column], height: ys[row + rows] - ys[row] }, `${picture.name}-${i}`.replace(/\W/g, "-"));
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${f(width)} ${f(height)}" width="${f(width)}" role="img" aria-label="${safe(picture.title || picture.name)}" font-family="system-ui,sans-serif" font-size="11">${legend}${panels.join("")}</svg>`;
}

function legendAbove(marks, width) {
  let at = 10;
  const seen = new Set(), parts = [];
  for (const m of marks) {
    if (!m.label || seen.has(m.label)) continue;
    seen.add(m.label);
    parts.push(`<rect x="${at}" y="8" width="16" height="4" fill="${colour(m.colour)}"/><text x="${at + 20}" y="14" fill="var(--ink)">${safe(m.label)}</text>`);
    at += 40 + 6.2 * m.label.length;
    if (at > width - 60) break;
  }
  return parts.join("");
}

function drawPanel(panel, cell, id) {
  const { bare, bar, left, right } = besides(panel), ticksX = !bare && panel.x.ticks.length > 0, lines = Math.max(1, ...panel.x.ticks.map((t) => String(t[1]).split("\n").length));
  const bottom = (ticksX ? 7 + 11 * lines : 6) + (panel.x.label ? 16 : 0);
  const box = { x: cell.x + left, y: cell.y + (panel.title || panel.caption ? GAP.top : 10), id, coloured: panel.marks.some((m) => m.colormap && m.values) };
  box.width = cell.width - left - right;
  box.height = cell.y + cell.height - box.y - bottom;
  if (panel.equal) { const side = Math.min(box.width, box.height); box.x += (box.width - side) / 2; box.width = box.height = side; }
  const x = scale(panel.x, box.x, box.x + box.width), y = scale(panel.y, box.y + box.height, box.y);
  const marks = panel.marks.map((m) => (MARKS[m.mark] ? MARKS[m.mark](m, x, y, box) : "")).join("");
  const frame = bare ? "" : axes(panel, x, y, box);
  const apart = 6.8 * (panel.title ?? "").length + 5.4 * (panel.caption ?? "").length > box.width ? 6 : 0; // title and caption do not fit beside each other
  const head = `<text x="${f(box.x)}" y="${f(cell.y + 15 - apart)}" fill="var(--ink)" font-weight="600">${safe(panel.title)}</text><text x="${f(box.x + box.width)}" y="${f(cell.y + 15 + apart)}" text-anchor="end" fill="var(--muted)" font-size="${apart ? 9 : 10}">${safe(panel.caption)}</text>`;
  return `<clipPath id="${id}"><rect x="${f(box.x)}" y="${f(box.y - 1)}" width="${f(Math.max(0, box.width))}" height="${f(Math.max(0, box.height) + 2)}"/></clipPath>${head}<g${bare ? "" : ` clip-path="url(#${id})"`}>${marks}</g>${frame}${legend(panel, box)}${bar ? colourBar(bar, box) : ""}`;
}

/** What stands left and right of a panel's axes. */
function besides(panel) {
  const bare = panel.marks.every((m) => m.mark === "structure"), ticks = panel.y.ticks, bar = panel.marks.find((m) => m.bar);
  const longest = Math.max(0, ...ticks.map((t) => String(t[1]).length));
  return { bare, bar, left: (!bare && ticks.length > 0 ? 14 + 6.2 * Math.min(27, longest) : 8) + (panel.y.label ? 16 : 0), right: GAP.right + (bar ? 58 : 0) };
}

function scale(axis, from, to) {
  const [low, high] = axis.limits, log = axis.scale === "log", a = log ? Math.log(low) : low, b = log ? Math.log(high) : high;
  // Nothing has a logarithm of its own below zero: a bar's foot at 0 stands on the axis.
  const at = (v) => from + (((log ? Math.log(v > 0 ? v : low) : v) - a) / (b - a)) * (to - from);
  return at;
}

function axes(panel, x, y, box) {
  const out = [], low = box.y + box.height;
  let free = -Infinity; // labels that would overlap are left out
  if (panel.box) out.push(`<rect x="${f(box.x)}" y="${f(box.y)}" width="${f(box.width)}" height="${f(box.height)}" fill="none" stroke="var(--line)"/>`);
  if (panel.x.line) out.push(`<path d="M${f(box.x)} ${f(low)}H${f(box.x + box.width)}" stroke="var(--line)"/>`);
  if (panel.y.line) out.push(`<path d="M${f(box.x)} ${f(box.y)}V${f(low)}" stroke="var(--line)"/>`);
  for (const [v, text] of panel.x.ticks) {
    const a = x(v), half = 2.9 * Math.max(...String(text).split("\n").map((t) => t.length));
    if (a < box.x - 1 || a > box.x + box.width + 1) continue;
    const fits = a - half > free;
    if (fits) free = a + half + 2;
    out.push(`<path d="M${f(a)} ${f(low)}v4" stroke="var(--line)"/>${(fits ? String(text) : "").split("\n").map((t, i) => `<text x="${f(a)}" y="${f(low + 15 + 11 * i)}" text-anchor="middle" fill="var(--muted)" font-size="10">${safe(t)}</text>`).join("")}`);
  }
  for (const [v, text] of panel.y.ticks) {
    const b = y(v);
    if (b >= box.y - 1 && b <= low + 1) out.push(`<path d="M${f(box.x)} ${f(b)}h-4" stroke="var(--line)"/><text x="${f(box.x - 7)}" y="${f(b + 3.5)}" text-anchor="end" fill="var(--muted)" font-size="10">${safe(text)}</text>`);
  }
  const name = (a) => safe(a.unit ? `${a.label} / ${a.unit}` : a.label);
  if (panel.x.label) out.push(`<text x="${f(box.x + box.width / 2)}" y="${f(low + 31)}" text-anchor="middle" fill="var(--muted)">${name(panel.x)}</text>`);
  if (panel.y.label) out.push(`<text transform="translate(${f(box.x - 42)},${f(box.y + box.height / 2)}) rotate(-90)" text-anchor="middle" fill="var(--muted)">${name(panel.y)}</text>`);
  return out.join("");
}

function legend(panel, box) {
  if (!panel.legend) return "";
  const named = panel.marks.filter((m) => m.label).filter((m, i, all) => all.findIndex((o) => o.label === m.label) === i).slice(0, 10);
  const right = panel.legend.endsWith("right"), low = panel.legend.startsWith("lower");
  return named.map((m, i) => {
    const y = low ? box.y + box.height - 14 * (named.length - i) + 4 : box.y + 12 + 14 * i, x = right ? box.x + box.width - 6 : box.x + 24;
    return `<path d="M${f(right ? x + 2 : x - 16)} ${f(y - 4)}h${right ? 0 : 12}" stroke="${colour(m.colour)}" stroke-width="3"/><text x="${f(x)}" y="${f(y)}" text-anchor="${right ? "end" : "start"}" fill="${colour(m.colour)}" font-size="10.5">${safe(m.label)}</text>`;
  }).join("");
}

function colourBar(mark, box) {
  const x = box.x + box.width + 10, n = 40, [low, high] = mark.limits ?? [0, 1];
  const cells = Array.from({ length: n }, (_, i) => `<rect x="${f(x)}" y="${f(box.y + (box.height * (n - 1 - i)) / n)}" width="9" height="${f(box.height / n + 0.6)}" fill="${shade(mark.colormap, (i + 0.5) / n)}"/>`);
  const words = round(low, high, box.height / 40).map((v) => `<text x="${f(x + 13)}" y="${f(box.y + box.height * (1 - (v - low) / (high - low)) + 3.5)}" fill="var(--muted)" font-size="9.5">${short(v)}</text>`);
  return `${cells.join("")}${words.join("")}<text transform="translate(${f(x + 44)},${f(box.y + box.height / 2)}) rotate(-90)" text-anchor="middle" fill="var(--muted)" font-size="10">${safe(mark.bar)}</text>`;
}

const path = (xs, ys, x, y) => {
  let out = "", pen = "M";
  for (let i = 0; i < xs.length; i += 1) {
    const a = x(xs[i]), b = y(ys[i]);
    if (Number.isFinite(a) && Number.isFinite(b)) { out += `${pen}${f(a)} ${f(b)}`; pen = "L"; } else pen = "M";
  }
  return out;
};
const closed = (xs, low, high, x, y) => {
  const keep = Array.from(xs.keys()).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
  if (!keep.length) return "";
  return `M${keep.map((i) => `${f(x(xs[i]))} ${f(y(high[i]))}`).join("L")}L${keep.reverse().map((i) => `${f(x(xs[i]))} ${f(y(low[i]))}`).join("L")}Z`;
};

const MARKS = {
  line: (m, x, y) => `<path d="${path(m.x, m.y, x, y)}" fill="none" stroke="${colour(m.colour)}" stroke-width="${m.width}" opacity="${m.opacity}"${m.dash ? ' stroke-dasharray="5 4"' : ""} stroke-linejoin="round"/>${m.size > 0 ? dots(m, x, y, m.size / 2) : ""}`,
  band: (m, x, y) => `<path d="${closed(m.x, m.low, m.high, x, y)}" fill="${colour(m.colour)}" opacity="${m.opacity}"/>`,
  bars: (m, x, y) => Array.from(m.at, (at, i) => {
    const fill = colour(m.colours?.length ? m.colours[i] : m.colour), low = Number.isFinite(m.low[i]) ? m.low[i] : 0, high = m.high[i];
    if (!Number.isFinite(high)) return "";
    const [a, b, c, d] = m.horizontal ? [x(low), x(high), y(at - m.thickness / 2), y(at + m.thickness / 2)] : [x(at - m.thickness / 2), x(at + m.thickness / 2), y(low), y(high)];
    return `<rect x="${f(Math.min(a, b))}" y="${f(Math.min(c, d))}" width="${f(Math.max(0.4, Math.abs(b - a)))}" height="${f(Math.abs(d - c))}" fill="${fill}" opacity="${m.opacity}"/>`;
  }).join(""),
  points: (m, x, y) => dots(m, x, y, m.size / 2),
  heatmap: (m, x, y) => {
    const [n, k] = m.values.shape, [low, high] = m.limits, t = table(m.colormap), canvas = document.createElement("canvas");
    canvas.width = n; canvas.height = k;
    const context = canvas.getContext("2d"), image = context.createImageData(n, k);
    for (let i = 0; i < n; i += 1) for (let j = 0; j < k; j += 1) {
      const v = m.values[i * k + j];
      if (Number.isNaN(v)) continue;
      const c = 3 * Math.max(0, Math.min(255, Math.round((255 * (v - low)) / (high - low)))), at = 4 * ((k - 1 - j) * n + i);
      image.data.set([t[c], t[c + 1], t[c + 2], 255], at);
    }
    context.putImageData(image, 0, 0);
    const a = x(m.x[0]), b = x(m.x[n]), c = y(m.y[k]), d = y(m.y[0]);
    return `<image x="${f(a)}" y="${f(c)}" width="${f(b - a)}" height="${f(d - c)}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${canvas.toDataURL()}"/>`;
  },
  contours: (m, x, y) => {
    const [n, k] = m.values.shape, flipped = new Array(n * k);
    for (let i = 0; i < n; i += 1) for (let j = 0; j < k; j += 1) { const v = m.values[i * k + j]; flipped[j * n + i] = Number.isFinite(v) ? v : 1e6; }
    const place = (v, c) => { const p = c - 0.5, i = Math.max(0, Math.min(v.length - 2, Math.floor(p))); return v[i] + (p - i) * (v[i + 1] - v[i]); };
    const d = Array.from(m.levels).flatMap((level) => contours().size([n, k]).contour(flipped, level).coordinates.flatMap((polygon) => polygon.map((ring) => `M${ring.map(([c, r]) => `${f(x(place(m.x, c)))} ${f(y(place(m.y, r)))}`).join("L")}`)));
    return `<path d="${d.join("")}" fill="none" stroke="${m.colour === "ink" ? "#1c2733" : colour(m.colour)}" stroke-width="${m.width}" opacity="${m.opacity}"/>`;
  },
  text: (m, x, y, box) => {
    const a = m.inside === "data" ? x(m.x) : box.x + m.x * box.width, b = m.inside === "data" ? y(m.y) : box.y + (1 - m.y) * box.height;
    const fill = (box.coloured && { ink: "#1c2733", paper: "#fff" }[m.colour]) || colour(m.colour), anchor = { left: "start", center: "middle", right: "end" }[m.across], drop = { top: 1, center: 0.35, bottom: 0 }[m.up] * m.size * 1.25;
    return String(m.text).split("\n").map((line, i) => `<text x="${f(a)}" y="${f(b + drop + i * m.size * 1.6)}" text-anchor="${anchor}" fill="${fill}" font-size="${m.size * 1.25}"${m.bold ? ' font-weight="600"' : ""}>${safe(line)}</text>`).join("");
  },
  network: (m, x, y, box) => {
    const radius = (i) => 6 + 0.13 * Math.min(box.width, box.height) * Math.sqrt(m.share[i]), out = [];
    for (let e = 0; e < m.strength.length; e += 1) {
      const i = m.edges[2 * e], j = m.edges[2 * e + 1], a = [x(m.x[i]), y(m.y[i])], b = [x(m.x[j]), y(m.y[j])], d = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1, n = [-(b[1] - a[1]) / d, (b[0] - a[0]) / d];
      const s = (k, r) => [a[0] + ((b[0] - a[0]) * k) / d + n[0] * r, a[1] + ((b[1] - a[1]) * k) / d + n[1] * r], p = s(radius(i), 5), q = s(d - radius(j) - 3, 5), c = s(d / 2, 0.14 * d), w = 0.6 + 4 * m.strength[e];
      out.push(`<path d="M${f(p[0])} ${f(p[1])}Q${f(c[0])} ${f(c[1])} ${f(q[0])} ${f(q[1])}" fill="none" stroke="var(--muted)" stroke-width="${f(w)}" opacity=".7"/>
        <circle cx="${f(q[0])}" cy="${f(q[1])}" r="${f(w / 2 + 1.5)}" fill="var(--muted)"/><text x="${f(c[0])}" y="${f(c[1])}" text-anchor="middle" fill="var(--muted)" font-size="9.5">${safe(m.edge_labels[e] ?? "")}</text>`);
    }
    for (let i = 0; i < m.share.length; i += 1) out.push(`<circle cx="${f(x(m.x[i]))}" cy="${f(y(m.y[i]))}" r="${f(radius(i))}" fill="${colour(m.colours[i])}"/><text x="${f(x(m.x[i]))}" y="${f(y(m.y[i]) + 4)}" text-anchor="middle" fill="#fff" font-weight="600">${safe(m.labels[i])}</text>`);
    return out.join("");
  },
  structure: (m, x, y, box) => {
    const [n, atoms] = m.xyz.shape, at = (fr, a, c) => m.xyz[3 * (fr * atoms + a) + c];
    let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let a = 0; a < n * atoms; a += 1) for (const c of [0, 1]) { low[c] = Math.min(low[c], m.xyz[3 * a + c]); high[c] = Math.max(high[c], m.xyz[3 * a + c]); }
    const s = 0.86 * Math.min(box.width / (high[0] - low[0] || 1), box.height / (high[1] - low[1] || 1)), px = (v) => box.x + box.width / 2 + s * (v - (low[0] + high[0]) / 2), py = (v) => box.y + box.height / 2 - s * (v - (low[1] + high[1]) / 2), out = [];
    for (let fr = n - 1; fr >= 0; fr -= 1) for (let b = 0; b < m.bonds.length; b += 2) {
      const i = m.bonds[b], j = m.bonds[b + 1];
      out.push(`<path d="M${f(px(at(fr, i, 0)))} ${f(py(at(fr, i, 1)))}L${f(px(at(fr, j, 0)))} ${f(py(at(fr, j, 1)))}" stroke="${colour(m.colour)}" stroke-linecap="round" stroke-width="${fr ? 1 : 4}" opacity="${fr ? 0.25 : 0.9}"/>`);
    }
    const order = Array.from({ length: atoms }, (_, a) => a).sort((a, b) => at(0, a, 2) - at(0, b, 2));
    for (const a of order) out.push(`<circle cx="${f(px(at(0, a, 0)))}" cy="${f(py(at(0, a, 1)))}" r="${m.elements[a] === "H" ? 3 : 5.5}" fill="${CPK[m.elements[a]] ?? colour(m.colour)}" stroke="var(--paper)" stroke-width=".6"/>`);
    return out.join("");
  },
};

function dots(m, x, y, r) {
  const out = [], [low, high] = m.limits ?? [0, 1];
  for (let i = 0; i < m.x.length; i += 1) {
    const a = x(m.x[i]), b = y(m.y[i]);
    if (!Number.isFinite(a) || !Number.isFinite(b)) continue;
    out.push(`<circle cx="${f(a)}" cy="${f(b)}" r="${f(r)}" fill="${m.values ? shade(m.colormap, (m.values[i] - low) / (high - low || 1)) : colour(m.colour)}" opacity="${m.opacity}"/>`);
  }
  return out.join("");
}
