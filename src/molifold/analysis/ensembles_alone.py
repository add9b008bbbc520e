"""Analyse one ensemble with defaults that suit it; what cannot be computed is said, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.clusters import Clusters, Method, cluster, temperature_of
from molifold.analysis.columns import measure, ramachandran_pairs
from molifold.analysis.correlation import vamp_score
from molifold.analysis.dimension import intrinsic_dimension
from molifold.analysis.ensemble_analysis import EnsembleAnalysis, FreedomSummary, Kinetics, Progress
from molifold.analysis.features import Features, features
from molifold.analysis.free_energy import (
    FreeEnergyDifference,
    alanine_basins,
    blocks_of,
    free_energy_difference,
    population,
)
from molifold.analysis.freedom import DegreeOfFreedom, degrees_of_freedom, values
from molifold.analysis.histograms import Axis, frame_weights
from molifold.analysis.landscape import pca
from molifold.analysis.markov import chapman_kolmogorov, implied_timescales, markov_model
from molifold.analysis.metastable import mean_first_passage_times, metastable_states
from molifold.analysis.methods import DensityPeaks, KMeans
from molifold.analysis.modes import modes
from molifold.analysis.pathways import minima, minimum_energy_path
from molifold.analysis.relevance import echoes, rank, relevance
from molifold.analysis.sides import log_weights
from molifold.analysis.surfaces import free_energy_surface
from molifold.analysis.time_order import TimeOrder, time_order
from molifold.analysis.two_estimators import TwoEstimates, basin_difference
from molifold.analysis.uncertainty import Estimate, autocorrelation_time, estimate
from molifold.analysis.undersampling import undersampling
from molifold.ensemble import Ensemble

Found = TypeVar("Found")

#: Frames that are looked at; of more, every k-th.
LIMIT = 100_000
#: Degrees of freedom at a time (memory), frames of those in a regression on each other.
GROUP, FEW = 32, 4096
#: Lags tried (frames), fine clusters of a Markov model, and metastable states at most.
LAGS, MICROSTATES, MOST_STATES = (1, 2, 5, 10, 20, 50, 100, 200), 50, 5
#: Clusters whose free energy is compared with that of the largest.
COMPARED = 6


def analyze_ensemble(
    ensemble: Ensemble,
    *,
    method: Method | None = None,
    weighted: bool = True,
    lag: int | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    progress: Progress = lambda what: None,
) -> EnsembleAnalysis:
    """Degrees of freedom, clusters, free energies, kinetics where time exists, dimension, under-sampled regions.

    Args:
        ensemble: conformations of a molecule in three dimensions; of several temperatures the lowest is looked at.
        method: of clustering (see ``analysis.methods``); None finds density peaks.
        weighted: use importance weights where the ensemble has ``log_p`` and ``log_q``.
        lag: of the Markov model, in frames that are looked at; None takes the shortest from which the slowest
            timescale changes by less than 5 % to the next.
        limit: frames that are looked at; of a larger ensemble every k-th, so that time and memory are bounded.
        seed: of everything random.
        progress: called with the name of every part before it starts.

    Raises:
        ValueError: if there are fewer than 20 frames, or the molecule is not in three dimensions.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=(200, 4, 3))
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)), name="butane")
    >>> found = analyze_ensemble(Ensemble(butane, x))
    >>> found.frames, sorted(found.skipped), len(found.freedoms)
    (200, ['free-energy surface', 'kinetics'], 7)
    """
    index = looked_at(ensemble, limit)
    part = ensemble[index]
    log_w = log_weights(part) if weighted and part.log_p is not None and part.log_q is not None else None
    skipped: dict[str, str] = {}
    progress("degrees of freedom")
    order = _order(part, skipped)
    freedoms = summarize_freedoms(part, order=order, log_w=log_w, seed=seed)
    pair = next(iter(ramachandran_pairs(part)), ())
    part = measure(part, names=pair) if pair else part
    progress("clusters")
    rule = _features(part)
    clusters = _tried(
        skipped, "clusters", lambda: cluster(part, method or DensityPeaks(), of=rule, log_w=log_w, seed=seed)
    )
    progress("free energies")
    differences = () if clusters is None else _differences(part, clusters, log_w, seed=seed)
    surface = path = poor = None
    found: tuple = ()
    if pair:
        surface = free_energy_surface(part, pair, method="kde", log_w=log_w)
        found = minima(surface)
        if len(found) > 1:
            ends = found[0].position, found[1].position
            path = _tried(skipped, "path", lambda: minimum_energy_path(surface, ends[0], end=ends[1], seed=seed))
        poor = undersampling(part, pair, log_w=log_w)
    else:
        skipped["free-energy surface"] = "the molecule has fewer than two torsions"
    kinetics = None
    if order is not None:
        progress("kinetics")
        kinetics = _tried(skipped, "kinetics", lambda: kinetics_of(part, rule, order=order, lag=lag, seed=seed))
    progress("landscape")
    w = frame_weights(log_w, len(part))
    return EnsembleAnalysis(
        total=len(ensemble),
        index=index,
        weighted=log_w is not None,
        simulated=part.log_q is None,
        ess=float(w.sum() ** 2 / (w * w).sum()),
        temperature=temperature_of(part),
        freedoms=freedoms,
        basins=_basins(part, pair, log_w, seed=seed),
        clusters=clusters,
        medoids=np.asarray(part.x)[[] if clusters is None else clusters.medoids[clusters.medoids >= 0]],
        differences=differences,
        surface=surface,
        minima=found,
        path=path,
        kinetics=kinetics,
        dimension=_tried(skipped, "intrinsic dimension", lambda: intrinsic_dimension(part, rule, seed=seed)),
        undersampling=poor,
        components=_tried(skipped, "PCA", lambda: pca(part, of=rule, log_w=log_w, seed=seed)),
        skipped=skipped,
    )


def _tried(skipped: dict[str, str], name: str, work: Callable[[], Found]) -> Found | None:
    """What ``work`` gives, or None with the reason in ``skipped``."""
    try:
        return work()
    except ValueError as error:
        skipped[name] = str(error)
        return None


def looked_at(ensemble: Ensemble, limit: int) -> Int[ndarray, " frames"]:
    """Frames that are looked at: of the lowest temperature, every k-th, with finite coordinates."""
    if ensemble.molecule.dimensions != 3:
        raise ValueError(f"ensemble: got {ensemble.molecule!r}, expected a molecule in three dimensions")
    index = np.arange(len(ensemble))
    temperature = ensemble.columns.get("temperature")
    if temperature is not None and np.isnan(temperature_of(ensemble)):
        level = np.round(np.asarray(temperature, dtype=float), 3)
        index = np.flatnonzero(level == level.min())
    index = index[:: max(1, -(-len(index) // limit))]
    index = index[np.isfinite(np.asarray(ensemble.x[index])).all((1, 2))]
    if len(index) < 20:
        raise ValueError(f"ensemble: got {len(index)} frames with finite coordinates, expected 20 or more")
    return index


def _order(part: Ensemble, skipped: dict[str, str]) -> TimeOrder | None:
    try:
        return time_order(part)
    except ValueError as error:
        skipped["kinetics"] = str(error)
        return None


def _features(part: Ensemble) -> Features:
    try:
        return features(part)
    except ValueError:
        return features(part, "coordinates")


def summarize_freedoms(
    ensemble: Ensemble, *, order: TimeOrder | None, log_w: Float[ndarray, " frames"] | None = None, seed: int = 0
) -> tuple[FreedomSummary, ...]:
    """Mean, width, modes and memory of every degree of freedom, the most relevant first.

    Args:
        ensemble: conformations in memory.
        order: in time, if there is one.
        log_w: log importance weights.
        seed: of bootstraps.
    """
    freedoms = degrees_of_freedom(ensemble.molecule)
    w = frame_weights(log_w, len(ensemble))
    x = np.asarray(ensemble.x)
    some = np.unique(np.linspace(0, len(x) - 1, min(FEW, len(x))).astype(int))
    options = {**blocks_of(ensemble), "repeats": 100, "seed": seed}
    rows: list[tuple[Estimate, float, int, float, Estimate | None]] = []
    vectors: list[ndarray] = []
    for start in range(0, len(freedoms), GROUP):
        group = freedoms[start : start + GROUP]
        for freedom, value in zip(group, values(x, group, molecule=ensemble.molecule), strict=True):
            rows.append(_summary(freedom, np.nan_to_num(value), w, order, options))
            vectors.append(_vector(freedom, np.nan_to_num(value[some])))
    usual = float(np.median([r[-1].value for r in rows if r[-1] is not None] or [1.0]))
    found = [relevance(excess=0.0, significant=False, time=r[-1], usual_time=usual, spread=r[3]) for r in rows]
    ranked = rank(found)
    bonds = [tuple(sorted(f.atoms[1:3])) if f.kind == "torsion" else None for f in freedoms]
    same = echoes(vectors, [i for i in ranked if found[i].reason != "ordinary"], group=bonds)
    repeated = {i: freedoms[j].name for i, j in same.items()}
    return tuple(FreedomSummary(freedoms[i], *rows[i], found[i], repeated.get(i)) for i in ranked)


def _vector(freedom: DegreeOfFreedom, value: ndarray) -> ndarray:
    return np.stack([np.cos(value), np.sin(value)], axis=1) if freedom.support == "circle" else value[:, None]


def _summary(
    freedom: DegreeOfFreedom, value: ndarray, w: ndarray, order: TimeOrder | None, options: dict
) -> tuple[Estimate, float, int, float, Estimate | None]:
    vector = _vector(freedom, value)
    sums = np.concatenate([w[:, None] * vector, w[:, None]], axis=1)
    if freedom.support == "circle":
        mean = estimate(sums, lambda s: np.arctan2(s[..., 1], s[..., 0]), **options)
        length = float(np.hypot(*(w @ vector)) / w.sum())
        std = float(np.sqrt(-2 * np.log(max(length, 1e-12))))
    else:
        mean = estimate(sums, lambda s: s[..., 0] / s[..., 1], **options)
        std = float(np.sqrt(np.average((value - mean.value) ** 2, weights=w)))
    axis = Axis.around(value, name=freedom.name, support=freedom.support, unit=freedom.unit)
    share = np.bincount(axis.cells(value), weights=w, minlength=axis.n_cells) / w.sum()
    share = share if axis.circle else share[1:-1]
    label = modes(share, circle=axis.circle)
    mass = np.bincount(label.ravel(), weights=share)
    time = None
    if order is not None:
        series = vector[order.order]
        time = autocorrelation_time(np.split(series, np.flatnonzero(np.diff(order.segment)) + 1))
    return mean, std, len(mass), float(1 - mass.max() / max(mass.sum(), 1e-12)), time


def _basins(part: Ensemble, pair: Sequence[str], log_w: ndarray | None, *, seed: int) -> dict:
    """The four named basins of alanine dipeptide; other molecules have their clusters."""
    if tuple(pair) != ("phi", "psi"):
        return {}
    options = {**blocks_of(part), "seed": seed}
    found = alanine_basins(part.columns["phi"], part.columns["psi"])
    return {name: population(inside, log_w, **options) for name, inside in found.items()}


def _differences(
    part: Ensemble, clusters: Clusters, log_w: ndarray | None, *, seed: int
) -> tuple[TwoEstimates | FreeEnergyDifference, ...]:
    """F of every cluster against the largest, by two estimators where the data allow it."""
    rows: list[TwoEstimates | FreeEnergyDifference] = []
    for i in range(1, min(len(clusters), COMPARED)):
        regions = clusters.labels == i, clusters.labels == 0
        try:
            rows.append(basin_difference(part, regions[0], in_b=regions[1], log_w=log_w, repeats=40, seed=seed))
        except ValueError:
            rows.append(free_energy_difference(part, regions[0], in_b=regions[1], log_w=log_w, seed=seed))
    return tuple(rows)


def kinetics_of(ensemble: Ensemble, rule: Features, *, order: TimeOrder, lag: int | None, seed: int = 0) -> Kinetics:
    """Markov model of fine clusters, its metastable states and their passage times.

    Args:
        ensemble: with an order in time.
        rule: features in which fine clusters are made.
        order: in time.
        lag: in frames; None takes the shortest from which the slowest timescale no longer changes.
        seed: of clusters and bootstraps.

    Raises:
        ValueError: if trajectories are too short, or never return.
    """
    lags = [k for k in LAGS if k <= order.longest // 10]
    if not lags or lag is not None and lag >= order.longest:
        raise ValueError(
            f"the longest trajectory has {order.longest} frames, expected 10 or more, and more than the lag"
        )
    micro = cluster(ensemble, KMeans(min(MICROSTATES, max(3, len(ensemble) // 100))), of=rule, refits=0, seed=seed)
    times = implied_timescales(ensemble, micro.labels, lags, seed=seed)
    chosen = lag or _flat_from(times.timescales.value[:, 0], lags)
    model = markov_model(ensemble, micro.labels, chosen, seed=seed)
    slow = model.timescales.value[:MOST_STATES]
    count = 2 + int(np.argmax(slow[:-1] / np.maximum(slow[1:], 1e-9))) if len(slow) > 1 else 2
    states, sets = metastable_states(ensemble, micro, model, count)
    test = chapman_kolmogorov(ensemble, micro.labels, chosen, sets=sets, seed=seed)
    try:
        score = vamp_score(ensemble, chosen, of=rule, seed=seed)
    except (ValueError, np.linalg.LinAlgError):
        score = None
    return Kinetics(times, model, test, states, sets, mean_first_passage_times(model, sets=sets), score)


def _flat_from(value: ndarray, lags: Sequence[int]) -> int:
    """The first lag whose timescale is within 5 % of the next one; the last but one where it keeps growing."""
    flat = np.abs(np.diff(value)) < 0.05 * value[:-1]
    return int(lags[int(np.argmax(flat))] if flat.any() else lags[max(len(lags) - 2, 0)])
