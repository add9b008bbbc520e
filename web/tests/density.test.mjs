import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { bin, contrast, divergence, freeEnergy, histogram, inside, nearest, smooth, thin, weightsOf } from "../src/density.js";
import { key, unpack } from "../src/source.js";
import { SERIES, table } from "../src/colours.js";
import { axisTicks, duration, round, short } from "../src/ticks.js";

const circle = { x0: -Math.PI, x1: Math.PI, y0: -Math.PI, y1: Math.PI, px: 2 * Math.PI, py: 2 * Math.PI };
const random = (() => { let s = 1; return () => (s = (s * 16807) % 2147483647) / 2147483647; })();
const angles = (n) => Float32Array.from({ length: n }, () => (random() - 0.5) * 2 * Math.PI);

test("every frame is in one cell, weights add up, and periods wrap", () => {
  const x = angles(1000), y = angles(1000), w = Float32Array.from(x, () => random());
  const sum = (a) => a.reduce((s, v) => s + v, 0);
  assert.equal(sum(bin(x, y, circle, 32, 20).sum), 1000);
  assert.ok(Math.abs(sum(bin(x, y, circle, 32, 20, { weights: w }).sum) - sum(w)) < 1e-3);
  const turned = { ...circle, x0: 0, x1: 2 * Math.PI };
  assert.equal(sum(bin(x, y, turned, 32, 20).sum), 1000);
  assert.deepEqual(bin([3.1, -3.1], [0, 0], { ...circle, x0: 3, x1: 3.3 }, 1, 1).sum[0], 2);
});

test("a polygon across the border holds what a shifted one holds", () => {
  const x = angles(5000), y = angles(5000), square = [[2.8, -1], [3.6, -1], [3.6, 1], [2.8, 1]];
  const found = inside(x, y, square, { px: 2 * Math.PI, py: 2 * Math.PI });
  const expected = x.reduce((n, a, i) => n + ((a >= 2.8 || a <= 3.6 - 2 * Math.PI) && Math.abs(y[i]) < 1 ? 1 : 0), 0);
  assert.equal(found.length, expected);
  assert.ok(found.length > 100);
});

test("the nearest frame may lie across the border, and nothing is nearest to an empty place", () => {
  assert.equal(nearest([3.1, 0], [0, 0], [-3.12, 0], circle, 0.2, 0.2), 0);
  assert.equal(nearest([3.1, 0], [0, 0], [1.5, 1.5], circle, 0.2, 0.2), -1);
});

test("the nearest frame is the one that a look at all frames finds, on circles and lines, of all or some", () => {
  const x = angles(3000), y = angles(3000), only = Int32Array.from({ length: 1500 }, (_, i) => 2 * i), line = { ...circle, px: null, py: null };
  x[7] = y[9] = NaN;
  const apart = (d, period) => (period ? d - period * Math.round(d / period) : d);
  for (const [view, some] of [[circle, null], [line, null], [line, only]]) {
    const [a, b] = [x.slice(), y.slice()]; // columns of their own: what is known of one is kept
    for (let k = 0; k < 200; k += 1) {
      const at = [7 * random() - 3.5, 7 * random() - 3.5], [rx, ry] = [0.3 * random(), 0.3 * random()];
      let best = -1, least = 1;
      for (const i of some ?? a.keys()) { const d = (apart(a[i] - at[0], view.px) / rx) ** 2 + (apart(b[i] - at[1], view.py) / ry) ** 2; if (d < least) { least = d; best = i; } }
      assert.equal(nearest(a, b, at, view, rx, ry, some), best);
    }
  }
});

test("free energy of a flat density is flat, and empty cells have none", () => {
  assert.deepEqual([...freeEnergy({ sum: Float32Array.of(2, 2, 0) })].map((v) => (Number.isNaN(v) ? null : v)), [0, 0, null]);
  const s = smooth({ sum: Float32Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0), columns: 9, rows: 1 }, 1, true, false);
  assert.ok(s.sum[8] > 0 && Math.abs(s.sum[1] - s.sum[8]) < 1e-6);
});

test("weights ignore what is not finite; divergence is 0 for equals and 1 bit for strangers", () => {
  assert.deepEqual([...weightsOf([0, -Infinity, NaN])], [1, 0, 0]);
  assert.equal(divergence(histogram([0.1], 0, 1, 2), histogram([0.2], 0, 1, 2)), 0);
  assert.equal(divergence(histogram([0.1], 0, 1, 2), histogram([0.9], 0, 1, 2)), 1);
  assert.deepEqual(thin(Int32Array.from({ length: 100 }, (_, i) => i), 3), [0, 49, 99]);
});

test("a block of packing.py is read in place", () => {
  const head = JSON.stringify({ a: { dtype: "<f4", shape: [2], offset: 0 }, b: [null, "x"] }), pad = " ".repeat((8 - ((head.length + 4) % 8)) % 8);
  const bytes = new Uint8Array(4 + head.length + pad.length + 8);
  new DataView(bytes.buffer).setUint32(0, head.length + pad.length, true);
  bytes.set(new TextEncoder().encode(head + pad), 4);
  new DataView(bytes.buffer).setFloat32(4 + head.length + pad.length, 1.5, true);
  const tree = unpack(bytes.buffer);
  assert.deepEqual([tree.a[0], tree.a.shape, tree.b], [1.5, [2], [null, "x"]]);
  assert.equal(key("frames", { rows: [1], name: "a", onto: undefined }), 'frames {"name":"a","rows":[1]}');
});

