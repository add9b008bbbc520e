// Structures in 3D by 3Dmol. All conformers lie in one model: one model each would cost megabytes of geometry apiece.
import * as $3Dmol from "3dmol";
import { shade, series } from "./colours.js";

const CPK = { H: "#e6e6e6", C: "#8a97a3", N: "#3a6fd8", O: "#d6402b", S: "#d9b310", P: "#e58a2c", F: "#6fbf4a", Cl: "#3fae49", Br: "#8c3b2e" };

function software() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const ext = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = ext ? gl.getParameter(ext.UNMASKED_RENDERER_WEBGL) : "software";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software/i.test(name);
}
let slow = null, spare = [];

export class MoleculeView {
  /** together: a set of views that share one camera, which this one joins. */
  constructor(element, together = new Set()) {
    slow ??= software();
    this.element = element;
    // Used again: a viewer of 3Dmol that is dropped stays in memory, listeners, buffers and all.
    this.box = spare.pop() ?? Object.assign(document.createElement("div"), { className: "viewer" });
    element.append(this.box);
    // Antialiasing is supersampling there: ten times slower without a GPU.
    this.viewer = this.box.viewer ??= $3Dmol.createViewer(this.box, { antialias: !slow, backgroundAlpha: 0, disableFog: true });
    this.viewer.setBackgroundColor(0xffffff, 0);
    this.observer = new ResizeObserver(() => this.viewer.resize());
    this.observer.observe(element);
    this.together = together.add(this);
  }

  /** Whoever shows something turns all others that do. */
  link() {
    const shown = [...this.together].filter((v) => v.model);
    for (const v of this.together) v.viewer.linkedViewers = v.model ? shown.filter((o) => o !== v).map((o) => o.viewer) : [];
  }

  /**
   * about: {elements, bonds, flat}; x: Float32Array [conformers, atoms, 3] in nm.
   * colour: {by: "element" | "frame" | "group" | "atom", values?: per conformer or per atom, in [0, 1] (groups: numbers)}
   */
  show(about, x, colour = { by: "element" }, keepCamera = true) {
    const atoms = about.elements.length, n = x.length / (3 * atoms);
    const neighbours = Array.from({ length: atoms }, () => []);
    for (let b = 0; b < about.bonds.length; b += 1) neighbours[about.bonds[b]].push(about.bonds[b ^ 1]);
    const other = this.model ? null : [...this.together].find((v) => v.model), same = this.model && this.shown === `${n} ${atoms} ${about.name}`;
    if (!same) {
      this.viewer.removeAllModels();
      this.model = this.viewer.addModel();
      this.model.addAtoms(Array.from({ length: n * atoms }, (_, i) => {
        const a = i % atoms, near = neighbours[a];
        return { elem: about.elements[a], x: 10 * x[3 * i], y: 10 * x[3 * i + 1], z: 10 * x[3 * i + 2], serial: i, bonds: near.map((b) => b + i - a), bondOrder: near.map(() => 1), properties: {} };
      }));
    }
    const all = this.model.selectedAtoms({});
    for (const [i, atom] of all.entries()) {
      if (same) { atom.x = 10 * x[3 * i]; atom.y = 10 * x[3 * i + 1]; atom.z = 10 * x[3 * i + 2]; }
      atom.colour = colourOf(colour, about.elements[i % atoms], Math.floor(i / atoms), i % atoms);
    }
    const colorfunc = (atom) => atom.colour, one = { stick: { radius: 0.13, colorfunc }, sphere: { scale: 0.26, colorfunc } };
    const several = n > 20 ? { line: { colorfunc, linewidth: 1 } } : { stick: { radius: 0.06, colorfunc } };
    this.viewer.setStyle({}, about.flat ? { sphere: { radius: 0.5, colorfunc } } : n === 1 ? one : several);
    if (same) { this.model.removegl(this.viewer.modelGroup); this.model.molObj = null; }
    const turned = this.everShown === about.name && keepCamera;
    if (other) this.viewer.setView(other.viewer.getView(), true);
    else if (!turned) { this.viewer.zoomTo(); this.viewer.zoom(this.together.size > 1 ? 1.4 : 1.2); }
    this.shown = `${n} ${atoms} ${about.name}`;
    this.everShown = about.name;
    this.link();
    this.viewer.render();
  }

  clear() { this.viewer.removeAllModels(); this.model = null; this.shown = ""; this.link(); this.viewer.render(); }
  png() { return this.viewer.pngURI(); }
  remove() {
    this.observer.disconnect();
    this.model = null;
    this.link();
    this.together.delete(this);
    this.viewer.clear();
    this.box.remove();
    spare.push(this.box);
  }
}

function colourOf({ by, values }, element, frame, atom) {
  if (by === "atom") return Number.isFinite(values[atom]) ? shade("hurt", values[atom]) : "#9aa5b0";
  if (by === "group") return series(values[frame]);
  if (by === "frame") return Number.isFinite(values?.[frame]) ? shade("time", values[frame]) : series(frame);
  return CPK[element] ?? "#b36bd4";
}
