import json

import numpy as np
import pytest
from scipy import integrate, stats

from molifold.simulation import temperature_ladder
from molifold.simulation.exchange import Ladders
from molifold.units import kT


def analytic_acceptance(degrees, cold, hot):
    """Mean Metropolis probability when both energies are canonical in a harmonic potential of so many dimensions."""
    beta = 1 / kT(cold) - 1 / kT(hot)
    a, b = stats.gamma(degrees / 2, scale=kT(cold)), stats.gamma(degrees / 2, scale=kT(hot))
    grid_a, grid_b = (
        a.ppf(np.linspace(5e-4, 1, 1000, endpoint=False)),
        b.ppf(np.linspace(5e-4, 1, 1000, endpoint=False)),
    )
    return np.minimum(1, np.exp(beta * (grid_a[:, None] - grid_b[None]))).mean()


def canonical(ladders, rng, degrees):
    return rng.gamma(degrees / 2, [kT(t) for t in ladders.temperature])


def test_acceptance_of_independent_harmonic_walkers_is_analytic():
    degrees, copies, rounds = 60, 50, 400
    ladders = Ladders(temperature_ladder(300, 450, 4), copies=copies, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        ladders.attempt(canonical(ladders, rng, degrees))
    expected = [analytic_acceptance(degrees, *ladders.temperatures[i : i + 2]) for i in range(3)]
    error = np.sqrt(np.array(expected) * (1 - np.array(expected)) / ladders.attempted)
    assert ladders.attempted.tolist() == [copies * rounds // 2] * 3
    assert np.all(np.abs(ladders.acceptance - expected) < 4 * error + 1e-3)  # 1e-3: grid of the reference


def test_swaps_leave_every_temperature_canonical():
    degrees, copies = 20, 20_000
    ladders = Ladders((300.0, 400.0, 500.0), copies=copies, seed=1)
    rng = np.random.default_rng(1)
    energy = canonical(ladders, rng, degrees)
    for _ in range(20):
        ladders.attempt(energy)  # walkers keep their energies; only temperatures move
    for level, t in enumerate(ladders.temperatures):
        here = energy[ladders.level == level]
        assert len(here) == copies
        assert stats.kstest(here, stats.gamma(degrees / 2, scale=kT(t)).cdf).pvalue > 1e-3


def test_every_ladder_keeps_one_walker_per_temperature_and_velocities_follow():
    ladders = Ladders((300.0, 350.0, 400.0, 450.0), copies=3, seed=2)
    rng = np.random.default_rng(2)
    for _ in range(50):
        before = ladders.temperature
        factors = ladders.attempt(rng.normal(size=12))
        assert np.array_equal(np.sort(ladders.level.reshape(3, 4), axis=1), np.tile(np.arange(4), (3, 1)))
        np.testing.assert_allclose(factors**2, ladders.temperature / before)


def test_round_trips_are_counted_from_top_to_bottom():
    ladders = Ladders((300.0, 400.0), copies=1, seed=3)
    for _ in range(6):  # the walker at the colder rung always has the higher energy, so every swap is accepted
        ladders.attempt(np.where(ladders.level == 0, 0.0, -50.0))
    assert ladders.round_trips.tolist() == [3, 3]


def test_state_survives_and_determines_the_future():
    rng = np.random.default_rng(4)
    a, b = (Ladders((300.0, 350.0, 400.0), copies=4, seed=seed) for seed in (5, 6))
    a.attempt(rng.normal(size=12) * 5)
    b.restore({k: v.copy() for k, v in a.state().items()})
    for _ in range(20):
        energy = rng.normal(size=12) * 5
        np.testing.assert_array_equal(a.attempt(energy), b.attempt(energy))
    assert all(np.array_equal(a.state()[k], v) for k, v in b.state().items())
    json.loads(a.state()["generator"].tobytes())


def test_ladder_is_geometric():
    t = np.array(temperature_ladder(300, 1000, 8))
    np.testing.assert_allclose(t[1:] / t[:-1], (1000 / 300) ** (1 / 7))
    assert (t[0], temperature_ladder(300, 300, 1)) == (300.0, (300.0,))
    with pytest.raises(ValueError, match="0 < low < high"):
        temperature_ladder(1000, 300, 8)


def test_reference_acceptance_against_quadrature():
    # The grid average above, against adaptive quadrature of the same double integral.
    beta, a, b = 1 / kT(300) - 1 / kT(330), stats.gamma(5, scale=kT(300)), stats.gamma(5, scale=kT(330))
    value, _ = integrate.dblquad(
        lambda v, u: min(1.0, np.exp(beta * (u - v))) * a.pdf(u) * b.pdf(v),
        0,
        a.ppf(0.99999),
        0,
        b.ppf(0.99999),
        epsabs=1e-3,
    )
    assert abs(value - analytic_acceptance(10, 300, 330)) < 3e-3
