"""How far an ensemble is from a reference, beside the noise floor: how far halves of the reference are apart.

A divergence between histograms is positive even for two samples of one distribution and shrinks with their size, so
one number alone says nothing. Here both numbers come from the same estimator, with as many frames and the same weights:

1. The reference is cut in blocks (whole trajectories, or long runs in time), which are dealt at random into halves A
   and B, ``splits`` times. Halves are thinned evenly in time to ``m = min(reference frames / 2, model frames)`` frames.
2. The model enters with its first m frames and their importance weights.
3. ``value`` is the mean over splits of ``(d(A, model) + d(B, model)) / 2``. ``floor`` is that of
   ``(d(A, B*) + d(B, A*)) / 2``, where ``*`` means that the half carries the weights of the model, dealt at random to
   its frames: it stands in for a perfect model of the same effective sample size.

``ratio = value / floor`` is about 1 for a perfect model. The floor contains the correlation in time of the reference:
one that is far above ``ideal_floor`` (the same frames dealt one by one, as if they were independent) says that the
reference itself has not converged, and a ratio near 1 then means little. Likewise a large floor from a small effective
sample size: a ratio near 1 then says that the comparison cannot see more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.histograms import frame_weights, histogram_by_block
from molifold.analysis.uncertainty import CORRELATED, trajectory_blocks

#: Numbers in one array of the jackknife: larger ones leave the cache.
LARGEST = 65_536

#: d(p, q) along the last axis; p is the reference.
Measure = Callable[[ndarray, ndarray], ndarray]


@dataclass(frozen=True)
class Divergence:
    """A divergence from the reference beside its noise floor (see the top of this module).

    ``error`` and ``floor_error`` are jackknife standard errors (over groups of model frames and over blocks of the
    reference), ``floor_high`` the 95 % quantile of the floor over random halves: a perfect model exceeds it once in
    twenty times. ``plain`` is the same divergence of all frames against all frames, without any matching of sizes
    (the number that papers print). ``frames`` is the number of frames on each side, ``ess`` what those of the model
    are worth (Kish).
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
    frames: int
    ess: float

    @property
    def spread(self) -> float:
        """Standard error of ``value - floor``."""
        return float(np.hypot(self.error, max(self.floor_error, (self.floor_high - self.floor) / 1.645)))

    @property
    def excess(self) -> float:
        """``value - floor`` in standard errors."""
        return (self.value - self.floor) / self.spread if self.spread > 0 else float("inf") * (self.value - self.floor)

    def __repr__(self) -> str:
        return (
            f"{self.measure} {self.value:.4g} +- {self.error:.1g}, floor {self.floor:.4g} +- {self.floor_error:.1g} "
            f"(ratio {self.ratio:.2f} +- {self.ratio_error:.2f}; {self.frames} frames, ESS {self.ess:.0f})"
        )


