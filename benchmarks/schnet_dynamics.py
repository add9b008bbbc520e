"""Dynamics of ethanol with a trained SchNet through ASE at constant energy, and what happens where messages end.

Takes models that ``schnet_ethanol.py --to`` left, with and without a cutoff, and the frames they were judged on::

    python benchmarks/schnet_dynamics.py ethanol_sampledata_2000random.xyz models/1000-1500 models/1000-120-cut \
        --json benchmarks/results/schnet_dynamics.json

Velocity Verlet by ASE, 0.5 fs a step, in double precision, from a test frame with momenta of 300 K. The drift of the
total energy is the slope of a straight line, its error that of slopes over four parts of the run, in percent of the
mean kinetic energy per ps; the fluctuation about the line is what the time step makes of it. For a model with a cutoff:
by how much energy and forces jump when a pair of atoms that crosses it is moved over it by 1e-9 nm, as a share of their
spread over the test frames, and how often pairs cross it in the dynamics.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from measure import arguments, show
from schnet_ethanol import load

from molifold.networks import Graph, Property, ase_calculator

STEP = 0.5  # fs
TEMPERATURE = 300.0
#: How far over the cutoff, nm: far more than double precision resolves, far less than anything smooth notices.
OVER = 1e-9


def dynamics(model: Property, start: np.ndarray, elements: list[int], *, steps: int) -> dict[str, np.ndarray]:
    """Total and kinetic energy (eV) of every step, and the distances (nm) of all pairs."""
    atoms = Atoms(numbers=elements, positions=10 * start, calculator=ase_calculator(model))
    spread = np.sqrt(units.kB * TEMPERATURE * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=atoms.positions.shape))
    Stationary(atoms)
    ZeroRotation(atoms)
    run = VelocityVerlet(atoms, timestep=STEP * units.fs)
    total, kinetic, distances = [], [], []
    i, j = np.triu_indices(len(atoms), 1)
    for _ in range(steps):
        run.run(1)
        total.append(atoms.get_total_energy())
        kinetic.append(atoms.get_kinetic_energy())
        distances.append(np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1) / 10)
    return {"total": np.array(total), "kinetic": np.array(kinetic), "distances": np.array(distances)}


def jumps(model: Property, x: torch.Tensor, graph: Graph) -> tuple[float, float]:
    """Largest change of energy and of a force across the cutoff, over their spread, on frames x [frames, atoms, 3]."""
    assert model.cutoff is not None
    y, forces = model.with_forces(x, graph)
    i, j = torch.triu_indices(x.shape[1], x.shape[1], 1)
    line = x[:, i] - x[:, j]
    length = line.norm(dim=-1)
    frame, pair = (length - model.cutoff).abs().min(0).indices, torch.arange(len(i))
    found = []
    for side in (-OVER, OVER):
        moved = x[frame].clone()
        moved[pair, i] += ((model.cutoff + side) / length[frame, pair] - 1)[:, None] * line[frame, pair]
        found.append(model.with_forces(moved, graph))
    (a, f), (b, g) = found
    return float((a - b).abs().max() / y.std()), float((f - g).abs().max() / forces.std())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path, help="extended XYZ of 2000 frames")
    parser.add_argument("models", type=Path, nargs="+", help="directories of saved models")
    parser.add_argument("--picoseconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    graph, x, _, _ = load([options.data])
    graph, test = graph.to(torch.float64), x[1000:]
    assert graph.numbers is not None
    rows: list[dict[str, Any]] = []
    for path in options.models:
        model = Property.load(path).double()
        start = time.process_time()
        steps = round(1000 * options.picoseconds / STEP)
        run = dynamics(model, test[0].numpy(), graph.numbers.tolist(), steps=steps)
        t = STEP / 1000 * np.arange(steps)
        kinetic, total = run["kinetic"].mean(), run["total"]
        line = np.polyfit(t, total, 1)
        parts = [np.polyfit(a, b, 1)[0] for a, b in zip(np.array_split(t, 4), np.array_split(total, 4), strict=True)]
        # A slope over a quarter of the time is 8 = 4^1.5 times less certain than one over the whole.
        error = np.std(parts, ddof=1) / 8
        rows.append({
            "model": path.name, "cutoff, nm": model.cutoff or "none", "ps": options.picoseconds,
            "kinetic energy, eV": f"{kinetic:.3f}",
            "drift, % of it per ps": f"{100 * line[0] / kinetic:.4f} +- {100 * error / kinetic:.4f}",
            "fluctuation, % of it": f"{100 * (total - np.polyval(line, t)).std() / kinetic:.3f}",
            "longest distance, nm": f"{run['distances'].max():.3f}",
            "crossings": int((np.diff(run["distances"] > (model.cutoff or np.inf), axis=0)).sum()),
            "energy jump, % of spread": "", "force jump, % of spread": "",
            "CPU s": round(time.process_time() - start),
        })  # fmt: skip
        if model.cutoff is not None:
            energy, force = jumps(model, test, graph)
            rows[-1] |= {
                "energy jump, % of spread": f"{100 * energy:.1e}",
                "force jump, % of spread": f"{100 * force:.1e}",
            }
        show(f"Ethanol at constant energy, {STEP:g} fs a step, {TEMPERATURE:g} K", rows, to=options.json)


if __name__ == "__main__":
    main()
