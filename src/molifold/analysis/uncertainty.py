"""Errors of averages: bootstrap and jackknife over blocks of frames, for independent draws and for trajectories.

Every estimator of this package is a function of sums over frames. Summed once per block, the sums of a bootstrap
replicate are a small matrix product, so that a million frames cost no more than a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

#: Blocks for independent draws: enough that the bootstrap error is itself known to sqrt(2 / 1000), 5 %.
INDEPENDENT = 1000
#: Blocks for trajectories: fewer, so that each is long against the correlation time.
CORRELATED = 32
#: More blocks than this are merged (memory of two-dimensional histograms per block).
MOST = 256

#: Sokal's window: the sum over lags stops where the lag exceeds this many correlation times.
WINDOW = 5.0

Statistic = Callable[[ndarray], ndarray]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    ``error`` is the bootstrap standard error, ``low`` to ``high`` the 95 % interval, ``block_error`` the jackknife
    standard error over a few long blocks: much larger than ``error``, it says that the frames are correlated.

    >>> Estimate(value=0.0219, error=0.0012, low=0.0195, high=0.0243, block_error=0.0013, n=100_000)
    0.0219 +- 0.0012 (95 %: 0.0195 to 0.0243)
    """

    value: float
    error: float
    low: float
    high: float
    block_error: float
    n: int

    def __contains__(self, value: float) -> bool:
        """Whether ``value`` lies in the 95 % interval."""
        return self.low <= value <= self.high

    def __repr__(self) -> str:
        digits = 4 if not (self.error > 0 and math.isfinite(self.error)) else max(0, 1 - _exponent(self.error))
        value, error, low, high = (f"{v:.{digits}f}" for v in (self.value, self.error, self.low, self.high))
        return f"{value} +- {error} (95 %: {low} to {high})"


def _exponent(x: float) -> int:
    return math.floor(math.log10(abs(x)))


def independent_blocks(frames: int) -> Int[ndarray, " frames"]:
    """Block of every frame when frames are independent draws: up to 1000 equal groups, dealt like cards.

    >>> independent_blocks(3)
    array([0, 1, 2])
    """
    return np.arange(frames) % INDEPENDENT


def trajectory_blocks(
    frames: int, *, trajectory: Int[ndarray, " frames"] | None = None, blocks: int = CORRELATED
) -> Int[ndarray, " frames"]:
    """Block of every frame of molecular dynamics: whole trajectories, or equal runs of them in time.

    Frames of one trajectory must be in time order (trajectories may be interleaved). With fewer trajectories than
    ``blocks`` each is cut in equal runs; more than 256 trajectories are merged into 256 groups.

    Raises:
        ValueError: if ``trajectory`` has another length than ``frames``.

    >>> trajectory_blocks(6, trajectory=np.array([0, 0, 0, 0, 7, 7]), blocks=3)
    array([0, 0, 1, 1, 2, 2])
    """
    if trajectory is None:
        trajectory = np.zeros(frames, dtype=np.int64)
    if len(trajectory) != frames:
        raise ValueError(f"trajectory: got {len(trajectory)} entries, expected one per frame ({frames})")
    _, labels, counts = np.unique(trajectory, return_inverse=True, return_counts=True)
    order = np.argsort(labels, kind="stable")
    place = np.empty(frames, dtype=np.int64)
    place[order] = np.arange(frames) - np.repeat(np.cumsum(counts) - counts, counts)
    pieces = np.clip(np.rint(blocks * counts / max(frames, 1)).astype(np.int64), 1, counts)
    label = (np.cumsum(pieces) - pieces)[labels] + place * pieces[labels] // counts[labels]
    total = int(pieces.sum())
    return label if total <= MOST else label * MOST // total


def block_sums(
    labels: Int[ndarray, " frames"], features: Float[ndarray, "frames features"]
) -> Float[ndarray, "blocks features"]:
    """Sums of every feature over the frames of every block.

    >>> block_sums(np.array([0, 0, 1]), np.array([[1.0], [2.0], [4.0]]))
    array([[3.],
           [4.]])
    """
    return np.stack([np.bincount(labels, weights=column) for column in np.asarray(features, dtype=float).T], axis=1)


def bootstrap(
    sums: Float[ndarray, "blocks features"], statistic: Statistic, *, repeats: int = 400, seed: int = 0
) -> Float[ndarray, " repeats"]:
    """Replicates of ``statistic(sums over frames)`` with blocks drawn with replacement (Efron 1979).

    ``statistic`` maps ``[repeats, features]`` to ``[repeats]``.

    >>> replicates = bootstrap(np.ones((10, 2)), lambda s: s[..., 0] / s[..., 1])
    >>> replicates.shape, float(replicates.std())
    ((400,), 0.0)
    """
    n = len(sums)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=repeats)
    return statistic(counts.astype(float) @ sums)