test("ticks are round numbers, angles degrees within the circle", () => {
  assert.deepEqual(round(0, 1, 5), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
  assert.deepEqual(axisTicks(-Math.PI, Math.PI, { period: 2 * Math.PI }, 4).map((t) => t[1]), ["-180", "-90", "0", "90", "180"]);
  assert.deepEqual(axisTicks(Math.PI / 2, 2.5 * Math.PI, { period: 2 * Math.PI }, 4).map((t) => t[1]), ["90", "180", "-90", "0", "90"]);
  assert.deepEqual([short(0.00001234), short(1234567), short(null), duration(4000)], ["1.23e-5", "1.23e6", "", "67 min"]);
});

test("a difference is told where it is certain, and noise is not", () => {
  const n = 40000, x = angles(n), y = angles(n), other = { x: angles(n), y: angles(n) };
  const same = contrast({ x, y }, other, circle, 30, 30, [true, true]);
  const told = (c) => c.values.filter((v) => Number.isFinite(v)).length / c.values.length;
  assert.ok(told(same) < 0.03, `${told(same)} of the cells`);
  assert.ok(same.distance < 2 * same.noise && same.distance > 0.5 * same.noise);
  // A fifth of the frames moved into one corner.
  const moved = Float32Array.from(x, (v, i) => (i % 5 ? v : 2)), up = Float32Array.from(y, (v, i) => (i % 5 ? v : 2));
  const differs = contrast({ x: moved, y: up }, other, circle, 30, 30, [true, true]);
  const cell = Math.floor(((2 + Math.PI) / (2 * Math.PI)) * 30);
  assert.ok(differs.values[cell * 30 + cell] < -1); // more frames: lower free energy
  assert.ok(told(differs) > 0.5); // and too few everywhere else
  assert.ok(Math.abs(differs.distance - 0.2) < 0.03);
});

test("frames in runs count for what they are worth", () => {
  const n = 20000, run = (length) => Float32Array.from({ length: n }, (_, i) => (i % length ? NaN : (random() - 0.5) * 2 * Math.PI)).map((v, i, all) => all[i - (i % length)]);
  const a = { x: run(500), y: run(500) }, b = { x: run(500), y: run(500) };
  const c = contrast(a, b, circle, 10, 10, [true, true]);
  assert.ok(c.values.filter((v) => Number.isFinite(v)).length < 10); // 40 places each: nothing is certain
});

// Linear light seen by eyes without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1.
const EYES = { none: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]] };
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
/** CIE L*, a*, b* of bytes as one kind of eyes sees them. */
function lab(bytes, eyes) {
  const light = bytes.map((b) => linear(b / 255)), seen = eyes.map((row) => Math.max(0, row.reduce((s, w, i) => s + w * light[i], 0)));
  const xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]].map((row) => row.reduce((s, w, i) => s + w * seen[i], 0));
  const f = xyz.map((v, i) => { const t = v / [0.9505, 1, 1.089][i]; return t > 216 / 24389 ? Math.cbrt(t) : (24389 / 27 * t + 16) / 116; });
  return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])];
}

test("colour-blind eyes tell the first six series apart, and scales rise in lightness for all", () => {
  const hex = (h) => [1, 3, 5].map((i) => parseInt(h.slice(i, i + 2), 16));
  for (const [name, eyes] of Object.entries(EYES)) {
    const seen = SERIES.slice(0, 6).map((c) => lab(hex(c), eyes));
    for (let i = 0; i < 6; i += 1) for (let j = 0; j < i; j += 1) assert.ok(Math.hypot(...seen[i].map((v, k) => v - seen[j][k])) > 10, `${name}: ${SERIES[i]} and ${SERIES[j]}`);
    for (const scale of ["free_energy", "time"]) {
      const lightness = Array.from({ length: 32 }, (_, i) => lab([...table(scale).slice(3 * 8 * i, 3 * 8 * i + 3)], eyes)[0]);
      for (let i = 1; i < 32; i += 1) assert.ok(lightness[i] > lightness[i - 1] - 0.5, `${name}: ${scale} at ${i}`);
    }
  }
});

test("words stand out from what they stand on, light and dark", () => {
  const style = readFileSync(new URL("../src/views.css", import.meta.url), "utf8");
  const bright = (h) => [0.2126, 0.7152, 0.0722].reduce((s, w, i) => s + w * linear(parseInt(h.length === 4 ? h[i + 1].repeat(2) : h.slice(1 + 2 * i, 3 + 2 * i), 16) / 255), 0);
  const light = Object.fromEntries([...style.match(/--ink:[^}]*/)[0].matchAll(/--(\w+):(#\w+)/g)].map((m) => [m[1], m[2]]));
  const dark = { ...light, ...Object.fromEntries([...style.match(/shell\.dark\{([^}]*)/)[1].matchAll(/--(\w+):(#\w+)/g)].map((m) => [m[1], m[2]])) };
  for (const theme of [light, dark]) {
    for (const [word, ground, least] of [["ink", "paper", 7], ["muted", "paper", 4.5], ["muted", "back", 4.5], ["link", "paper", 4.5], ["accent", "paper", 3], ["point", "paper", 3]]) {
      const [a, b] = [bright(theme[word]), bright(theme[ground])].sort((p, q) => q - p);
      assert.ok((a + 0.05) / (b + 0.05) >= least, `${word} on ${ground}: ${theme[word]} on ${theme[ground]}, ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
    }
  }
});
