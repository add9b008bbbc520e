"""Does it pay to follow the diagnosis? Alanine dipeptide with too narrow conditioners, grown as advised or not.

    molifold simulate alanine-dipeptide --to train.ens --minutes 2.5 --seed 1
    molifold simulate alanine-dipeptide --to test.ens --minutes 1.5 --seed 2
    python benchmarks/expressivity_advice.py train.ens test.ens --json benchmarks/results/expressivity_advice.json

The shipped recipe, but with fully connected conditioners of a single hidden unit. It is trained, diagnosed and grown in
rounds, as ``molifold grow`` does it. Against that: as many parameters in units at random places, or in units of all
conditioners alike; the narrow flow trained on; and a flow of the final shape trained from nothing. All make the same
number of steps on the same frames. Effective sample sizes are of draws weighted by the force field, likelihoods of
frames of another simulation. Every seed is told.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from measure import arguments, negative_log_likelihood, show
from torch import nn

from molifold.analysis import effective_sample_size, pareto_k
from molifold.ensemble import Ensemble
from molifold.flows import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.molecule import Molecule
from molifold.runs import Run
from molifold.sampling import draw
from molifold.training import Recipe, load_flow, train_recipe
from molifold.training.growth import Growth, extend, grow
from molifold.training.pipeline import make_energy, make_system
from molifold.transforms.coupling import Coupling

HERE = ("expressivity_advice",)
#: Couplings of the shipped recipe, and the widest conditioner that may grow out of a narrow one.
COUPLINGS, WIDEST = 12, 64
#: Steps before the first growth and after each; layers that grow at a time, at most; frames that are diagnosed.
STEPS, FURTHER, ROUNDS, PLACES, FRAMES = 600, 300, 2, 12, 10_000
#: Units that a random place gets at once.
PORTION = 4
DRAWS, TEST = 20_000, 4000
WAYS = (
    "grown as diagnosed", "grown at random places", "grown everywhere alike", "narrow, trained on",
    "final shape, from nothing",
)  # fmt: skip


def conditioners(flow: nn.Module) -> dict[str, nn.Module]:
    """All conditioners by name."""
    return {f"{n}.conditioner": m.conditioner for n, m in flow.named_modules() if isinstance(m, Coupling)}


def widths(flow: nn.Module) -> list[int]:
    """Hidden units of every conditioner."""
    return [len(c.hidden[0].weight) for c in conditioners(flow).values()]


def size(flow: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in flow.parameters())


def narrow_flow(molecule: Molecule, reference: Ensemble, *, hidden: list[int]) -> Flow:
    """The flow of the shipped recipe with one hidden layer of so many units in every conditioner."""
    flow = graph_spline_coupling(molecule, reference, network="mlp", hidden=(WIDEST,))
    for conditioner, width in zip(conditioners(flow).values(), hidden, strict=True):
        layer, head = conditioner.hidden[0], conditioner.head
        layer.weight, layer.bias = (nn.Parameter(p.detach()[:width].clone()) for p in (layer.weight, layer.bias))
        head.weight = nn.Parameter(head.weight.detach()[:, :width].clone())
        layer.out_features = head.in_features = width
    return flow


def recipe(data: Path, hidden: list[int], *, steps: int, seed: int) -> Recipe:
    """The shipped recipe but for the size, a budget of few steps (and an average as short), and one thread."""
    return Recipe(
        {
            "system": {"example": "alanine-dipeptide", "temperature": 300.0},
            "data": {"source": str(data.resolve())},
            "flow": {"use": "expressivity_advice:narrow_flow", "hidden": hidden},
            "training": {
                "losses": [{"use": "molifold.losses:nll"}, {"use": "molifold.losses:log_dispersion"}],
                "steps": steps, "batch_size": 256, "learning_rate": 2e-3, "seed": seed, "threads": 1,
                "accelerator": "cpu", "evaluate": 0, "probe_every": 10 * steps, "ema": 0.99,
            },
        }
    )  # fmt: skip


def fresh(flow: nn.Module, name: str, units: int, generator: torch.Generator) -> Growth:
    """Units as a training begins with, but without fan-out, so that the function stays."""
    inputs = conditioners(flow)[name].hidden[0].weight.shape[1]
    outputs, hidden = conditioners(flow)[name].head.weight.shape
    fan_in = (2 * torch.rand(inputs + 1, units, generator=generator) - 1) * inputs**-0.5
    fan_out, shift = torch.zeros(units, outputs), torch.zeros(hidden + 1, outputs)
    return Growth(f"{name}.head.weight", f"{name}.hidden.0.weight", units, fan_in, fan_out, shift)


def elsewhere(flow: nn.Module, way: str, budget: int, *, seed: int) -> list[Growth]:
    """Units of ``budget`` parameters together, in portions at random conditioners, or in all conditioners alike."""
    generator = torch.Generator().manual_seed(seed)
    price = {n: c.hidden[0].weight.shape[1] + 1 + len(c.head.weight) for n, c in conditioners(flow).items()}
    names, added = list(price), dict.fromkeys(price, 0)
    while budget >= min(price.values()):
        order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
        random = way == "grown at random places"
        for name in order[:1] if random else order:
            units = min(PORTION if random else 1, budget // price[name])
            added[name] += units
            budget -= units * price[name]
    return [fresh(flow, name, units, generator) for name, units in added.items() if units]


def judged(path: Path, made: Recipe, test: np.ndarray, *, seed: int) -> dict[str, object]:
    """Effective sample size with its error, k-hat, likelihood of test frames with its error, and parameters."""
    flow = load_flow(path, trust=HERE)
    energy, molecule = make_energy(made, make_system(made)), Run.open(path).molecule
    assert molecule is not None
    log_w = draw(flow, DRAWS, molecule=molecule, energy=energy, seed=seed).log_w
    ess, nll = effective_sample_size(log_w), negative_log_likelihood(flow, test)
    return {
        "ess": ess.fraction, "ess error": ess.error, "k-hat": pareto_k(log_w).k, "nll": float(nll.mean()),
        "parameters": size(flow), "widths": widths(flow),
        "steps": Run.open(path).step,
    }  # fmt: skip


def case(data: Path, test: np.ndarray, *, seed: int, folder: Path) -> dict[str, object]:
    """One seed: the narrow flow, and what became of it in every way."""
    start = time.process_time()
    made = recipe(data, [1] * COUPLINGS, steps=STEPS, seed=seed)
    train_recipe(made, to=folder / "narrow", probes=())
    found: dict[str, object] = {"seed": seed, "narrow": judged(folder / "narrow", made, test, seed=seed)}
    paths, told = dict.fromkeys(WAYS[:4], folder / "narrow"), [[] for _ in range(ROUNDS)]
    for number in range(ROUNDS):
        before, budget = load_flow(paths[WAYS[0]], trust=HERE), 0
        for way in WAYS[:4]:
            path, to = paths[way], folder / f"{way}-{number}"
            common = {"to": to, "more": FURTHER / (STEPS + number * FURTHER), "trust": HERE}
            if way == WAYS[0]:
                grow(path, places=PLACES, frames=FRAMES, anyway=True, tell=told[number].append, **common)
                budget = size(load_flow(to, trust=HERE)) - size(before)
            elif way == WAYS[3]:
                extend(path, **common)
            else:
                growths = elsewhere(load_flow(path, trust=HERE), way, budget, seed=100 * number + seed)
                extend(path, growths, **common)
            paths[way] = to
    final = widths(load_flow(paths[WAYS[0]], trust=HERE))
    paths[WAYS[4]] = folder / WAYS[4]
    train_recipe(recipe(data, final, steps=STEPS + ROUNDS * FURTHER, seed=seed), to=paths[WAYS[4]], probes=())
    for way, path in paths.items():
        found[way] = judged(path, made, test, seed=seed)
    return {**found, "told": told, "seconds": time.process_time() - start}


def main() -> None:
    """All seeds that the file does not hold yet."""
    parser = arguments(__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    frames = Ensemble.load(given.test)
    cold = np.flatnonzero(np.isclose(frames.columns["temperature"], 300.0))
    test = np.array(frames.x[cold[np.linspace(0, len(cold) - 1, TEST).astype(int)]])
    known = given.json is not None and given.json.exists()
    runs = json.loads(given.json.read_text(encoding="utf-8"))["runs"] if known else []
    for seed in set(range(given.seeds)) - {r["seed"] for r in runs}:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(case(given.train, test, seed=seed, folder=Path(folder)))
        print(json.dumps(runs[-1], indent=1), flush=True)
        steps = STEPS + ROUNDS * FURTHER
        title = f"{steps} steps of 256 frames, {DRAWS} draws, {len(runs)} seeds, standard errors over seeds"
        show(title, [row(way, runs) for way in ("narrow", *WAYS)], to=given.json)
        if given.json is not None:
            about = json.loads(given.json.read_text(encoding="utf-8"))
            given.json.write_text(json.dumps({**about, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def row(way: str, runs: list[Mapping]) -> dict[str, object]:
    """Mean over seeds and its standard error, and how often growing as diagnosed ends better."""

    def column(key: str) -> np.ndarray:
        return np.array([r[way][key] for r in runs])

    def mean(values: np.ndarray, digits: int) -> str:
        error = f" +- {values.std(ddof=1) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{error}"

    ours = {key: np.array([r[WAYS[0]][key] for r in runs]) for key in ("ess", "nll")}
    compared = way != WAYS[0]
    return {
        "way": f"{way} ({STEPS} steps)" if way == "narrow" else way,
        "parameters": f"{column('parameters').mean():.0f}",
        "ESS (%)": mean(100 * column("ess"), 1),
        "of each seed": ", ".join(f"{100 * r[way]['ess']:.1f} +- {100 * r[way]['ess error']:.1f}" for r in runs),
        "k-hat": ", ".join(f"{r[way]['k-hat']:.2f}" for r in runs),
        "held-out NLL": mean(column("nll"), 3),
        "diagnosed better (ESS, NLL)": (
            f"{int((ours['ess'] > column('ess')).sum())} and {int((ours['nll'] < column('nll')).sum())} of {len(runs)}"
            if compared else "-"
        ),
    }  # fmt: skip


if __name__ == "__main__":
    main()
