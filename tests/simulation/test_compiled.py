import numpy as np
import openmm
import pytest
from openmm import app, unit
from scipy import stats
from test_replica_exchange import mean_and_error

from molifold import Molecule
from molifold.data import example
from molifold.energies.mechanics import MolecularMechanics
from molifold.energies.parameters import empty
from molifold.simulation import langevin, minimize, replica_exchange, temperature_ladder
from molifold.simulation.compiled import CompiledEngine
from molifold.units import kT

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
BOND, BEND, LENGTH, ANGLE = 376_560.0, 460.24, 0.09572, 1.82421813
X_WATER = np.array([[[LENGTH, 0, 0], [0, 0, 0], [LENGTH * np.cos(ANGLE), LENGTH * np.sin(ANGLE), 0]]])


def flexible_water(precision="float32"):
    """Two bonds and an angle (flexible TIP3P), nothing else: all averages are one-dimensional integrals."""
    table = empty(3)._replace(
        bond_atoms=np.array([[0, 1], [1, 2]], np.int32),
        bond_length=np.full(2, LENGTH),
        bond_k=np.full(2, BOND),
        angle_atoms=np.array([[0, 1, 2]], np.int32),
        angle_theta=np.array([ANGLE]),
        angle_k=np.array([BEND]),
    )
    return MolecularMechanics(table, temperature=300.0, precision=precision)


def moments(grid, weight):
    mean = (grid * weight).sum() / weight.sum()
    return np.array([mean, ((grid - mean) ** 2 * weight).sum() / weight.sum()])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_flexible_water_has_the_exact_distribution_of_its_internal_coordinates(precision):
    steps = 40_000 if precision == "float32" else 4000
    e = langevin(
        flexible_water(precision), X_WATER, molecule=WATER, temperature=300, seed=1, walkers=64, steps=steps, save_every=20,
        equilibration=4000, friction=20.0,
    )  # fmt: skip
    a, b = e.x[:, 0] - e.x[:, 1], e.x[:, 2] - e.x[:, 1]
    r = np.linalg.norm(a, axis=1)
    theta = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))
    grid_r, grid_t = np.linspace(0.07, 0.12, 5000), np.linspace(0.5, np.pi, 5000)
    expected_r = moments(grid_r, grid_r**2 * np.exp(-0.5 * BOND * (grid_r - LENGTH) ** 2 / kT(300)))
    expected_t = moments(grid_t, np.sin(grid_t) * np.exp(-0.5 * BEND * (grid_t - ANGLE) ** 2 / kT(300)))
    for values, expected in ((r, expected_r), (theta, expected_t)):
        first, error = mean_and_error(values.astype(float), e.columns["trajectory"])
        second, error2 = mean_and_error((values.astype(float) - expected[0]) ** 2, e.columns["trajectory"])
        assert error2 < 0.04 * expected[1]
        assert abs(first - expected[0]) < 4 * error + 1e-3 * np.sqrt(expected[1])
        # Anharmonic corrections to the exactness of the splitting are of order (omega dt)^2 kT / (k r^2): 1e-3.
        assert abs(second - expected[1]) < 4 * error2 + 2e-3 * expected[1]


def test_heavier_hydrogens_change_nothing_but_kinetics():
    e = langevin(
        flexible_water(), X_WATER, molecule=WATER, temperature=300, seed=2, walkers=64, steps=20_000, save_every=20,
        equilibration=4000, friction=20.0, timestep=0.002, hydrogen_mass=3.0,
    )  # fmt: skip
    r = np.linalg.norm(e.x[:, 0] - e.x[:, 1], axis=1).astype(float)
    grid = np.linspace(0.07, 0.12, 5000)
    expected = moments(grid, grid**2 * np.exp(-0.5 * BOND * (grid - LENGTH) ** 2 / kT(300)))
    mean, error = mean_and_error((r - expected[0]) ** 2, e.columns["trajectory"])
    assert abs(mean - expected[1]) < 4 * error + 5e-3 * expected[1]


@pytest.fixture(scope="module")
def butane():
    system = example("butane")
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300)
    start = minimize(energy, system.x)
    assert start.converged.all()
    e = langevin(
        energy, start.x, molecule=system.molecule, temperature=300, seed=3, walkers=128, steps=20_000, save_every=500,
        equilibration=20_000,
    )  # fmt: skip
    return system, energy, e


