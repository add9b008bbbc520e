"""Does it matter where units are added? Too small conditioners grow at diagnosed, random or all places.

Six blocks of coordinates, each moved by a spline coupling that sees the same context. A teacher of the same kind draws
the data: in the first case only two of its conditioners need hidden units, in the second all need as many, so that
growing everywhere alike is right and the best that the diagnosis could do is tie. The student starts with one hidden
unit per conditioner and grows twice; every way of growing adds the same number of units (all cost the same) in the
same rounds, and trains as long. Every seed is told.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace

import numpy as np
import torch
from measure import arguments, negative_log_likelihood, show
from torch import nn

from molifold import Block, Space
from molifold.flows import Flow
from molifold.flows.conditioners import MLPConditioner
from molifold.probes import Verdict, expressivity
from molifold.training.growth import grow_module, growable
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Chain

BLOCKS, WIDTH, CONTEXT = 6, 2, 6
SMALL, LARGE = 1, 24
#: Units that are added in each of two rounds, and how many conditioners need many units.
ROUND, ROUNDS, NEEDY = 12, 2, {"two conditioners need units": 2, "all need the same": BLOCKS}
FRAMES, TEST, STEPS = 6000, 10_000, (120, 120, 200)
#: Deviation of the spline parameters over the data.
STRENGTH = 0.25
WAYS = ("diagnosed", "random places", "uniform")


def flow(hidden: int, *, seed: int) -> Flow:
    """One coupling per block; the block is moved given the context."""
    torch.manual_seed(seed)
    space = Space((Block("x", CONTEXT + BLOCKS * WIDTH, "real"),))
    block = (torch.arange(space.size) - CONTEXT).div(WIDTH, rounding_mode="floor")
    steps = []
    for k in range(BLOCKS):
        where = {"mask": block == k, "given": block < 0}
        steps.append(Coupling(space, **where, conditioner=MLPConditioner(space, **where, hidden=(hidden,), bins=4)))
    return Flow(Chain(steps))


def teacher(needy: int, *, seed: int) -> Flow:
    """Random weights; a conditioner that needs nothing ignores the context."""
    made = flow(LARGE, seed=100 + seed)
    chosen = torch.randperm(BLOCKS, generator=torch.Generator().manual_seed(seed))[:needy].tolist()
    with torch.no_grad():
        for k, step in enumerate(made.transform.steps):
            step.conditioner.hidden[0].weight.mul_(3.0)
            nn.init.normal_(step.conditioner.head.weight, std=STRENGTH / LARGE**0.5 if k in chosen else 0.0)
    return made.eval()


def train(model: Flow, x: torch.Tensor, steps: int, *, seed: int) -> None:
    """Adam, with a step that falls to a tenth."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / steps))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (256,), generator=generator)
        optimizer.zero_grad()
        (-model.log_prob(x[rows]).mean()).backward()
        optimizer.step()
        schedule.step()


def diagnosed(model: Flow, x: torch.Tensor, *, seed: int) -> list[int]:
    """Add the units that the diagnosis proposes, the most saving layer first; what is left goes to the same layers.

    Without an alarm ``molifold grow`` adds nothing; here all layers share the units, so that sizes stay equal.
    """
    names = [f"transform.steps.{k}" for k in range(BLOCKS)]
    report = expressivity(
        model, lambda m, b: -m.log_prob(b[0]), (x[:3000],), blocks=names, features=0, chunk=1500, checks=BLOCKS,
        seed=seed,
    )  # fmt: skip
    told = [v for v in report.alarms if growable(model, v)]
    held_out = x[:3000][max((v.examples for v in report.verdicts), key=len)]
    places = [int(v.site.split(".")[2]) for v in told] or list(range(BLOCKS))
    added = [0] * BLOCKS
    for verdict, place in zip(told, places, strict=False):
        if room := ROUND - sum(added):
            losses = lambda m: -m.log_prob(held_out)  # noqa: E731
            added[place] += grow_module(model, _at_most(verdict, room), losses=losses).units
    for k in range(ROUND - sum(added)):
        place = places[k % len(places)]
        _widen(model, place)
        added[place] += 1
    return added


def _at_most(verdict: Verdict, units: int) -> Verdict:
    assert verdict.growth is not None
    found = verdict.growth.added
    kept = replace(found, fan_in=found.fan_in[:, :units], fan_out=found.fan_out[:units])
    return replace(verdict, growth=replace(verdict.growth, added=kept))


