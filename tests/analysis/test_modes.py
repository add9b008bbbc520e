"""Modes of histograms and maps, words for their differences, ranking, and errors that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import vonmises

from molifold.analysis.divergence import compare
from molifold.analysis.free_energy import population_of
from molifold.analysis.histograms import Axis, cells, histogram_by_block, histogram_of, jensen_shannon
from molifold.analysis.modes import in_words, modes
from molifold.analysis.relevance import Relevance, rank
from molifold.analysis.samples import metastable
from molifold.analysis.uncertainty import autocorrelation_time, trajectory_blocks

ANGLE = Axis("phi", "circle", "rad", -np.pi, np.pi, 64)


def map_of(centres, shares, n, seed=0, kappa=12.0):
    rng = np.random.default_rng(seed)
    k = rng.choice(len(shares), n, p=shares)
    phi, psi = (rng.vonmises(np.array(centres)[k, axis], kappa) for axis in (0, 1))
    return np.bincount(cells(phi, bins=64) * 64 + cells(psi, bins=64), minlength=4096).reshape(64, 64)


@pytest.mark.parametrize("n", [2000, 200_000])
def test_basins_of_a_map_are_those_that_it_was_made_of(n):
    centres, shares = [(-1.2, -0.5), (-1.8, 2.9), (1.0, 0.8)], [0.6, 0.37, 0.03]
    h = map_of(centres, shares, n)
    label = modes(h, circle=True, smallest=max(5e-4, 20 / n))
    assert label.max() == 2
    found = np.sort(np.bincount(label.ravel(), weights=h.ravel()) / n)
    np.testing.assert_allclose(found, np.sort(shares), atol=0.02)


def test_a_mode_across_the_seam_is_one():
    x = np.random.default_rng(0).vonmises(np.pi, 8, 50_000)
    assert modes(np.bincount(cells(x), minlength=64), circle=True).max() == 0


def test_words_name_what_differs_most():
    x = ANGLE.edges[:-1] + np.pi / 64
    one, other = vonmises.pdf(x, 12, loc=-1), vonmises.pdf(x, 12, loc=1.5)
    assert in_words(one, 0.9 * one + 0.1 * other, axis=ANGLE) == "0 instead of 10 % near 86 degrees"
    assert in_words(vonmises.pdf(x, 3, loc=-1), one, axis=ANGLE).startswith("wider")
    assert in_words(vonmises.pdf(x, 40, loc=-1), one, axis=ANGLE).startswith("narrower")
    assert in_words(vonmises.pdf(x, 12, loc=-0.7), one, axis=ANGLE) == "shifted: mean -40 instead of -57 degrees"


def test_a_divergence_of_mixtures_is_the_quadrature():
    """JSD of the continuous densities; 64 bins of smooth densities change it by less than the statistical error."""

    def p(x):
        return 0.7 * vonmises.pdf(x, 8, loc=-1.2) + 0.3 * vonmises.pdf(x, 20, loc=1.0)

    def q(x):
        return 0.5 * vonmises.pdf(x, 6, loc=-1.0) + 0.5 * vonmises.pdf(x, 20, loc=1.1)

    def integrand(x):
        m = (p(x) + q(x)) / 2
        return 0.5 * (p(x) * np.log2(p(x) / m) + q(x) * np.log2(q(x) / m))

    exact = quad(integrand, -np.pi, np.pi, limit=200)[0]
    rng = np.random.default_rng(0)

    def draw(n, share, kappas, means):
        first = rng.random(n) < share
        return np.where(first, rng.vonmises(means[0], kappas[0], n), rng.vonmises(means[1], kappas[1], n))

    reference = draw(400_000, 0.7, (8, 20), (-1.2, 1.0))
    model = draw(200_000, 0.5, (6, 20), (-1.0, 1.1))
    d = compare(cells(model), cells(reference), n_cells=64, measure=jensen_shannon, name="JSD (bits)")
    assert d.value == pytest.approx(exact, abs=4 * d.error + 0.02 * exact)
    assert d.error < 0.02 * exact
    assert d.excess > 30


@pytest.mark.parametrize("correlated", [False, True])
def test_error_bars_of_bins_and_populations_cover_the_truth(correlated):
    """95 % intervals of 200 repeats hold the truth in 90 to 99 % of them, for draws and for a chain that remembers."""
    n, p, rng = 6400, 0.3, np.random.default_rng(7)
    label = trajectory_blocks(n)
    inside_bin, inside_region = [], []
    axis = Axis("s", "circle", "rad", -np.pi, np.pi, 4)
    for k in range(200):
        state = chain(n, p, 0.9, rng) if correlated else rng.random(n) < p
        sums = histogram_by_block(state.astype(int), np.ones(n), label, 4)
        h = histogram_of(axis, sums, n=n, ess=n)
        # Student's t of 32 blocks
        inside_bin.append(abs(h.density[1] * np.pi / 2 - p) <= 2.04 * h.error[1] * np.pi / 2)
        inside_region.append(p in population_of(sums[:, 1], sums.sum(1), frames=n, trials=32, seed=k))
    assert 0.90 <= np.mean(inside_bin) <= 0.99
    assert 0.90 <= np.mean(inside_region) <= 0.99


def chain(n, p, stay, rng):
    """Two states, stationary probability ``p``, correlation ``stay ** t``."""
    new = rng.random(n) > stay
    new[0] = True
    fresh = rng.random(n) < p
    return fresh[np.maximum.accumulate(np.where(new, np.arange(n), 0))]


def test_autocorrelation_time_of_a_chain_is_exact():
    rng = np.random.default_rng(0)
    runs = [chain(20_000, 0.5, 0.9, rng).astype(float)[:, None] for _ in range(4)]
    found = autocorrelation_time(runs)
    assert abs(found.value - (0.5 + 0.9 / 0.1)) < 3 * found.error  # 1/2 + sum 0.9^t
    assert found.error < 0.1 * found.value
    assert autocorrelation_time([np.ones((100, 1))]) is None


def test_what_differs_comes_before_what_is_slow_before_what_has_modes():
    found = [Relevance("ordinary", 0.0), Relevance("multimodal", 0.6), Relevance("slow", 80.0), Relevance("slow", 300.0),
             Relevance("different", 0.01)]  # fmt: skip
    assert rank(found) == [4, 3, 2, 1, 0]


def test_metastable_sets_are_the_blocks_of_the_chain():
    rng = np.random.default_rng(1)
    macro = np.concatenate([[0], np.cumsum(rng.random(59_999) < 0.003)]) * 1 % 3
    runs = np.split(3 * macro + rng.integers(0, 3, 60_000), 6)
    found = metastable(runs, 9, lag=5)
    assert [len(set(found[3 * k : 3 * k + 3])) for k in range(3)] == [1, 1, 1]
    assert len(set(found)) == 3
    assert metastable([np.zeros(3, dtype=int)], 4, lag=5).tolist() == [0] * 4
