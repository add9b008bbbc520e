import os
import signal
import subprocess
import sys
import time

import numpy as np
import openmm
import pytest
from openmm import app
from scipy import stats

from molifold import Molecule, store
from molifold.data import example
from molifold.simulation import openmm_run
from molifold.units import kT

PARTICLE = Molecule(elements=("X",) * 20, name="particles")


def harmonic_system():
    """Twenty independent particles on springs: sixty squares."""
    system = openmm.System()
    spring = openmm.CustomExternalForce("50 * (x^2 + y^2 + z^2)")
    for k in range(20):
        system.addParticle(1.0)
        spring.addParticle(k)
    system.addForce(spring)
    return system


def options(**more):
    return {"molecule": PARTICLE, "temperature": 300, "seed": 1, "timestep": 0.02, "friction": 5.0, **more}


def test_energies_are_canonical_and_log_p_follows():
    e = openmm_run(harmonic_system(), np.zeros((1, 20, 3)), steps=40_000, save_every=100, **options())
    assert len(e) == 400
    assert stats.kstest(-e.log_p, stats.gamma(30).cdf).pvalue > 1e-3  # frames are 100 steps = 10 relaxations apart
    np.testing.assert_allclose(e.log_p, -e.columns["energy"] / kT(300))
    np.testing.assert_allclose(e.columns["time"], 2.0 * np.arange(1, 401))
    np.testing.assert_allclose(e.columns["energy"], 50 * (e.x.astype(float) ** 2).sum((1, 2)), rtol=1e-5)


def test_constraints_hold():
    molecule = example("alanine-dipeptide").molecule
    system = app.ForceField("amber99sbildn.xml", "amber99_obc.xml").createSystem(
        molecule.to_openmm(), constraints=app.HBonds
    )
    e = openmm_run(
        system, example("alanine-dipeptide").x, molecule=molecule, temperature=300, seed=1, steps=600, save_every=100,
        equilibration=200,
    )  # fmt: skip
    for k in range(system.getNumConstraints()):
        i, j, length = system.getConstraintParameters(k)
        np.testing.assert_allclose(np.linalg.norm(e.x[:, i] - e.x[:, j], axis=1), length._value, rtol=2e-5)


def test_periodic_systems_record_their_box():
    system = harmonic_system()
    nonbonded = openmm.NonbondedForce()
    for _ in range(20):
        nonbonded.addParticle(0, 0.1, 0)
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    system.addForce(nonbonded)
    system.setDefaultPeriodicBoxVectors((3, 0, 0), (0, 4, 0), (0, 0, 5))
    with pytest.raises(ValueError, match="two atoms"):
        openmm_run(system, np.zeros((1, 20, 3)), steps=200, **options())
    apart = np.random.default_rng(0).normal(size=(1, 20, 3))
    e = openmm_run(system, apart, steps=200, save_every=100, **options())
    np.testing.assert_allclose(e.columns["box"], [np.diag([3, 4, 5])] * 2)


RUN = """
import sys, numpy as np, test_openmm_run as t
t.openmm_run(t.harmonic_system(), np.zeros((1, 20, 3)), steps=int(sys.argv[2]), save_every=50, to=sys.argv[1], resume=True,
    checkpoint_seconds=0.05, **t.options())
"""


def test_killed_and_resumed_run_ends_with_the_same_frames(tmp_path):
    whole = openmm_run(harmonic_system(), np.zeros((1, 20, 3)), steps=150_000, save_every=50, **options())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    child = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "run"), "150000"], env=environment)
    while child.poll() is None and not (tmp_path / "run" / "state.npz").exists():
        time.sleep(0.01)
    time.sleep(0.13)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run is too short to be killed"
    assert len(store.load(tmp_path / "run")) < 3000
    resumed = openmm_run(
        harmonic_system(), np.zeros((1, 20, 3)), steps=150_000, save_every=50, to=tmp_path / "run", resume=True, **options()
    )  # fmt: skip
    np.testing.assert_array_equal(whole.x, resumed.x)
    np.testing.assert_array_equal(whole.log_p, resumed.log_p)


def test_errors_say_what_to_do(tmp_path):
    start = np.zeros((1, 20, 3))
    with pytest.raises(ValueError, match="platform: got 'Abacus', expected one of Reference"):
        openmm_run(harmonic_system(), start, steps=1, platform="Abacus", **options())
    with pytest.raises(ValueError, match="seed: got -1, expected 0 to"):
        openmm_run(harmonic_system(), start, steps=1, **options(seed=-1))
    with pytest.raises(ValueError, match=r"x0: got shape \(1, 19, 3\)"):
        openmm_run(harmonic_system(), start[:, 1:], steps=1, **options())
    openmm_run(harmonic_system(), start, steps=1, to=tmp_path / "run", **options())
    softer = harmonic_system()
    softer.getForce(0).setEnergyFunction("40 * (x^2 + y^2 + z^2)")
    with pytest.raises(ValueError, match="other settings .system was"):
        openmm_run(softer, start, steps=2, to=tmp_path / "run", resume=True, **options())
