"""Ways of clustering vectors. Each is called with vectors, weights and a seed, and returns a rule (``Assignment``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.clusters import Assignment


def _checked(k: int, values: ndarray) -> None:
    distinct = len(np.unique(values, axis=0)) if len(values) < 10 * k else len(values)
    if not 1 <= k <= distinct:
        raise ValueError(f"k: got {k} clusters for {distinct} distinct points, expected 1 to {distinct}")


@dataclass(frozen=True)
class KMeans:
    """Lloyd's k-means (weighted), started by k-means++; for compact clusters, and for the states of a Markov model.

    >>> KMeans(2)(np.array([[0.0], [0.1], [5.0]]), np.ones(3), 0).points.ravel().round(2).tolist()
    [0.05, 5.0]
    """

    k: int

    def __call__(
        self, values: Float[ndarray, "points features"], w: Float[ndarray, " points"], seed: int
    ) -> Assignment:
        """The rule for these points.

        Raises:
            ValueError: if there are fewer distinct points than clusters.
        """
        from sklearn.cluster import KMeans as Lloyd

        _checked(self.k, values)
        fit = Lloyd(self.k, n_init=3, random_state=seed).fit(values, sample_weight=w)
        centres = fit.cluster_centers_[np.lexsort(fit.cluster_centers_.T[::-1])]
        return Assignment(centres, np.arange(self.k))


@dataclass(frozen=True)
class KCenters:
    """Farthest-point clustering: every frame within the smallest radius of a centre; finds rare conformations.

    Reference: T. Gonzalez, Theor. Comput. Sci. 38, 293 (1985).

    >>> KCenters(2)(np.array([[0.0], [0.1], [5.0]]), np.ones(3), 0).points.ravel().tolist()
    [0.1, 5.0]
    """

    k: int

    def __call__(
        self, values: Float[ndarray, "points features"], w: Float[ndarray, " points"], seed: int
    ) -> Assignment:
        """The rule for these points; the first centre is the point nearest to the mean.

        Raises:
            ValueError: if there are fewer distinct points than clusters.
        """
        _checked(self.k, values)
        mean = w @ values / w.sum()
        centres = [int(np.argmin(((values - mean) ** 2).sum(1)))]
        nearest = np.full(len(values), np.inf)
        while True:
            nearest = np.minimum(nearest, ((values - values[centres[-1]]) ** 2).sum(1))
            if len(centres) == self.k:
                return Assignment(values[centres], np.arange(self.k))
            centres.append(int(np.argmax(nearest)))


@dataclass(frozen=True)
class HDBSCAN:
    """Hierarchical density clusters of at least ``smallest`` points (None: 1 % of them), with noise.

    Reference: R. Campello, D. Moulavi, J. Sander, PAKDD 2013, doi:10.1007/978-3-642-37456-2_14.

    >>> x = np.random.default_rng(0).normal(np.repeat([0.0, 9.0], 100), 0.5)[:, None]
    >>> sorted(set(HDBSCAN(20)(x, np.ones(200), 0).labels.tolist()) - {-1})
    [0, 1]
    """

    smallest: int | None = None

    def __call__(
        self, values: Float[ndarray, "points features"], w: Float[ndarray, " points"], seed: int
    ) -> Assignment:
        """The rule for these points; weights and seed play no part."""
        from sklearn.cluster import HDBSCAN as Hierarchy

        smallest = self.smallest or max(5, len(values) // 100)
        # Core distances of few neighbours: with as many as `smallest` nearby basins grow together.
        fit = Hierarchy(min_cluster_size=smallest, min_samples=min(smallest, 15), copy=True).fit(values)
        return Assignment(values, fit.labels_)


@dataclass(frozen=True)
class DensityPeaks:
    """Density peaks whose saddles are significant at ``z`` errors (see ``density_peaks``); no number of clusters.

    >>> x = np.random.default_rng(0).normal(np.repeat([0.0, 9.0], 100), 0.5)[:, None]
    >>> int(DensityPeaks()(x, np.ones(200), 0).labels.max()) + 1
    2
    """

    z: float = 1.65

    def __call__(
        self, values: Float[ndarray, "points features"], w: Float[ndarray, " points"], seed: int
    ) -> Assignment:
        """The rule for these points; weights and seed play no part, copies of a point count once.

        Raises:
            ValueError: if there are fewer than 10 distinct points.
        """
        from molifold.analysis.density_peaks import density_peaks

        distinct = np.unique(values, axis=0)
        return Assignment(distinct, density_peaks(distinct, z=self.z))
