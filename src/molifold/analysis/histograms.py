"""Histograms of torsions, one at a time and in pairs, weighted; and distances between histograms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.torsions import measure
from molifold.analysis.uncertainty import independent_blocks, trajectory_blocks
from molifold.analysis.weights import checked_log_weights
from molifold.ensemble import Ensemble

#: Bins of a torsion and of each axis of a Ramachandran map (64, as FAB, arXiv 2208.01893).
BINS = 64
#: Added to densities (per rad^2) inside the logarithm of a Ramachandran divergence (FAB and TA-BG, code).
EPSILON = 1e-10


@dataclass(frozen=True)
class CircularHistogram:
    """Density of one angle: ``density`` and its standard error ``error`` per radian, between ``edges`` (radians)."""

    edges: Float[ndarray, " edges"]
    density: Float[ndarray, " bins"]
    error: Float[ndarray, " bins"]
    n: int
    ess: float

    @property
    def centres(self) -> Float[ndarray, " bins"]:
        """Middle of every bin, radians."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


@dataclass(frozen=True)
class Map:
    """Density of two angles: ``density[i, j]`` per rad^2 in bin i of ``names[0]`` and bin j of ``names[1]``.

    ``n`` frames were counted, worth ``ess`` independent ones (Kish; correlation in time is not counted).
    """

    names: tuple[str, str]
    edges: Float[ndarray, " edges"]
    density: Float[ndarray, "bins bins"]
    n: int
    ess: float

    @property
    def free_energy(self) -> Float[ndarray, "bins bins"]:
        """``-log density`` in kT, zero at the most populated bin, inf where no frame fell."""
        with np.errstate(divide="ignore"):
            return -np.log(self.density / self.density.max())

    def __repr__(self) -> str:
        bins = len(self.density)
        return f"Map({self.names[0]} x {self.names[1]}, {bins} x {bins} bins, {self.n} frames, ESS {self.ess:.0f})"


def edges(bins: int = BINS) -> Float[ndarray, " edges"]:
    """Edges of ``bins`` equal bins of the circle, -pi to pi.

    >>> edges(2)
    array([-3.14159265,  0.        ,  3.14159265])
    """
    return np.linspace(-np.pi, np.pi, bins + 1)


def cells(angle: Float[ndarray, " frames"], *, bins: int = BINS, name: str = "angle") -> Int[ndarray, " frames"]:
    """Bin of every angle (radians, wrapped onto the circle).

    Raises:
        ValueError: if an angle is not finite.

    >>> cells(np.array([-np.pi, 0.0, np.pi]), bins=4)
    array([0, 2, 0])
    """
    angle = np.asarray(angle)
    if not np.isfinite(angle).all():
        count = int((~np.isfinite(angle)).sum())
        raise ValueError(f"{name}: got {count} NaN or infinite angles, expected radians; leave broken frames out first")
    return np.floor((angle + np.pi) * (bins / (2 * np.pi))).astype(np.int64) % bins


def frame_weights(log_w: Float[ndarray, " frames"] | None, frames: int) -> Float[ndarray, " frames"]:
    """Weights with largest value 1; all 1 without ``log_w``.

    Raises:
        ValueError: if the length is not ``frames``, or ``log_w`` has NaN or +inf.

    >>> frame_weights(None, 2)
    array([1., 1.])
    """
    if log_w is None:
        return np.ones(frames)
    log_w = checked_log_weights(log_w)
    if len(log_w) != frames:
        raise ValueError(f"log_w: got {len(log_w)} weights, expected one per frame ({frames})")
    return np.exp(log_w - log_w.max())


def circular_histogram(
    angle: Float[ndarray, " frames"],
    *,
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = BINS,
    trajectory: Int[ndarray, " frames"] | None = None,
) -> CircularHistogram:
    """Weighted histogram of an angle on the circle, with errors.

    Args:
        angle: radians.
        log_w: log importance weights; None counts every frame once.
        bins: equal bins of (-pi, pi].
        trajectory: trajectory of every frame of molecular dynamics: errors then come from blocks.

    Raises:
        ValueError: if an angle is not finite, or weights are bad.

    >>> h = circular_histogram(np.array([0.1, 0.1, -2.0]), bins=4)
    >>> float(h.density.sum() * (np.pi / 2)), h.density.argmax()
    (1.0, np.int64(2))
    """
    cell, w = cells(angle, bins=bins), frame_weights(log_w, len(angle))
    label = independent_blocks(len(w)) if trajectory is None else trajectory_blocks(len(w), trajectory=trajectory)
    sums = histogram_by_block(cell, w, label, bins)
    total = w.sum()
    density = sums.sum(0) / total * (bins / (2 * np.pi))
    # Delta method for the ratio (weight in bin) / (weight), over blocks.
    residual = sums - sums.sum(1, keepdims=True) * (sums.sum(0) / total)
    blocks = len(sums)
    variance = (residual**2).sum(0) * blocks / max(blocks - 1, 1)
    ess = float(total**2 / (w * w).sum())
    return CircularHistogram(edges(bins), density, np.sqrt(variance) / total * (bins / (2 * np.pi)), len(w), ess)


