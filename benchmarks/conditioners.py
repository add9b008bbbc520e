"""Conditioners of the same flow: graph networks, with and without partial geometry, and an MLP.

Needs frames with energies, such as those that a demo leaves behind::

    python benchmarks/conditioners.py runs/demo/ensembles/simulation --json benchmarks/results/conditioners.json

One core; the same data, losses and seeds; equal steps, then equal CPU time, as a number of steps whose cost is measured
first. Negative log-likelihood (nats) of the last twentieth of the time, which no training
saw; "below untrained" compares frame by frame, so its error is that of the training's effect. Effective sample size
(unclipped) and tail of the weights of fresh draws.
Rows that the JSON file holds already are kept, so that a long comparison can be made in parts (``--only``); what was
trained on other frames stands beside what was trained on the same, and only that can be compared.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from measure import arguments, cpu_seconds, negative_log_likelihood, show, with_error

from molifold import Ensemble
from molifold.analysis import effective_sample_size, pareto_k
from molifold.data import example
from molifold.energies import MolecularMechanics
from molifold.flows import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.losses import log_dispersion, nll
from molifold.sampling import draw
from molifold.training import fit

NETWORKS: dict[str, dict[str, Any]] = {
    "graph filters": {"network": "graph"},
    "graph attention": {"network": "attention"},
    "GAT": {"network": "gat"},
    "SchNet, partial geometry": {"network": "schnet"},
    "MEGNet, partial geometry": {"network": "megnet"},
    "MLP 128 x 2": {"network": "mlp"},
}


#: Frames by which a flow is judged.
JUDGED = 8192


def built(name: str, frames: Ensemble, seed: int) -> Flow:
    torch.manual_seed(seed)
    return graph_spline_coupling(frames.molecule, frames, **NETWORKS[name])


def step_costs(names: list[str], frames: Ensemble, options: Any) -> dict[str, float]:
    """CPU seconds of density and gradient of one batch."""
    x = torch.as_tensor(np.array(frames.x[: options.batch_size]))
    flows = {name: built(name, frames, options.seed) for name in names}
    return cpu_seconds({n: lambda f=f: f.log_prob(x).mean().backward() for n, f in flows.items()}, repeats=5)  # type: ignore[misc]


def row(name: str, steps: int, cost: float, budget: str, frames: Ensemble, energy: Any, options: Any) -> dict[str, Any]:
    late = frames.columns["time"] > np.quantile(frames.columns["time"], 0.95)
    judged = frames.x[np.flatnonzero(late)[:: max(1, int(late.sum()) // JUDGED)]]
    flow = built(name, frames, options.seed)
    untrained = negative_log_likelihood(flow, judged)
    fit(
        flow,
        frames[np.flatnonzero(~late)],
        losses=[(1.0, nll), (1.0, log_dispersion)],
        steps=steps,
        batch_size=options.batch_size,
        learning_rate=2e-3,
        seed=options.seed,
        validation=0.0,
    )
    trained = negative_log_likelihood(flow, judged)
    log_w = draw(flow, options.samples, molecule=frames.molecule, energy=energy, seed=1, batch_size=500).log_w
    ess, tail = effective_sample_size(log_w), pareto_k(log_w)
    return {
        "conditioner": name,
        "frames": len(frames),
        "parameters": flow.parameters_count,
        "budget": budget,
        "steps": steps,
        "CPU ms per step": round(1e3 * cost),
        "NLL": with_error(trained),
        "below untrained": with_error(untrained - trained),
        "ESS, %": f"{100 * ess.fraction:.1f} +- {100 * ess.error:.1f}",
        "k-hat": f"{tail.k:.2f} +- {tail.error:.2f}",
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("frames", help="ensemble store with log_p, one temperature")
    parser.add_argument("--system", default="alanine-dipeptide")
    parser.add_argument("--seconds", type=float, default=240.0, help="CPU time of every training at equal time")
    parser.add_argument("--steps", type=int, default=200, help="of every training at equal steps; 0 for none")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = Ensemble.load(options.frames)
    system = example(options.system)
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300.0)
    costs = step_costs(options.only, frames, options)
    kept = options.json is not None and options.json.exists()
    rows = json.loads(options.json.read_text())["rows"] if kept else []
    title = f"{system.name}, batch {options.batch_size}, one core"
    for budget in (*([f"{options.steps} steps"] if options.steps else []), f"{options.seconds:g} CPU s"):
        for name in options.only:
            if any((r["conditioner"], r["frames"], r["budget"]) == (name, len(frames), budget) for r in rows):
                continue
            steps = options.steps if budget.endswith("steps") else round(options.seconds / costs[name])
            rows.append(row(name, steps, costs[name], budget, frames, energy, options))
            rows.sort(
                key=lambda r: (r["budget"].endswith("CPU s"), -r["frames"], list(NETWORKS).index(r["conditioner"]))
            )
            show(title, rows, to=options.json)


if __name__ == "__main__":
    main()
