"""Free-energy surfaces along any one or two columns, in kT, with error bands from blocks of trajectories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.clusters import temperature_of
from molifold.analysis.columns import measure
from molifold.analysis.features import periodic_columns
from molifold.analysis.free_energy import blocks_of
from molifold.analysis.histograms import BINS, frame_weights, histogram_by_block
from molifold.analysis.uncertainty import trajectory_blocks
from molifold.ensemble import Ensemble

#: Blocks of independent draws: maps of every block are kept.
DRAWS = 64
#: Bandwidths tried by cross-validation, in bins.
BANDWIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Axis:
    """One axis of a surface: equal bins between ``edges`` of column ``name``."""

    name: str
    edges: Float[ndarray, " edges"]
    periodic: bool

    @property
    def centres(self) -> Float[ndarray, " bins"]:
        """Middle of every bin."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(self.edges[1] - self.edges[0])

    def cells(self, value: Float[ndarray, " frames"]) -> Int[ndarray, " frames"]:
        """Bin of every value; -1 outside of the edges.

        Raises:
            ValueError: if a value is not finite.
        """
        value = np.asarray(value, dtype=np.float64)
        if value.ndim != 1 or not np.isfinite(value).all():
            raise ValueError(
                f"{self.name}: got shape {value.shape} with {int((~np.isfinite(value)).sum())} NaN or infinite values, "
                "expected one finite number per frame"
            )
        bins = len(self.edges) - 1
        cell = np.floor((value - self.edges[0]) / self.width).astype(np.int64)
        if self.periodic:
            return cell % bins
        cell[value == self.edges[-1]] = bins - 1
        return np.where((cell < 0) | (cell >= bins), -1, cell)


@dataclass(frozen=True)
class Surface:
    """Free energy in kT over one or two axes, zero at its minimum; infinite where no frame fell (histogram).

    ``free_energy`` has the error of ``-log density`` in every bin; ``-log density`` is ``free_energy + offset``. Where
    no frame fell, ``low`` is the 95 % bound that the effective number of counts allows. ``bandwidth`` (one per axis, in
    the unit of the axis) is None for a histogram; the bias of smoothing is not part of the error. ``sums`` are the
    (smoothed) weights of every block, of which errors are made. ``counts`` is the number of independent frames that
    would scatter as much as the blocks do.
    """

    axes: tuple[Axis, ...]
    free_energy: Band
    offset: float
    bandwidth: tuple[float, ...] | None
    sums: Float[ndarray, "blocks *bins"]
    n: int
    ess: float
    counts: float
    temperature: float

    @property
    def names(self) -> tuple[str, ...]:
        """Of the axes."""
        return tuple(axis.name for axis in self.axes)

    def replicates(self, repeats: int, *, seed: int = 0) -> Float[ndarray, "repeats *bins"]:
        """Bootstrap replicates of the free energy over blocks, on the scale of ``free_energy.value``."""
        blocks = len(self.sums)
        drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=repeats)
        total = np.tensordot(drawn.astype(float), self.sums, axes=1)
        cell = math.prod(axis.width for axis in self.axes)
        mass = total.reshape(repeats, -1).sum(1).reshape(-1, *[1] * len(self.axes))
        scale = float(self.sums.sum()) / (mass * cell * self._weight)
        with np.errstate(divide="ignore"):
            return -np.log(total * scale) - self.offset

    @property
    def _weight(self) -> float:
        """All weight, also of frames outside of the axes."""
        cell = math.prod(axis.width for axis in self.axes)
        with np.errstate(divide="ignore"):
            inside = float(np.exp(-(self.free_energy.value + self.offset)).sum() * cell)
        return float(self.sums.sum()) / inside

    def __repr__(self) -> str:
        shape = " x ".join(str(len(axis.edges) - 1) for axis in self.axes)
        kind = "histogram" if self.bandwidth is None else "KDE"
        return f"Surface({' x '.join(self.names)}: {kind}, {shape} bins, {self.n} frames, {self.counts:.0f} counts)"


