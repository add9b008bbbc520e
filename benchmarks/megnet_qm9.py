"""MEGNet on QM9: learning curves of atomisation energy and gap, against ridge regression on histograms of distances.

Data are molecules of QM9 (Ramakrishnan et al., 2014, doi:10.1038/sdata.2014.22) as published by other projects;
molifold ships none. The folder holds ``qm9_3d_join.csv`` (which structure of a chemiscope file has the targets of which
line of a tf-gnn-samples file), those files, ``tfgnn_target_constants.json`` and, for a few molecules more, a file of
QuantumDeepField::

    python benchmarks/megnet_qm9.py path/to/qm9 --seconds 100 --json benchmarks/results/megnet_qm9.json

Both models see elements and distances, both learn what is left after a contribution per atom of every element is taken
off (least squares over the training molecules), and both are judged on all molecules that their training did not see;
errors are standard errors over those, and those of a difference are over molecules, pair by pair. Bins and penalty of
the ridge regression are chosen by cross validation within the training molecules. MEGNet is the paper's, with messages
up to 0.2 nm, finer Gaussians, and the bonds and degrees that follow from the distances. It trains for the same CPU time
at every size (``--seconds``), as a number of steps whose cost is measured first. Rows that the file holds already are
kept. Slopes of log MAE against log N go to ``NAME_slopes.json``.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import arguments, show, step_cost
from torch.nn.utils.rnn import pad_sequence

from molifold import Molecule
from molifold.networks import Graph, Property, molecular_graph
from molifold.perception import complete_bonds
from molifold.training import PropertyFit, fit_property
from molifold.units import ENERGY

SIZES = (500, 1000, 1700)
ELEMENTS = ("H", "C", "N", "O", "F")
#: Index and name of the constants of a target in the tf-gnn-samples files, unit, and readout of the network.
TARGETS: dict[str, tuple[int, str, str, str]] = {
    "U0": (7, "u0_atom", "kcal/mol", "sum"),
    "gap": (4, "gap", "hartree", "mean"),
}
#: Bins (width and reach, Angstrom) and penalties that cross validation chooses from.
BINS = ((0.05, 3.0), (0.1, 4.0), (0.2, 6.0))
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
OPTIONS: dict[str, Any] = {"cutoff": 0.2, "reach": 0.2, "centres": 21, "width": 0.015}
#: Of optimisation, chosen by short trainings on 500 molecules.
BATCH, RATE = 8, 3e-3

Structure = tuple[list[str], np.ndarray]


def load(folder: Path) -> tuple[list[Structure], dict[str, np.ndarray]]:
    """Elements and positions (Angstrom) of every molecule, and its targets in eV."""
    table = csv.DictReader((folder / "qm9_3d_join.csv").read_text().splitlines())
    rows = [r for r in table if (folder / r["tfgnn_file"]).exists()]
    names = {r[column] for r in rows for column in ("chemiscope_file", "tfgnn_file")}
    text = {name: gzip.decompress((folder / name).read_bytes()) for name in names}
    chemiscope = {n: json.loads(text[n])["structures"] for n in {r["chemiscope_file"] for r in rows}}
    lines = {n: text[n].splitlines() for n in {r["tfgnn_file"] for r in rows}}
    structures, found = [], []
    for r in rows:
        s = chemiscope[r["chemiscope_file"]][int(r["structure_index"])]
        structures.append((s["names"], np.array([s["x"], s["y"], s["z"]]).T))
        found.append(json.loads(lines[r["tfgnn_file"]][int(r["tfgnn_line"])])["targets"])
    seen = {int(r["gdb_id"]) for r in rows}
    targets_of = {}
    for line in (line for part in lines.values() for line in part):
        entry = json.loads(line)
        targets_of[int(entry["id"].split(":")[1])] = entry["targets"]
    for file in folder.glob("qdf_*.txt"):
        for block in file.read_text().strip().split("\n\n"):
            name, *atoms, _ = block.splitlines()
            number = int(name.split("_")[1])
            if number in targets_of and number not in seen:
                seen.add(number)
                structures.append(([a.split()[0] for a in atoms], np.array([a.split()[1:] for a in atoms], float)))
                found.append(targets_of[number])
    constants = json.loads((folder / "tfgnn_target_constants.json").read_text())
    values = np.array(found)[..., 0]
    return structures, {
        name: (values[:, i] * constants[key]["scale"] + constants[key]["shift"]) * ENERGY[unit] / ENERGY["eV"]
        for name, (i, key, unit, _) in TARGETS.items()
    }


def composition(structures: list[Structure]) -> np.ndarray:
    """Atoms of every element, [molecules, elements]."""
    return np.array([[names.count(e) for e in ELEMENTS] for names, _ in structures], dtype=float)


def histograms(structures: list[Structure], *, width: float, reach: float) -> np.ndarray:
    """Distances of every pair of elements counted in bins, [molecules, pairs * bins], beside the composition."""
    edges = np.arange(0.8, reach + width / 2, width)
    slots = {(a, b): k for k, (a, b) in enumerate((a, b) for a in range(5) for b in range(a, 5))}
    counts = np.zeros((len(structures), len(slots), len(edges) - 1))
    for row, (names, x) in zip(counts, structures, strict=True):
        kind = np.array([ELEMENTS.index(n) for n in names])
        i, j = np.triu_indices(len(names), 1)
        slot = [slots[min(p), max(p)] for p in zip(kind[i], kind[j], strict=True)]
        place = np.searchsorted(edges, np.linalg.norm(x[i] - x[j], axis=1), side="right") - 1
        inside = (place >= 0) & (place < len(edges) - 1)
        np.add.at(row, (np.array(slot)[inside], place[inside]), 1.0)
    return np.concatenate([composition(structures), counts.reshape(len(structures), -1)], axis=1)


def ridge(features: list[np.ndarray], y: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Predictions for all molecules; features and penalty by five-fold cross validation in ``training``."""

    def fitted(f: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """Predictions with every penalty."""
        mean, spread = f[rows].mean(0), f[rows].std(0)
        scaled = (f - mean)[:, spread > 1e-9] / spread[spread > 1e-9]
        u, s, v = np.linalg.svd(scaled[rows], full_matrices=False)
        share = s * (u.T @ (y[rows] - y[rows].mean()))
        return [y[rows].mean() + scaled @ (v.T @ (share / (s**2 + penalty))) for penalty in PENALTIES]

    folds = [training[k::5] for k in range(5)]
    costs = np.zeros((len(features), len(PENALTIES)))
    for k, f in enumerate(features):
        for fold in folds:
            costs[k] += [np.abs(found - y)[fold].sum() for found in fitted(f, np.setdiff1d(training, fold))]
    k, best = np.unravel_index(costs.argmin(), costs.shape)
    return fitted(features[k], training)[best]


def network(
    x: torch.Tensor,
    graph: Graph,
    y: np.ndarray,
    training: np.ndarray,
    *,
    readout: str,
    seconds: float,
    limit: float | None,
    seed: int = 0,
) -> tuple[np.ndarray, int, float]:
    """Predictions for all molecules; steps and CPU seconds of training."""

    def run(steps: int) -> PropertyFit:
        torch.manual_seed(seed)
        model = Property("MEGNet", options=OPTIONS, readout=readout, embedding=16, chemistry=True, unit="eV")  # type: ignore[arg-type]
        rows = torch.from_numpy(training)
        return fit_property(
            model, x[rows], torch.from_numpy(y[training]), graph=graph.members(rows), steps=steps, max_seconds=limit,
            batch_size=BATCH, learning_rate=RATE, validation=0.0, validate_every=max(2, steps), seed=seed,
        )  # fmt: skip

    steps = max(1, round(seconds / step_cost(run)))
    start = time.process_time()
    fit = run(steps)
    spent = time.process_time() - start
    with torch.no_grad():
        parts = torch.arange(len(x)).split(100)
        found = torch.cat([fit.model(x[p].float(), graph.members(p)).double() for p in parts])
    return (found + fit.model.reference(graph)).numpy(), fit.steps, spent


def slope(rows: list[dict[str, Any]], key: str) -> str:
    """Of log MAE against log N by least squares weighted with the errors of the MAEs, and its standard error."""
    n = np.log([r["training molecules"] for r in rows])
    value, error = np.array([[float(v) for v in r[key].split(" +- ")] for r in rows]).T
    weight = (value / error) ** 2
    centred = n - np.average(n, weights=weight)
    b = np.sum(weight * centred * np.log(value)) / np.sum(weight * centred**2)
    return f"{b:.2f} +- {np.sum(weight * centred**2) ** -0.5:.2f}"


def mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f} +- {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path, help="folder of QM9 files")
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU time of every training")
    parser.add_argument("--limit", type=float, help="wall time at which a training anneals to its end all the same, s")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    structures, targets = load(options.data)
    x = pad_sequence([torch.from_numpy(x / 10) for _, x in structures], batch_first=True)
    molecules = (Molecule(elements=tuple(names), bonds=complete_bonds(names, (), x=x / 10)) for names, x in structures)
    graph = Graph.stack([molecular_graph(m) for m in molecules])
    features = [histograms(structures, width=width, reach=reach) for width, reach in BINS]
    order = np.random.default_rng(0).permutation(len(structures))
    file = options.json
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file is not None and file.exists() else []
    for target, size in product(options.targets, options.sizes):
        if any((r["target"], r["training molecules"]) == (target, size) for r in rows):
            continue
        training, test = order[:size], order[size:]
        atoms = np.linalg.lstsq(composition(structures)[training], targets[target][training], rcond=None)[0]
        y = targets[target] - composition(structures) @ atoms
        found, steps, spent = network(
            x, graph, y, training, readout=TARGETS[target][3], seconds=options.seconds, limit=options.limit
        )
        ours, theirs = np.abs(found - y)[test], np.abs(ridge(features, y, training) - y)[test]
        rows.append({
            "target": target, "training molecules": size, "test molecules": len(test), "steps": steps,
            "CPU s": round(spent), "MEGNet MAE, eV": mean(ours), "ridge MAE, eV": mean(theirs),
            "ridge less MEGNet, eV": mean(theirs - ours),
        })  # fmt: skip
        rows.sort(key=lambda r: (list(TARGETS).index(r["target"]), r["training molecules"]))
        show(f"QM9, {options.seconds:g} CPU s per training, batch {BATCH}", rows, to=file)
    of = {t: [r for r in rows if r["target"] == t] for t in TARGETS}
    slopes = [
        {"target": t, **{k: slope(r, f"{k} MAE, eV") for k in ("MEGNet", "ridge")}} for t, r in of.items() if r[1:]
    ]
    if slopes:
        show("Slope of log MAE against log N", slopes, to=file and file.with_name(f"{file.stem}_slopes.json"))


if __name__ == "__main__":
    main()
