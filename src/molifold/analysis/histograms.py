"""Histograms of torsions, one at a time and in pairs, weighted; and distances between histograms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.columns import measure
from molifold.analysis.uncertainty import independent_blocks, trajectory_blocks
from molifold.analysis.weights import checked_log_weights
from molifold.ensemble import Ensemble

#: Bins of a torsion and of each axis of a Ramachandran map (64, as FAB, arXiv 2208.01893).
BINS = 64
#: Added to densities (per rad^2) inside the logarithm of a Ramachandran divergence (FAB and TA-BG, code).
EPSILON = 1e-10

#: Room beside values that hardly vary (constrained bonds), by unit: bins stay coarse against rounding errors.
LEAST_ROOM = {"nm": 1e-3, "rad": 1e-2, "kT": 0.5}


@dataclass(frozen=True)
class Histogram:
    """Density of one quantity: ``density`` and its standard error ``error`` per unit, between ``edges``.

    ``support`` is "circle" for angles that wrap around (radians); ``outside`` the share of the weight beyond the edges
    of any other quantity. ``n`` frames were counted, worth ``ess`` independent ones (Kish).
    """

    edges: Float[ndarray, " edges"]
    density: Float[ndarray, " bins"]
    error: Float[ndarray, " bins"]
    n: int
    ess: float
    support: str = "circle"
    unit: str = "rad"
    outside: float = 0.0

    @property
    def centres(self) -> Float[ndarray, " bins"]:
        """Middle of every bin."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


@dataclass(frozen=True)
class Axis:
    """How a quantity is cut into ``bins`` equal bins from ``low`` to ``high``.

    A circle has as many cells as bins; anything else has two more, the first and the last, for what lies outside.

    >>> Axis("r", support="positive", unit="nm", low=0.0, high=1.0, bins=2).cells(np.array([-1.0, 0.2, 0.7, 1.0]))
    array([0, 1, 2, 3])
    """

    name: str
    support: str
    unit: str
    low: float
    high: float
    bins: int = BINS

    @property
    def circle(self) -> bool:
        """Whether the last bin is the neighbour of the first."""
        return self.support == "circle"

    @property
    def n_cells(self) -> int:
        """Number of cells that ``cells`` can give."""
        return self.bins if self.circle else self.bins + 2

    @property
    def edges(self) -> Float[ndarray, " edges"]:
        """Ends of the bins."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def cells(self, values: Float[ndarray, " frames"]) -> Int[ndarray, " frames"]:
        """Cell of every value.

        Raises:
            ValueError: if one is not finite.
        """
        if self.circle:
            return cells(values, bins=self.bins, name=self.name)
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise ValueError(f"{self.name}: got {count} NaN or infinite values; leave broken frames out first")
        position = np.floor((values - self.low) * (self.bins / (self.high - self.low)))
        return np.clip(position, -1, self.bins).astype(np.int64) + 1

    @staticmethod
    def around(values: Float[ndarray, " frames"], *, name: str, support: str, unit: str, bins: int = BINS) -> Axis:
        """The axis that shows ``values`` with room on both sides: half of their range, within the support.

        >>> Axis.around(np.array([0.10, 0.12]), name="r", support="positive", unit="nm").low.__round__(4)
        0.09
        """
        if support == "circle":
            return Axis(name, support, unit, -np.pi, np.pi, bins)
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        room = max(0.5 * (high - low), LEAST_ROOM.get(unit, 1e-6))
        floor = 0.0 if support in ("positive", "interval") else -np.inf
        ceiling = np.pi if support == "interval" else np.inf
        # A bound of the support is a bin edge, so that only what cannot be lies outside.
        return Axis(name, support, unit, max(low - room, floor), min(high + room, ceiling) + 1e-9, bins)


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
) -> Histogram:
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
    axis = Axis("angle", "circle", "rad", -np.pi, np.pi, bins)
    cell, w = axis.cells(angle), frame_weights(log_w, len(angle))
    label = independent_blocks(len(w)) if trajectory is None else trajectory_blocks(len(w), trajectory=trajectory)
    sums = histogram_by_block(cell, w, label, bins)
    return histogram_of(axis, sums, n=len(w), ess=float(w.sum() ** 2 / (w * w).sum()))


def histogram_of(axis: Axis, sums: Float[ndarray, "blocks cells"], *, n: int, ess: float) -> Histogram:
    """Density and its error, by the delta method over blocks, from the weights in every cell of every block.

    Args:
        axis: how the cells were cut.
        sums: weight in every cell, block by block.
        n, ess: frames, and what they are worth.
    """
    total, blocks = sums.sum(), len(sums)
    share = sums.sum(0) / total
    # Delta method for the ratio (weight in bin) / (weight).
    residual = sums - sums.sum(1, keepdims=True) * share
    error = np.sqrt((residual**2).sum(0) * blocks / max(blocks - 1, 1)) / total
    inside = slice(0, axis.bins) if axis.circle else slice(1, axis.bins + 1)
    per_unit = axis.bins / (axis.high - axis.low)
    outside = 0.0 if axis.circle else float(share[0] + share[-1])
    return Histogram(
        axis.edges, share[inside] * per_unit, error[inside] * per_unit, n, ess, axis.support, axis.unit, outside
    )


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
