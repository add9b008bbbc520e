// Frames on a grid, and which of them lie where. Plain loops over typed arrays: two million frames take some 20 ms.

/** A value brought into [start, start + period); unchanged without a period. */
export const into = (v, start, period) => (period ? v - period * Math.floor((v - start) / period) : v);

/** A value brought into [0, period): a loop over millions of them spends half its time in a plain floor. */
function turn(v, period) {
  const a = v < 0 ? v + period : v;
  return a >= 0 && a < period ? a : a - period * Math.floor(a / period);
}

/**
 * Sums over the cells of a grid: of 1 (or weights), and of weight times value if there are values.
 * view: {x0, x1, y0, y1, px, py}; px and py are periods or null. Cells are [row from the bottom][column].
 */
export function bin(x, y, view, columns, rows, { weights = null, values = null, only = null } = {}) {
  const { x0, x1, y0, y1, px, py } = view;
  const sum = new Float32Array(columns * rows);
  const total = values ? new Float32Array(columns * rows) : null;
  const sx = columns / (x1 - x0), sy = rows / (y1 - y0);
  const n = only ? only.length : x.length;
  for (let k = 0; k < n; k += 1) {
    const i = only ? only[k] : k;
    let a = x[i] - x0, b = y[i] - y0;
    if (px) a = turn(a, px);
    if (py) b = turn(b, py);
    a *= sx; b *= sy;
    if (a >= 0 && a < columns && b >= 0 && b < rows) {
      const c = a | 0, r = b | 0, w = weights ? weights[i] : 1;
      sum[r * columns + c] += w;
      if (values) total[r * columns + c] += w * values[i];
    }
  }
  return { sum, total, columns, rows };
}

/** Weights exp(log_w), largest 1; frames without a finite weight get 0. */
export function weightsOf(logW) {
  let top = -Infinity;
  for (const v of logW) if (v > top && v < Infinity) top = v;
  const out = new Float32Array(logW.length);
  for (let i = 0; i < out.length; i += 1) if (Number.isFinite(logW[i])) out[i] = Math.exp(logW[i] - top);
  return out;
}

/** A grid smoothed by three box filters of the given reach (cells), wrapped where periodic. */
export function smooth(grid, reach, wrapX, wrapY) {
  const { columns, rows } = grid;
  let from = Float32Array.from(grid.sum);
  const pass = (count, length, stride, step, wrap) => {
    const to = new Float32Array(from.length);
    for (let k = 0; k < count; k += 1) {
      const at = k * stride;
      for (let i = 0; i < length; i += 1) {
        let s = 0;
        for (let d = -reach; d <= reach; d += 1) {
          let j = i + d;
          if (wrap) j = (j + length) % length;
          else if (j < 0 || j >= length) continue;
          s += from[at + j * step];
        }
        to[at + i * step] = s / (2 * reach + 1);
      }
    }
    from = to;
  };
  for (let n = 0; n < 3 && reach > 0; n += 1) {
    pass(rows, columns, columns, 1, wrapX);
    pass(columns, rows, 1, columns, wrapY);
  }
  return { ...grid, sum: from };
}

/** Free energy in kT above the lowest cell; NaN where there is nothing. */
export function freeEnergy(grid) {
  let top = 0;
  for (const v of grid.sum) if (v > top) top = v;
  return Float32Array.from(grid.sum, (v) => (v > top * 1e-12 ? Math.log(top / v) : NaN));
}

/**
 * Shares of the cells of a smoothed grid and their standard errors: the spread of the sums of blocks of frames in order
 * around what blocks of their weight should hold. So frames that remember each other count for what they are worth.
 */
