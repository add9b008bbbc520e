"""Which layer is too narrow? Planted in graph-conditioned spline flows of alanine dipeptide, one after the other.

A teacher flow with random weights draws the data, so that every layer of a student with its weights is exactly
optimal. In the student one hidden layer of one conditioner is cut down to one or two units, and that conditioner is
trained on, so that its other layers make up for what they can. Every plant is told, none is selected; a run that is
interrupted goes on where it was.

The contrast to the next of the 24 layers is told in three ways: of the share of what a layer leaves that new units
explain on held-out frames; of the squared evidence (t^2 / 2n is the decrease of the loss that the test promises); and
of that where the scores of the others are first cleared of the named layer's (what is left of them once it is mended).
"""

from __future__ import annotations

import copy
import json
import time

import numpy as np
import torch
from measure import arguments, show
from scipy.stats import binomtest
from torch import nn

from molifold.data import example
from molifold.ensemble import Ensemble
from molifold.flows import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.probes import expressivity
from molifold.probes.expressivity.score import bottleneck
from molifold.probes.expressivity.sites import UPSTREAM, Sites
from molifold.probes.expressivity.statistics import Moments
from molifold.probes.expressivity.verdict import Verdict
from molifold.transforms.transform import Transform

#: Couplings of either kind, and graph layers per conditioner: 12 x 2 hidden layers for a plant, among 300 matrices.
SIZE = {"couplings": 8, "rotation_couplings": 4, "channels": 8, "layers": 2, "rank": 1, "bins": 4}
PLACES, WIDTHS = 24, (1, 2)
FRAMES, STEPS, RATE = 8000, 250, 3e-3
#: Seeds that the method was developed on.
KNOWN = (0, 1)
#: Filters of messages are this much larger than at the start of a training, so that layers differ in what they hear.
FILTERS = 4.0
#: Hidden units work where they bend. Heads are scaled until a plant in their conditioner costs about so many nats,
#: before the student is trained on: what goes wrong in an early coupling grows in those that follow.
HIDDEN, COST = 4.0, 4.0


def teacher(seed: int) -> tuple[Flow, torch.Tensor]:
    """A flow with random weights in which every layer of every conditioner matters, and draws of it."""
    system = example("alanine-dipeptide")
    rng = np.random.default_rng(0)
    x = system.x + 0.002 * rng.normal(size=(2000, *system.x.shape[1:]))
    torch.manual_seed(seed)
    flow = graph_spline_coupling(system.molecule, Ensemble(system.molecule, x), **SIZE).double().eval()
    generator = torch.Generator().manual_seed(seed)
    couplings = list(flow.transform.steps)[2:]
    with torch.no_grad():
        latents = flow.base.sample(200, generator=generator)
        for coupling in couplings:
            conditioner = coupling.conditioner
            features = conditioner.features(coupling.known(latents))
            for name, p in conditioner.named_parameters():
                if ".filters.weight" in name:
                    p.mul_(FILTERS)
                elif ".update.weight" in name:
                    p.mul_(HIDDEN)
            first = _around(conditioner, conditioner.network.layers[0], features)[0]
            for layer in conditioner.network.layers:  # adds as much to the features as there was at first
                before, after = _around(conditioner, layer, features)
                for p in (layer.mix.weight, *layer.mix.bias.parameters()):
                    p.mul_(first.std() / (after - before).std())
            size = conditioner.network(features, conditioner.graph).std()
            for p in conditioner.heads.values():
                p.copy_(0.1 / (size * p.shape[-1] ** 0.5) * torch.randn(p.shape, generator=generator).double())
        for number in reversed(range(len(couplings))):
            for _ in range(2):
                x, _ = flow.sample(300, generator=generator)
                costs = [_cost(flow, x, place) for place in (2 * number, 2 * number + 1)]
                for p in couplings[number].conditioner.heads.values():
                    p.mul_(float(np.clip((COST / max(np.mean(costs), 1e-6)) ** 0.5, 0.2, 5.0)))
        x, _ = flow.sample(2 * FRAMES, generator=generator)
    return flow, x.detach()


