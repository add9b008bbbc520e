import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.analysis import alanine_basins, between, free_energy_difference, population

ATOM = Molecule(elements=("X",))


def bare(n, **columns):
    return Ensemble(ATOM, np.zeros((n, 1, 3)), **columns)


def test_population_intervals_of_a_rare_basin_cover_the_truth():
    hits, p = [], 0.02
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.random(5_000)
        log_w = rng.normal(0, 0.7, 5_000)  # independent of x: the population is unchanged, the ESS is not
        e = population(x < p, log_w, repeats=200)
        hits.append(p in e)
        assert 0 <= e.low < e.high <= 1
    assert 0.90 <= np.mean(hits) <= 0.99


def test_nothing_seen_is_not_nothing_there():
    e = population(np.zeros(2000, dtype=bool))
    assert e.value == 0
    assert e.low == 0
    assert 1 / 2000 < e.high < 5 / 2000
    heavy = np.zeros(2000)
    heavy[0] = 20.0
    assert population(np.zeros(2000, dtype=bool), heavy).high > 0.5  # one effective draw says nothing
    assert population(np.ones(2000, dtype=bool)).low < 1


def test_nothing_seen_in_seven_trajectories_is_not_nothing_in_as_many_frames():
    e = population(np.zeros(70_000, dtype=bool), trajectory=np.arange(70_000) // 10_000)
    assert 0.05 < e.high < 0.2


def test_free_energy_of_two_wells_by_reweighting():
    # u(x) = (x^2 - 1)^2 * 4 + x; sampled uniformly on (-2, 2); quadrature is the reference
    grid = np.linspace(-2, 2, 200_001)
    boltzmann = np.exp(-(4 * (grid**2 - 1) ** 2 + grid))
    exact = -np.log(boltzmann[grid > 0].sum() / boltzmann[grid < 0].sum())
    hits = []
    for seed in range(200):
        x = np.random.default_rng(seed).uniform(-2, 2, 4_000)
        e = bare(len(x), log_p=-(4 * (x**2 - 1) ** 2 + x), log_q=np.full(len(x), -np.log(4)))
        d = free_energy_difference(e, x > 0, log_w=e.log_w, repeats=200)
        hits.append(d.low <= exact <= d.high)
    assert 0.90 <= np.mean(hits) <= 0.99
    assert d.value == pytest.approx(-np.log(d.population_a.value / d.population_b.value))


def test_trajectories_decide_the_error_of_simulated_frames():
    # 40 trajectories of 100 equal frames are 40 observations, whatever their length
    rng = np.random.default_rng(0)
    in_a = np.repeat(rng.random(40) < 0.3, 100)
    e = bare(4_000, columns={"trajectory": np.repeat(np.arange(40), 100)})
    p = in_a.mean()
    d = free_energy_difference(e, in_a)
    assert d.population_a.error == pytest.approx(np.sqrt(p * (1 - p) / 39), rel=0.15)
    naive = free_energy_difference(bare(4_000, log_q=np.zeros(4_000)), in_a)
    assert d.error > 5 * naive.error


def test_an_empty_region_is_infinite_with_a_finite_bound():
    d = free_energy_difference(bare(1000, log_q=np.zeros(1000)), np.zeros(1000, dtype=bool))
    assert d.value == np.inf
    assert d.high == np.inf
    assert 5 < d.low < 6.5
    d = free_energy_difference(bare(1000), np.ones(1000, dtype=bool))
    assert d.value == -np.inf
    assert np.isfinite(d.high)


def test_bad_regions_are_named():
    e = bare(4)
    with pytest.raises(ValueError, match="in_a: got shape"):
        free_energy_difference(e, np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="overlapping or empty"):
        free_energy_difference(e, np.ones(4, dtype=bool), in_b=np.ones(4, dtype=bool))


def test_the_four_basins_cover_the_plane_once_and_follow_the_published_boxes():
    phi, psi = (a.ravel() for a in np.meshgrid(*[np.radians(np.arange(-179.5, 180))] * 2))
    basins = alanine_basins(phi, psi)
    np.testing.assert_array_equal(sum(m.astype(int) for m in basins.values()), 1)
    f, s = np.degrees(phi), np.degrees(psi)
    np.testing.assert_array_equal(basins["0 < phi < 150 degrees"], (f > 0) & (f < 150))
    np.testing.assert_array_equal(basins["alphaR"], ~basins["0 < phi < 150 degrees"] & (s > -120) & (s <= 30))


def test_arcs_may_cross_the_seam():
    np.testing.assert_array_equal(between(np.radians([179.0, -179.0, 0.0]), 170, high=-170), [True, True, False])
