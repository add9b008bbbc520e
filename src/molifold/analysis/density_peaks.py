"""Density peaks: k*-nearest-neighbour densities with errors, and clusters separated by significant saddles.

Reference: M. d'Errico, E. Facco, A. Laio, A. Rodriguez, Inf. Sci. 560, 476 (2021), arXiv:1802.10549; densities:
A. Rodriguez et al., J. Chem. Theory Comput. 14, 1206 (2018). DADApy (Glielmo et al., Patterns 3, 100589, 2022) gives
the same clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.dimension import two_nn

#: Neighbours that are looked at; densities with fewer have errors above 10 %.
MOST_NEIGHBOURS = 100
#: Likelihood ratio beyond which the density is no longer constant: the 1e-6 quantile of chi-squared with one degree.
CHANGED = 23.928


@dataclass(frozen=True)
class LocalDensity:
    """Log-densities of points (nats), their errors, and the neighbours that they were computed from."""

    log_density: Float[ndarray, " points"]
    error: Float[ndarray, " points"]
    size: Int[ndarray, " points"]
    neighbours: Int[ndarray, "points neighbours"]
    dimension: float


def local_density(
    values: Float[ndarray, "points features"], *, dimension: float | None = None, most: int = MOST_NEIGHBOURS
) -> LocalDensity:
    """Density at every point from the largest neighbourhood in which it is constant (k*NN).

    Args:
        values: distinct points.
        dimension: intrinsic dimension; None estimates it by 2NN.
        most: the largest neighbourhood.

    Raises:
        ValueError: if there are fewer than 10 points, or two of them are equal.

    >>> flat = local_density(np.random.default_rng(0).random((2000, 2)))
    >>> bool(abs(np.median(flat.log_density)) < 0.1)       # the density of the unit square is 1
    True
    """
    from scipy.spatial import cKDTree

    n = len(values)
    if n < 10:
        raise ValueError(f"values: got {n} points, expected 10 or more for a density")
    most = min(most, n - 1)
    distance, neighbours = cKDTree(values).query(values, k=most + 1)
    if (distance[:, 1] <= 0).any():
        raise ValueError("values: got equal points, expected distinct ones; leave copies out first (np.unique)")
    d = dimension or two_nn(distance[:, 1], distance[:, 2]).value
    log_volume = np.full(distance.shape, -np.inf)
    log_volume[:, 1:] = d * np.log(distance[:, 1:])
    size = np.full(n, most - 1)
    open_ = np.ones(n, dtype=bool)
    for k in range(3, most):
        # the k-th volume here against the k-th volume around the next neighbour
        here, there = log_volume[:, k], log_volume[neighbours[:, k + 1], k]
        ratio = -2 * k * (here + there - 2 * np.logaddexp(here, there) + math.log(4))
        changed = open_ & (ratio >= CHANGED)
        size[changed] = k  # as DADApy: the first neighbourhood that shows the change still counts
        open_ &= ~changed
    unit = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    log_density = np.log(size) - log_volume[np.arange(n), size] - unit - math.log(n)
    return LocalDensity(log_density, 1 / np.sqrt(size), size, neighbours, d)


def density_peaks(
    values: Float[ndarray, "points features"], *, z: float = 1.65, density: LocalDensity | None = None
) -> Int[ndarray, " points"]:
    """Cluster of every point: peaks of the density that rise above their saddles by more than ``z`` errors.

    Args:
        values: distinct points; cost grows as n log n with the neighbours, and n times their number in memory.
        z: significance of a peak; the only parameter. 1.65 is 95 % for one peak.
        density: of these points; None computes it.

    Raises:
        ValueError: as ``local_density``.

    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(c, 0.3, size=(300, 2)) for c in (-2, 0, 2)])
    >>> np.bincount(density_peaks(x)).tolist()
    [300, 300, 300]
    """
    rho = density or local_density(values)
    g = rho.log_density - rho.error
    peaks, label = _basins(g, rho)
    saddle = _saddles(g, label, len(peaks), rho)
    merged = _merge(peaks, saddle, rho, z=z)
    return np.unique(merged[label], return_inverse=True)[1]


def _basins(g: ndarray, rho: LocalDensity) -> tuple[ndarray, ndarray]:
    """Peaks (the highest point of their own neighbourhood and of no other's slope) and the basin of every point."""
    n, k = rho.neighbours.shape
    inside = np.arange(k)[None, :] <= rho.size[:, None]
    height = np.where(inside, g[rho.neighbours], -np.inf)
    peak = height[:, 1:].max(axis=1) <= g
    # A peak inside the neighbourhood of a higher point is a shoulder of it.
    rows, place = np.nonzero(inside & peak[rho.neighbours])
    target = rho.neighbours[rows, place]
    above = np.full(n, -np.inf)
    np.maximum.at(above, target, g[rows])
    peak &= above <= g
    label = np.full(n, -1)
    label[np.flatnonzero(peak)] = np.arange(peak.sum())
    order = np.argsort(-g, kind="stable")
    for i in order:
        if label[i] < 0:
            known = label[rho.neighbours[i]]
            known = known[known >= 0]
            if len(known):
                label[i] = known[0]
    # What no higher neighbour reaches takes the label of the nearest point that has one.
    while (label < 0).any():
        lost = np.flatnonzero(label < 0)
        for i in lost:
            known = label[rho.neighbours[i]]
            if (known >= 0).any():
                label[i] = known[known >= 0][0]
        if (label[lost] < 0).all():
            label[lost] = int(np.argmax(g[np.flatnonzero(peak)]))
    return np.flatnonzero(peak), label


def _saddles(g: ndarray, label: ndarray, clusters: int, rho: LocalDensity) -> dict[tuple[int, int], int]:
    """For every pair of touching basins the highest point on their border (an index into the points)."""
    found: dict[tuple[int, int], int] = {}
    foreign = label[rho.neighbours] != label[:, None]
    foreign &= np.arange(rho.neighbours.shape[1])[None, :] <= rho.size[:, None]
    top = np.zeros(clusters, dtype=int) - 1
    for i in np.argsort(-g, kind="stable"):
        own = label[i]
        if top[own] < 0:  # the peak itself is no border
            top[own] = i
            continue
        place = int(np.argmax(foreign[i]))
        if not foreign[i, place]:
            continue
        j = rho.neighbours[i, place]
        # i must be the nearest point of its basin to j
        around = rho.neighbours[j, 1:]
        nearest = around[label[around] == own]
        if len(nearest) and nearest[0] != i and i in around:
            continue
        if len(nearest) and i not in around:
            continue
        pair = (int(min(own, label[j])), int(max(own, label[j])))
        found.setdefault(pair, int(i))  # points come from high to low
    return found


def _merge(peaks: ndarray, saddle: dict[tuple[int, int], int], rho: LocalDensity, *, z: float) -> ndarray:
    """Basin to cluster: the highest insignificant saddle is removed first, until every one is significant."""
    cluster = np.arange(len(peaks))
    height, error = rho.log_density, rho.error
    pairs = dict(saddle)
    while True:
        weak = [
            (height[s], pair)
            for pair, s in pairs.items()
            if any(height[peaks[c]] - height[s] < z * (error[peaks[c]] + error[s]) for c in pair)
        ]
        if not weak:
            return cluster
        _, (a, b) = max(weak)
        s = pairs[a, b]
        rise = {c: (height[peaks[c]] - height[s]) / (error[peaks[c]] + error[s]) for c in (a, b)}
        gone, stays = (a, b) if rise[a] < rise[b] else (b, a)
        cluster[cluster == gone] = stays
        moved: dict[tuple[int, int], int] = {}
        for (i, j), point in pairs.items():
            i, j = (stays if i == gone else i), (stays if j == gone else j)
            if i != j:
                pair = (min(i, j), max(i, j))
                if pair not in moved or height[point] > height[moved[pair]]:
                    moved[pair] = point
        pairs = moved