def _cost(flow: Flow, x: torch.Tensor, place: int) -> float:
    """Nats that a plant costs if nothing else changes."""
    return float((loss(planted(flow, place, 1)[0], (x,)) - loss(flow, (x,))).mean())


def _around(conditioner: nn.Module, layer: nn.Module, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into a layer and what comes out."""
    seen = []
    handle = layer.register_forward_hook(lambda _, given, out: seen.extend((given[0], out)))
    conditioner.network(features, conditioner.graph)
    handle.remove()
    return seen[0], seen[1]


def layers(flow: Flow) -> dict[str, nn.Module]:
    """The layers whose hidden units are the places for a plant, by the matrix that reads these."""
    found = {n: m for n, m in flow.named_modules() if n.endswith((".layers.0", ".layers.1"))}
    return {f"{name}.mix.weight": layer for name, layer in found.items()}


def planted(flow: Flow, place: int, width: int) -> tuple[Flow, str]:
    """A copy with ``width`` units left in the hidden layer ``place``, and the matrix that reads it."""
    student = copy.deepcopy(flow)
    site, layer = list(layers(student).items())[place]
    layer.update.weight = nn.Parameter(layer.update.weight.detach()[:, :width].clone())
    layer.update.bias.weight = nn.Parameter(layer.update.bias.weight.detach()[:width].clone())
    layer.update.bias.bias = nn.Parameter(layer.update.bias.bias.detach()[:width].clone())
    layer.mix.weight = nn.Parameter(layer.mix.weight.detach()[:, :, :width].clone())
    return student, site


def loss(flow: nn.Module, batch: tuple[torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of every conformation."""
    return -flow.log_prob(batch[0])


def train(flow: Flow, site: str, x: torch.Tensor) -> None:
    """A short training of the conditioner that holds the plant, so that its other layers make up for what they can."""
    parameters = list(flow.get_submodule(site.split(".network")[0]).parameters())
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS + 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(0, len(x), (128,), generator=generator)
        gradients = torch.autograd.grad(loss(flow, (x[rows],)).mean(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()


def rivals(flow: Flow, x: torch.Tensor) -> dict[str, dict[str, float]]:
    """What else could point at a layer: raw bottleneck, rank of its input (low is suspicious), gradient."""
    sites = Sites(flow, loss, (x[:24],), features=0)
    raw: dict[str, float] = {}
    rank: dict[str, float] = {}
    for rows in sites.rows((x[:200],))[1]:
        moments = Moments()
        moments.add(rows.b.flatten(0, 1), rows.v.flatten(0, 1), {}, examples=200)
        raw[rows.site] = bottleneck(moments) * 200 / max(moments.vv, 1e-300)
        values = torch.linalg.eigvalsh(moments.bb).clamp(min=0).sqrt()
        share = values / values.sum()
        rank[rows.site] = -float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum())) / len(values)
    flow.zero_grad()
    loss(flow, (x[:200],)).mean().backward()
    gradient = {n: float(p.grad.norm()) for n, p in flow.named_parameters() if n in raw and p.grad is not None}
    return {"raw bottleneck": raw, "low rank": rank, "gradient norm": gradient}


def rank_of(site: str, scores: dict[str, float], among: set[str]) -> int:
    """1 if ``site`` has the largest score; ties count against it, and what is not told at all comes last."""
    if site not in scores:
        return len(among)
    return 1 + sum(v >= scores[site] for n, v in scores.items() if n != site and n in among)


def case(flow: Flow, x: torch.Tensor, *, seed: int, place: int, width: int) -> dict[str, object]:
    """One plant."""
    start = time.process_time()
    student, site = planted(flow, place, width)
    train(student, site, x[FRAMES:])
    x = x[:FRAMES]
    with torch.no_grad():
        lost = float((loss(student, (x,)) - loss(flow, (x,))).mean())
    blocks = [name for name, m in student.named_modules() if isinstance(m, Transform)]
    report = expressivity(student, loss, (x,), blocks=blocks, features=0, chunk=400, level=0.05, checks=4)
    order = [v.site for v in report.verdicts if v.source]
    scores = {"ours": {name: -float(rank) for rank, name in enumerate(order)}, **rivals(student, x)}
    places, everything = set(layers(student)), {v.site for v in report.verdicts}
    row: dict[str, object] = {
        "seed": seed,
        "place": place,
        "width": width,
        "nats lost": lost,
        "matrices": len(everything),
    }
    for name, values in scores.items():
        row |= {name: rank_of(site, values, places), f"{name}, all": rank_of(site, values, everything)}
    found = [report[name] for name in places]
    row |= {
        f"contrast of {name}": c for name, c in contrasts(report[site], [v for v in found if v.site != site]).items()
    }
    row |= {"kind": report[site].kind, "t": report[site].evidence, "saved": report[site].cut}
    row |= {"first": report.verdicts[0].site, "alarms": len(report.alarms)}
    return {**row, "seconds": time.process_time() - start}


def contrasts(planted: Verdict, others: list[Verdict]) -> dict[str, float]:
    """How far a layer stands above the next one; noise of one standard error is the least that the next one has."""
    own, rest = planted.tests[UPSTREAM], [v.tests[UPSTREAM] for v in others]
    most = max(own.t, own.bounded, 0.0)
    cleared = [v.cleared(planted) for v in others if v.source]
    return {
        "shares": own.share / max(1 / own.groups, *(s.share for s in rest)),
        "evidence": most**2 / max(1.0, *(max(s.t, s.bounded) for s in rest)) ** 2,
        "evidence, cleared": most**2 / max([1.0, *cleared]) ** 2,
    }


def main() -> None:
    """All plants that the file does not hold yet."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=np.inf, help="CPU time after which no further plant is begun")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--places", type=int, nargs="+", default=list(range(PLACES)))
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = given.json is not None and given.json.exists()
    plants = json.loads(given.json.read_text(encoding="utf-8"))["plants"] if known else []
    done = {(p["seed"], p["place"], p["width"]) for p in plants}
    for seed in given.seeds:
        left = [(p, w) for w in given.widths for p in given.places if (seed, p, w) not in done]
        flow, x = teacher(seed) if left else (None, None)
        for place, width in left:
            if time.process_time() > given.seconds:
                return
            plants.append(case(flow, x, seed=seed, place=place, width=width))
            print(plants[-1], flush=True)
            if given.json is not None:
                show(f"{len(plants)} plants", summary(plants), to=given.json)
                about = json.loads(given.json.read_text(encoding="utf-8"))
                given.json.write_text(json.dumps({**about, "plants": plants}, indent=1) + "\n", encoding="utf-8")


def summary(plants: list[dict]) -> list[dict[str, object]]:
    """How often each way names the planted layer first, and among the first three; intervals are Clopper-Pearson."""
    known, later = ([p for p in plants if (p["seed"] in KNOWN) == which] for which in (True, False))
    plants = known or later
    stiff = [p for p in plants if p["place"] < SIZE["layers"] * SIZE["couplings"]]
    turning = [p for p in plants if p not in stiff]
    cases = [("ours", "", plants), ("ours", ", stiff couplings", stiff), ("ours", ", torsion couplings", turning)]
    cases += [(name, "", plants) for name in ("raw bottleneck", "low rank", "gradient norm")]
    cases += [(name, ", another seed", later) for name in ("ours", "raw bottleneck") if known]
    rows = []
    for name, which, some in cases:
        if not some:
            continue
        ranks, everything = (np.array([p[key] for p in some]) for key in (name, f"{name}, all"))
        inside = binomtest(int((ranks == 1).sum()), len(ranks)).proportion_ci()
        row: dict[str, object] = {
            "method": name + which, "plants": len(some), "first of 24 layers": float((ranks == 1).mean()),
            "95 % interval": f"{inside.low:.3f} to {inside.high:.3f}", "first three": float((ranks <= 3).mean()),
            f"first of all {plants[0]['matrices']} matrices": float((everything == 1).mean()),
        }  # fmt: skip
        for what in ("shares", "evidence", "evidence, cleared"):
            middle = np.median([p[f"contrast of {what}"] for p in some])
            row[f"median contrast of {what}"] = f"{middle:.3g}" if name == "ours" else "-"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
