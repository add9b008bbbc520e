import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy import stats

from molifold import Molecule, store
from molifold.simulation import langevin, minimize, replica_exchange, temperature_ladder
from molifold.units import kT

PARTICLE = Molecule(elements=("X",), masses=(10.0,), name="particle")
LINE = Molecule(elements=("X",), masses=(10.0,), name="particle on a line", dimensions=1)
STIFFNESS = np.array([100.0, 400.0, 1600.0])


def springs(x):
    """An anisotropic harmonic oscillator, kJ/mol and kJ/mol/nm."""
    return 0.5 * (STIFFNESS * x**2).sum((1, 2)), -STIFFNESS * x


def double_well(x):
    """Barrier of 20 kJ/mol (8 kT at 300 K) at 0, wells near -1 and 1, the right one lower by about 3 kJ/mol."""
    u = 20 * (x**2 - 1) ** 2 - 1.5 * x
    return u.sum((1, 2)), -(80 * x * (x**2 - 1) - 1.5)


def mean_and_error(values, groups):
    """Mean of group means and its standard error, groups being independent walkers or ladders."""
    means = np.array([values[groups == g].mean(axis=0) for g in np.unique(groups)])
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(len(means))


def test_harmonic_oscillator_has_the_canonical_variance_even_at_a_coarse_step():
    # The fastest period is 0.5 ps; a step of 0.05 ps would bias the variance by percents in other integrators.
    e = langevin(
        springs, np.zeros((1, 1, 3)), molecule=PARTICLE, temperature=300, seed=1, walkers=400, steps=2000, save_every=40,
        equilibration=400, timestep=0.05, friction=2.0,
    )  # fmt: skip
    mean, error = mean_and_error(STIFFNESS * e.x[:, 0] ** 2 / kT(300), e.columns["trajectory"])
    assert np.all(error < 0.015)
    assert np.all(np.abs(mean - 1) < 4 * error)
    # log_p is -u at the frame's temperature, and the energy of three squares is gamma distributed.
    np.testing.assert_allclose(e.log_p, -e.columns["energy"] / kT(300))
    last = e.columns["time"] == e.columns["time"].max()
    assert stats.kstest(-e.log_p[last], stats.gamma(1.5).cdf).pvalue > 1e-3
    assert e.columns["time"].max() == pytest.approx(2000 * 0.05)


