"""Which source does a network not see? One is withheld from graph networks on three molecules, and one is named.

A graph network that hears of bonded atoms alone, and of nothing static but elements, is exactly right for what it sees;
then the values to learn change by a function of one source that is withheld. The network is trained on, and diagnosed
with all sources of ``molecular_sources``. The planted functions are written out here, with other formulas than those
of the sources. Every plant is told, none is selected.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from measure import arguments, show
from scipy.stats import binomtest
from torch import Tensor, nn

from molifold import Molecule
from molifold.data import structure
from molifold.networks import GraphFilters, molecular_graph
from molifold.networks.graph import ELEMENTS
from molifold.probes import expressivity, molecular_sources
from molifold.topology import chiral_centres, ring_bonds, rotatable_torsions
from molifold.transforms.internal import InternalCoordinates

SMILES = ("C[C@@H](C([O-])=O)[NH2+]Cc1ccccc1", "OC[C@H]1CCC[NH+]1CC([O-])=O", "C[C@H](F)CC1CC1CC([O-])=O")
KINDS = (
    "atoms 2 bonds away", "atoms 3 bonds away", "atoms 4 bonds away", "ring flag", "formal charge", "distances",
    "torsions", "chirality", "nonlinear",
)  # fmt: skip
SEEDS, FRAMES, STEPS = 7, 1000, 60
#: Standard deviations of what is planted and of noise.
PLANTED, NOISE = 0.3, 0.5


class Student(nn.Module):
    """A value per atom from the graph; sees elements, bonded atoms and two features per atom."""

    def __init__(self, molecule: Molecule, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        graph = molecular_graph(molecule)
        elements = graph.nodes[:, : len(ELEMENTS) + 1]
        self.graph = replace(graph, nodes=elements.double())
        static = elements.shape[1]
        self.network = GraphFilters(features=2, static=static, channels=8, layers=1, rank=2, max_hops=1)
        self.readout = nn.Linear(8, 1)
        self.double()

    def forward(self, h: Tensor) -> Tensor:
        """[batch, atoms, 2] -> [batch, atoms]."""
        return self.readout(self.network(h, self.graph))[..., 0]


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Sum of squared errors of every conformation."""
    return (model(batch[0]) - batch[1]).square().sum(1)


def conformations(molecule: Molecule, x: np.ndarray, *, seed: int) -> Tensor:
    """Random turns about all rotatable bonds, small noise elsewhere; every other one is a mirror image."""
    generator = torch.Generator().manual_seed(seed)
    internal = InternalCoordinates(molecule)
    y = internal(torch.as_tensor(x, dtype=torch.float64))[0].repeat(FRAMES, 1)
    y = y + 0.02 * y.abs().clamp(max=0.2) * torch.randn(y.shape, generator=generator, dtype=y.dtype)
    start = 0
    for block in internal.codomain.blocks:
        if block.name == "rotations":
            turns = torch.rand(FRAMES, block.size, generator=generator, dtype=y.dtype)
            y[:, start : start + block.size] = (2 * turns - 1) * torch.pi
        start += block.size
    frames = internal.inverse(y)[0]
    frames[::2] *= -1
    return frames


