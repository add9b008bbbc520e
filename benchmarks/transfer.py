"""One set of weights on several molecules: trained on Ace-A1-Nme and Ace-A3-Nme, judged on Ace-A5-Nme, untouched.

AMBER99SB-ILDN with OBC, 300 K. Replica exchange makes the frames (in ``folder``, where a second call finds them, and
goes on with trainings that were interrupted)::

    python benchmarks/transfer.py runs/transfer --simulate 600 --seconds 240

Every training gets the same CPU time, as a number of steps whose cost is measured first. Negative log-likelihood of
the last quarter of the Ace-A5-Nme frames, per degree of freedom (nats); what is below the untrained flow is what the
weights know of a molecule that they never saw. Untrained and transferred flow have the same standardisation, which
knows nothing of Ace-A5-Nme either (``Environments`` of the other two); the flow from scratch has its own.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import arguments, cpu_seconds, negative_log_likelihood, show, with_error
from torch import nn

from molifold import Ensemble
from molifold.data import example
from molifold.energies import MolecularMechanics
from molifold.flows import Family, Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.simulation import minimize, replica_exchange, temperature_ladder
from molifold.training import fit

SMALL = ("alanine-dipeptide-99sbildn", "ace-a3-nme")
LARGE = "ace-a5-nme"
BATCH = 256


def frames(name: str, options: Any) -> Ensemble:
    """Frames at 300 K, made or found; larger molecules need more temperatures."""
    if (options.folder / name).exists():
        return Ensemble.load(options.folder / name)
    system = example(name)
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300.0)
    return replica_exchange(
        energy,
        minimize(energy, system.x).x,
        molecule=system.molecule,
        temperatures=temperature_ladder(300.0, 798.0, 12 if name == LARGE else 8),
        save_temperatures=(300.0,),
        hydrogen_mass=3.0,
        timestep=0.002,
        max_seconds=options.simulate,
        seed=1,
        to=options.folder / name,
    )


def later(ensemble: Ensemble) -> tuple[Ensemble, Ensemble]:
    """The first three quarters of the time to train on, the last one to judge by."""
    late = ensemble.columns["time"] > np.quantile(ensemble.columns["time"], 0.75)
    return ensemble[np.flatnonzero(~late)], ensemble[np.flatnonzero(late)]


def seconds_per_step(flow: nn.Module, ensemble: Ensemble) -> float:
    x = torch.as_tensor(np.array(ensemble.x[:BATCH]))
    return cpu_seconds({"step": lambda: flow.log_prob(x).mean().backward()}, repeats=5)["step"]  # type: ignore[operator]


def trained(
    name: str, flow: nn.Module, ensembles: list[Ensemble], options: Any, *, share: float = 1.0
) -> tuple[int, float]:
    """Train for ``share`` of the budget; steps and CPU seconds."""
    costs = options.folder / "seconds_per_step.json"
    known = json.loads(costs.read_text()) if costs.exists() else {}
    if name not in known:
        flows = list(flow) if isinstance(flow, nn.ModuleList) else [flow]
        known[name] = float(np.mean([seconds_per_step(f, e) for f, e in zip(flows, ensembles, strict=True)]))
        costs.write_text(json.dumps(known))
    steps = round(share * options.seconds / known[name])
    several = ensembles if len(ensembles) > 1 else ensembles[0]
    fit(
        flow,
        several,
        steps=steps,
        batch_size=BATCH,
        learning_rate=2e-3 * share**0.5,
        validation=0.05,
        validate_every=100,
        seed=options.seed,
        to=options.folder / f"run-{name}-{options.seed}",
    )
    return steps, steps * known[name]


def nll(flow: Flow, ensemble: Ensemble) -> np.ndarray:
    """Per degree of freedom."""
    return negative_log_likelihood(flow, ensemble.x) / (3 * ensemble.molecule.n_atoms - 6)


@dataclass(frozen=True)
class Row:
    """A flow and its negative log-likelihood of every judged frame."""

    name: str
    seen: str
    steps: int
    seconds: float
    values: np.ndarray

    def table(self, untrained: np.ndarray) -> dict[str, object]:
        """As the table shows it, beside the untrained flow."""
        return {
            "flow on Ace-A5-Nme": self.name,
            "frames of Ace-A5-Nme seen": self.seen,
            "steps": self.steps,
            "training, CPU s": f"{self.seconds:.0f}",
            "NLL per degree of freedom": with_error(self.values, digits=4),
            "below untrained": with_error(untrained - self.values, digits=4),
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, help="for simulations and runs")
    parser.add_argument("--simulate", type=float, default=600.0, help="seconds of replica exchange of each molecule")
    parser.add_argument("--seconds", type=float, default=240.0, help="CPU time of every training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small, large = [frames(name, options) for name in SMALL], frames(LARGE, options)
    early, judged = later(large)

    torch.manual_seed(options.seed)
    family = Family(small, seed=options.seed)
    flow = family.on(large.molecule, example(LARGE).x)
    none, some = "none", f"{len(early)}"
    rows = [Row("untrained, standardised by environments", none, 0, 0.0, nll(flow, judged))]
    steps, seconds = trained("family", family.flows, small, options)
    rows.append(Row("trained on Ace-A1-Nme and Ace-A3-Nme only", none, steps, seconds, nll(flow, judged)))

    own = copy.deepcopy(flow)
    steps, more = trained("continued", own, [early], options, share=0.2)
    rows.append(
        Row("the same, then on Ace-A5-Nme for a fifth of the time", some, steps, seconds + more, nll(own, judged))
    )
    torch.manual_seed(options.seed)
    own = graph_spline_coupling(large.molecule, early)
    rows.append(Row("untrained, standardised by its own frames", some, 0, 0.0, nll(own, judged)))
    steps, seconds = trained("scratch", own, [early], options)
    rows.append(Row("from scratch", some, steps, seconds, nll(own, judged)))

    counts = ", ".join(f"{len(e)} of {e.molecule.name}" for e in (*small, large))
    radii = np.bincount(family.environments.radii(large.molecule, example(LARGE).x)).tolist()
    title = (
        f"Frames: {counts}; judged by {len(judged)}; environments of Ace-A5-Nme known within 0, 1, ... bonds: {radii}"
    )
    show(title, [row.table(rows[0].values) for row in rows], to=options.json)


if __name__ == "__main__":
    main()