def test_replica_exchange_populates_both_wells_as_the_boltzmann_factor_says():
    temperatures = temperature_ladder(300, 1200, 4)
    e = replica_exchange(
        double_well, -np.ones((1, 1, 1)), molecule=LINE, temperatures=temperatures, seed=2, walkers_per_temperature=100,
        steps=10_000, save_every=50, exchange_every=20, equilibration=4000, timestep=0.02, friction=2.0,
    )  # fmt: skip
    grid = np.linspace(-3, 3, 20001)
    for t in temperatures:
        weight = np.exp(-double_well(grid[:, None, None])[0] / kT(t))
        expected = [weight[grid > 0].sum() / weight.sum(), (grid**2 * weight).sum() / weight.sum()]
        here = np.isclose(e.columns["temperature"], t)
        x = e.x[here, 0, 0]
        mean, error = mean_and_error(np.stack([x > 0, x**2], 1), e.columns["trajectory"][here] // len(temperatures))
        assert np.all(error < [0.02, 0.01])
        # The step is coarse: its bias on x^2 is of order (omega dt)^2 / 12 kT / U, below 0.002.
        assert np.all(np.abs(mean - expected) < 4 * error + [0, 0.002]), (t, mean, expected, error)
    simulation = e.meta["simulation"]
    assert simulation["round_trips"] > 100
    assert len(simulation["acceptance"]) == 3


def test_without_exchanges_the_lower_well_is_not_found():
    # Otherwise the test above would prove nothing about exchanges.
    e = langevin(
        double_well, -np.ones((1, 1, 1)), molecule=LINE, temperature=300, seed=2, walkers=100, steps=2000,
        equilibration=0, timestep=0.02, friction=2.0,
    )  # fmt: skip
    assert (e.x > 0).mean() < 0.2


def test_acceptance_of_a_harmonic_molecule_is_analytic():
    from test_exchange import analytic_acceptance

    molecule = Molecule(elements=("X",) * 10)
    temperatures = (300.0, 360.0)
    e = replica_exchange(
        lambda x: (50 * (x**2).sum((1, 2)), -100 * x), np.zeros((1, 10, 3)), molecule=molecule, seed=3,
        temperatures=temperatures, walkers_per_temperature=100, steps=4000, exchange_every=40, save_every=4000,
        equilibration=1000, timestep=0.02, friction=5.0,
    )  # fmt: skip
    expected = analytic_acceptance(30, *temperatures)
    # 100 ladders x 100 attempts, of which neighbours in time are correlated: one in three counts.
    assert abs(e.meta["simulation"]["acceptance"][0] - expected) < 4 * np.sqrt(expected * (1 - expected) / 3300)


def test_only_the_asked_temperatures_are_saved():
    options = {"molecule": PARTICLE, "temperatures": (300, 350, 400), "steps": 400, "seed": 4, "equilibration": 0}
    everything = replica_exchange(springs, np.zeros((1, 1, 3)), **options)
    cold = replica_exchange(springs, np.zeros((1, 1, 3)), save_temperatures=(300,), **options)
    keep = everything.columns["temperature"] == 300
    assert keep.sum() == len(cold) == 16
    np.testing.assert_array_equal(everything[keep].x, cold.x)
    assert set(everything.columns["trajectory"]) == set(range(12))


class Harmonic:
    """The smallest ``Energy``."""

    def __init__(self, temperature):
        self.temperature = temperature

    def __call__(self, x):
        return 0.5 * (torch.as_tensor(STIFFNESS) * x**2).sum((1, 2)) / kT(self.temperature)

    def at(self, temperature):
        return Harmonic(temperature)


def test_an_energy_is_differentiated_and_its_own_temperature_does_not_matter():
    options = {"molecule": PARTICLE, "temperature": 300, "steps": 300, "seed": 5, "walkers": 3, "equilibration": 10}
    by_hand = langevin(springs, np.zeros((1, 1, 3)), **options)
    by_autograd = langevin(Harmonic(500), np.zeros((1, 1, 3)), **options)
    np.testing.assert_allclose(by_hand.x, by_autograd.x, atol=1e-6)


def test_time_budget_ends_the_run_and_progress_is_told():
    told = []
    began = time.monotonic()
    e = langevin(
        springs, np.zeros((1, 1, 3)), molecule=PARTICLE, temperature=300, seed=6, max_seconds=1.2, equilibration=100,
        progress=lambda *news: told.append(news),
    )  # fmt: skip
    assert 1.2 <= time.monotonic() - began < 3
    assert len(e) > 0
    fractions = [fraction for fraction, _, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert told[-1][2] == "done"
    assert told[0] == (0, 0, "preparing")
    assert all(speed > 0 for _, speed, _ in told[1:])


RUN = """
import sys, numpy as np, test_replica_exchange as t
t.replica_exchange(t.double_well, -np.ones((1, 1, 1)), molecule=t.LINE, temperatures=(300, 600), seed=7, steps=int(sys.argv[2]),
    save_every=30, exchange_every=20, equilibration=1000, timestep=0.02, to=sys.argv[1], resume=True, checkpoint_seconds=0.05)
"""


def run(path, *, steps):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    return subprocess.Popen([sys.executable, "-c", RUN, str(path), str(steps)], env=environment)


def test_killed_and_resumed_run_ends_with_the_same_bytes(tmp_path):
    assert run(tmp_path / "whole", steps=60_000).wait() == 0
    kills = 0
    for _ in range(2):
        child = run(tmp_path / "killed", steps=60_000)
        before = (tmp_path / "killed" / "state.npz").stat().st_mtime_ns if kills else 0
        while child.poll() is None:
            state = tmp_path / "killed" / "state.npz"
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(0.13)  # somewhere after a checkpoint
                break
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
    assert kills == 2, "the run is too short to be killed twice"
    assert 0 < len(store.load(tmp_path / "killed")) < 8 * 2000
    assert run(tmp_path / "killed", steps=60_000).wait() == 0
    files = [p.name for p in (tmp_path / "whole").iterdir() if p.name != "state.npz"]
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert len(store.load(tmp_path / "killed")) == 8 * 2000


def test_a_finished_run_can_be_extended(tmp_path):
    options = {"molecule": PARTICLE, "temperatures": (300, 400), "seed": 8, "equilibration": 200}
    replica_exchange(springs, np.zeros((1, 1, 3)), steps=300, to=tmp_path / "run", **options)
    longer = replica_exchange(springs, np.zeros((1, 1, 3)), steps=700, to=tmp_path / "run", resume=True, **options)
    at_once = replica_exchange(springs, np.zeros((1, 1, 3)), steps=700, **options)
    np.testing.assert_array_equal(longer.x, at_once.x)
    assert longer.meta["simulation"] == {**at_once.meta["simulation"], "temperatures": [300, 400]}
    with pytest.raises(ValueError, match="friction was 1.0, is 2.0"):
        replica_exchange(
            springs, np.zeros((1, 1, 3)), steps=900, to=tmp_path / "run", resume=True, friction=2.0, **options
        )
    with pytest.raises(FileExistsError, match="resume=True"):
        replica_exchange(springs, np.zeros((1, 1, 3)), steps=900, to=tmp_path / "run", **options)


def test_errors_say_what_to_do():
    options = {"molecule": PARTICLE, "temperatures": (300, 400), "seed": 0}
    start = np.zeros((1, 1, 3))
    with pytest.raises(ValueError, match="steps: got None"):
        replica_exchange(springs, start, **options)
    with pytest.raises(ValueError, match=r"x0: got shape \(2, 1, 3\), expected \[1 or 8 walkers"):
        replica_exchange(springs, np.zeros((2, 1, 3)), steps=1, **options)
    with pytest.raises(ValueError, match="ascending"):
        replica_exchange(springs, start, steps=1, **{**options, "temperatures": (400, 300)})
    with pytest.raises(ValueError, match="save_temperatures: got .301"):
        replica_exchange(springs, start, steps=1, save_temperatures=(301,), **options)
    with pytest.raises(ValueError, match="resume: got True without a path"):
        replica_exchange(springs, start, steps=1, resume=True, **options)
    with pytest.raises(FloatingPointError, match="shorter timestep"), np.errstate(all="ignore"):
        replica_exchange(springs, start, steps=5000, timestep=5.0, **options)


def test_minimize_finds_the_wells_of_a_batch():
    found = minimize(double_well, np.array([-2.0, -0.3, 0.4, 3.0])[:, None, None], tolerance=1e-3)
    roots = np.roots([80, 0, -80, -1.5]).real
    assert found.converged.all()
    np.testing.assert_allclose(found.x[:, 0, 0], [roots.min(), roots.min(), roots.max(), roots.max()], atol=1e-4)
    np.testing.assert_allclose(found.energy, double_well(found.x)[0])
    assert not minimize(double_well, np.full((1, 1, 1), 3.0), max_steps=3).converged.any()
    with pytest.raises(ValueError, match="not finite"):
        minimize(lambda x: (np.full(len(x), np.nan), x), np.zeros((1, 1, 3)))