def planted(kind: str, molecule: Molecule, x: Tensor, h: Tensor, *, seed: int) -> Tensor:
    """What the network cannot see, [frames, atoms], by a formula of its own."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(2, generator=generator, dtype=x.dtype)
    shift = 2 * torch.pi * float(torch.rand((), generator=generator))
    hops = torch.from_numpy(molecule.hops.copy())
    found = torch.zeros(x.shape[:2], dtype=x.dtype)
    if kind.startswith("atoms"):
        away = (hops == int(kind.split()[1])).to(h)
        found = torch.tanh((h @ w) @ away / away.sum(1).clamp(min=1.0).sqrt())
    elif kind == "ring flag":
        ring = sorted({i for bond in ring_bonds(molecule) for i in bond})
        found[:, ring] = 0.5 + torch.tanh(h[:, ring] @ w)
    elif kind == "formal charge":
        found = torch.tensor(molecule.formal_charges).to(h) * (0.5 + torch.tanh(h @ w))
    elif kind == "distances":
        far = (hops >= 3) & torch.tensor([e != "H" for e in molecule.elements])
        found = (torch.sigmoid((0.45 - torch.cdist(x, x)) / 0.03) * far).sum(2)
    elif kind == "torsions":
        for a, b, c, d in rotatable_torsions(molecule).values():
            first, second = _normal(x, a, b, c), _normal(x, b, c, d)
            sine = (torch.linalg.cross(first, second) * (x[:, c] - x[:, b])).sum(-1)
            angle = torch.atan2(sine, (x[:, c] - x[:, b]).norm(dim=-1) * (first * second).sum(-1))
            for i in (b, c):
                found[:, i] += torch.exp(torch.cos(angle - shift))
        found = found - found.mean(0)  # which atoms have torsions at all is not what is withheld
    elif kind == "chirality":
        for i, a, b, c in chiral_centres(molecule).tolist():
            found[:, i] = torch.linalg.det(torch.stack([x[:, a], x[:, b], x[:, c]], 1) - x[:, i : i + 1]).sign()
    else:
        found = torch.cos(2.5 * (h @ (w / w.norm())) + shift)
    found = found - found.mean()
    return PLANTED * found / found.std()


def _normal(x: Tensor, a: int, b: int, c: int) -> Tensor:
    return torch.linalg.cross(x[:, b] - x[:, a], x[:, c] - x[:, b])


def case(kind: str, seed: int) -> dict[str, object]:
    """One plant."""
    start = time.process_time()
    molecule, x = structure(smiles=SMILES[seed % len(SMILES)])
    frames = conformations(molecule, x, seed=seed)
    generator = torch.Generator().manual_seed(100 + seed)
    h = torch.randn(FRAMES, molecule.n_atoms, 2, generator=generator, dtype=frames.dtype)
    model = Student(molecule, seed=seed)
    with torch.no_grad():
        y = model(h) + NOISE * torch.randn(h.shape[:2], generator=generator, dtype=h.dtype)
        y += planted(kind, molecule, frames, h, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        rows = torch.randint(0, FRAMES, (128,), generator=generator)
        optimizer.zero_grad()
        loss(model, (h[rows], y[rows])).mean().backward()
        optimizer.step()
    report = expressivity(
        model, loss, (h, y, frames), sources=lambda b: molecular_sources(molecule, b[2], features=b[0]), features=32,
        seed=seed,
    )  # fmt: skip
    named = list(dict.fromkeys(v.source for v in report.alarms))
    first = report.alarms[0] if named else None
    return {
        "planted": kind, "seed": seed, "named": named, "sources": len({n for v in report.verdicts for n in v.tests}),
        "site": first.site if first else "", "t": first.test.t if first else 0.0,
        "share": first.share if first else 0.0, "seconds": time.process_time() - start,
    }  # fmt: skip


def main() -> None:
    """All kinds of plants and all seeds that the file does not hold yet."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", type=float, default=np.inf, help="CPU time after which no further plant is begun")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = given.json is not None and given.json.exists()
    plants = json.loads(given.json.read_text(encoding="utf-8"))["plants"] if known else []
    done = {(p["planted"], p["seed"]) for p in plants}
    for kind, seed in ((k, s) for s in range(given.seeds) for k in KINDS if (k, s) not in done):
        if time.process_time() > given.seconds:
            break
        plants.append(case(kind, seed))
        print(plants[-1], flush=True)
    rows = [summary(kind, [p for p in plants if p["planted"] == kind]) for kind in KINDS]
    rows.append(summary("all", plants))
    title = f"{plants[0]['sources']} sources and the layer itself, {FRAMES} conformations of {len(SMILES)} molecules"
    show(title, rows, to=given.json)
    if given.json is not None:
        about = json.loads(given.json.read_text(encoding="utf-8"))
        given.json.write_text(json.dumps({**about, "plants": plants}, indent=1) + "\n", encoding="utf-8")


def summary(kind: str, plants: list[dict]) -> dict[str, object]:
    """How often what was planted is named first, and what is named instead."""
    first = [p["named"][0] if p["named"] else "nothing" for p in plants]
    right = sum(f == p["planted"] for f, p in zip(first, plants, strict=True))
    wrong = Counter(f for f, p in zip(first, plants, strict=True) if f != p["planted"])
    inside = binomtest(right, max(len(plants), 1)).proportion_ci()
    return {
        "withheld": kind, "plants": len(plants), "named first": right / max(len(plants), 1),
        "95 % interval": f"{inside.low:.2f} to {inside.high:.2f}",
        "named at all": sum(p["planted"] in p["named"] for p in plants) / max(len(plants), 1),
        "instead": ", ".join(f"{n} {c}" for n, c in wrong.items()) or "-",
        "median t": float(np.median([p["t"] for p in plants])) if plants else float("nan"),
    }  # fmt: skip


if __name__ == "__main__":
    main()
