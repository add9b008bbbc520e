"""Which layer is too narrow? Planted in graph-conditioned spline flows of alanine dipeptide, one after the other.

A teacher flow with random weights draws the data, so that every layer of a student with its weights is exactly
optimal. In the student one hidden layer of one conditioner is cut down to a single unit, and the student is trained on.
Every plant is told, none is selected; ``--first`` and ``--plants`` cut the work into pieces that append to the result.
"""

from __future__ import annotations

import copy
import json
import time

import numpy as np
import torch
from measure import arguments, show
from torch import nn

from molifold.data import example
from molifold.ensemble import Ensemble
from molifold.flows import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.probes import expressivity
from molifold.probes.expressivity.score import bottleneck
from molifold.probes.expressivity.sites import Sites
from molifold.probes.expressivity.statistics import Moments
from molifold.transforms.transform import Transform

#: Couplings of either kind, and graph layers per conditioner: 4 x 2 places for a plant, among some hundred matrices.
SIZE = {"couplings": 2, "rotation_couplings": 2, "channels": 12, "layers": 2, "rank": 2, "bins": 6}
PLACES = 8
FRAMES, STEPS = 2000, 20


def teacher(seed: int) -> tuple[Flow, torch.Tensor]:
    """A flow in which every conditioner matters, and draws of it."""
    system = example("alanine-dipeptide")
    rng = np.random.default_rng(0)
    x = system.x + 0.01 * rng.normal(size=(2000, *system.x.shape[1:]))
    torch.manual_seed(seed)
    flow = graph_spline_coupling(system.molecule, Ensemble(system.molecule, x), **SIZE).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in flow.named_parameters():
            if ".heads." in name:
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
            elif name.endswith((".update.weight", ".mix.weight")):
                p.mul_(2.5)
        x, _ = flow.sample(3 * FRAMES, generator=generator)
    return flow.eval(), x[x.isfinite().all(2).all(1)].detach()


def planted(flow: Flow, place: int) -> tuple[Flow, str]:
    """A copy with one unit left in the hidden layer ``place``, and the matrix that reads it."""
    student = copy.deepcopy(flow)
    layers = [(n, m) for n, m in student.named_modules() if n.endswith((".layers.0", ".layers.1"))]
    name, layer = layers[place]
    layer.update.weight = nn.Parameter(layer.update.weight.detach()[:, :1].clone())
    layer.update.bias.weight = nn.Parameter(layer.update.bias.weight.detach()[:1].clone())
    layer.update.bias.bias = nn.Parameter(layer.update.bias.bias.detach()[:1].clone())
    layer.mix.weight = nn.Parameter(layer.mix.weight.detach()[:, :, :1].clone())
    return student, f"{name}.mix.weight"


def loss(flow: nn.Module, batch: tuple[torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of every conformation."""
    return -flow.log_prob(batch[0])


def train(flow: Flow, x: torch.Tensor) -> None:
    """A short training of everything, so that the rest adapts to the plant."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-4)
    for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: STEPS * 128].split(128):
        optimizer.zero_grad()
        loss(flow, (x[rows],)).mean().backward()
        optimizer.step()


def rivals(flow: Flow, x: torch.Tensor) -> dict[str, dict[str, float]]:
    """What else could point at a layer: raw bottleneck, rank of its input (low is suspicious), gradient."""
    sites = Sites(flow, loss, (x[:24],), features=0)
    raw: dict[str, float] = {}
    rank: dict[str, float] = {}
    for rows in sites.rows((x[:300],))[1]:
        moments = Moments()
        moments.add(rows.b.flatten(0, 1), rows.v.flatten(0, 1), {}, examples=300)
        raw[rows.site] = bottleneck(moments) * 300 / max(moments.vv, 1e-300)
        values = torch.linalg.eigvalsh(moments.bb).clamp(min=0).sqrt()
        share = values / values.sum()
        rank[rows.site] = -float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum())) / len(values)
    flow.zero_grad()
    loss(flow, (x[:300],)).mean().backward()
    gradient = {n: float(p.grad.norm()) for n, p in flow.named_parameters() if n in raw and p.grad is not None}
    return {"raw bottleneck": raw, "low rank": rank, "gradient norm": gradient}


def place_of(site: str, scores: dict[str, float]) -> int:
    """1 if ``site`` has the largest score."""
    return 1 + sum(v > scores.get(site, -np.inf) for n, v in scores.items() if n != site)


def case(seed: int, place: int) -> dict[str, object]:
    """One plant."""
    start = time.process_time()
    flow, x = teacher(seed)
    student, site = planted(flow, place)
    train(student, x[FRAMES:])
    blocks = [name for name, m in student.named_modules() if isinstance(m, Transform)]
    report = expressivity(student, loss, (x[:FRAMES],), blocks=blocks, features=0, chunk=500, checks=3)
    found = {v.site: max(v.cut, 1e-9 * v.share) if v.kind == "under-powered" else 0.0 for v in report.verdicts}
    others = max((v for n, v in found.items() if n != site), default=0.0)
    row: dict[str, object] = {"seed": seed, "place": place, "ours": place_of(site, found) if found[site] else 99}
    row |= {name: place_of(site, scores) for name, scores in rivals(student, x[:FRAMES]).items()}
    row |= {"contrast": found[site] / max(others, 1e-6), "saved": found[site], "sites": len(found)}
    return {**row, "seconds": time.process_time() - start}


def main() -> None:
    """All plants asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first plant; 8 per seed")
    parser.add_argument("--plants", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=570, help="stop before this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    known = given.json is not None and given.json.exists()
    plants = json.loads(given.json.read_text(encoding="utf-8"))["plants"] if known else []
    for number in range(given.first, given.first + given.plants):
        if plants and time.monotonic() - began + 1.3 * max(p["seconds"] for p in plants[-3:]) > given.seconds:
            break
        plants.append(case(number // PLACES, number % PLACES))
        print(plants[-1], flush=True)
        rows = summary(plants)
        show(f"{len(plants)} plants among {plants[0]['sites']} matrices", rows, to=given.json)
        if given.json is not None:
            about = json.loads(given.json.read_text(encoding="utf-8"))
            given.json.write_text(json.dumps({**about, "plants": plants}, indent=1) + "\n", encoding="utf-8")


def summary(plants: list[dict]) -> list[dict[str, object]]:
    """How often each way names the planted layer first, and among the first three."""
    rows = []
    for name in ("ours", "raw bottleneck", "low rank", "gradient norm"):
        places = np.array([p[name] for p in plants])
        contrast = float(np.median([p["contrast"] for p in plants])) if name == "ours" else float("nan")
        rows.append(
            {"method": name, "plants": len(plants), "first": float((places == 1).mean()),
             "first three": float((places <= 3).mean()), "median contrast": contrast}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
