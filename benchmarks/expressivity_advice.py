"""Does it pay to follow the diagnosis? Alanine dipeptide with too narrow conditioners, grown as advised or not.

    molifold simulate alanine-dipeptide --to train.ens --minutes 2.5 --seed 1
    molifold simulate alanine-dipeptide --to test.ens --minutes 1.5 --seed 2
    python benchmarks/expressivity_advice.py train.ens test.ens --json benchmarks/results/expressivity_advice.json

The shipped recipe with a smaller flow, all of whose hidden layers have one unit. It is trained, diagnosed and grown in
rounds, as ``molifold grow`` does it. Against that: as many units at random places in portions of the same size, or
spread over all hidden layers alike; the narrow flow trained on; and a flow of the final shape trained from nothing. All
make the same number of steps on the same frames. Effective sample sizes are of draws weighted by the force field,
likelihoods of frames of another simulation. Every seed is told.
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

SIZE = {"couplings": 4, "rotation_couplings": 4, "channels": 16}
HERE = ("expressivity_advice",)
#: Steps before the first growth and after each, and layers that grow at a time.
STEPS, FURTHER, ROUNDS, PLACES = 600, 300, 2, 8
DRAWS, TEST = 20_000, 4000
WAYS = ("grown as diagnosed", "grown at random places", "grown everywhere alike", "narrow, trained on", "from nothing")


def layers(flow: nn.Module) -> dict[str, nn.Module]:
    """The layers with hidden units, by name: two for every conditioner."""
    return {n: m for n, m in flow.named_modules() if n.endswith(tuple(f".network.layers.{k}" for k in range(9)))}


def widths(flow: nn.Module) -> dict[str, int]:
    """Hidden units of every layer."""
    return {name: layer.update.weight.shape[1] for name, layer in layers(flow).items()}


def narrow_flow(
    molecule: Molecule,
    reference: Ensemble,
    *,
    couplings: int,
    rotation_couplings: int,
    channels: int,
    hidden: list[int],
) -> Flow:
    """The flow of the shipped recipe, its hidden layers cut down to so many units each."""
    flow = graph_spline_coupling(
        molecule, reference, couplings=couplings, rotation_couplings=rotation_couplings, channels=channels
    )
    for layer, width in zip(layers(flow).values(), hidden, strict=True):
        update, mix = layer.update, layer.mix
        update.weight = nn.Parameter(update.weight.detach()[:, :width].clone())
        update.bias.weight = nn.Parameter(update.bias.weight.detach()[:width].clone())
        update.bias.bias = nn.Parameter(update.bias.bias.detach()[:width].clone())
        update.bias.out_features = width
        # As wide a spread as a layer of so few inputs begins with.
        mix.weight = nn.Parameter(mix.weight.detach()[:, :, :width].clone() * (mix.weight.shape[-1] / width) ** 0.5)
    return flow


def recipe(data: Path, hidden: list[int], *, steps: int, seed: int) -> Recipe:
    """The shipped recipe but for the size, the budget in steps, and one thread."""
    return Recipe(
        {
            "system": {"example": "alanine-dipeptide", "temperature": 300.0},
            "data": {"source": str(data.resolve())},
            "flow": {"use": "expressivity_advice:narrow_flow", **SIZE, "hidden": hidden},
            "training": {
                "losses": [{"use": "molifold.losses:nll"}, {"use": "molifold.losses:log_dispersion"}],
                "steps": steps, "batch_size": 256, "learning_rate": 2e-3, "seed": seed, "threads": 1,
                "accelerator": "cpu", "evaluate": 0, "probe_every": 10 * steps,
            },
        }
    )  # fmt: skip


def fresh(flow: nn.Module, name: str, units: int, generator: torch.Generator) -> Growth:
    """Units as a training begins with, but without fan-out, so that the function stays."""
    update, mix = layers(flow)[name].update, layers(flow)[name].mix
    matrices, _, inputs = update.weight.shape
    fan_in = (2 * torch.rand(matrices, inputs + 1, units, generator=generator) - 1) * inputs**-0.5
    fan_in[1:, -1] = 0  # one constant
    rows = mix.weight.shape[0] * (mix.weight.shape[2] + 1)
    out = mix.weight.shape[1]
    return Growth(
        f"{name}.mix.weight", f"{name}.update.weight", units, fan_in.flatten(0, 1), torch.zeros(units, out),
        torch.zeros(rows, out),
    )  # fmt: skip


def elsewhere(flow: nn.Module, way: str, portions: list[int], *, seed: int) -> list[Growth]:
    """As many units as the diagnosis added, at random layers in the same portions, or at all layers alike."""
    names, generator = list(layers(flow)), torch.Generator().manual_seed(seed)
    if way == "grown at random places":
        chosen = torch.randperm(len(names), generator=generator)[: len(portions)].tolist()
        added = dict(zip((names[i] for i in chosen), portions, strict=True))
    else:
        share, rest = divmod(sum(portions), len(names))
        first = torch.randperm(len(names), generator=generator)[:rest].tolist()
        added = {name: share + (i in first) for i, name in enumerate(names)}
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
        "parameters": sum(p.numel() for p in flow.parameters()), "widths": list(widths(flow).values()),
        "steps": Run.open(path).step,
    }  # fmt: skip


def case(data: Path, test: np.ndarray, *, seed: int, folder: Path) -> dict[str, object]:
    """One seed: the narrow flow, and what became of it in every way."""
    start, count = time.process_time(), 2 * (SIZE["couplings"] + SIZE["rotation_couplings"])
    made = recipe(data, [1] * count, steps=STEPS, seed=seed)
    train_recipe(made, to=folder / "narrow", probes=())
    found: dict[str, object] = {"seed": seed, "narrow": judged(folder / "narrow", made, test, seed=seed)}
    paths = dict.fromkeys(WAYS[:4], folder / "narrow")
    told: list[list[str]] = []
    for number in range(ROUNDS):
        more = FURTHER / (STEPS + number * FURTHER)
        before, told = widths(load_flow(paths[WAYS[0]], trust=HERE)), [*told, []]
        for way in WAYS[:4]:
            path, to = paths[way], folder / f"{way}-{number}"
            if way == WAYS[0]:
                grow(path, to=to, more=more, places=PLACES, anyway=True, trust=HERE, tell=told[-1].append)
                after = widths(load_flow(to, trust=HERE))
                portions = [after[n] - before[n] for n in after if after[n] > before[n]]
            else:
                growths = [] if way == WAYS[3] else elsewhere(
                    load_flow(path, trust=HERE), way, portions, seed=100 * number + seed
                )  # fmt: skip
                extend(path, growths, to=to, more=more, trust=HERE)
            paths[way] = to
    final = list(widths(load_flow(paths[WAYS[0]], trust=HERE)).values())
    paths[WAYS[4]] = folder / "from nothing"
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