def free_energy_surface(
    ensemble: Ensemble,
    names: str | Sequence[str],
    *,
    method: Literal["histogram", "kde"] = "histogram",
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = BINS,
    bandwidth: float | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    periodic: Sequence[str] | None = None,
) -> Surface:
    """Free energy ``-log density`` along one or two columns.

    Args:
        ensemble: conformations; torsions are measured where they are no columns yet.
        names: one or two columns or torsions.
        method: "histogram", or "kde" (Gaussian kernels on the grid, wrapped on periodic axes).
        log_w: log importance weights (also those of ``mbar``); None counts every frame once.
        bins: per axis.
        bandwidth: of the kernels, in bins; None chooses it by the likelihood of left-out blocks.
        ranges: of axes that are not periodic; the default is all frames. Frames outside are counted, but not shown.
        periodic: which columns are angles in radians; None takes the torsions of the molecule.

    Raises:
        KeyError: if a column is missing.
        ValueError: if there are not one or two names, a value is not finite, or weights are bad.

    >>> from molifold import Molecule
    >>> phi = np.random.default_rng(0).vonmises(0.0, 2.0, 20_000)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((20_000, 1, 3)), log_q=np.zeros(20_000), columns={"phi": phi})
    >>> s = free_energy_surface(e, "phi", bins=16)
    >>> s, round(float(s.free_energy.value[0] - s.free_energy.value[8]), 1)         # 2 k (cos 0 - cos pi) = 4 nearly
    (Surface(phi: histogram, 16 bins, 20000 frames, ... counts), 3.8)
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if len(names) not in (1, 2):
        raise ValueError(f"names: got {len(names)} columns, expected one or two")
    if method not in ("histogram", "kde"):
        raise ValueError(f"method: got {method!r}, expected 'histogram' or 'kde'")
    ensemble = measure(ensemble, names=names)
    circular = periodic_columns(ensemble, names, periodic=periodic)
    axes = tuple(_axis(ensemble, n, bins, circular=n in circular, given=(ranges or {}).get(n)) for n in names)
    w = frame_weights(log_w, len(ensemble))
    sums = block_maps(ensemble, axes, w)
    counts = max(effective_counts(sums), 1.0)
    chosen = None
    if method == "kde":
        multiple = bandwidth if bandwidth is not None else _cross_validated(sums, axes)
        sums = smooth(sums, axes, multiple)
        chosen = tuple(multiple * axis.width for axis in axes)
    return _surface(axes, sums, w, chosen, counts=counts, temperature=temperature_of(ensemble))


def _axis(ensemble: Ensemble, name: str, bins: int, *, circular: bool, given: tuple[float, float] | None) -> Axis:
    if bins < 2:
        raise ValueError(f"bins: got {bins}, expected 2 or more")
    if circular:
        return Axis(name, np.linspace(-np.pi, np.pi, bins + 1), periodic=True)
    value = np.asarray(ensemble.columns[name], dtype=np.float64)
    low, high = given or (float(np.nanmin(value)), float(np.nanmax(value)))
    if not low < high:
        raise ValueError(f"{name}: got the range {low:g} to {high:g}, expected values that differ")
    return Axis(name, np.linspace(low, high, bins + 1), periodic=False)


def block_maps(
    ensemble: Ensemble, axes: Sequence[Axis], w: Float[ndarray, " frames"]
) -> Float[ndarray, "blocks *bins"]:
    """Weight in every bin, block by block: blocks of trajectories, or groups of independent draws."""
    shape = tuple(len(axis.edges) - 1 for axis in axes)
    index = [axis.cells(ensemble.columns[axis.name]) for axis in axes]
    inside = np.all([cell >= 0 for cell in index], axis=0)
    flat = np.ravel_multi_index([np.where(inside, cell, 0) for cell in index], shape)
    dependence = blocks_of(ensemble)
    if dependence["correlated"]:
        label = trajectory_blocks(len(ensemble), trajectory=dependence["trajectory"])
    else:
        label = np.arange(len(ensemble)) % DRAWS
    return histogram_by_block(flat, w * inside, label, math.prod(shape)).reshape(-1, *shape)


def smooth(
    sums: Float[ndarray, "blocks *bins"], axes: Sequence[Axis], bandwidth: float
) -> Float[ndarray, "blocks *bins"]:
    """Maps convolved with a Gaussian of ``bandwidth`` bins: wrapped on periodic axes, reflected at the others' ends."""
    from scipy.ndimage import gaussian_filter1d

    for i, axis in enumerate(axes, start=1):
        mode = "wrap" if axis.periodic else "reflect"
        sums = gaussian_filter1d(sums, bandwidth, axis=i, mode=mode, truncate=6.0)
    return sums


