"""What a run is worth: effective sample size, P(0 < phi < 150 degrees), Ramachandran divergence, against a reference.

    python benchmarks/end_to_end.py runs/demo --reference long.ens

The reference is an ensemble store of independent replica exchange of the same system (several are pooled); without
one, the run's own training data serve, which says less. Draws are those that ``molifold sample`` left in the run.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from measure import arguments, show

from molifold import Ensemble
from molifold.analysis import (
    POSITIVE_PHI,
    between,
    effective_sample_size,
    map_divergence,
    measure,
    pareto_k,
    population,
)
from molifold.runs import Run


def pooled(stores: list[str], like: Ensemble) -> Ensemble:
    """Frames at 300 K of all stores; trajectories stay apart, so that errors are those of independent blocks."""
    parts, offset = [], 0
    for store in stores:
        e = replace(Ensemble.load(store), molecule=like.molecule)
        e = e[np.flatnonzero(np.isclose(e.columns["temperature"], 300.0))]
        trajectory = np.asarray(e.columns["trajectory"]) + offset
        offset = int(trajectory.max()) + 1
        parts.append(replace(e, columns={"trajectory": trajectory}))
    return measure(Ensemble.concat(parts), names=["phi", "psi"])


def positive_phi(e: Ensemble) -> np.ndarray:
    """The left-handed region as ``molifold sample`` and the report count it."""
    low, high = POSITIVE_PHI
    return between(e.columns["phi"], low, high=high)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("run")
    parser.add_argument("--reference", nargs="*", default=[])
    options = parser.parse_args()
    run = Run.open(options.run)
    draws = measure(run.ensemble("generated"), names=["phi", "psi"])
    stores = options.reference or [str(run.path / "ensembles" / "simulation")]
    reference = pooled(stores, draws)
    ess, k = effective_sample_size(draws.log_w), pareto_k(draws.log_w)
    found = population(positive_phi(draws), draws.log_w)
    truth = population(positive_phi(reference), None, trajectory=reference.columns["trajectory"])
    rows: list[dict[str, object]] = [
        {"figure": "draws", "value": f"{len(draws)}", "against": f"{len(reference)} reference frames"},
        {"figure": "ESS, unclipped", "value": f"{100 * ess.fraction:.2f} +- {100 * ess.error:.2f} %", "against": ""},
        {"figure": "ESS and clipping, k-hat", "value": repr(ess), "against": repr(k)},
        {
            "figure": "P(0 < phi < 150 degrees)",
            "value": f"{found.value:.5f} [{found.low:.5f}, {found.high:.5f}]",
            "against": f"{truth.value:.5f} [{truth.low:.5f}, {truth.high:.5f}]",
        },
    ]
    for name in ("kl", "jsd"):
        for weights, log_w in (("reweighted", draws.log_w), ("raw", None)):
            d = map_divergence(draws, reference, names=("phi", "psi"), log_w=log_w, measure=name)
            rows.append({"figure": f"Ramachandran {name}, {weights}", "value": f"{d.value:.4g}", "against": repr(d)})
    show(f"{run.path.name}: {draws.molecule.name}", rows, to=options.json)


if __name__ == "__main__":
    main()
