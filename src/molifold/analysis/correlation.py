"""Memory in time: autocorrelation of a column, and cross-validated VAMP scores of features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band, band
from molifold.analysis.clusters import temperature_of
from molifold.analysis.features import Features, features
from molifold.analysis.time_order import time_order
from molifold.analysis.uncertainty import Estimate, autocorrelation_time
from molifold.ensemble import Ensemble


@dataclass(frozen=True)
class Autocorrelation:
    """Autocorrelation ``value`` at ``lag_times``, and its integral ``time`` (both in ``unit``).

    ``inefficiency`` is the number of frames that are worth one independent frame.
    """

    name: str
    lags: Int[ndarray, " lags"]
    lag_times: Float[ndarray, " lags"]
    value: Band
    time: Estimate
    inefficiency: float
    unit: str
    n: int
    temperature: float

    def __repr__(self) -> str:
        return f"Autocorrelation({self.name}: {self.time!r} {self.unit}, one of {self.inefficiency:.0f} frames is new)"


def autocorrelation(
    ensemble: Ensemble, name: str, *, longest: int | None = None, points: int = 40, repeats: int = 200, seed: int = 0
) -> Autocorrelation:
    """Autocorrelation of one column; of an angle, that of its unit vector.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        name: column or torsion.
        longest: lag in frames; None is a third of the longest trajectory.
        points: lags on a logarithmic grid.
        repeats: bootstrap replicates over blocks of trajectories.
        seed: of the bootstrap.

    Raises:
        ValueError: if the frames are in no order of time, or the column is constant or not finite.
        KeyError: if there is no such column.

    Reference: A. Sokal, in Functional Integration (1997), for the window and the error of the integral.

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> x = np.zeros(50_000)
    >>> for i in range(1, len(x)):
    ...     x[i] = 0.9 * x[i - 1] + rng.normal()
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((50_000, 1, 3)), columns={"x": x, "time": np.arange(50_000.0)})
    >>> 9.5 in autocorrelation(e, "x").time                                       # 1/2 + sum 0.9^k
    True
    """
    order = time_order(ensemble)
    longest = min(longest or order.longest // 3, order.longest - 1)
    if longest < 1:
        raise ValueError(f"longest: got {longest} frames, expected 1 to {order.longest - 1}")
    values = features(ensemble, [name])(ensemble)[order.order]
    values = values - values.mean(0)
    if not (values**2).sum() > 0:
        raise ValueError(f"{name}: is constant, expected a column that changes")
    lags = np.unique(np.rint(np.geomspace(1, longest, points)).astype(int))
    own = np.bincount(order.block, weights=(values**2).sum(1), minlength=order.blocks)
    size = np.bincount(order.block, minlength=order.blocks).astype(float)
    product = np.zeros((order.blocks, len(lags)))
    pairs = np.zeros((order.blocks, len(lags)))
    for i, lag in enumerate(lags):
        start = order.starts(int(lag))
        product[:, i] = np.bincount(
            order.block[start], weights=(values[start] * values[start + lag]).sum(1), minlength=order.blocks
        )
        pairs[:, i] = np.bincount(order.block[start], minlength=order.blocks)
    drawn = np.random.default_rng(seed).multinomial(order.blocks, np.full(order.blocks, 1 / order.blocks), repeats)

    def ratio(c: ndarray) -> ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (c @ product) / (c @ pairs) * ((c @ size) / (c @ own))[..., None]

    frames = autocorrelation_time(np.split(values, np.flatnonzero(np.diff(order.segment)) + 1))
    if frames is None:
        raise ValueError(f"{name}: does not change within any trajectory, or none has three frames")
    time = replace(frames, **{k: getattr(frames, k) * order.step for k in ("value", "error", "low", "high")})
    return Autocorrelation(
        name=name,
        lags=lags,
        lag_times=lags * order.step,
        value=band(ratio(np.ones(order.blocks)), ratio(drawn.astype(float)), blocks=order.blocks),
        time=time,
        inefficiency=max(2 * frames.value, 1.0),
        unit=order.unit,
        n=len(ensemble),
        temperature=temperature_of(ensemble),
    )


@dataclass(frozen=True)
class VampScore:
    """VAMP score of features, fitted on some trajectories and scored on others.

    ``score`` is the mean over ``folds`` left-out scores with its standard error; ``highest`` is what perfect features
    of that many dimensions would reach. ``train`` is the score on the frames of the fit: far above ``score``, they were
    memorised.
    """

    score: Estimate
    train: float
    highest: float
    lag: int
    lag_time: float
    unit: str
    folds: int
    of: Features
    n: int

    def __repr__(self) -> str:
        return (
            f"VampScore({self.score!r} of at most {self.highest:g} at lag {self.lag_time:g} {self.unit}, {self.of!r})"
        )


def vamp_score(
    ensemble: Ensemble,
    lag: int,
    *,
    of: str | Sequence[str] | Features = "torsions",
    dimensions: int = 2,
    exponent: int = 2,
    folds: int = 5,
    seed: int = 0,
) -> VampScore:
    """How much slow dynamics features hold: VAMP-r score cross-validated over blocks of trajectories.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        lag: in frames.
        of: features (see ``features``).
        dimensions: slow processes that count, besides the constant one.
        exponent: r; 2 is the sum of squared singular values.
        folds: whole blocks of trajectories are left out in turn.
        seed: of the folds.

    Raises:
        ValueError: if the frames are in no order of time, or there are fewer blocks than folds.

    Reference: H. Wu, F. Noe, J. Nonlinear Sci. 30, 23 (2020), arXiv:1707.04659; cross-validation: R. McGibbon,
    V. Pande, J. Chem. Phys. 142, 124105 (2015).
    """
    from deeptime.covariance import Covariance
    from deeptime.decomposition import VAMP
    from scipy.special import stdtrit

    order = time_order(ensemble)
    rule = of if isinstance(of, Features) else features(ensemble, of)
    values = rule(ensemble)[order.order]
    values = values - values.mean(0)
    start = order.starts(lag)
    if not 2 <= folds <= order.blocks:
        raise ValueError(f"folds: got {folds}, expected 2 to {order.blocks} (blocks of trajectories)")
    fold = np.random.default_rng(seed).permutation(order.blocks)[order.block] * folds // order.blocks

    def covariances(chosen: ndarray) -> Any:
        estimator = Covariance(lagtime=lag, compute_c0t=True, compute_ctt=True, remove_data_mean=True)
        return estimator.partial_fit((values[chosen], values[chosen + lag])).fetch_model()

    held, seen = [], []
    for i in range(folds):
        out = start[(fold[start] == i) & (fold[start + lag] == i)]
        rest = start[(fold[start] != i) & (fold[start + lag] != i)]
        model = VAMP(dim=dimensions).fit_from_covariances(covariances(rest)).fetch_model()
        test = VAMP(dim=dimensions).fit_from_covariances(covariances(out)).fetch_model()
        seen.append(float(model.score(exponent)))
        held.append(float(model.score(exponent, test_model=test)))
    mean, error = float(np.mean(held)), float(np.std(held, ddof=1) / math.sqrt(folds))
    half = float(stdtrit(folds - 1, 0.975)) * error
    return VampScore(
        score=Estimate(mean, error, mean - half, mean + half, math.nan, len(ensemble)),
        train=float(np.mean(seen)),
        highest=1.0 + min(dimensions, values.shape[1]),
        lag=lag,
        lag_time=lag * order.step,
        unit=order.unit,
        folds=folds,
        of=rule,
        n=len(ensemble),
    )
