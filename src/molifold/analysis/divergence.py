"""How far an ensemble is from a reference, beside the noise floor: how far halves of the reference are apart.

A divergence between histograms is positive even for two samples of one distribution and shrinks with their size, so
one number alone says nothing. Here both numbers come from the same estimator at the same size:

1. The reference is cut in blocks (whole trajectories, or long runs in time). Blocks are dealt at random into halves
   A and B, ``splits`` times. Each half is thinned evenly in time to n frames.
2. The model enters with as many frames as have a Kish effective sample size of n. ``n = min(frames / 2, ESS)``, so
   neither side is compared at a size that the other does not have. (Kish's size is the right one as far as the weights
   do not depend on the histogrammed coordinate itself: most of their spread comes from the other coordinates.)
3. ``value`` is the mean over splits of ``(d(A, model) + d(B, model)) / 2``, ``floor`` that of
   ``(d(A, B) + d(B, A)) / 2``.

``ratio = value / floor`` is about 1 for a perfect model. The floor contains the correlation in time of the reference:
one that is far above ``ideal_floor`` (halves of the same frames dealt one by one, as if they were independent) says
that the reference itself has not converged, and a ratio near 1 then means little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.histograms import (
    frame_weights,
    histogram_by_block,
)
from molifold.analysis.uncertainty import CORRELATED, trajectory_blocks

#: d(p, q) along the last axis; p is the reference.
Measure = Callable[[ndarray, ndarray], ndarray]


@dataclass(frozen=True)
class Divergence:
    """A divergence from the reference beside its noise floor (see the top of this module).

    ``error`` and ``floor_error`` are jackknife standard errors (over groups of model frames and over blocks of the
    reference), ``floor_high`` the 95 % quantile of the floor over random halves: a perfect model exceeds it once in
    twenty times. ``plain`` is the same divergence of all frames against all frames, without any matching of sizes
    (the number that papers print). ``size`` is the effective number of frames on each side, ``model_frames`` how many
    drawn frames that took.
    """

    measure: str
    value: float
    error: float
    floor: float
    floor_error: float
    floor_high: float
    ideal_floor: float
    ratio: float
    ratio_error: float
    plain: float
    size: int
    model_frames: int

    def __repr__(self) -> str:
        return (
            f"{self.measure} {self.value:.4g} +- {self.error:.1g}, floor {self.floor:.4g} +- {self.floor_error:.1g} "
            f"(ratio {self.ratio:.2f} +- {self.ratio_error:.2f}; n = {self.size} on each side)"
        )


def compare(
    model: Int[ndarray, " frames"],
    reference: Int[ndarray, " reference_frames"],
    *,
    n_cells: int,
    measure: Measure,
    name: str,
    log_w: Float[ndarray, " frames"] | None = None,
    trajectory: Int[ndarray, " reference_frames"] | None = None,
    splits: int = 16,
    seed: int = 0,
) -> Divergence:
    """Divergence of two samples given as histogram cells, with the noise floor of the reference.

    Args:
        model: cell of every frame of the model, independent draws.
        reference: cell of every frame of the reference, in time order within a trajectory.
        n_cells: number of cells.
        measure: ``d(reference histogram, model histogram)`` along the last axis.
        name: of the measure, with its unit.
        log_w: log importance weights of the model's frames.
        trajectory: trajectory of every frame of the reference.
        splits: random halvings of the reference.
        seed: of the halvings.

    Raises:
        ValueError: if there are fewer than 4 reference frames, or weights are bad.

    >>> from molifold.analysis.histograms import jensen_shannon
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.integers(0, 8, 20_000), rng.integers(0, 8, 60_000)
    >>> d = compare(a, b, n_cells=8, measure=jensen_shannon, name="JSD (bits)")
    >>> d.size, bool(d.ratio < 3)
    (20000, True)
    """
    if len(reference) < 4:
        raise ValueError(f"reference: got {len(reference)} frames, expected at least 4 to make two halves")
    w = frame_weights(log_w, len(model))
    fraction = w.sum() ** 2 / (w * w).sum() / len(w)
    size = max(1, int(min(len(reference) // 2, fraction * len(w))))
    used = min(len(w), round(size / fraction))
    rng = np.random.default_rng(seed)

    label = trajectory_blocks(len(reference), trajectory=trajectory, blocks=2 * CORRELATED)
    ones = np.ones(len(reference))
    whole = histogram_by_block(reference, ones, label, n_cells)
    # Frames block after block, then every so-manyth: an even thinning in time.
    keep = np.argsort(label, kind="stable")[np.arange(2 * size) * len(reference) // (2 * size)]
    blocks = histogram_by_block(reference[keep], ones[keep], label[keep], n_cells)
    blocks = blocks[blocks.sum(1) > 0]
    group = np.arange(used) * min(used, CORRELATED) // used
    groups = histogram_by_block(model[:used], w[:used], group, n_cells)
    halves = _halves(len(blocks), splits, rng)

    value, floor = partial(_value, measure=measure, halves=halves), partial(_floor, measure=measure, halves=halves)
    m = groups.sum(0)
    values, floors = value(blocks, m), floor(blocks)
    left_model = [value(blocks, m - g).mean() for g in groups]
    kept = [np.arange(len(blocks)) != k for k in range(len(blocks))]
    left_floor = [floor(blocks, keep=k).mean() for k in kept]
    left_value = [value(blocks, m, keep=k).mean() for k in kept]
    return Divergence(
        measure=name,
        value=float(values.mean()),
        error=_spread(left_model),
        floor=float(floors.mean()),
        floor_error=_spread(left_floor),
        floor_high=float(np.quantile(floors, 0.95)),
        ideal_floor=_ideal_floor(blocks.sum(0), measure, rng),
        ratio=float(values.mean() / floors.mean()) if floors.mean() > 0 else float("nan"),
        ratio_error=float(
            np.hypot(
                _spread(np.asarray(left_model) / floors.mean()),
                _spread(np.asarray(left_value) / np.asarray(left_floor)),
            )
        ),
        plain=float(measure(whole.sum(0), np.bincount(model, weights=w, minlength=n_cells))),
        size=size,
        model_frames=used,
    )


def _halves(blocks: int, splits: int, rng: np.random.Generator) -> Float[ndarray, "splits blocks"]:
    """Which blocks are in half A, for every split (1) or not (0)."""
    return np.stack([rng.permutation(blocks) < (blocks + 1) // 2 for _ in range(splits)]).astype(float)


def _value(
    blocks: ndarray, model: ndarray, *, measure: Measure, halves: ndarray, keep: ndarray | None = None
) -> ndarray:
    a, b = _split(blocks, halves, keep)
    return 0.5 * (measure(a, model[None]) + measure(b, model[None]))


def _floor(blocks: ndarray, *, measure: Measure, halves: ndarray, keep: ndarray | None = None) -> ndarray:
    return _floor_of(*_split(blocks, halves, keep), measure)


def _split(blocks: ndarray, halves: ndarray, keep: ndarray | None) -> tuple[ndarray, ndarray]:
    inside = np.ones(len(blocks)) if keep is None else keep.astype(float)
    return (halves * inside) @ blocks, ((1 - halves) * inside) @ blocks


def _spread(left_out: Sequence[float] | ndarray) -> float:
    """Jackknife standard error of statistics with one block left out."""
    return float(np.sqrt((len(left_out) - 1) * np.var(left_out)))


def _ideal_floor(pooled: ndarray, measure: Measure, rng: np.random.Generator, repeats: int = 16) -> float:
    # Frames dealt one by one instead of in blocks: the same frames, without their correlation in time.
    counts = pooled.astype(np.int64)
    a = rng.multivariate_hypergeometric(counts, counts.sum() // 2, size=repeats)
    return float(_floor_of(a, counts - a, measure).mean())


def _floor_of(a: ndarray, b: ndarray, measure: Measure) -> ndarray:
    return 0.5 * (measure(a, b) + measure(b, a))
