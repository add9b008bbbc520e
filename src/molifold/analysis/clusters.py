"""States of an ensemble: clusters with medoid frames, populations, silhouette and stability; and their matching.

Methods are small callables (``methods``); a fitted clustering is a rule for any other ensemble of the molecule, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.features import Features, features, subsample
from molifold.analysis.free_energy import blocks_of, population
from molifold.analysis.histograms import frame_weights
from molifold.analysis.uncertainty import Estimate, estimate, independent_blocks, trajectory_blocks
from molifold.ensemble import Ensemble

#: Frames that a method is fitted on; the others get the label of the nearest of its points.
LIMIT = 10_000
#: Frames of a silhouette, and of one cluster among which its medoid is sought (cost is their square).
PAIRS = 1_000


@dataclass(frozen=True)
class Assignment:
    """A rule: the label of a vector is that of the nearest of ``points``; -1 is noise."""

    points: Float[ndarray, "points features"]
    labels: Int[ndarray, " points"]

    def __call__(self, values: Float[ndarray, "frames features"]) -> Int[ndarray, " frames"]:
        """Labels of vectors."""
        from scipy.spatial import cKDTree

        return self.labels[cKDTree(self.points).query(values)[1]]

    def renamed(self, to: Int[ndarray, " labels"]) -> Assignment:
        """With label ``i`` called ``to[i]``; noise stays noise.

        >>> Assignment(np.zeros((3, 1)), np.array([0, 1, -1])).renamed(np.array([5, 6])).labels
        array([ 5,  6, -1])
        """
        return Assignment(self.points, np.where(self.labels < 0, -1, np.asarray(to)[self.labels]))


#: From vectors [points, features], weights [points] and a seed to a rule.
Method = Callable[[ndarray, ndarray, int], Assignment]


@dataclass(frozen=True)
class Clusters:
    """A partition of an ensemble; cluster 0 is the most populated, label -1 is noise.

    ``medoids`` are frames (indices). ``populations`` are weighted, with errors from blocks of trajectories.
    ``silhouette`` is the mean over frames (1: apart, 0: touching), ``silhouettes`` that of every cluster.
    ``stability`` is the mean Jaccard similarity of every cluster with its best match after refitting to half of the
    blocks: below 0.6 a cluster should not be believed in, from 0.85 it is stable (Hennig 2007); None if not asked for.
    ``fitted`` frames were shown to the method. ``temperature`` is that of the frames (K), NaN if unknown or mixed.
    """

    method: str
    of: Features
    assignment: Assignment
    labels: Int[ndarray, " frames"]
    medoids: Int[ndarray, " clusters"]
    populations: tuple[Estimate, ...]
    noise: Estimate
    silhouette: Estimate
    silhouettes: Float[ndarray, " clusters"]
    stability: Band | None
    fitted: int
    n: int
    ess: float
    temperature: float

    def __len__(self) -> int:
        return len(self.populations)

    def assign(self, ensemble: Ensemble) -> Int[ndarray, " frames"]:
        """Labels of another ensemble of the same molecule, by the same rule."""
        return self.assignment(self.of(ensemble))

    def __repr__(self) -> str:
        shares = ", ".join(f"{p.value:.3f}" for p in self.populations[:6]) + (", ..." if len(self) > 6 else "")
        return f"Clusters({self.method} of {self.of!r}: {len(self)} clusters, populations {shares}; {self.n} frames)"


def cluster(
    ensemble: Ensemble,
    method: Method,
    *,
    of: str | Sequence[str] | Features = "torsions",
    log_w: Float[ndarray, " frames"] | None = None,
    limit: int = LIMIT,
    refits: int = 8,
    seed: int = 0,
) -> Clusters:
    """Find clusters, and say how much to believe in them.

    Args:
        ensemble: conformations.
        method: how (see ``analysis.methods``): ``KMeans(k)``, ``KCenters(k)``, ``HDBSCAN()``, ``DensityPeaks()``.
        of: features (see ``features``).
        log_w: log importance weights; they enter populations, medoids, and k-means.
        limit: frames that the method is fitted on, chosen at random.
        refits: to halves of the blocks, for ``stability``; 0 leaves it out.
        seed: of everything random.

    Raises:
        ValueError: if features are not finite, or weights are bad.
        KeyError: if a column is missing.

    Reference: C. Hennig, Comput. Stat. Data Anal. 52, 258 (2007); silhouette: P. Rousseeuw, J. Comput. Appl. Math.
    20, 53 (1987).

    >>> from molifold import Molecule
    >>> from molifold.analysis.methods import KMeans
    >>> phi = np.random.default_rng(0).vonmises(np.repeat([-2.0, 1.0], [600, 300]), 40.0)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((900, 1, 3)), log_q=np.zeros(900), columns={"phi": phi})
    >>> found = cluster(e, KMeans(2), of=["phi"])
    >>> found, found.populations[1]
    (Clusters(KMeans(k=2) of Features(phi): 2 clusters, populations 0.667, 0.333; 900 frames), 0.333 +- 0.016 ...)
    """
    rule = of if isinstance(of, Features) else features(ensemble, of)
    values, w = rule(ensemble), frame_weights(log_w, len(ensemble))
    chosen = subsample(len(ensemble), limit, seed=seed)
    assignment = method(values[chosen], w[chosen], seed)
    stability = None
    if refits:
        stability = _stability(ensemble, method, values[chosen], w[chosen], chosen, assignment, refits, seed)
    return describe(
        ensemble, assignment, of=rule, values=values, log_w=log_w, name=repr(method), fitted=len(chosen),
        stability=stability, seed=seed,
    )  # fmt: skip


def describe(
    ensemble: Ensemble,
    assignment: Assignment,
    *,
    of: Features,
    name: str,
    values: Float[ndarray, "frames features"] | None = None,
    log_w: Float[ndarray, " frames"] | None = None,
    stability: Band | None = None,
    fitted: int = 0,
    sort: bool = True,
    seed: int = 0,
) -> Clusters:
    """Clusters of an ensemble by a rule that is known already, whatever it came from.

    Args:
        ensemble: conformations.
        assignment: the rule, for vectors of ``of``.
        of: features.
        name: what to call the method.
        values: the features of the ensemble, if they are at hand.
        log_w: log importance weights.
        stability: of every cluster, in the order of the labels of ``assignment``.
        fitted: frames that the rule was fitted on.
        sort: number the clusters by population; otherwise as the rule does.
        seed: of subsamples and bootstraps.

    Raises:
        ValueError: if weights are bad.

    >>> from molifold import Molecule
    >>> from molifold.analysis.features import Features
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((4, 1, 3)), columns={"x": np.arange(4.0)})
    >>> describe(e, Assignment(np.array([[0.0], [2.0]]), np.array([0, 1])), of=Features(("x",)), name="mine").labels
    array([0, 0, 1, 1])
    """
    values = of(ensemble) if values is None else values
    w = frame_weights(log_w, len(ensemble))
    labels = assignment(values)
    count = int(assignment.labels.max(initial=-1)) + 1
    share = np.bincount(labels[labels >= 0], weights=w[labels >= 0], minlength=count)
    order = np.argsort(-share, kind="stable") if sort else np.arange(count)
    rank = np.argsort(order)
    labels = np.where(labels < 0, -1, rank[labels])
    options = {**blocks_of(ensemble), "seed": seed}
    silhouette, silhouettes = _silhouette(ensemble, values, labels, count, seed=seed)
    return Clusters(
        method=name,
        of=of,
        assignment=assignment.renamed(rank),
        labels=labels,
        medoids=np.array([_medoid(values, np.flatnonzero(labels == i), w, seed=seed) for i in range(count)], dtype=int),
        populations=tuple(population(labels == i, log_w, **options) for i in range(count)),
        noise=population(labels < 0, log_w, **options),
        silhouette=silhouette,
        silhouettes=silhouettes,
        stability=None if stability is None else stability[order],
        fitted=fitted or len(ensemble),
        n=len(ensemble),
        ess=float(w.sum() ** 2 / (w * w).sum()),
        temperature=temperature_of(ensemble),
    )


def temperature_of(ensemble: Ensemble) -> float:
    """Temperature of all frames (K), NaN if it is unknown or not the same for all.

    >>> from molifold import Molecule
    >>> temperature_of(Ensemble(Molecule(elements=("X",)), np.zeros((1, 1, 3)), meta={"temperature": 300}))
    300.0
    """
    column = ensemble.columns.get("temperature")
    if column is not None:
        column = np.asarray(column)
        same = len(column) and np.isclose(column.min(), column.max())
        return float(column[0]) if same else float("nan")
    given = ensemble.meta.get("temperature")
    return float(given) if isinstance(given, int | float) else float("nan")


def _medoid(values: ndarray, members: ndarray, w: ndarray, *, seed: int) -> int:
    """The member with the smallest weighted sum of distances to the others; -1 for an empty cluster."""
    from scipy.spatial.distance import cdist

    if not len(members):
        return -1
    members = members[subsample(len(members), PAIRS, seed=seed)]
    return int(members[np.argmin(cdist(values[members], values[members]) @ w[members])])


def _silhouette(
    ensemble: Ensemble, values: ndarray, labels: ndarray, count: int, *, seed: int
) -> tuple[Estimate, ndarray]:
    from sklearn.metrics import silhouette_samples

    inside = np.flatnonzero(labels >= 0)
    chosen = inside[subsample(len(inside), 2 * PAIRS, seed=seed)]
    kinds = len(np.unique(labels[chosen]))
    if not 1 < kinds < len(chosen):
        nan = float("nan")
        return Estimate(nan, nan, nan, nan, nan, len(chosen)), np.full(count, nan)
    s = silhouette_samples(values[chosen], labels[chosen])
    options = blocks_of(ensemble[chosen])
    mean = estimate(np.stack([s, np.ones_like(s)], axis=1), lambda q: q[..., 0] / q[..., 1], **options, seed=seed)
    total = np.bincount(labels[chosen], weights=s, minlength=count)
    size = np.bincount(labels[chosen], minlength=count)
    return mean, np.divide(total, size, out=np.full(count, np.nan), where=size > 0)


def _stability(
    ensemble: Ensemble,
    method: Method,
    values: ndarray,
    w: ndarray,
    chosen: ndarray,
    assignment: Assignment,
    refits: int,
    seed: int,
) -> Band:
    """Jaccard similarity of every cluster with its best match when half of the blocks are left out."""
    dependence = blocks_of(ensemble)
    if dependence["correlated"]:
        block = trajectory_blocks(len(ensemble), trajectory=dependence["trajectory"])[chosen]
    else:
        block = independent_blocks(len(ensemble))[chosen]
    rng = np.random.default_rng(seed)
    labels = assignment(values)
    count = int(labels.max(initial=-1)) + 1
    names = np.unique(block)
    found = np.full((refits, count), np.nan)
    for repeat in range(refits):
        half = np.isin(block, rng.choice(names, max(1, len(names) // 2), replace=False))
        if half.sum() < 20:
            continue
        other = method(values[half], w[half], seed + 1 + repeat)(values)
        found[repeat] = jaccard(labels, other).max(axis=1, initial=0.0)[:count]
    mean, spread = np.nanmean(found, axis=0), np.nanstd(found, axis=0)
    return Band(mean, spread, np.nanmin(found, axis=0), np.nanmax(found, axis=0))


def contingency(first: Int[ndarray, " frames"], second: Int[ndarray, " frames"]) -> Int[ndarray, "first second"]:
    """How many frames have label i in ``first`` and j in ``second``; noise (-1) is left out.

    >>> contingency(np.array([0, 0, 1]), np.array([1, -1, 0]))
    array([[0, 1],
           [1, 0]])
    """
    rows, columns = int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1
    both = (first >= 0) & (second >= 0)
    flat = np.bincount(first[both] * columns + second[both], minlength=rows * columns)
    return flat.reshape(rows, columns)


def jaccard(first: Int[ndarray, " frames"], second: Int[ndarray, " frames"]) -> Float[ndarray, "first second"]:
    """``|A and B| / |A or B|`` for every cluster of two partitions of the same frames.

    >>> jaccard(np.array([0, 0, 1]), np.array([0, 1, 1]))
    array([[0.5       , 0.33333333],
           [0.        , 0.5       ]])
    """
    both = contingency(first, second).astype(float)
    sizes = [
        np.bincount(labels[labels >= 0], minlength=n) for labels, n in zip((first, second), both.shape, strict=True)
    ]
    either = sizes[0][:, None] + sizes[1][None, :] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)
