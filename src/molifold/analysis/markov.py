"""Markov state models by deeptime: timescales, stationary weights, Chapman-Kolmogorov test.

Errors come from resampling blocks of trajectories; every replicate is estimated anew under detailed balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band, band
from molifold.analysis.clusters import temperature_of
from molifold.analysis.time_order import time_order
from molifold.ensemble import Ensemble

#: Share of all counts that every bootstrap replicate keeps, so that it stays connected.
KEPT = 1e-4


@dataclass(frozen=True)
class MarkovModel:
    """A reversible Markov state model at one lag time.

    ``states`` are the labels that take part: the largest set in which every state can reach every other; ``active`` is
    the share of transitions inside it. ``timescales`` are in ``unit``, slowest first, ``crossings`` how many
    transitions over the slowest process were seen in all (a mode with few is not sampled, whatever its error says).
    """

    lag: int
    lag_time: float
    unit: str
    states: Int[ndarray, " states"]
    transition: Band
    stationary: Band
    timescales: Band
    counts: Float[ndarray, "states states"]
    crossings: int
    active: float
    n: int
    blocks: int
    temperature: float
    replicates: Float[ndarray, "repeats states states"]

    def __repr__(self) -> str:
        slow = self.timescales[:3]
        lag = f"lag {self.lag_time:g} {self.unit}"
        return f"MarkovModel({len(self.states)} states, {lag}: timescales {slow!r} {self.unit})"


def markov_model(
    ensemble: Ensemble, labels: Int[ndarray, " frames"], lag: int, *, repeats: int = 50, seed: int = 0
) -> MarkovModel:
    """Maximum-likelihood reversible transition matrix of a partition, with errors from blocks of trajectories.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        labels: state of every frame; -1 takes no part.
        lag: in frames.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if the frames are in no order of time (see ``time_order``), the lag is too long, or fewer than two
            states are connected.

    Reference: J.-H. Prinz et al., J. Chem. Phys. 134, 174105 (2011); deeptime: M. Hoffmann et al., Mach. Learn.: Sci.
    Technol. 3, 015009 (2021).

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> jumps = (rng.random(40_000) < 0.05).cumsum() % 2                # two states that swap with probability 0.05
    >>> columns = {"trajectory": np.arange(40_000) // 5000}
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((40_000, 1, 3)), columns=columns)
    >>> model = markov_model(e, jumps, 1)
    >>> bool(model.timescales.low[0] < -1 / np.log(0.9) < model.timescales.high[0])
    True
    """
    order = time_order(ensemble)
    labels = _checked(labels, len(ensemble))
    by_block = order.counts(labels, lag, states=int(labels.max()) + 1)
    return _model(by_block, lag, order.step, order.unit, ensemble, repeats=repeats, seed=seed)


def _checked(labels: ndarray, frames: int) -> ndarray:
    labels = np.asarray(labels)
    if labels.shape != (frames,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: got {labels.dtype} of shape {labels.shape}, expected one integer per frame ({frames})"
        )
    if labels.max(initial=-1) < 1:
        raise ValueError("labels: got fewer than two states, expected two or more")
    return labels


def _model(
    by_block: ndarray, lag: int, step: float, unit: str, ensemble: Ensemble, *, repeats: int, seed: int
) -> MarkovModel:
    total = by_block.sum(0)
    states = connected(total)
    if len(states) < 2:
        raise ValueError(
            "labels: got no two states with transitions both ways, expected some; the trajectories never return: use "
            "longer ones, fewer states, or a shorter lag"
        )
    inside = by_block[:, states[:, None], states[None, :]]
    counts = inside.sum(0)
    blocks = len(inside)
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=repeats)
    sums = np.tensordot(drawn.astype(float), inside, axes=1) + KEPT * counts
    transition, weights = reversible(counts)
    fits = [reversible(c) for c in sums]
    replicates = np.array([fit[0] for fit in fits])
    stationary = np.array([fit[1] for fit in fits])
    slow = relaxation(transition, weights) * lag * step
    spread = np.array([relaxation(t, p) for t, p in fits]) * lag * step
    return MarkovModel(
        lag=lag,
        lag_time=lag * step,
        unit=unit,
        states=states,
        transition=band(transition, replicates, blocks=blocks),
        stationary=band(weights, stationary, blocks=blocks, log=True),
        timescales=band(slow, spread, blocks=blocks, log=True),
        counts=counts,
        crossings=_crossings(counts, transition, weights, lag),
        active=float(counts.sum() / total.sum()),
        n=len(ensemble),
        blocks=blocks,
        temperature=temperature_of(ensemble),
        replicates=replicates,
    )


def connected(counts: Float[ndarray, "states states"]) -> Int[ndarray, " states"]:
    """The states of the largest set (by counts) in which every state can be reached from every other.

    >>> connected(np.array([[5, 1, 0], [1, 5, 1], [0, 0, 9]]))
    array([0, 1])
    """
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(counts > 0, connection="strong")
    mass = np.bincount(component, weights=counts.sum(1))
    return np.flatnonzero(component == np.argmax(mass))


def reversible(
    counts: Float[ndarray, "states states"],
) -> tuple[Float[ndarray, "states states"], Float[ndarray, " states"]]:
    """Maximum-likelihood transition matrix under detailed balance, and its stationary distribution (deeptime).

    >>> transition, weights = reversible(np.array([[90.0, 10.0], [10.0, 30.0]]))
    >>> transition.round(3).tolist(), weights.round(3).tolist()
    ([[0.9, 0.1], [0.25, 0.75]], [0.714, 0.286])
    """
    from deeptime.markov.tools.estimation import transition_matrix

    matrix, weights = transition_matrix(counts, reversible=True, return_statdist=True, maxiter=100_000)
    return np.asarray(matrix), np.asarray(weights)


def relaxation(
    transition: Float[ndarray, "states states"], weights: Float[ndarray, " states"]
) -> Float[ndarray, " modes"]:
    """``-1 / log |eigenvalue|`` of a reversible transition matrix in units of its lag, slowest first.

    >>> relaxation(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0.5, 0.5])).round(3)
    array([4.481])
    """
    values = np.linalg.eigvalsh(_symmetric(transition, weights))
    values = np.sort(np.abs(values))[::-1][1:]
    return -1 / np.log(np.clip(values, 1e-300, 1 - 1e-15))


def _symmetric(transition: ndarray, weights: ndarray) -> ndarray:
    root = np.sqrt(weights)
    matrix = transition * root[:, None] / root[None, :]
    return 0.5 * (matrix + matrix.T)


def _crossings(counts: ndarray, transition: ndarray, weights: ndarray, lag: int) -> int:
    """Transitions between the two sides of the slowest process; counts overlap ``lag`` times."""
    side = np.linalg.eigh(_symmetric(transition, weights))[1][:, -2] > 0
    return round(float(counts[side][:, ~side].sum() + counts[~side][:, side].sum()) / lag)


@dataclass(frozen=True)
class ImpliedTimescales:
    """Timescales by lag time: a process is Markovian where its line is flat. ``timescales`` is [lags, processes]."""

    lags: Int[ndarray, " lags"]
    lag_times: Float[ndarray, " lags"]
    timescales: Band
    unit: str
    n: int
    states: int
    temperature: float

    def __repr__(self) -> str:
        return f"ImpliedTimescales(slowest {self.timescales[:, 0]!r} {self.unit} at lags {self.lag_times.tolist()})"


def implied_timescales(
    ensemble: Ensemble,
    labels: Int[ndarray, " frames"],
    lags: Sequence[int],
    *,
    processes: int = 3,
    repeats: int = 30,
    seed: int = 0,
) -> ImpliedTimescales:
    """Timescales of Markov models at several lags, with errors from blocks of trajectories.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        labels: state of every frame; -1 takes no part.
        lags: in frames.
        processes: how many, slowest first; NaN where a model has fewer.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: as ``markov_model``.

    Reference: W. Swope, J. Pitera, F. Suits, J. Phys. Chem. B 108, 6571 (2004).
    """
    models = [markov_model(ensemble, labels, int(lag), repeats=repeats, seed=seed) for lag in lags]
    kinds = ("value", "error", "low", "high")
    rows = {kind: np.full((len(models), processes), np.nan) for kind in kinds}
    for i, model in enumerate(models):
        found = min(processes, len(model.timescales))
        for kind in kinds:
            rows[kind][i, :found] = getattr(model.timescales, kind)[:found]
    return ImpliedTimescales(
        lags=np.array(lags, dtype=int),
        lag_times=np.array([model.lag_time for model in models]),
        timescales=Band(**rows),
        unit=models[0].unit,
        n=len(ensemble),
        states=len(models[0].states),
        temperature=models[0].temperature,
    )


@dataclass(frozen=True)
class ChapmanKolmogorov:
    """Whether the model predicts longer lags: probability to be in the same set after ``steps`` lags.

    ``predicted`` (powers of the model) and ``estimated`` (models at the longer lags) are [steps, sets]; ``worst`` is
    the largest difference in units of both errors.
    """

    steps: Int[ndarray, " steps"]
    lag_times: Float[ndarray, " steps"]
    unit: str
    predicted: Band
    estimated: Band
    worst: float
    n: int
    temperature: float

    @property
    def passes(self) -> bool:
        """Whether no prediction is more than three errors off."""
        return self.worst < 3.0

    def __repr__(self) -> str:
        verdict = "passes" if self.passes else "fails"
        until = f"up to {self.lag_times[-1]:g} {self.unit}"
        return f"ChapmanKolmogorov({verdict}: largest difference {self.worst:.1f} errors, {until})"


def chapman_kolmogorov(
    ensemble: Ensemble,
    labels: Int[ndarray, " frames"],
    lag: int,
    *,
    steps: int = 5,
    sets: Int[ndarray, " states"] | None = None,
    repeats: int = 30,
    seed: int = 0,
) -> ChapmanKolmogorov:
    """Chapman-Kolmogorov test: ``T(lag)^k`` against ``T(k lag)`` on sets of states.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        labels: state of every frame; -1 takes no part.
        lag: in frames.
        steps: up to this many lags.
        sets: set of every state (as of PCCA+); None takes every state for itself.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: as ``markov_model``.

    Reference: J.-H. Prinz et al., J. Chem. Phys. 134, 174105 (2011).
    """
    order = time_order(ensemble)
    labels = _checked(labels, len(ensemble))
    states = int(labels.max()) + 1
    sets = np.arange(states) if sets is None else np.asarray(sets)
    base = markov_model(ensemble, labels, lag, repeats=repeats, seed=seed)
    predicted, estimated, done = [], [], []
    for k in range(1, steps + 1):
        if k * lag >= order.longest:
            break
        longer = _model(order.counts(labels, k * lag, states=states), k * lag, order.step, order.unit, ensemble,
                        repeats=repeats, seed=seed)  # fmt: skip
        predicted.append(_staying(base, sets, power=k))
        estimated.append(_staying(longer, sets, power=1))
        done.append(k)
    first, second = (Band(*(np.array([getattr(b, kind) for b in bands]) for kind in ("value", "error", "low", "high")))
                     for bands in (predicted, estimated))  # fmt: skip
    error = np.hypot(first.error, second.error)
    apart = np.divide(np.abs(first.value - second.value), error, out=np.zeros_like(error), where=error > 0)
    times = np.array(done) * lag * order.step
    return ChapmanKolmogorov(
        np.array(done),
        times,
        order.unit,
        first,
        second,
        float(np.nanmax(apart)),
        len(ensemble),
        temperature_of(ensemble),
    )


def _staying(model: MarkovModel, sets: ndarray, *, power: int) -> Band:
    """Probability to be in the same set after ``power`` lags, from the equilibrium inside the set."""
    inside = sets[model.states]
    chosen = np.arange(int(sets.max()) + 1)
    member = (inside[:, None] == chosen[None, :]).astype(float)

    def staying(transition: ndarray, weights: ndarray) -> ndarray:
        moved = np.linalg.matrix_power(transition, power)
        mass = weights @ member
        kept = ((weights[:, None] * member) * (moved @ member)).sum(0)
        return np.divide(kept, mass, out=np.full(len(chosen), np.nan), where=mass > 0)

    point = staying(model.transition.value, model.stationary.value)
    draws = np.array([staying(t, equilibrium(t)) for t in model.replicates])
    return band(point, draws, blocks=model.blocks)


def equilibrium(transition: Float[ndarray, "states states"]) -> Float[ndarray, " states"]:
    """Stationary distribution of a transition matrix (deeptime).

    >>> equilibrium(np.array([[0.9, 0.1], [0.3, 0.7]])).round(2)
    array([0.75, 0.25])
    """
    from deeptime.markov.tools.analysis import stationary_distribution

    return np.asarray(stationary_distribution(transition))