def test_openmm_dynamics_leaves_our_energy_distribution_alone(butane):
    # OpenMM's own Langevin dynamics starts from our last frames; the bonds and angles forget them within 2 ps.
    system, _, e = butane
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system.openmm_system(), integrator, openmm.Platform.getPlatformByName("Reference"))
    theirs = []
    for x in e.x[-128:][:64]:
        context.setPositions(x.astype(float))
        context.setVelocitiesToTemperature(300, 1)
        integrator.step(2000)
        for _ in range(10):
            integrator.step(150)
            theirs.append(context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
    theirs = np.array(theirs).reshape(64, 10)
    for power in (1, 2):
        ours, our_error = mean_and_error(e.columns["energy"] ** power, e.columns["trajectory"])
        mean, error = (theirs**power).mean(), (theirs**power).mean(1).std(ddof=1) / 8
        assert error < 0.02 * power * mean
        assert abs(ours - mean) < 4 * np.hypot(error, our_error), power
    assert stats.ks_2samp(theirs[:, -1], e.columns["energy"][-64:]).pvalue > 1e-3


def test_stored_energies_are_those_of_openmm_at_the_stored_coordinates(butane):
    system, _, e = butane
    context = openmm.Context(
        system.openmm_system(), openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    for k in range(0, len(e), 997):
        context.setPositions(e.x[k].astype(float))
        expected = context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        assert abs(e.columns["energy"][k] - expected) < 5e-3


def test_frames_are_centred_and_walkers_differ(butane):
    _, _, e = butane
    assert np.abs(e.x.mean(axis=1)).max() < 1e-6
    last = e.x[-128:]
    assert len(np.unique(last.reshape(128, -1), axis=0)) == 128


def engine(walkers, *, threads=1, seed=0):
    energy = flexible_water()
    return CompiledEngine(
        energy.parameters(), np.repeat(X_WATER, walkers, 0), masses=np.array(WATER.masses), timestep=0.001, friction=5.0,
        kT=np.full(walkers, kT(300)), seed=seed, threads=threads,
    )  # fmt: skip


def test_threads_do_not_change_the_result():
    one, four = engine(50), engine(50, threads=4)
    for e in (one, four):
        e.advance(300, kT=np.linspace(kT(300), kT(600), 50))
    for a, b in zip(one.observe(), four.observe(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_restores_bit_by_bit():
    kt = np.full(20, kT(300))
    a, b = engine(20), engine(20, seed=9)
    a.advance(50, kT=kt)
    b.restore({name: value.copy() for name, value in a.state().items()})
    for e in (a, b):
        e.scale_velocities(np.linspace(0.9, 1.1, 20))
        e.advance(50, kT=kt)
    for name, value in a.state().items():
        np.testing.assert_array_equal(value, b.state()[name])


def test_replica_exchange_of_a_peptide_resumes_exactly(tmp_path):
    system = example("alanine-dipeptide-99sbildn")
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300)
    start = minimize(energy, system.x, max_steps=300).x
    options = {
        "molecule": system.molecule,
        "temperatures": temperature_ladder(300, 600, 4),
        "equilibration": 400,
        "seed": 4,
    }
    whole = replica_exchange(energy, start, steps=1000, **options)
    replica_exchange(energy, start, steps=500, to=tmp_path / "run", **options)
    resumed = replica_exchange(energy, start, steps=1000, to=tmp_path / "run", resume=True, **options)
    np.testing.assert_array_equal(whole.x, resumed.x)
    np.testing.assert_array_equal(whole.log_p, resumed.log_p)
    assert whole.meta["simulation"]["round_trips"] == resumed.meta["simulation"]["round_trips"]


def test_constraints_are_refused_with_the_way_out():
    files = ["amber99sbildn.xml", "amber99_obc.xml"]
    molecule = example("alanine-dipeptide").molecule
    constrained = app.ForceField(*files).createSystem(molecule.to_openmm(), constraints=app.HBonds)
    energy = MolecularMechanics.from_system(constrained, temperature=300)
    with pytest.raises(ValueError, match=r"12 bonds .* constraints=None.*openmm_run"):
        langevin(energy, example("alanine-dipeptide").x, molecule=molecule, temperature=300, steps=10, seed=0)
