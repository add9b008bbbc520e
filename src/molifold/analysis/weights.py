"""Importance weights: how many independent draws they are worth, whether to trust them, and averages under them.

With ``log_w = log_p - log_q`` of draws from q, everything here is invariant to a constant added to ``log_w``, except
``log_z``, which is about that constant. **No number here can see a region from which q never draws**: a generator
that lost a mode shows a high effective sample size and a small k-hat. Compare populations with a reference too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.uncertainty import Estimate, estimate

#: Fraction of the largest weights that TA-BG clips before it prints an effective sample size (arXiv 2501.19077, code).
CLIP = 1e-4


def checked_log_weights(log_w: Float[ndarray, " frames"], *, name: str = "log_w") -> Float[ndarray, " frames"]:
    """``log_w`` as float64, after checking that weights can be made of it.

    -inf is a weight of zero and allowed.

    Raises:
        ValueError: if it is not one-dimensional, is empty, has NaN or +inf, or all weights are zero.

    >>> checked_log_weights(np.array([0.0, np.nan]))
    Traceback (most recent call last):
    ...
    ValueError: log_w: got 1 NaN and 0 +inf of 2 entries (first at frame 1), expected finite numbers or -inf; ...
    """
    log_w = np.asarray(log_w, dtype=np.float64)
    if log_w.ndim != 1 or log_w.size == 0:
        raise ValueError(f"{name}: got shape {log_w.shape}, expected [frames] with at least one frame")
    bad = np.isnan(log_w) | np.isposinf(log_w)
    if bad.any():
        raise ValueError(
            f"{name}: got {np.isnan(log_w).sum()} NaN and {np.isposinf(log_w).sum()} +inf of {log_w.size} entries "
            f"(first at frame {int(np.argmax(bad))}), expected finite numbers or -inf; look at the energies of these "
            "frames (clashes overflow float32) and at log_q"
        )
    if np.isneginf(log_w).all():
        raise ValueError(f"{name}: got -inf for all {log_w.size} frames, expected at least one frame of finite weight")
    return log_w


def normalised_weights(log_w: Float[ndarray, " frames"]) -> Float[ndarray, " frames"]:
    """Weights that sum to one.

    Raises:
        ValueError: as ``checked_log_weights``.

    >>> normalised_weights(np.log([1.0, 3.0]) + 1000)
    array([0.25, 0.75])
    """
    log_w = checked_log_weights(log_w)
    w = np.exp(log_w - log_w.max())
    return w / w.sum()


@dataclass(frozen=True)
class EffectiveSampleSize:
    """Kish's effective sample size, clipped beside unclipped.

    ``ess`` draws out of ``n``; ``fraction = ess / n`` with standard error ``error`` and 95 % interval ``low`` to
    ``high``; ``max_weight`` is the share of the total weight that the heaviest frame carries. ``clipped_fraction``
    is what one would print after cutting the top ``clip`` of the weights: it is a biased figure, never the headline.
    """

    n: int
    ess: float
    fraction: float
    error: float
    low: float
    high: float
    max_weight: float
    clip: float
    clipped_fraction: float

    def __repr__(self) -> str:
        return (
            f"ESS {100 * self.fraction:.2f} +- {100 * self.error:.2f} % of {self.n} draws "
            f"(top {self.clip:g} of weights clipped: {100 * self.clipped_fraction:.2f} %)"
        )


def effective_sample_size(
    log_w: Float[ndarray, " frames"], *, clip: float = CLIP, repeats: int = 400, seed: int = 0
) -> EffectiveSampleSize:
    """Kish's effective sample size ``(sum w)^2 / sum w^2`` of independent draws, with its bootstrap error.

    The bootstrap knows only the weights that were drawn: with heavy tails (see ``pareto_k``) the true error is larger.

    Args:
        log_w: log importance weights of independent draws, up to a constant.
        clip: fraction of the largest weights cut to the smallest of them for the second figure (as in TA-BG, which
            clips nothing when the fraction is less than two frames).
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if ``log_w`` has NaN or +inf (see ``checked_log_weights``).

    Reference: L. Kish, Survey Sampling (1965); clipping: Schopmans and Friederich, arXiv 2501.19077.

    >>> effective_sample_size(np.zeros(1000))
    ESS 100.00 +- 0.00 % of 1000 draws (top 0.0001 of weights clipped: 100.00 %)
    """
    log_w = checked_log_weights(log_w)
    w = np.exp(log_w - log_w.max())
    features = np.stack([w, w * w, np.ones_like(w)], axis=1)
    kish = estimate(features, lambda s: s[..., 0] ** 2 / (s[..., 1] * s[..., 2]), repeats=repeats, seed=seed)
    cut = np.exp(clipped(log_w, clip=clip) - log_w.max())
    return EffectiveSampleSize(
        n=len(w),
        ess=kish.value * len(w),
        fraction=kish.value,
        error=kish.error,
        low=max(kish.low, 0.0),
        high=min(kish.high, 1.0),
        max_weight=float(w.max() / w.sum()),
        clip=clip,
        clipped_fraction=float(cut.sum() ** 2 / (len(w) * (cut**2).sum())),
    )


def clipped(log_w: Float[ndarray, " frames"], *, clip: float = CLIP) -> Float[ndarray, " frames"]:
    """``log_w`` with its top fraction ``clip`` cut to the smallest of them, as TA-BG does (nothing below two frames).

    >>> clipped(np.array([0.0, 1.0, 2.0, 9.0]), clip=0.5)
    array([0., 1., 2., 2.])
    """
    k = int(len(log_w) * clip)
    return np.minimum(log_w, np.partition(log_w, -k)[-k]) if k > 1 else log_w


def effective_fraction_by_size(
    log_w: Float[ndarray, " frames"], *, points: int = 40
) -> tuple[Int[ndarray, " points"], Float[ndarray, " points"]]:
    """Effective fraction of the first n draws, for n on a logarithmic grid; one that keeps falling is not converged.

    >>> n, fraction = effective_fraction_by_size(np.zeros(1000), points=3)
    >>> n, fraction
    (array([  10,  100, 1000]), array([1., 1., 1.]))
    """
    log_w = checked_log_weights(log_w)
    w = np.exp(log_w - log_w.max())
    n = np.unique(np.rint(np.geomspace(min(10, len(w)), len(w), points)).astype(np.int64))
    total, square = np.cumsum(w)[n - 1], np.cumsum(w * w)[n - 1]
    return n, np.divide(total**2, n * square, out=np.zeros(len(n)), where=square > 0)


def forward_effective_sample_size(
    log_w: Float[ndarray, " frames"],
    *,
    trajectory: Int[ndarray, " frames"] | None = None,
    repeats: int = 400,
    seed: int = 0,
) -> Estimate:
    """Effective fraction seen from the target: ``1 / (E_p[w] E_p[1/w])`` over samples of the target.

    It falls when the generator lost a mode that the target samples visit, which the reverse one cannot see.

    Args:
        log_w: ``log_p - log_q`` at samples *of the target* (molecular dynamics).
        trajectory: trajectory of every frame; blocks of it are resampled.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if ``log_w`` has NaN, +inf or -inf.

    Reference: Midgley et al., arXiv 2208.01893.

    >>> round(forward_effective_sample_size(np.zeros(100)).value, 6)
    1.0
    """
    log_w = checked_log_weights(log_w)
    if np.isneginf(log_w).any():
        raise ValueError("log_w: got -inf at target samples, expected finite numbers; the target is positive there")
    # exp(w) and exp(-w) are scaled separately; the scale is put back at the end.
    top, bottom = log_w.max(), log_w.min()
    features = np.stack([np.exp(log_w - top), np.exp(bottom - log_w), np.ones_like(log_w)], axis=1)

    def statistic(s: ndarray) -> ndarray:
        return np.exp(2 * np.log(s[..., 2]) - np.log(s[..., 0]) - np.log(s[..., 1]) - (top - bottom))

    return estimate(features, statistic, trajectory=trajectory, correlated=True, repeats=repeats, seed=seed)


def reweighted_mean(
    values: Float[ndarray, " frames"],
    log_w: Float[ndarray, " frames"] | None,
    *,
    trajectory: Int[ndarray, " frames"] | None = None,
    correlated: bool = False,
    repeats: int = 400,
    seed: int = 0,
) -> Estimate:
    """Self-normalised average ``sum w f / sum w`` with bootstrap and block errors and a 95 % interval.

    Args:
        values: one number per frame.
        log_w: log importance weights up to a constant; None counts every frame once.
        trajectory: for molecular dynamics, the trajectory of every frame: whole blocks are resampled.
        correlated: frames are one time series without a ``trajectory`` column.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if a value of positive weight is not finite, lengths differ, or ``log_w`` has NaN or +inf.

    >>> x = np.random.default_rng(0).normal(size=20_000)     # drawn from N(0, 1), reweighted to N(1, 1)
    >>> 1.0 in reweighted_mean(x, x)
    True
    """
    values = np.asarray(values, dtype=np.float64)
    log_w = np.zeros(len(values)) if log_w is None else checked_log_weights(log_w)
    if values.shape != log_w.shape:
        raise ValueError(f"values: got shape {values.shape}, expected one per weight, {log_w.shape}")
    w = np.exp(log_w - log_w.max())
    if not np.isfinite(values[w > 0]).all():
        count = int((~np.isfinite(values[w > 0])).sum())
        raise ValueError(f"values: got {count} NaN or infinite among frames of positive weight; leave them out by name")
    features = np.stack([w * np.where(w > 0, values, 0.0), w], axis=1)
    return estimate(
        features,
        lambda s: s[..., 0] / s[..., 1],
        trajectory=trajectory,
        correlated=correlated,
        repeats=repeats,
        seed=seed,
    )


def log_z(log_w: Float[ndarray, " frames"], *, repeats: int = 400, seed: int = 0) -> Estimate:
    """``log`` of the target's normalising constant, ``log E_q[w]``: minus the reduced free energy in kT.

    Needs ``log_q`` normalised. With a lost mode it is too small by the log of the mass that is seen.

    Raises:
        ValueError: if ``log_w`` has NaN or +inf.

    >>> log_z(np.full(100, 2.5)).value
    2.5
    """
    log_w = checked_log_weights(log_w)
    top = log_w.max()
    features = np.stack([np.exp(log_w - top), np.ones_like(log_w)], axis=1)
    return estimate(features, lambda s: np.log(s[..., 0] / s[..., 1]) + top, repeats=repeats, seed=seed)