def _widen(model: Flow, place: int) -> None:
    """One more hidden unit with the usual random fan-in and no fan-out, so that the function stays."""
    conditioner = model.transform.steps[place].conditioner
    layer, head = conditioner.hidden[0], conditioner.head
    fresh = nn.Linear(layer.in_features, 1)
    layer.weight = nn.Parameter(torch.cat([layer.weight.detach(), fresh.weight.detach()]))
    layer.bias = nn.Parameter(torch.cat([layer.bias.detach(), fresh.bias.detach()]))
    head.weight = nn.Parameter(torch.cat([head.weight.detach(), head.weight.new_zeros(len(head.weight), 1)], 1))
    layer.out_features += 1
    head.in_features += 1


def grow(model: Flow, way: str, x: torch.Tensor, *, seed: int) -> list[int]:
    """One round of growth; how many units each conditioner got."""
    if way == "diagnosed":
        return diagnosed(model, x, seed=seed)
    # Random places in portions of 4: as concentrated as a diagnosis is, where it does not know.
    order = torch.randint(0, BLOCKS, (ROUND // 4,), generator=torch.Generator().manual_seed(seed)).repeat_interleave(4)
    places = order.tolist() if way == "random places" else [k % BLOCKS for k in range(ROUND)]
    torch.manual_seed(seed)
    for place in places:
        _widen(model, place)
    return [places.count(k) for k in range(BLOCKS)]


def case(name: str, seed: int) -> dict[str, object]:
    """One seed: the same student grown in three ways; nats above the teacher on test draws."""
    start = time.process_time()
    made = teacher(NEEDY[name], seed=seed)
    with torch.no_grad():
        x, _ = made.sample(FRAMES + TEST, generator=torch.Generator().manual_seed(seed))
    learn, test = x[:FRAMES], x[FRAMES:].numpy()
    best = negative_log_likelihood(made, test)
    first = flow(SMALL, seed=seed)
    train(first, learn, STEPS[0], seed=seed)
    before = float((negative_log_likelihood(first, test) - best).mean())
    row: dict[str, object] = {"case": name, "seed": seed, "before": before}
    for way in WAYS:
        model = copy.deepcopy(first)
        added = np.zeros(BLOCKS, int)
        for number in range(ROUNDS):
            added += np.array(grow(model, way, learn, seed=1000 * number + seed))
            train(model, learn, STEPS[1 + number], seed=seed + 1 + number)
        row[way] = float((negative_log_likelihood(model, test) - best).mean())
        row[f"{way}: parameters"] = sum(p.numel() for p in model.parameters())
        row[f"{way}: units"] = added.tolist()
    return {**row, "seconds": time.process_time() - start}


def main() -> None:
    """All seeds that the file does not hold yet."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=np.inf, help="CPU time after which no further seed is begun")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = given.json is not None and given.json.exists()
    runs = json.loads(given.json.read_text(encoding="utf-8"))["runs"] if known else []
    done = {(r["case"], r["seed"]) for r in runs}
    for name, seed in ((n, s) for n in NEEDY for s in range(given.seeds) if (n, s) not in done):
        if time.process_time() > given.seconds:
            break
        runs.append(case(name, seed))
        print(runs[-1], flush=True)
    rows = [row for name in NEEDY for row in summary(name, [r for r in runs if r["case"] == name])]
    title = f"Nats above the teacher after {ROUNDS} rounds of growth by {ROUND} units, {sum(STEPS)} steps"
    show(title, rows, to=given.json)
    if given.json is not None:
        about = json.loads(given.json.read_text(encoding="utf-8"))
        given.json.write_text(json.dumps({**about, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def summary(name: str, runs: list[dict]) -> list[dict[str, object]]:
    """Mean over seeds with its standard error, and how often the diagnosed growth ends better."""
    rows = []
    for way in WAYS if runs else ():
        values, ours = (np.array([r[key] for r in runs]) for key in (way, "diagnosed"))
        gap, n = values - ours, len(runs)
        rows.append(
            {"case": name, "growth": way, "seeds": n, "parameters": runs[0][f"{way}: parameters"],
             "nats above the teacher": f"{values.mean():.3f} +- {values.std(ddof=1) / n**0.5:.3f}" if n > 1 else "-",
             "diagnosed better in": "-" if way == "diagnosed" else f"{int((gap > 0).sum())} of {n}",
             "by": "-" if way == "diagnosed" or n < 2 else f"{gap.mean():.3f} +- {gap.std(ddof=1) / n**0.5:.3f}"}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