@dataclass(frozen=True)
class _Reference:
    """Histograms of the blocks of the reference, plain and with the weights of the model, and their random halvings."""

    plain: Float[ndarray, "blocks cells"]
    weighted: Float[ndarray, "blocks cells"]
    halves: Float[ndarray, "splits blocks"]
    measure: Measure

    @cached_property
    def sums(self) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """Halves A and B, plain and weighted [splits, cells]."""
        a, b = self.halves, 1 - self.halves
        return a @ self.plain, b @ self.plain, a @ self.weighted, b @ self.weighted

    def without(self, blocks: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """The same with each of ``blocks`` left out in turn [blocks, splits, cells]."""
        a = self.halves[:, blocks].T[..., None]
        gone = [part[blocks, None] for part in (self.plain, self.plain, self.weighted, self.weighted)]
        # Sums of weights that cancel may come out as -1e-17.
        left = (np.maximum(s - k * g, 0.0) for s, k, g in zip(self.sums, (a, 1 - a, a, 1 - a), gone, strict=True))
        return tuple(left)  # type: ignore[return-value]

    def value(self, sums: Sequence[ndarray], model: Float[ndarray, "*batch cells"]) -> Float[ndarray, "*batch"]:
        """Mean divergence of the model from both halves."""
        a, b, _, _ = sums
        model = model[..., None, :]
        return 0.5 * (self.measure(a, model) + self.measure(b, model)).mean(-1)

    def floors(self, sums: Sequence[ndarray]) -> Float[ndarray, "*batch splits"]:
        """Divergence between halves, one of them in the place of the model."""
        a, b, a_weighted, b_weighted = sums
        return 0.5 * (self.measure(a, b_weighted) + self.measure(b, a_weighted))


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
    >>> d.frames, bool(d.ratio < 3)
    (20000, True)
    """
    if len(reference) < 4:
        raise ValueError(f"reference: got {len(reference)} frames, expected at least 4 to make two halves")
    all_weights = frame_weights(log_w, len(model))
    m = min(len(reference) // 2, len(model))
    w = all_weights[:m]
    if not w.any():
        raise ValueError(
            f"log_w: got -inf for the first {m} frames, which are compared; expected some of finite weight"
        )
    rng = np.random.default_rng(seed)
    label = trajectory_blocks(len(reference), trajectory=trajectory, blocks=2 * CORRELATED)
    # Frames block after block, then every so-manyth: an even thinning in time.
    kept = np.argsort(label, kind="stable")[np.arange(2 * m) * len(reference) // (2 * m)]
    cell, label = reference[kept], np.unique(label[kept], return_inverse=True)[1]
    # Where one frame carries all the weight, a half without it must still have a histogram.
    dealt = np.maximum(rng.permutation(np.concatenate([w, w])), 1e-30)
    return divergence_of(
        histogram_by_block(model[:m], w, np.arange(m) % min(m, CORRELATED), n_cells),
        histogram_by_block(cell, np.ones(2 * m), label, n_cells),
        weighted=histogram_by_block(cell, dealt, label, n_cells),
        measure=measure,
        name=name,
        plain=float(
            measure(
                np.bincount(reference, minlength=n_cells), np.bincount(model, weights=all_weights, minlength=n_cells)
            )
        ),
        frames=m,
        ess=float(w.sum() ** 2 / (w * w).sum()),
        splits=splits,
        seed=seed,
    )


def divergence_of(
    groups: Float[ndarray, "groups cells"],
    reference: Float[ndarray, "blocks cells"],
    *,
    weighted: Float[ndarray, "blocks cells"],
    measure: Measure,
    name: str,
    plain: float,
    frames: int,
    ess: float,
    splits: int = 16,
    seed: int = 0,
) -> Divergence:
    """``compare``, from histograms of groups of model frames and of blocks of the reference.

    Args:
        groups: weight of the model's m frames in every cell, by group.
        reference: the reference's 2m frames, by block.
        weighted: the same with the weights of the model dealt to the frames.
        measure, name, splits, seed: as for ``compare``.
        plain, frames, ess: as in ``Divergence``.

    >>> from molifold.analysis.histograms import jensen_shannon
    >>> a, b = np.full((8, 4), 250.0), np.full((16, 4), 250.0)
    >>> d = divergence_of(a, b, weighted=b, measure=jensen_shannon, name="JSD", plain=0.0, frames=8000, ess=8000)
    >>> d.value, d.floor
    (0.0, 0.0)
    """
    rng = np.random.default_rng(seed)
    seen = reference.any(0) | groups.any(0)  # cells that are empty on both sides add nothing to any divergence
    known = _Reference(
        plain=reference[:, seen],
        weighted=weighted[:, seen],
        halves=_halves(len(reference), splits, rng),
        measure=measure,
    )
    return Divergence(
        measure=name,
        **_numbers(known, groups[:, seen]),
        ideal_floor=_ideal_floor(reference[:, seen].sum(0), frames, ess, measure, rng),
        plain=plain,
        frames=frames,
        ess=ess,
    )


def _numbers(known: _Reference, groups: Float[ndarray, "groups cells"]) -> dict[str, float]:
    """Value, floor and ratio with jackknife errors over groups of model frames and blocks of the reference."""
    model = groups.sum(0)
    value, floors = float(known.value(known.sums, model)), known.floors(known.sums)
    floor = float(floors.mean())
    left = model - groups
    left = left[left.sum(1) > 1e-9 * model.sum()]  # a group that carries all the weight leaves nothing to compare
    at_once = max(LARGEST // known.sums[0].size, 1)
    left_model = [known.value(known.sums, left[k : k + at_once]) for k in range(0, len(left), at_once)]
    left_value, left_floor = [], []
    for k in range(0, len(known.plain), at_once):
        sums = known.without(np.arange(k, min(k + at_once, len(known.plain))))
        left_value.append(known.value(sums, model))
        left_floor.append(known.floors(sums).mean(-1))
    values, others = np.concatenate(left_value), np.concatenate(left_floor)
    error = _spread(np.concatenate([*left_model, []]))
    ratio_error = np.hypot(error / floor, _spread(values / others)) if floor > 0 else np.nan
    return {
        "value": value,
        "error": error,
        "floor": floor,
        "floor_error": _spread(others),
        "floor_high": float(np.quantile(floors, 0.95)),
        "ratio": value / floor if floor > 0 else np.nan,
        "ratio_error": float(ratio_error),
    }


def _halves(blocks: int, splits: int, rng: np.random.Generator) -> Float[ndarray, "splits blocks"]:
    """Which blocks are in half A, for every split (1) or not (0)."""
    return np.stack([rng.permutation(blocks) < (blocks + 1) // 2 for _ in range(splits)]).astype(float)


def _spread(left_out: Sequence[float] | ndarray) -> float:
    """Jackknife standard error of statistics with one block left out."""
    return float(np.sqrt((len(left_out) - 1) * np.var(left_out))) if len(left_out) > 1 else float("nan")


def _ideal_floor(
    counts: ndarray, frames: int, ess: float, measure: Measure, rng: np.random.Generator, repeats: int = 16
) -> float:
    # The same frames dealt one by one, as if they were independent; the second half keeps what it is worth.
    whole = np.rint(counts * (2 * frames / counts.sum())).astype(np.int64)
    first = rng.multivariate_hypergeometric(whole, int(whole.sum()) // 2, size=repeats)
    rest = whole - first
    worth = np.clip(int(ess), 1, rest.sum(1))
    second = [rng.multivariate_hypergeometric(row, k) for row, k in zip(rest, worth, strict=True)]
    return float(np.mean(measure(first.astype(float), np.array(second, dtype=float))))
