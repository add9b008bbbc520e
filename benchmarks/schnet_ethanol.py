"""SchNet on MD17 ethanol: energy and force errors against the paper's, as a function of frames and of time spent.

Data are 2000 random frames of MD17 (Chmiela et al., 2017, doi:10.1126/sciadv.1603015) as extended XYZ with energies in
kcal/mol and forces in kcal/mol/Angstrom; molifold ships none. The first thousand train (5 % of them decide nothing but
are held out to watch), the second thousand are the test. Files of other frames (``--called``, ``--unit``) are joined in
their order, and the last ``--test`` frames are the test::

    python benchmarks/schnet_ethanol.py ethanol_sampledata_2000random.xyz --frames 1000 1000 1000 --seconds 30 120 480 \
        --json benchmarks/results/schnet_ethanol.json

The network is the paper's (64 channels, 3 blocks, centres every 0.01 nm, gamma 1000 / nm^2) with centres only as far as
ethanol reaches; EMA 0.99 and the form of the loss, too. What differs: batch, learning rate and the energy's weight, and
that the rate anneals to zero within the budget, which is minutes of one core where the paper trained for up to millions
of steps. The budget is in CPU seconds: as a number of steps whose cost is measured first, so that it can be repeated.

Rows that the file holds already are kept, so that it can be made in parts. Errors on the held-out frames go to
``NAME_history.json`` while a model trains (the longest training stays there); power laws of the error in the time, and
the time to 1.5 times the paper's error that follows from them, to ``NAME_extrapolation.json``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from measure import arguments, show, step_cost
from torch import Tensor

from molifold import Molecule
from molifold.networks import Graph, Property, molecular_graph
from molifold.training import fit_property, mean_error
from molifold.units import ENERGY

#: Mean absolute errors of the paper with 1000 training frames (Schuett et al., 2017, arXiv 1706.08566, table 2).
PAPER = {"energy": 0.08, "forces": 0.39}
#: Close enough to the paper's.
GOAL = 1.5
OPTIONS = {"channels": 64, "layers": 3, "reach": 0.5}
#: Of optimisation, chosen by short trainings; the paper has 32, 1e-3 and, in 1/nm^2, 1.
BATCH, RATE, ENERGY_WEIGHT = 8, 3e-3, 100.0


def load(paths: Sequence[Path], *, unit: str = "kcal/mol") -> tuple[Graph, Tensor, Tensor, Tensor]:
    """Graph, positions (nm), energies (kcal/mol) and forces (kcal/mol/nm) of files in ``unit`` and Angstrom."""
    frames = [frame for path in paths for frame in ase.io.read(path, ":")]
    graph = molecular_graph(Molecule(elements=tuple(frames[0].get_chemical_symbols())))
    factor = ENERGY[unit] / ENERGY["kcal/mol"]
    x = torch.tensor(np.array([f.positions for f in frames]) / 10)
    y = factor * torch.tensor([f.get_potential_energy() for f in frames], dtype=torch.float64).flatten()
    return graph, x, y, torch.tensor(np.array([f.get_forces() for f in frames]) * 10 * factor)


def built(cutoff: float | None, *, seed: int = 0) -> Property:
    torch.manual_seed(seed)
    return Property("SchNet", options={**OPTIONS, "cutoff": cutoff}, unit="kcal/mol")


def trained(
    frames: int,
    seconds: float,
    cutoff: float | None,
    data: dict[str, Any],
    *,
    limit: float | None,
    history: Path | None,
) -> tuple[dict[str, Any], Property]:
    """Steps and CPU seconds of a training, and the model."""
    data = {key: value if key == "graph" else value[:frames] for key, value in data.items()}
    options: dict[str, Any] = {"batch_size": BATCH, "learning_rate": RATE, "energy_weight": ENERGY_WEIGHT}
    cost = step_cost(lambda n: fit_property(built(cutoff), **data, **options, steps=n, validation=0.0))
    steps, start, rows = max(1, round(seconds / cost)), time.process_time(), []

    def follow(row: Any) -> None:
        rows.append({
            "step": int(row["step"]),
            "of": steps,
            "CPU s": round(time.process_time() - start, 1),
            "held-out energy MAE, kcal/mol": f"{row['value']:.3f} +- {row['value_error']:.3f}",
            "held-out force MAE, kcal/mol/A": f"{row['forces'] / 10:.3f} +- {row['forces_error'] / 10:.3f}",
        })  # fmt: skip
        print(*rows[-1].values(), flush=True)
        if history is not None:
            show(f"{frames} training frames, batch {BATCH}, while the learning rate anneals", rows, to=history)

    model = built(cutoff)
    fit = fit_property(
        model, **data, **options, steps=steps, max_seconds=limit, validation=0.05,
        validate_every=max(20, math.ceil(steps / 16)), progress=follow,
    )  # fmt: skip
    return {
        "steps": fit.steps,
        "CPU s": round(time.process_time() - start),
        "CPU ms per step": round(1e3 * cost, 1),
    }, model


def extrapolated(rows: list[dict[str, Any]], key: str, paper: float) -> dict[str, Any] | None:
    """Log error = a + b log(CPU s) by least squares over the trainings with 1000 frames; when it meets the goal."""
    known = sorted((r["CPU s"], float(r[key].split()[0])) for r in rows if r["paper, N = 1000"] and not r["cutoff, nm"])
    if len(known) < 3:
        return None
    t, error = np.log(np.array(known)).T
    design = np.stack([np.ones_like(t), t], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    a, b = inverse @ design.T @ error
    scatter = float(np.sum((error - a - b * t) ** 2) / (len(t) - 2))
    # Errors of log t at which a + b log t is the goal, by propagation of the covariance of a and b.
    goal = (math.log(GOAL * paper) - a) / b
    slope = np.array([1.0, goal])
    doubt = math.sqrt(slope @ inverse @ slope * scatter) / abs(b)
    hours = math.exp(goal) / 3600
    return {
        "error": key,
        "trainings": len(known),
        "exponent": f"{b:.2f} +- {math.sqrt(inverse[1, 1] * scatter):.2f}",
        f"{GOAL:g} x paper": round(GOAL * paper, 3),
        "met after, CPU h": f"{hours:.2g} ({hours / math.exp(doubt):.2g} to {hours * math.exp(doubt):.2g})",
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path, nargs="+", help="extended XYZ")
    parser.add_argument("--called", default="MD17", help="name of the data in the table")
    parser.add_argument(
        "--unit", default="kcal/mol", choices=list(ENERGY), help="of the energies; forces: per Angstrom"
    )
    parser.add_argument("--test", type=int, default=1000, help="frames at the end that are the test")
    parser.add_argument("--frames", type=int, nargs="+", default=[1000], help="training frames")
    parser.add_argument("--seconds", type=float, nargs="+", default=[540], help="CPU time of each")
    parser.add_argument("--cutoff", type=float, help="nm; the paper has none")
    parser.add_argument("--limit", type=float, help="wall time at which a training anneals to its end all the same, s")
    parser.add_argument("--to", type=Path, help="directory for the models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    graph, *labelled = load(options.data, unit=options.unit)
    keys = ("x", "y", "forces")
    training, test = (
        {"graph": graph, **{k: v[part] for k, v in zip(keys, labelled, strict=True)}}
        for part in (slice(-options.test), slice(-options.test, None))
    )
    file = options.json
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file is not None and file.exists() else []
    for frames, seconds in zip(options.frames, options.seconds, strict=True):
        if frames > len(training["y"]):
            parser.error(f"--frames: got {frames}, expected at most {len(training['y'])}, all but the test")
        about = {"data": options.called, "training frames": frames, "cutoff, nm": options.cutoff or "",
                 "budget, CPU s": seconds}  # fmt: skip
        if any(about.items() <= row.items() for row in rows):
            continue
        paper = PAPER if (options.called, frames) == ("MD17", 1000) else {"energy": "", "forces": ""}
        longest = all(r["budget, CPU s"] < seconds for r in rows)
        history = file.with_name(f"{file.stem}_history.json") if file is not None and longest else None
        cost, model = trained(frames, seconds, options.cutoff, training, limit=options.limit, history=history)
        found = mean_error(model, **test)
        if options.to is not None:
            model.save(options.to / f"{frames}-{seconds:g}{'-cutoff' * bool(options.cutoff)}")
        rows.append({
            **about,
            **cost,
            "energy MAE, kcal/mol": f"{found.value:.3f} +- {found.value_error:.3f}",
            "paper, N = 1000": paper["energy"],
            "force MAE, kcal/mol/A": f"{found.forces / 10:.3f} +- {found.forces_error / 10:.3f}",
            "paper, N = 1000, forces": paper["forces"],
        })  # fmt: skip
        rows.sort(key=lambda r: (r["data"], r["training frames"], bool(r["cutoff, nm"]), r["budget, CPU s"]))
        show(f"Ethanol, test frames that no training saw, batch {BATCH}", rows, to=file)
        laws = [extrapolated(rows, f"{k} MAE, kcal/mol{'/A' * (k == 'force')}", v)
                for k, v in (("energy", PAPER["energy"]), ("force", PAPER["forces"]))]  # fmt: skip
        if file is not None and all(laws):
            show("Error = a time^b over the trainings with 1000 frames", [law for law in laws if law],
                 to=file.with_name(f"{file.stem}_extrapolation.json"))  # fmt: skip


if __name__ == "__main__":
    main()
