"""Torsions and Ramachandran maps of two ensembles, with divergences beside their noise floors (see ``divergence``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.columns import measure as measure_torsions
from molifold.analysis.divergence import Divergence, Measure, compare
from molifold.analysis.histograms import (
    BINS,
    EPSILON,
    Histogram,
    cells,
    circular_histogram,
    jensen_shannon,
    kl_divergence,
    pair_cells,
)
from molifold.analysis.torsions import named_torsions
from molifold.ensemble import Ensemble


@dataclass(frozen=True)
class TorsionComparison:
    """One torsion of the reference, of the raw draws, and of the reweighted ones (None without weights).

    ``*_divergence`` are Jensen-Shannon divergences in bits beside their noise floors.
    """

    name: str
    reference: Histogram
    raw: Histogram
    reweighted: Histogram | None
    raw_divergence: Divergence
    reweighted_divergence: Divergence | None


def torsion_comparison(
    generated: Ensemble,
    reference: Ensemble,
    *,
    names: Sequence[str] | None = None,
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = BINS,
    splits: int = 16,
    seed: int = 0,
) -> tuple[TorsionComparison, ...]:
    """Every torsion of two ensembles: histograms and Jensen-Shannon divergence (bits) with its noise floor.

    Args:
        generated: independent draws.
        reference: molecular dynamics; its column ``trajectory`` makes the blocks where it exists.
        names: columns or torsions (see ``analysis.named_torsions``); the default is every rotatable torsion.
        log_w: log importance weights of ``generated``.
        bins: of the circle.
        splits: random halvings of the reference.
        seed: of the halvings.

    Raises:
        KeyError: if the molecule has no such torsion.
        ValueError: if an angle is not finite, or weights are bad.

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> def ensemble(n):
    ...     return Ensemble(Molecule(elements=("X",)), np.zeros((n, 1, 3)), columns={"phi": rng.vonmises(-1, 4, n)})
    >>> torsion_comparison(ensemble(4000), ensemble(9000), names=["phi"])[0].raw_divergence
    JSD (bits) 0.00... +- ..., floor 0.00... +- ... (ratio ... +- ...; 4000 frames, ESS 4000)
    """
    names = tuple(names or named_torsions(generated.molecule))
    generated, reference = measure_torsions(generated, names=names), measure_torsions(reference, names=names)
    trajectory = reference.columns.get("trajectory")
    out = []
    for name in names:
        a, b = generated.columns[name], reference.columns[name]
        versus = partial(
            compare, cells(a, bins=bins, name=name), cells(b, bins=bins, name=name), n_cells=bins, splits=splits,
            measure=jensen_shannon, name="JSD (bits)", trajectory=trajectory, seed=seed,
        )  # fmt: skip
        out.append(
            TorsionComparison(
                name=name,
                reference=circular_histogram(b, bins=bins, trajectory=_or_one(trajectory, len(b))),
                raw=circular_histogram(a, bins=bins),
                reweighted=None if log_w is None else circular_histogram(a, log_w=log_w, bins=bins),
                raw_divergence=versus(),
                reweighted_divergence=None if log_w is None else versus(log_w=log_w),
            )
        )
    return tuple(out)


def _or_one(trajectory: ndarray | None, frames: int) -> ndarray:
    return np.zeros(frames, dtype=np.int64) if trajectory is None else trajectory


def map_divergence(
    generated: Ensemble,
    reference: Ensemble,
    *,
    names: tuple[str, str] = ("phi", "psi"),
    log_w: Float[ndarray, " frames"] | None = None,
    measure: Literal["kl", "jsd"] = "kl",
    bins: int = BINS,
    epsilon: float = EPSILON,
    splits: int = 16,
    seed: int = 0,
) -> Divergence:
    """Ramachandran divergence of 64 x 64 bins beside its noise floor.

    By default FAB's KL(reference || model) in nats (``kl_divergence``): ``plain`` is FAB's number for all frames,
    ``value`` and ``floor`` are matched in size (see ``divergence``). ``epsilon`` charges about 20 nats per unit of
    reference mass in bins that the model never visited, which is most of the value at 10^5 samples; the
    Jensen-Shannon divergence (bits) has no such term and sees smaller differences.

    Args:
        generated: independent draws.
        reference: molecular dynamics; its column ``trajectory`` makes the blocks where it exists.
        names: two torsions (columns, or measured).
        log_w: log importance weights of ``generated``; None compares the raw draws.
        measure: "kl" (FAB's) or "jsd".
        bins: per axis.
        epsilon: added to densities per rad^2 (KL only).
        splits: random halvings of the reference.
        seed: of the halvings.

    Raises:
        KeyError: if the molecule has no such torsion.
        ValueError: if an angle is not finite, weights are bad, or ``measure`` is another word.

    Reference: Midgley et al., arXiv 2208.01893.

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> def ensemble(n):
    ...     angles = {"phi": rng.vonmises(-1, 4, n), "psi": rng.vonmises(2, 3, n)}
    ...     return Ensemble(Molecule(elements=("X",)), np.zeros((n, 1, 3)), columns=angles)
    >>> map_divergence(ensemble(4000), ensemble(9000))
    KL(reference || model) (nats) ... +- ..., floor ... +- ... (ratio ... +- ...; 4000 frames, ESS 4000)
    """
    kl = partial(kl_divergence, area=(2 * np.pi / bins) ** 2, epsilon=epsilon)
    measures: dict[str, tuple[Measure, str]] = {
        "kl": (kl, "KL(reference || model) (nats)"),
        "jsd": (jensen_shannon, "JSD (bits)"),
    }
    if measure not in measures:
        raise ValueError(f"measure: got {measure!r}, expected one of {', '.join(measures)}")
    function, label = measures[measure]
    generated, reference = measure_torsions(generated, names=names), measure_torsions(reference, names=names)
    return compare(
        pair_cells(generated, names, bins=bins),
        pair_cells(reference, names, bins=bins),
        n_cells=bins * bins,
        measure=function,
        name=label,
        log_w=log_w,
        trajectory=reference.columns.get("trajectory"),
        splits=splits,
        seed=seed,
    )
