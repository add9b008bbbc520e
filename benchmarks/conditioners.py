"""Graph conditioner against MLP conditioner: the same flow, data, losses and seeds, at equal steps and at equal time.

Needs frames with energies, such as those that a demo leaves behind::

    python benchmarks/conditioners.py runs/demo/ensembles/simulation --minutes 5

One core; validation loss on held-out frames, effective sample size of fresh draws (unclipped).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from measure import arguments, show

from molifold import Ensemble
from molifold.analysis import effective_sample_size
from molifold.data import example
from molifold.energies import MolecularMechanics
from molifold.flows.recipes import graph_spline_coupling
from molifold.losses import log_dispersion, nll
from molifold.sampling import draw
from molifold.training import fit

NETWORKS: dict[str, dict[str, Any]] = {
    "graph filters": {"network": "graph"},
    "graph filters, 1 layer": {"network": "graph", "layers": 1},
    "graph attention, static": {"network": "attention"},
    "graph attention": {"network": "attention", "dynamic": True},
    "mlp 128 x 2": {"network": "mlp", "hidden": (128, 128)},
    "mlp 64 x 2": {"network": "mlp", "hidden": (64, 64)},
}


def row(name: str, budget: dict[str, Any], options: Any, frames: Ensemble, energy: Any) -> dict[str, object]:
    torch.manual_seed(options.seed)
    flow = graph_spline_coupling(frames.molecule, frames, **NETWORKS[name])
    began = time.monotonic()
    result = fit(
        flow,
        frames,
        losses=[(1.0, nll), (1.0, log_dispersion)],
        batch_size=512,
        learning_rate=2e-3,
        seed=options.seed,
        validation=0.05,
        **budget,
    )
    seconds = time.monotonic() - began
    samples = draw(result.flow, options.samples, molecule=frames.molecule, energy=energy, seed=1)
    ess = effective_sample_size(samples.log_w)
    return {
        "conditioner": name,
        "parameters": flow.parameters_count,
        "budget": " ".join(f"{v:g} {k}" for k, v in budget.items()),
        "steps": result.steps,
        "ms per step": 1e3 * seconds / result.steps,
        "validation NLL": f"{result.validation_nll:.3f} +- {result.validation_error:.3f}",
        "ESS, %": f"{100 * ess.fraction:.1f} +- {100 * ess.error:.1f}",
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("frames", help="ensemble store with log_p, one temperature")
    parser.add_argument("--system", default="alanine-dipeptide")
    parser.add_argument("--minutes", type=float, default=5.0, help="of every training at equal time")
    parser.add_argument("--steps", type=int, default=2000, help="of every training at equal steps")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = Ensemble.load(options.frames)
    system = example(options.system)
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300.0)
    budgets: tuple[dict[str, Any], ...] = ({"steps": options.steps}, {"max_seconds": 60 * options.minutes})
    rows = [row(name, b, options, frames, energy) for b in budgets for name in options.only]
    show(f"{system.name}, {len(frames)} frames, one core", rows, to=options.json)


if __name__ == "__main__":
    main()