export function shares({ x, y, weights }, view, columns, rows, wrap = [], blocks = 20) {
  const [sum, squares, products] = [0, 1, 2].map(() => new Float64Array(columns * rows));
  let whole = 0, wholeSquares = 0;
  for (let k = 0; k < blocks; k += 1) {
    const [from, to] = [k, k + 1].map((i) => Math.floor((i * x.length) / blocks)), w = weights?.subarray(from, to), total = w ? w.reduce((a, b) => a + b, 0) : to - from;
    const part = smooth(bin(x.subarray(from, to), y.subarray(from, to), view, columns, rows, { weights: w }), 1, ...wrap).sum;
    whole += total; wholeSquares += total * total;
    for (let i = 0; i < sum.length; i += 1) { sum[i] += part[i]; squares[i] += part[i] * part[i]; products[i] += part[i] * total; }
  }
  const share = sum.map((s) => s / whole), spread = share.map((p, i) => squares[i] - 2 * p * products[i] + p * p * wholeSquares);
  return { share, error: spread.map((v) => Math.sqrt((blocks / (blocks - 1)) * Math.max(0, v)) / whole) };
}

const SMOOTHED = (141 / 729) ** 2; // sum of the squares of what `smooth` gives to the cells around one

/**
 * Where two ensembles differ, [cells]: F_a - F_b in kT, or with `density` the difference of densities over the largest;
 * NaN where neither has frames, Infinity below 3 standard errors. `distance`: their total variation; `noise`: that of errors alone.
 */
export function contrast(a, b, view, columns, rows, wrap, density = false) {
  const p = shares(a, view, columns, rows, wrap), q = shares(b, view, columns, rows, wrap), top = p.share.reduce((m, v, i) => Math.max(m, v, q.share[i]), 0);
  let distance = 0, noise = 0;
  const values = Float32Array.from(p.share, (s, i) => {
    // Where one has no frame its blocks do not differ: at least what independent frames of the other's share would.
    const t = q.share[i], least = (n) => Math.sqrt((SMOOTHED * Math.max(s, t)) / n), error = Math.hypot(Math.max(p.error[i], least(a.x.length)), Math.max(q.error[i], least(b.x.length)));
    distance += Math.abs(s - t) / 2;
    noise += error / Math.sqrt(2 * Math.PI); // half the mean of |x|, x normal
    if (!(s > 0 || t > 0)) return NaN;
    return !(Math.abs(s - t) > 3 * error) ? Infinity : density ? (s - t) / top : Math.max(-20, Math.min(20, Math.log(t / s)));
  });
  return { values, distance, noise };
}

/** The least and the largest of the finite ones of some values. */
export function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v)) { if (v < low) low = v; if (v > high) high = v; }
  return [low, high];
}

const CELLS = 256, sorted = new WeakMap(); // so that the number of a cell has 16 bits

/** Frames in order of the cells of a grid over all of them, kept with their column: what is near a place is found at once. */
function byCell(x, y, { px, py }, only) {
  if (sorted.get(x)?.y === y && sorted.get(x).only === only) return sorted.get(x);
  const n = only ? only.length : x.length, of = new Uint16Array(n), start = new Uint32Array(CELLS * CELLS + 1).fill(n, -1), rows = new Uint32Array(n);
  const axes = [[x, px], [y, py]].map(([v, period]) => { const [low, high] = period ? [0, period] : extent(v); return { low, scale: CELLS / (high - low || 1), period }; });
  const cell = ({ low, scale, period }, v) => Math.min(CELLS - 1, ((period ? turn(v, period) : v - low) * scale) | 0);
  for (let k = 0; k < n; k += 1) { const i = only ? only[k] : k; of[k] = CELLS * cell(axes[1], y[i]) + cell(axes[0], x[i]); start[of[k]] += 1; }
  for (let c = 1; c < CELLS * CELLS; c += 1) start[c] += start[c - 1];
  for (let k = n - 1; k >= 0; k -= 1) { start[of[k]] -= 1; rows[start[of[k]]] = only ? only[k] : k; }
  sorted.set(x, { y, only, start, rows, axes });
  return sorted.get(x);
}

