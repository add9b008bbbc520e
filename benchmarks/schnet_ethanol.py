"""SchNet on MD17 ethanol: energy and force errors against the paper's at 1000 training frames, within a time budget.

Data are 2000 random frames of MD17 (Chmiela et al., 2017, doi:10.1126/sciadv.1603015) as extended XYZ with energies in
kcal/mol and forces in kcal/mol/Angstrom; molifold ships none. The first thousand train (5 % of them decide nothing but
are held out to watch), the second thousand are the test::

    python benchmarks/schnet_ethanol.py ethanol_sampledata_2000random.xyz --json benchmarks/results/schnet_ethanol.json

The network is the paper's (64 channels, 3 blocks, centres every 0.01 nm, gamma 1000 / nm^2) with centres only as far as
ethanol reaches; batches of 32, EMA 0.99, the paper's loss. What differs: the learning rate anneals to zero within the
budget, which is minutes of one core where the paper trained for up to millions of steps.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from measure import arguments, show

from molifold import Molecule
from molifold.networks import Graph, Property, molecular_graph
from molifold.training import fit_property, mean_error

#: Mean absolute errors of the paper with 1000 training frames (Schuett et al., 2017, arXiv 1706.08566, table 2).
PAPER = {"energy": 0.08, "forces": 0.39}
OPTIONS = {"channels": 64, "layers": 3, "reach": 0.7}
BATCH = 32


def load(path: Path) -> tuple[Graph, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Graph, positions (nm), energies (kcal/mol) and forces (kcal/mol/nm)."""
    frames = ase.io.read(path, ":")
    graph = molecular_graph(Molecule(elements=tuple(frames[0].get_chemical_symbols())))
    x = torch.tensor(np.array([f.positions for f in frames]) / 10)
    y = torch.tensor([f.get_potential_energy() for f in frames], dtype=torch.float64).flatten()
    return graph, x, y, torch.tensor(np.array([f.get_forces() for f in frames]) * 10)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path, help="extended XYZ of 2000 frames")
    parser.add_argument("--frames", type=int, nargs="+", default=[1000], help="training frames")
    parser.add_argument("--seconds", type=float, nargs="+", default=[540], help="wall time of each")
    parser.add_argument("--to", type=Path, help="directory for the models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    graph, x, y, forces = load(options.data)
    test: dict[str, Any] = {"x": x[1000:], "y": y[1000:], "graph": graph, "forces": forces[1000:]}
    rows: list[dict[str, object]] = []
    for frames, seconds in zip(options.frames, options.seconds, strict=True):
        torch.manual_seed(0)
        model = Property("SchNet", options=OPTIONS, unit="kcal/mol")
        start = time.process_time()
        fit = fit_property(
            model, x[:frames], y[:frames], graph=graph, forces=forces[:frames], steps=1_000_000, max_seconds=seconds,
            batch_size=BATCH, validation=0.05, validate_every=50, progress=lambda row: print(row, flush=True),
        )  # fmt: skip
        cpu = time.process_time() - start
        found = mean_error(model, **test)
        if options.to is not None:
            model.save(options.to / f"{frames}")
        rows.append(
            {
                "training frames": frames,
                "steps": fit.steps,
                "CPU s": round(cpu),
                "energy MAE, kcal/mol": f"{found.value:.3f} +- {found.value_error:.3f}",
                "paper, N = 1000": PAPER["energy"] if frames == 1000 else "",
                "force MAE, kcal/mol/A": f"{found.forces / 10:.3f} +- {found.forces_error / 10:.3f}",
                "paper, N = 1000, forces": PAPER["forces"] if frames == 1000 else "",
            }
        )
        show("MD17 ethanol, 1000 test frames, batch 32", rows, to=options.json)


if __name__ == "__main__":
    main()
