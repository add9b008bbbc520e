"""The same states in two ensembles: by the rule of the reference, or by pairing two clusterings one to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.clusters import Clusters, contingency, describe, jaccard
from molifold.analysis.uncertainty import Estimate
from molifold.ensemble import Ensemble


@dataclass(frozen=True)
class ClusterMatch:
    """One cluster of the reference (``first``) and its partner (``second``); None where there is none.

    ``similarity`` is Jaccard's. ``difference`` is population(second) - population(first), with independent errors
    added; ``z`` is it in units of its error.
    """

    first: int | None
    second: int | None
    similarity: float
    population_first: float
    population_second: float
    difference: Estimate
    z: float


@dataclass(frozen=True)
class Matching:
    """Clusters of two ensembles, pair by pair.

    ``transition[i, j]`` is the probability that a frame of cluster i of the reference's clustering is in cluster j of
    the other one (rows sum to one; the last column is noise).
    """

    pairs: tuple[ClusterMatch, ...]
    transition: Float[ndarray, "first second"]

    def __repr__(self) -> str:
        both = [p for p in self.pairs if p.first is not None and p.second is not None]
        return f"Matching({len(both)} pairs, {len(self.pairs) - len(both)} without a partner)"


def same_clusters(
    reference: Clusters, ensemble: Ensemble, *, log_w: Float[ndarray, " frames"] | None = None, seed: int = 0
) -> Clusters:
    """The clusters of ``reference`` in another ensemble: the same rule, its own populations and medoids.

    Cluster numbers are those of the reference (not sorted again), so that populations can be compared one by one.

    Args:
        reference: of any ensemble of the molecule.
        ensemble: another one.
        log_w: log importance weights of it.
        seed: of subsamples and bootstraps.

    Raises:
        ValueError: if features are not finite, or weights are bad.
    """
    return describe(
        ensemble, reference.assignment, of=reference.of, log_w=log_w, fitted=reference.fitted, sort=False, seed=seed,
        name=f"{reference.method} (fitted elsewhere)",
    )  # fmt: skip


def match_clusters(first: Clusters, second: Clusters, ensemble: Ensemble) -> Matching:
    """Pair the clusters of two clusterings one to one, so that the summed Jaccard similarity is largest (Hungarian).

    Args:
        first: the reference's clustering.
        second: the other ensemble's clustering.
        ensemble: the frames on which both rules are applied to see what overlaps: that of ``second``, or both joined.

    Raises:
        ValueError: if features are not finite.

    Reference: H. Kuhn, Nav. Res. Logist. Q. 2, 83 (1955).
    """
    from scipy.optimize import linear_sum_assignment

    a, b = first.assign(ensemble), second.assign(ensemble)
    # every cluster takes part, also one without a frame here
    similarity = np.zeros((len(first), len(second)))
    seen = jaccard(a, b)
    similarity[: seen.shape[0], : seen.shape[1]] = seen
    rows, columns = linear_sum_assignment(-similarity)
    partner = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if similarity[i, j] > 0}
    pairs = [_pair(first, second, i, partner.get(i), similarity) for i in range(len(first))]
    alone = sorted(set(range(len(second))) - set(partner.values()))
    pairs += [_pair(first, second, None, j, similarity) for j in alone]
    counts = np.zeros((len(first), len(second) + 1))
    table = contingency(a, np.where(b < 0, len(second), b))
    counts[: table.shape[0], : table.shape[1]] = table
    total = counts.sum(axis=1, keepdims=True)
    return Matching(tuple(pairs), np.divide(counts, total, out=np.zeros_like(counts), where=total > 0))


def _pair(first: Clusters, second: Clusters, i: int | None, j: int | None, similarity: ndarray) -> ClusterMatch:
    none = Estimate(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    p = none if i is None else first.populations[i]
    q = none if j is None else second.populations[j]
    difference = subtract(q, p)
    return ClusterMatch(
        first=i,
        second=j,
        similarity=0.0 if i is None or j is None else float(similarity[i, j]),
        population_first=p.value,
        population_second=q.value,
        difference=difference,
        z=difference.value / difference.error if difference.error > 0 else float("nan"),
    )


def subtract(a: Estimate, b: Estimate) -> Estimate:
    """``a - b`` of independent estimates; the interval adds the half-widths in squares, side by side.

    >>> subtract(Estimate(3, 3, 0, 9, 3, 10), Estimate(1, 4, -7, 9, 4, 10))
    2.0 +- 5.0 (95 %: -6.5 to 12.0)
    """
    value = a.value - b.value
    down = float(np.hypot(a.value - a.low, b.high - b.value))
    up = float(np.hypot(a.high - a.value, b.value - b.low))
    return Estimate(
        value=value,
        error=float(np.hypot(a.error, b.error)),
        low=value - down,
        high=value + up,
        block_error=float(np.hypot(a.block_error, b.block_error)),
        n=min(a.n, b.n),
    )