def jackknife(sums: Float[ndarray, "blocks features"], statistic: Statistic) -> float:
    """Standard error of ``statistic`` by leaving out one block at a time; NaN for fewer than two blocks.

    >>> x = np.arange(9.0)
    >>> error = jackknife(np.stack([x, np.ones(9)], axis=1), lambda s: s[..., 0] / s[..., 1])
    >>> bool(np.isclose(error, x.std(ddof=1) / 3))
    True
    """
    n = len(sums)
    if n < 2:
        return math.nan
    left_out = statistic(sums.sum(0) - sums)
    return float(np.sqrt((n - 1) * np.var(left_out)))


def estimate(
    features: Float[ndarray, "frames features"],
    statistic: Statistic,
    *,
    trajectory: Int[ndarray, " frames"] | None = None,
    correlated: bool = False,
    repeats: int = 400,
    seed: int = 0,
) -> Estimate:
    """``statistic`` of the sums over frames, with bootstrap error, block error and 95 % interval.

    Independent draws (the default) are resampled frame by frame (in up to 1000 groups); frames of molecular dynamics
    (``trajectory`` given, or ``correlated``) by whole trajectories or long runs. The interval is the value plus and
    minus Student's t times the error.

    >>> x = np.random.default_rng(0).normal(size=(10_000, 1))
    >>> mean = estimate(np.hstack([x, np.ones_like(x)]), lambda s: s[..., 0] / s[..., 1])
    >>> 0.0 in mean, round(mean.error, 2)
    (True, 0.01)
    """
    frames = len(features)
    long = block_sums(trajectory_blocks(frames, trajectory=trajectory), features)
    if correlated or trajectory is not None:
        sums = long
    else:
        sums = block_sums(independent_blocks(frames), features)
    return estimate_of_sums(sums, statistic, frames=frames, long=long, repeats=repeats, seed=seed)


def estimate_of_sums(
    sums: Float[ndarray, "blocks features"],
    statistic: Statistic,
    *,
    frames: int,
    long: Float[ndarray, "long_blocks features"] | None = None,
    repeats: int = 400,
    seed: int = 0,
) -> Estimate:
    """``estimate``, from sums over blocks that were counted before.

    Args:
        sums: of every feature over the frames of every block.
        statistic: of the sums.
        frames: how many were summed.
        long: sums over a few long blocks, for the block error; the default is ``sums``.
        repeats, seed: of the bootstrap.

    >>> estimate_of_sums(np.array([[1.0, 2], [3, 2], [1, 2], [3, 2]]), lambda s: s[..., 0] / s[..., 1], frames=8).value
    1.0
    """
    from scipy.special import stdtrit

    n = len(sums)
    value = float(statistic(sums.sum(0)))
    if n < 2:
        return Estimate(value=value, error=math.nan, low=-math.inf, high=math.inf, block_error=math.nan, n=frames)
    with np.errstate(divide="ignore", invalid="ignore"):  # a replicate of a few frames may have no weight at all
        replicates = bootstrap(sums, statistic, repeats=repeats, seed=seed)
        block_error = jackknife(sums if long is None else long, statistic)
    # The plain bootstrap of n blocks is too small by sqrt((n - 1) / n).
    error = float(np.std(replicates[np.isfinite(replicates)], ddof=1)) * math.sqrt(n / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * error
    return Estimate(value=value, error=error, low=value - half, high=value + half, block_error=block_error, n=frames)


def autocorrelation_time(runs: Sequence[Float[ndarray, "frames features"]]) -> Estimate | None:
    """Integrated autocorrelation time in frames, ``1/2 + sum_t rho(t)``: two such times make an independent frame.

    The autocorrelation of all features together, averaged over the runs; summed as far as Sokal's window. None where
    nothing varies or there is no order in time.

    Args:
        runs: frames in time order.

    Reference: A. Sokal, in Functional Integration, Springer (1997), also for the error.

    >>> rng = np.random.default_rng(0)
    >>> autocorrelation_time([rng.normal(size=(4000, 1))]).value.__round__(1)
    0.5
    """
    runs = [r for r in runs if len(r) > 2]
    if not runs:
        return None
    mean = np.concatenate(runs).mean(0)
    total, pairs = np.zeros(max(map(len, runs))), np.zeros(max(map(len, runs)))
    for r in runs:
        n = len(r)
        spectrum = np.abs(np.fft.rfft(r - mean, 2 * n, axis=0)) ** 2
        total[:n] += np.fft.irfft(spectrum.sum(1), 2 * n)[:n]
        pairs[:n] += np.arange(n, 0, -1)
    covariance = total / pairs
    if not covariance[0] > 1e-14:
        return None
    tau = 0.5 + np.cumsum(covariance[1:]) / covariance[0]
    inside = np.arange(1, len(tau) + 1) < WINDOW * tau
    window = len(tau) if inside.all() else int(np.argmin(inside)) + 1
    value = max(float(tau[window - 1]), 0.5)
    frames = int(pairs[0])
    error = value * math.sqrt(2 * (2 * window + 1) / frames)
    return Estimate(value, error, value - 1.96 * error, value + 1.96 * error, math.nan, frames)