def _cross_validated(sums: ndarray, axes: Sequence[Axis]) -> float:
    """The bandwidth under which left-out blocks are likeliest."""
    total = sums.sum(0)
    best = (-math.inf, BANDWIDTHS[-1])
    for multiple in BANDWIDTHS:
        rest = smooth(total[None] - sums, axes, multiple)
        mass = np.maximum(rest.reshape(len(rest), -1).sum(1), 1e-300).reshape(-1, *[1] * len(axes))
        best = max(best, (float((sums * np.log(np.maximum(rest / mass, 1e-12))).sum()), multiple))
    return best[1]


def effective_counts(sums: Float[ndarray, "blocks *bins"]) -> float:
    """Independent draws that would scatter over the bins as much as the blocks do.

    ``sum p (1 - p) / sum var(p)`` over bins: of ``n`` independent draws this is n, of a trajectory about its length
    over twice the correlation time.

    >>> counts = np.random.default_rng(0).multinomial(1000, [0.1, 0.2, 0.7], size=64).astype(float)
    >>> 40_000 < effective_counts(counts) < 100_000
    True
    """
    flat = sums.reshape(len(sums), -1)
    blocks, total = len(flat), float(flat.sum())
    if blocks < 2 or total <= 0:
        return 1.0
    p = flat.sum(0) / total
    variance = block_variance(flat)
    return float((p * (1 - p)).sum() / variance.sum()) if variance.sum() > 0 else total


def block_variance(flat: Float[ndarray, "blocks bins"]) -> Float[ndarray, " bins"]:
    """Variance of the share of every bin: delta method for (weight in bin) / (weight), over blocks.

    >>> block_variance(np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([0.25, 0.25])
    """
    blocks, total = len(flat), float(flat.sum())
    residual = flat - flat.sum(1, keepdims=True) * (flat.sum(0) / total)
    return (residual**2).sum(0) / total**2 * blocks / max(blocks - 1, 1)


def _surface(
    axes: tuple[Axis, ...],
    sums: ndarray,
    w: ndarray,
    bandwidth: tuple[float, ...] | None,
    *,
    counts: float,
    temperature: float,
) -> Surface:
    from scipy.special import stdtrit

    flat, shape = sums.reshape(len(sums), -1), sums.shape[1:]
    total = flat.sum(0)
    if not total.sum() > 0:
        raise ValueError("ranges: got ranges without any frame, expected some inside")
    cell, weight = math.prod(axis.width for axis in axes), float(w.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        minus_log = -np.log(total / (weight * cell))
        error = np.where(total > 0, np.sqrt(block_variance(flat)) * total.sum() / total, math.inf)
        half = float(stdtrit(max(len(flat) - 1, 1), 0.975)) * error
        offset = float(minus_log.min())
        low, high = minus_log - half, minus_log + half
    # three counts are the 95 % bound when none was seen
    unseen = -math.log(min(3.0 / counts, 1.0) / cell)
    low = np.where(total > 0, low, unseen)
    parts = (
        (a - shift).reshape(shape) for a, shift in ((minus_log, offset), (error, 0.0), (low, offset), (high, offset))
    )
    ess = float(weight**2 / (w * w).sum())
    return Surface(axes, Band(*parts), offset, bandwidth, sums, len(w), ess, counts, temperature)
