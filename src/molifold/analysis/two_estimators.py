"""A free-energy difference is one number only when two ways of computing it agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from molifold.analysis.bands import band
from molifold.analysis.free_energy import FreeEnergyDifference, blocks_of, free_energy_difference
from molifold.analysis.markov import KEPT, connected, reversible
from molifold.analysis.multistate import mbar_temperatures
from molifold.analysis.time_order import time_order
from molifold.analysis.uncertainty import Estimate
from molifold.ensemble import Ensemble

#: Errors between two estimates beyond which they are said to disagree.
DISAGREE = 3.0


@dataclass(frozen=True)
class TwoEstimates:
    """One quantity by two estimators. ``value`` is refused when they disagree.

    ``z`` is their difference in units of its error. ``names`` say how each was computed.
    """

    names: tuple[str, str]
    first: Estimate
    second: Estimate
    z: float

    @property
    def agree(self) -> bool:
        """Whether the two differ by less than three errors (and both are finite)."""
        return bool(abs(self.z) < DISAGREE)

    @property
    def value(self) -> float:
        """The number: the mean of both, weighted by their errors.

        Raises:
            ValueError: if they disagree.
        """
        return self.combined.value

    @property
    def combined(self) -> Estimate:
        """The weighted mean with the larger of the two errors (they share frames, so errors do not shrink).

        Raises:
            ValueError: if they disagree.
        """
        if not self.agree:
            raise ValueError(
                f"{self.names[0]} gives {self.first!r} and {self.names[1]} {self.second!r}: {abs(self.z):.1f} errors "
                "apart, so that no single number is given; sample longer, or find out which one is biased"
            )
        weights = np.array([1 / max(e.error, 1e-12) ** 2 for e in (self.first, self.second)])
        value = float(weights @ [self.first.value, self.second.value] / weights.sum())
        widest = max((self.first, self.second), key=lambda e: e.error)
        shift = value - widest.value
        return Estimate(value, widest.error, widest.low + shift, widest.high + shift, widest.block_error, self.first.n)

    def __repr__(self) -> str:
        verdict = f"{self.combined!r}" if self.agree else f"no number: {abs(self.z):.1f} errors apart"
        return f"{verdict} [{self.names[0]}: {self.first!r}; {self.names[1]}: {self.second!r}]"


def two_estimates(
    first: Estimate, second: Estimate, *, names: tuple[str, str], error: float | None = None
) -> TwoEstimates:
    """Put two estimates of one quantity beside each other.

    Args:
        first: one.
        second: the other.
        names: how each was computed.
        error: of their difference; None takes them for independent.

    >>> e = [Estimate(v, 0.1, v - 0.2, v + 0.2, 0.1, 1000) for v in (6.1, 7.0)]
    >>> both = two_estimates(*e, names=("umbrella, seed 1", "umbrella, seed 2"))
    >>> both.agree, round(both.z, 1)
    (False, -6.4)
    >>> both.value
    Traceback (most recent call last):
    ...
    ValueError: umbrella, seed 1 gives 6.10 +- 0.10 ... 6.4 errors apart, so that no single number is given; ...
    """
    gap = first.value - second.value
    scale = error if error is not None else math.hypot(first.error, second.error)
    z = gap / scale if scale > 0 else (0.0 if gap == 0 else math.inf)
    return TwoEstimates(names, first, second, z if math.isfinite(gap) else math.inf)


def basin_difference(
    ensemble: Ensemble,
    in_a: Bool[ndarray, " frames"],
    *,
    in_b: Bool[ndarray, " frames"] | None = None,
    log_w: Float[ndarray, " frames"] | None = None,
    temperature: float | None = None,
    lag: int = 10,
    repeats: int = 200,
    seed: int = 0,
) -> TwoEstimates:
    """``F(A) - F(B)`` in kT by counting, and by a second way that the data allow.

    * frames of several temperatures: MBAR over all of them, against counting at ``temperature`` alone;
    * weighted draws: weights whose tail is smoothed by a Pareto fit (PSIS), against plain ones; they part when few
      draws carry the answer;
    * trajectories: the stationary distribution of the transitions between A, B and the rest, against counting; they
      part when the time spent reflects where trajectories were started.

    Args:
        ensemble: conformations.
        in_a: frames in A.
        in_b: frames in B; None is every frame outside A.
        log_w: log importance weights.
        temperature: that is asked for (K), with several temperatures; the default is the lowest.
        lag: of the transitions, in frames.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if regions are wrong, or the data allow no second estimator.

    Reference: A. Vehtari et al., J. Mach. Learn. Res. 25, 1 (2024), arXiv:1507.02646 (PSIS).
    """
    in_a = np.asarray(in_a, dtype=bool)
    in_b = ~in_a if in_b is None else np.asarray(in_b, dtype=bool)
    each = ensemble.columns.get("temperature")
    if each is not None and len(np.unique(np.round(np.asarray(each, dtype=float), 3))) > 1:
        return _by_temperatures(ensemble, in_a, in_b, np.asarray(each, dtype=float), temperature, repeats, seed)
    options: dict = {"in_b": in_b, "repeats": repeats, "seed": seed}
    if log_w is not None:
        plain, smoothed = (
            _estimate(free_energy_difference(ensemble, in_a, log_w=w, **options)) for w in (log_w, smoothed_tail(log_w))
        )
        return two_estimates(
            plain, smoothed, names=("weights", "smoothed weights"), error=max(plain.error, smoothed.error)
        )
    if blocks_of(ensemble)["correlated"] and "trajectory" in ensemble.columns:
        return _by_transitions(ensemble, in_a, in_b, lag, options)
    raise ValueError(
        "ensemble: got draws without weights, one temperature and no column 'trajectory', which allow no second "
        "estimator; use free_energy_difference, and two_estimates with the value of other data"
    )


def _estimate(d: FreeEnergyDifference) -> Estimate:
    return Estimate(d.value, d.error, d.low, d.high, d.block_error, d.population_a.n)


def smoothed_tail(log_w: Float[ndarray, " frames"]) -> Float[ndarray, " frames"]:
    """Log weights whose largest are replaced by quantiles of the Pareto distribution fitted to them (PSIS).

    >>> log_w = np.random.default_rng(0).normal(size=1000)
    >>> bool((~np.isclose(smoothed_tail(log_w), log_w)).sum() < 100)
    True
    """
    from arviz_stats.base import array_stats

    log_w = np.asarray(log_w, dtype=np.float64)
    # psislw takes log-likelihoods, whose importance weights are their inverses; it normalises, and only the largest
    # weights are meant to change
    smoothed, _ = array_stats.psislw(-log_w)
    finite = np.isfinite(log_w)
    return np.asarray(smoothed) + float(np.median(log_w[finite] - np.asarray(smoothed)[finite]))


def _by_temperatures(
    ensemble: Ensemble, in_a: ndarray, in_b: ndarray, each: ndarray, temperature: float | None, repeats: int, seed: int
) -> TwoEstimates:
    temperature = float(each.min()) if temperature is None else temperature
    at = np.isclose(each, temperature, atol=0.01)
    if not at.any():
        raise ValueError(f"temperature: got {temperature:g} K, expected one of {sorted(set(each.tolist()))}")
    counted = _estimate(free_energy_difference(ensemble[at], in_a[at], in_b=in_b[at], repeats=repeats, seed=seed))
    joined = mbar_temperatures(ensemble, temperature, repeats=2, seed=seed).difference(in_a, in_b, seed=seed)
    return two_estimates(counted, joined, names=(f"counts at {temperature:g} K", "MBAR"))


def _by_transitions(ensemble: Ensemble, in_a: ndarray, in_b: ndarray, lag: int, options: dict) -> TwoEstimates:
    counted = _estimate(free_energy_difference(ensemble, in_a, **options))
    state = np.where(in_a, 0, np.where(in_b, 1, 2))
    order = time_order(ensemble)
    jumps = order.counts(state, lag, states=3)
    if not {0, 1} <= set(connected(jumps.sum(0)).tolist()):
        nothing = Estimate(math.nan, math.inf, -math.inf, math.inf, math.inf, len(ensemble))
        return two_estimates(counted, nothing, names=("counts", "transitions (none both ways)"))
    visits = np.stack([np.bincount(order.block, weights=state[order.order] == i) for i in (0, 1)], axis=1)
    repeats = options["repeats"]
    drawn = np.random.default_rng(options["seed"]).multinomial(
        order.blocks, np.full(order.blocks, 1 / order.blocks), repeats
    )
    sums = np.tensordot(drawn.astype(float), jumps, axes=1) + KEPT * jumps.sum(0)
    value = _from_transitions(jumps.sum(0))
    draws = np.array([_from_transitions(c) for c in sums])
    with np.errstate(divide="ignore", invalid="ignore"):
        by_count = np.log(drawn @ visits[:, 1]) - np.log(drawn @ visits[:, 0])
    # both see the same frames: only what they do not share is error of their difference
    both = band(
        np.array([value, value - counted.value]), np.stack([draws, draws - by_count], axis=1), blocks=order.blocks
    )
    second = Estimate(value, float(both.error[0]), float(both.low[0]), float(both.high[0]), math.nan, len(ensemble))
    return two_estimates(counted, second, names=("counts", "transitions"), error=float(both.error[1]))


def _from_transitions(counts: ndarray) -> float:
    """``F(state 0) - F(state 1)`` of the stationary distribution."""
    states = connected(counts)
    weights = reversible(counts[np.ix_(states, states)])[1]
    a, b = (weights[states == i].sum() for i in (0, 1))
    with np.errstate(divide="ignore"):
        return float(np.log(b) - np.log(a))