def histogram_by_block(
    cell: Int[ndarray, " frames"], w: Float[ndarray, " frames"], label: Int[ndarray, " frames"], n_cells: int
) -> Float[ndarray, "blocks cells"]:
    """Sum of weights in every cell, block by block.

    >>> histogram_by_block(np.array([0, 1, 1]), np.ones(3), np.array([0, 0, 1]), 2)
    array([[1., 1.],
           [0., 1.]])
    """
    blocks = int(label.max()) + 1
    return np.bincount(label * n_cells + cell, weights=w, minlength=blocks * n_cells).reshape(blocks, n_cells)


def ramachandran(
    ensemble: Ensemble,
    names: tuple[str, str] = ("phi", "psi"),
    *,
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = BINS,
) -> Map:
    """Weighted map of two torsions.

    Args:
        ensemble: its columns ``names`` are used; they are measured where absent.
        names: two torsions.
        log_w: log importance weights; None counts every frame once.
        bins: per axis.

    Raises:
        KeyError: if the molecule has no such torsion.
        ValueError: if an angle is not finite, or weights are bad.

    >>> from molifold import Molecule
    >>> atom = Molecule(elements=("X",))
    >>> angles = {"phi": np.array([0.1, 0.1]), "psi": np.array([-0.1, 3.0])}
    >>> ramachandran(Ensemble(atom, np.zeros((2, 1, 3)), columns=angles))
    Map(phi x psi, 64 x 64 bins, 2 frames, ESS 2)
    """
    ensemble = measure(ensemble, names=names)
    w = frame_weights(log_w, len(ensemble))
    cell = pair_cells(ensemble, names, bins=bins)
    density = np.bincount(cell, weights=w, minlength=bins * bins) / w.sum() / (2 * np.pi / bins) ** 2
    return Map(names, edges(bins), density.reshape(bins, bins), len(w), float(w.sum() ** 2 / (w * w).sum()))


def pair_cells(ensemble: Ensemble, names: tuple[str, str], *, bins: int) -> Int[ndarray, " frames"]:
    """Cell of every frame in the flattened map of two torsions that are columns."""
    first, second = (cells(ensemble.columns[name], bins=bins, name=name) for name in names)
    return first * bins + second


def jensen_shannon(
    p: Float[ndarray, "*batch bins"], q: Float[ndarray, "*batch bins"], *, base: float = 2.0
) -> Float[ndarray, "*batch"]:
    """Jensen-Shannon divergence between histograms; in bits (0 to 1) for base 2, in nats for base e.

    ``H(m) - (H(p) + H(q)) / 2`` with ``m = (p + q) / 2``. This is the divergence, not its square root, which is what
    ``scipy.spatial.distance.jensenshannon`` returns.

    Raises:
        ValueError: if a histogram is negative or empty.

    Reference: J. Lin, IEEE Trans. Inf. Theory 37, 145 (1991), doi:10.1109/18.61115.

    >>> float(jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    1.0
    """
    p, q = _normalised(p, "p"), _normalised(q, "q")
    m = 0.5 * (p + q)
    return 0.5 * (_relative_entropy(p, m) + _relative_entropy(q, m)) / math.log(base)


def kl_divergence(
    p: Float[ndarray, "*batch bins"], q: Float[ndarray, "*batch bins"], *, area: float, epsilon: float = EPSILON
) -> Float[ndarray, "*batch"]:
    """``sum_i p_i log((p_i + epsilon) / (q_i + epsilon)) area`` with densities p and q, in nats.

    FAB's Ramachandran divergence KL(p || q) with p the reference (molecular dynamics) and q the model. ``epsilon``
    stands in for bins that q never visited, so that the value depends on the number of samples: compare at equal
    size only.

    Args:
        p, q: histograms over the same bins, in any scale.
        area: size of a bin (radians, or radians squared).
        epsilon: added to the densities.

    Raises:
        ValueError: if a histogram is negative or empty.

    Reference: Midgley et al., arXiv 2208.01893.

    >>> float(kl_divergence(np.array([1.0, 1.0]), np.array([3.0, 1.0]), area=1.0).round(6))
    0.143841
    """
    p, q = _normalised(p, "p") / area, _normalised(q, "q") / area
    return (p * np.log((p + epsilon) / (q + epsilon))).sum(-1) * area


def total_variation(p: Float[ndarray, "*batch bins"], q: Float[ndarray, "*batch bins"]) -> Float[ndarray, "*batch"]:
    """Half the absolute difference of two histograms: 0 for equal, 1 for disjoint ones.

    >>> float(total_variation(np.array([1.0, 1.0]), np.array([1.0, 0.0])))
    0.5
    """
    return 0.5 * np.abs(_normalised(p, "p") - _normalised(q, "q")).sum(-1)


def _normalised(p: ndarray, name: str) -> ndarray:
    p = np.asarray(p, dtype=np.float64)
    total = p.sum(-1, keepdims=True)
    if (p < 0).any() or not (total > 0).all() or not np.isfinite(total).all():
        raise ValueError(f"{name}: got a histogram that is negative, not finite or empty; expected counts or densities")
    return p / total


def _relative_entropy(p: ndarray, q: ndarray) -> ndarray:
    p, q = np.broadcast_arrays(p, q)
    ratio = np.divide(p, q, out=np.ones(p.shape), where=(p > 0) & (q > 0))  # q may underflow
    return (p * np.log(ratio)).sum(-1)