/** Index of the frame nearest to a place, or -1 if none is within (rx, ry). */
export function nearest(x, y, at, view, rx, ry, only = null, part = 0.1) {
  const close = part < 1 ? nearest(x, y, at, view, part * rx, part * ry, only, 1) : -1; // in a crowd there is one close by
  if (close >= 0) return close;
  const { start, rows, axes } = byCell(x, y, view, only), { px, py } = view, reach = [rx, ry];
  const [left, under] = [into(at[0] - rx, -px / 2, px), into(at[1] - ry, -py / 2, py)];
  const [columns, lines] = axes.map(({ low, scale, period }, k) => {
    const [from, to] = [-1, 1].map((side) => Math.floor((at[k] + side * reach[k] - low) * scale));
    if (!period) return Array.from({ length: Math.max(0, Math.min(CELLS - 1, to) - Math.max(0, from) + 1) }, (_, i) => Math.max(0, from) + i);
    return Array.from({ length: Math.min(CELLS, to - from + 1) }, (_, i) => into(from + i, 0, CELLS));
  });
  let best = -1, least = 1;
  for (const r of lines) for (const c of columns) for (let k = start[CELLS * r + c]; k < start[CELLS * r + c + 1]; k += 1) {
    const i = rows[k], a = px ? turn(x[i] - left, px) : x[i] - left, b = py ? turn(y[i] - under, py) : y[i] - under;
    const d = (a / rx - 1) ** 2 + (b / ry - 1) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}

/**
 * Frames inside a polygon [[x, y], ...] (even-odd rule). On a periodic axis frames are brought into the period that
 * begins at the polygon's lowest vertex, so a polygon across the border works and means the same in every view.
 */
export function inside(x, y, polygon, { px = null, py = null } = {}, only = null) {
  const m = polygon.length;
  const xs = polygon.map((p) => p[0]), ys = polygon.map((p) => p[1]);
  const left = Math.min(...xs), right = Math.max(...xs), low = Math.min(...ys), high = Math.max(...ys);
  const found = [];
  const n = only ? only.length : x.length;
  for (let k = 0; k < n; k += 1) {
    const i = only ? only[k] : k;
    let a = x[i];
    if (px) a = left + turn(a - left, px);
    if (!(a >= left && a <= right)) continue;
    let b = y[i];
    if (py) b = low + turn(b - low, py);
    if (!(b >= low && b <= high)) continue;
    let odd = false;
    for (let p = 0, q = m - 1; p < m; q = p, p += 1) {
      if (ys[p] > b !== ys[q] > b && a < ((xs[q] - xs[p]) * (b - ys[p])) / (ys[q] - ys[p]) + xs[p]) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return Int32Array.from(found);
}

/** At most `most` of some rows, evenly. */
export function thin(rows, most) {
  if (rows.length <= most) return Array.from(rows);
  return Array.from({ length: most }, (_, i) => rows[Math.floor((i * (rows.length - 1)) / (most - 1))]);
}

/** Shares of values in bins between low and high (values with a period are brought into it). */
export function histogram(values, low, high, bins, period = null) {
  const out = new Float64Array(bins);
  let n = 0;
  for (const raw of values) {
    const v = into(raw, low, period);
    if (!Number.isFinite(v)) continue;
    const b = Math.min(bins - 1, Math.floor(((v - low) / (high - low)) * bins));
    if (b >= 0) { out[b] += 1; n += 1; }
  }
  return n ? out.map((c) => c / n) : out;
}

/** Jensen-Shannon divergence in bits of two histograms of shares. */
export function divergence(p, q) {
  let d = 0;
  for (let i = 0; i < p.length; i += 1) {
    const m = (p[i] + q[i]) / 2;
    if (p[i] > 0) d += (p[i] / 2) * Math.log2(p[i] / m);
    if (q[i] > 0) d += (q[i] / 2) * Math.log2(q[i] / m);
  }
  return d;
}
