"""Markov models. Truth: a four-state chain under detailed balance whose matrix is written down; deeptime."""

import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.analysis.clusters import cluster
from molifold.analysis.markov import chapman_kolmogorov, implied_timescales, markov_model
from molifold.analysis.metastable import mean_first_passage_times, metastable_states
from molifold.analysis.methods import KMeans
from molifold.analysis.time_order import time_order

WEIGHTS = np.array([0.4, 0.1, 0.2, 0.3])
#: Pairs (0, 1) and (2, 3) mix fast, the pairs exchange slowly; symmetric flux = detailed balance.
FLUX = np.array([[0, 0.02, 0, 0], [0.02, 0, 0.002, 0], [0, 0.002, 0, 0.03], [0, 0, 0.03, 0]])
CHAIN = FLUX / WEIGHTS[:, None] + np.diag(1 - FLUX.sum(1) / WEIGHTS)
EIGENVALUES = np.sort(np.linalg.eigvals(CHAIN).real)[::-1]
TIMESCALES = -1 / np.log(EIGENVALUES[1:])


def chains(walkers, steps, seed):
    """States [walkers, steps] of chains that start in equilibrium."""
    rng = np.random.default_rng(seed)
    cumulative = CHAIN.cumsum(1)
    state = rng.choice(4, walkers, p=WEIGHTS)
    out = np.empty((walkers, steps), dtype=np.int64)
    for t in range(steps):
        out[:, t] = state
        state = (rng.random(walkers)[:, None] > cumulative[state]).sum(1)
    return out


def ensemble(states, **columns):
    walkers, steps = states.shape
    columns = {"trajectory": np.repeat(np.arange(walkers), steps), "state": states.ravel().astype(float), **columns}
    return Ensemble(Molecule(elements=("X",)), np.zeros((states.size, 1, 3)), columns=columns)


@pytest.fixture(scope="module")
def long():
    states = chains(40, 4000, 0)
    time = 2.0 * np.tile(np.arange(4000), 40)
    return ensemble(states, time=time), states.ravel()


def test_four_states_have_their_exact_timescales_and_weights(long):
    e, labels = long
    model = markov_model(e, labels, 1)
    assert model.unit == "ps"
    assert 2 * TIMESCALES in model.timescales
    assert WEIGHTS in model.stationary
    assert pytest.approx(model.transition.value, abs=0.01) == CHAIN
    assert (model.timescales.error / model.timescales.value < 0.15).all()  # errors say something
    slow_flux = 2 * 0.002 * labels.size  # both ways over the slow step
    assert model.crossings == pytest.approx(slow_flux, rel=0.15)


def test_intervals_of_timescales_and_weights_cover_the_truth():
    walkers, repeats = 24, 200
    states = chains(walkers * repeats, 600, 1).reshape(repeats, walkers, 600)
    hits = []
    for one in states:
        model = markov_model(ensemble(one), one.ravel(), 1, repeats=25)
        slow, heavy = model.timescales, model.stationary
        hits.append([slow.low[0] <= TIMESCALES[0] <= slow.high[0], heavy.low[0] <= WEIGHTS[0] <= heavy.high[0]])
    assert (np.mean(hits, axis=0) >= 0.90).all()
    assert (np.mean(hits, axis=0) <= 0.99).all()


def test_the_same_numbers_as_deeptime(long):
    from deeptime.markov import TransitionCountEstimator
    from deeptime.markov.msm import MaximumLikelihoodMSM

    e, labels = long
    counts = TransitionCountEstimator(5, "sliding").fit_fetch(list(labels.reshape(40, -1)))
    theirs = MaximumLikelihoodMSM().fit_fetch(counts.submodel_largest())
    ours = markov_model(e, labels, 5, repeats=2)
    assert ours.timescales.value == pytest.approx(2 * theirs.timescales(), rel=1e-6)
    assert ours.stationary.value == pytest.approx(theirs.stationary_distribution, rel=1e-6)
    times = mean_first_passage_times(ours)
    assert times.value[0, 3] == pytest.approx(2 * theirs.mfpt(0, 3), rel=1e-6)


def test_timescales_are_flat_and_chapman_kolmogorov_holds_for_a_markov_chain(long):
    e, labels = long
    found = implied_timescales(e, labels, [1, 2, 5, 10], processes=1)
    assert (np.abs(found.timescales.value[:, 0] - 2 * TIMESCALES[0]) < 3 * found.timescales.error[:, 0]).all()
    assert chapman_kolmogorov(e, labels, 5).passes


def test_chapman_kolmogorov_fails_when_a_slow_state_is_hidden(long):
    e, labels = long
    # 1 and 2 are on both sides of the barrier: seen as one state, the process remembers which it was
    assert not chapman_kolmogorov(e, np.array([0, 1, 1, 2])[labels], 2, steps=8).passes


def test_pcca_finds_the_two_sides(long):
    e, labels = long
    small = cluster(e, KMeans(4), of=["state"], refits=0)
    model = markov_model(e, small.labels, 1)
    states, sets = metastable_states(e, small, model, 2)
    side = labels > 1
    assert len(np.unique(states.labels[side])) == len(np.unique(states.labels[~side])) == 1
    assert (states.labels == sets[small.labels]).all()
    assert sorted(p.value for p in states.populations) == pytest.approx([0.5, 0.5], abs=0.05)
    # exact: mean time from one side to the other, by the linear equations on the chain itself
    q = CHAIN[:2, :2]
    exact = WEIGHTS[:2] @ np.linalg.solve(np.eye(2) - q, np.ones(2)) / WEIGHTS[:2].sum()
    passage = mean_first_passage_times(model, sets=sets)
    a = int(states.labels[~side][0])
    assert passage.low[a, 1 - a] < 2 * exact < passage.high[a, 1 - a]


def test_unconnected_states_are_left_out_and_said_so():
    labels = np.array([0, 1] * 50 + [2] * 100)
    e = ensemble(labels[None])
    model = markov_model(e, labels, 1)
    assert model.states.tolist() == [0, 1]
    assert model.active == pytest.approx(99 / 199)
    with pytest.raises(ValueError, match="no two states with transitions both ways"):
        markov_model(e, np.arange(200) // 100, 1)


def test_errors_name_the_cause(long):
    e, labels = long
    with pytest.raises(ValueError, match="lag: got 4000 frames, expected 1 to 3999"):
        markov_model(e, labels, 4000)
    with pytest.raises(ValueError, match="one integer per frame"):
        markov_model(e, labels[:-1], 1)
    draws = Ensemble(e.molecule, e.x[:10], log_q=np.zeros(10), columns={"trajectory": np.zeros(10, int)})
    with pytest.raises(ValueError, match="independent draws"):
        time_order(draws)
    swapped = e.assign(temperature=300.0 + (np.arange(len(e)) % 2))
    with pytest.raises(ValueError, match="replica exchange"):
        markov_model(swapped, labels, 1)


def test_transitions_across_gaps_and_between_trajectories_do_not_count():
    e = ensemble(np.array([[0, 1, 0, 1]]), time=np.array([0.0, 1.0, 2.0, 9.0]))
    order = time_order(e)
    assert order.counts(np.array([0, 1, 0, 1]), 1, states=2).sum(0).tolist() == [[0, 1], [1, 0]]
    two = ensemble(np.array([[0, 0], [1, 1]]))
    assert time_order(two).counts(np.array([0, 0, 1, 1]), 1, states=2).sum(0).tolist() == [[1, 0], [0, 1]]
