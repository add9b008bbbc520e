"""Intrinsic dimension: how many coordinates the conformations really have, at every length scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.features import Features, features, subsample
from molifold.analysis.uncertainty import Estimate
from molifold.ensemble import Ensemble

#: Points of an estimate; distances to neighbours then take seconds.
LIMIT = 10_000
#: Scales of ``dimension_by_scale``: neighbours 1, 2, 4 ... 64.
ORDERS = 6


@dataclass(frozen=True)
class IntrinsicDimension:
    """Dimension by neighbour order: ``dimension`` at neighbours ``order`` and ``2 order``, ``distance`` apart (mean).

    ``two_nn`` is the estimate at the shortest scale. A true dimension shows as a plateau: at the shortest distances
    noise and frames next to each other in time count, at the longest the bends of the manifold.
    """

    two_nn: Estimate
    order: Int[ndarray, " scales"]
    dimension: Band
    distance: Float[ndarray, " scales"]
    n: int
    of: Features

    def __repr__(self) -> str:
        return f"IntrinsicDimension({self.two_nn.value:.2f} +- {self.two_nn.error:.2f} of {self.of!r}, {self.n} frames)"


def intrinsic_dimension(
    ensemble: Ensemble, of: str | tuple[str, ...] | Features = "torsions", *, limit: int = LIMIT, seed: int = 0
) -> IntrinsicDimension:
    """Intrinsic dimension of an ensemble by 2NN, and by Gride at growing scales.

    Args:
        ensemble: conformations.
        of: features (see ``features``).
        limit: frames that are used, chosen at random: neighbours cost about n log n.
        seed: of that choice.

    Raises:
        ValueError: if fewer than 20 distinct conformations are left.

    Reference: E. Facco et al., Sci. Rep. 7, 12140 (2017); F. Denti et al., Sci. Rep. 12, 20005 (2022) (Gride).

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=(4000, 1, 3))
    >>> e = Ensemble(Molecule(elements=("X",)), x, columns={"x": x[:, 0]})
    >>> 2.8 < intrinsic_dimension(e, ("x",)).two_nn.value < 3.2
    True
    """
    rule = of if isinstance(of, Features) else features(ensemble, of)
    values = np.unique(rule(ensemble[subsample(len(ensemble), limit, seed=seed)]), axis=0)
    if len(values) < 20:
        raise ValueError(f"ensemble: got {len(values)} distinct conformations, expected 20 or more for a dimension")
    orders = 2 ** np.arange(max(1, min(ORDERS, int(math.log2(len(values) // 4)))))
    distance = neighbour_distances(values, 2 * int(orders[-1]))
    fits = [gride(distance[:, k - 1], distance[:, 2 * k - 1], int(k)) for k in orders]
    dimension, error = (np.array([fit[i] for fit in fits]) for i in (0, 1))
    return IntrinsicDimension(
        two_nn=two_nn(distance[:, 0], distance[:, 1]),
        order=orders,
        dimension=Band(dimension, error, dimension - 1.96 * error, dimension + 1.96 * error),
        distance=np.array([distance[:, k - 1 : 2 * k].mean() for k in orders]),
        n=len(values),
        of=rule,
    )


def neighbour_distances(values: Float[ndarray, "points features"], k: int) -> Float[ndarray, "points k"]:
    """Distances from every point to its ``k`` nearest others, ascending.

    >>> neighbour_distances(np.array([[0.0], [1.0], [3.0]]), 2)
    array([[1., 3.],
           [1., 2.],
           [2., 3.]])
    """
    from scipy.spatial import cKDTree

    return cKDTree(values).query(values, k=k + 1)[0][:, 1:]


def two_nn(first: Float[ndarray, " points"], second: Float[ndarray, " points"], *, kept: float = 0.9) -> Estimate:
    """2NN: the slope of ``-log(1 - F(mu))`` against ``log mu``, where ``mu = second / first`` neighbour distance.

    Args:
        first: distance to the nearest neighbour.
        second: distance to the second nearest.
        kept: fraction of the smallest ratios that is used; the largest belong to sparse regions.

    The error is that of the slope under the model, ``d / sqrt(points)``; it leaves out correlation between neighbours.

    Reference: E. Facco et al., Sci. Rep. 7, 12140 (2017), doi:10.1038/s41598-017-11873-y.

    >>> mu = np.random.default_rng(0).pareto(5.0, 20_000) + 1       # ratios in five dimensions
    >>> 5.0 in two_nn(np.ones(20_000), mu)
    True
    """
    x = np.sort(np.log(second / first))
    n = len(x)
    used = int(n * kept)
    y = -np.log1p(-np.arange(1, used + 1) / n)
    x = x[:used]
    value = float((x @ y) / (x @ x))
    error = value / math.sqrt(used)
    return Estimate(value, error, value - 1.96 * error, value + 1.96 * error, math.nan, n)


def gride(near: Float[ndarray, " points"], far: Float[ndarray, " points"], order: int) -> tuple[float, float]:
    """Maximum likelihood of the dimension from distances to neighbours ``order`` and ``2 order``, and its error.

    The ratio ``mu`` has the density ``d (mu^d - 1)^(k-1) / (B(k, k) mu^(d (2k-1) + 1))`` with ``k = order``.

    Reference: F. Denti et al., Sci. Rep. 12, 20005 (2022), doi:10.1038/s41598-022-20991-1.

    >>> mu = np.random.default_rng(0).pareto(3.0, 20_000) + 1
    >>> bool(abs(gride(np.ones(20_000), mu, 1)[0] - 3) < 0.1)
    True
    """
    from scipy.optimize import brentq

    log_mu = np.log(far / near)
    log_mu = log_mu[log_mu > 0]
    n, k = len(log_mu), order

    def score(d: float) -> float:
        # d log L / dd; mu^d / (mu^d - 1) = 1 / (1 - mu^-d)
        return n / d + (k - 1) * float((log_mu / -np.expm1(-d * log_mu)).sum()) - (2 * k - 1) * float(log_mu.sum())

    top = 1.0
    while score(top) > 0 and top < 1e4:
        top *= 2
    d = float(brentq(score, 1e-6, top)) if score(top) < 0 else top
    grown = np.expm1(d * log_mu)
    information = n / d**2 + (k - 1) * float((log_mu**2 * (grown + 1) / grown**2).sum())
    return d, 1 / math.sqrt(information)
