"""Metastable states of a Markov model (PCCA+), and the times between them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from molifold.analysis.bands import Band, band
from molifold.analysis.clusters import Clusters, describe
from molifold.analysis.markov import MarkovModel, equilibrium
from molifold.ensemble import Ensemble


def mean_first_passage_times(model: MarkovModel, *, sets: Int[ndarray, " states"] | None = None) -> Band:
    """Mean first-passage time from every set (row) to every other (column), in the unit of the model.

    Args:
        model: Markov state model.
        sets: set of every label (as of PCCA+); None takes every state of the model for itself.

    Reference: deeptime; the start is the equilibrium inside the set.

    >>> from molifold import Molecule
    >>> from molifold.analysis.markov import markov_model
    >>> jumps = (np.random.default_rng(0).random(40_000) < 0.05).cumsum() % 2
    >>> columns = {"trajectory": np.arange(40_000) // 5000}
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((40_000, 1, 3)), columns=columns)
    >>> mean_first_passage_times(markov_model(e, jumps, 1)).value.round(-1)     # 1 / 0.05
    array([[ 0., 20.],
           [20.,  0.]])
    """
    from deeptime.markov.tools.analysis import mfpt

    group = np.arange(len(model.states)) if sets is None else np.asarray(sets)[model.states]
    kinds = np.arange(int(group.max()) + 1)
    members = [np.flatnonzero(group == kind) for kind in kinds]

    def passage(transition: ndarray) -> ndarray:
        out = np.zeros((len(kinds), len(kinds)))
        weights = equilibrium(transition)
        for i, j in np.ndindex(*out.shape):
            if i != j and len(members[i]) and len(members[j]):
                out[i, j] = mfpt(transition, target=members[j], origin=members[i], tau=1, mu=weights)
        return out * model.lag_time

    draws = np.array([passage(t) for t in model.replicates])
    times = band(passage(model.transition.value), draws, blocks=model.blocks, log=True)
    there = np.eye(len(kinds), dtype=bool)
    return Band(*(np.where(there, 0.0, array) for array in (times.value, times.error, times.low, times.high)))


def metastable_states(
    ensemble: Ensemble, clusters: Clusters, model: MarkovModel, count: int
) -> tuple[Clusters, Int[ndarray, " states"]]:
    """Lump the clusters of a Markov model to ``count`` metastable states by PCCA+.

    Args:
        ensemble: that the clusters are of.
        clusters: small ones (microstates), on which the model was made.
        model: Markov state model of ``clusters.labels``.
        count: of metastable states.

    Returns:
        The states as clusters (with medoids, populations, ...), and the state of every microstate (-1: not connected),
        for ``chapman_kolmogorov`` and ``mean_first_passage_times``.

    Raises:
        ValueError: if there are fewer microstates than states.

    Reference: S. Roeblitz, M. Weber, Adv. Data Anal. Classif. 7, 147 (2013), doi:10.1007/s11634-013-0134-6.
    """
    from deeptime.markov import pcca

    if not 2 <= count < len(model.states):
        raise ValueError(f"count: got {count}, expected 2 to {len(model.states) - 1}, fewer than the microstates")
    lumped = pcca(model.transition.value, count)
    # numbered by population, so that sets and clusters agree
    mass = np.bincount(lumped.assignments, weights=model.stationary.value, minlength=count)
    rank = np.argsort(np.argsort(-mass, kind="stable"))
    sets = np.full(len(clusters), -1)
    sets[model.states] = rank[lumped.assignments]
    rule = clusters.assignment.renamed(sets)
    name = f"PCCA+(count={count}) of {clusters.method}"
    found = describe(ensemble, rule, of=clusters.of, name=name, fitted=clusters.fitted, sort=False)
    return found, sets
