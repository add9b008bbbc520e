// Colours that colour-blind eyes tell apart, and scales that are ordered in lightness. Names as in plots/style.py.

export const SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#332288", "#882255"];
const YLGNBU = ["#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58"];
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const ORRD = ["#fff7ec", "#fee8c8", "#fdd49e", "#fdbb84", "#fc8d59", "#ef6548", "#d7301f", "#b30000", "#7f0000"];
const RDBU = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"];
// From a grey that stands out on light and dark ground to red: where a network cannot follow.
const HURT = ["#9aa5b0", "#d9b59a", "#f08c4e", "#d7301f", "#8f0d12"];
const STOPS = { free_energy: [...YLGNBU].reverse(), density: YLGNBU, error: ORRD, difference: RDBU, time: VIRIDIS, hurt: HURT };

export const bytesOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const tables = {};

/** 256 colours of a scale as bytes r, g, b. */
export function table(name) {
  if (!tables[name]) {
    const stops = (STOPS[name] ?? VIRIDIS).map(bytesOf);
    const bytes = new Uint8Array(768);
    for (let i = 0; i < 256; i += 1) {
      const at = (i / 255) * (stops.length - 1);
      const low = Math.min(stops.length - 2, Math.floor(at));
      for (let c = 0; c < 3; c += 1) bytes[3 * i + c] = stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]);
    }
    tables[name] = bytes;
  }
  return tables[name];
}

/** Colour of a value in [0, 1] on a scale, as CSS. */
export function shade(name, value) {
  const i = 3 * Math.max(0, Math.min(255, Math.round(255 * value)));
  const t = table(name);
  return `rgb(${t[i]},${t[i + 1]},${t[i + 2]})`;
}

export const series = (i) => SERIES[((i % SERIES.length) + SERIES.length) % SERIES.length];
