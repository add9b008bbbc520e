"""fit_property learns energies and forces; the ASE calculator of what it learnt is exact and conserves energy."""

import numpy as np
import pytest
import torch

from molifold import Molecule
from molifold.networks import Graph, Property, ase_calculator, molecular_graph
from molifold.training import fit_property, mean_error
from molifold.units import ENERGY

WATER = molecular_graph(Molecule(elements=("O", "H", "H"), bonds=((0, 1), (0, 2))))
SHAPE = torch.tensor([[0.0, 0.0, 0.0], [0.096, 0.0, 0.0], [-0.024, 0.093, 0.0]], dtype=torch.float64)
LENGTHS, STIFFNESS = torch.tensor([0.096, 0.096, 0.1517]), torch.tensor([3.0e5, 3.0e5, 1.0e5])  # kJ/mol/nm^2


def springs(n, *, seed=0):
    """Frames of a water molecule of three springs: x, energies (kJ/mol), forces (kJ/mol/nm)."""
    x = SHAPE + 0.004 * torch.randn(n, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x.requires_grad_()
    d = torch.stack([(x[:, i] - x[:, j]).norm(dim=-1) for i, j in ((0, 1), (0, 2), (1, 2))], dim=1)
    y = (0.5 * STIFFNESS * (d - LENGTHS).square()).sum(1)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return x.detach(), y.detach() - 2.0e5, -gradient


def build():
    torch.manual_seed(0)
    return Property("SchNet", options={"channels": 16, "layers": 1, "reach": 0.2}, embedding=16)


def learn(**options):
    x, y, forces = springs(300)
    return fit_property(build(), x, y, graph=WATER, forces=forces, learning_rate=1e-2, **options)


@pytest.fixture(scope="module")
def fitted():
    return learn(steps=200, validate_every=50)


def test_errors_fall_tenfold_on_new_frames(fitted):
    x, y, forces = springs(200, seed=1)
    found = mean_error(fitted.model, x, y, graph=WATER, forces=forces)
    assert found.forces < 0.1 * forces.abs().mean()
    assert found.value < 0.1 * (y - y.mean()).abs().mean()
    assert abs(found.forces - fitted.validation.forces) < 5 * (found.forces_error + fitted.validation.forces_error)
    assert [row["step"] for row in fitted.history] == [50, 100, 150, 200]


def test_the_seed_decides_everything():
    one, two, other = (learn(steps=5, seed=seed).validation for seed in (0, 0, 1))
    assert one == two != other


def test_padding_of_different_molecules_changes_nothing():
    """The error of a batch of two kinds is that of each alone."""
    hydrogen = molecular_graph(Molecule(elements=("H", "H"), bonds=((0, 1),)))
    model, (x, y, forces) = build(), springs(4)
    pair = mean_error(model, x[:2, :2], y[:2], graph=hydrogen, forces=forces[:2, :2])
    whole = mean_error(model, x[2:], y[2:], graph=WATER, forces=forces[2:])
    both = Graph.stack([hydrogen, hydrogen, WATER, WATER])
    x[:2, 2], forces[:2, 2] = 7.0, 0.0
    found = mean_error(model, x, y, graph=both, forces=forces)
    assert found.value == pytest.approx((pair.value + whole.value) / 2, rel=1e-5)
    assert found.forces == pytest.approx((pair.forces + whole.forces) / 2, rel=1e-4)


def test_bad_data_is_named():
    x, y, forces = springs(10)
    with pytest.raises(ValueError, match=r"forces: got shape \[10, 2, 3\]"):
        fit_property(build(), x, y, graph=WATER, forces=forces[:, :2], steps=1)
    with pytest.raises(ValueError, match=r"validation: got 1\.0"):
        fit_property(build(), x, y, graph=WATER, steps=1, validation=1.0)
    y[3] = float("nan")
    with pytest.raises(ValueError, match="y: got values that are not finite"):
        fit_property(build(), x, y, graph=WATER, steps=1)


def molecule(fitted):
    from ase import Atoms

    model = Property("SchNet", options=fitted.model.about["options"], embedding=16).double()
    model.load_state_dict(fitted.model.state_dict())
    return Atoms("OH2", (10 * SHAPE).numpy(), calculator=ase_calculator(model.eval())), model


def test_ase_sees_the_energy_and_its_exact_negative_gradient(fitted):
    atoms, model = molecule(fitted)
    atoms.rattle(0.03, seed=1)
    x = torch.as_tensor(atoms.positions / 10)[None]
    y = model(x, WATER) + model.reference(WATER)
    assert atoms.get_potential_energy() == pytest.approx(y.item() / ENERGY["eV"], rel=1e-12)
    numeric = atoms.calc.calculate_numerical_forces(atoms, d=1e-4)
    assert np.abs(atoms.get_forces() - numeric).max() < 1e-5 * np.abs(numeric).max()


def test_dynamics_in_ase_conserve_energy(fitted):
    """Over 300 steps of 0.2 fs, total energy moves by less than 1 % of the kinetic energy."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    atoms, _ = molecule(fitted)
    spread = np.sqrt(units.kB * 100 * atoms.get_masses())[:, None]  # 100 K
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(3, 3)))
    dynamics = VelocityVerlet(atoms, timestep=0.2 * units.fs)
    total, kinetic = [], []
    for _ in range(300):
        dynamics.run(1)
        total.append(atoms.get_total_energy())
        kinetic.append(atoms.get_kinetic_energy())
    assert np.ptp(total) < 0.01 * np.mean(kinetic)
    assert np.ptp(kinetic) > 0.1 * np.mean(kinetic)  # it does move between the two


def test_calculator_refuses_what_it_cannot_do(fitted):
    from ase import Atoms

    atoms, model = molecule(fitted)
    atoms.pbc = True
    with pytest.raises(ValueError, match="periodic"):
        atoms.get_potential_energy()
    with pytest.raises(ValueError, match="elements"):
        Atoms("CO2", np.eye(3), calculator=ase_calculator(model, WATER)).get_potential_energy()
    with pytest.raises(ValueError, match="expected an energy"):
        ase_calculator(Property("SchNet", options={"channels": 4, "reach": 0.2}, unit="debye"))
    with pytest.raises(ValueError, match="graph: got None"):
        ase_calculator(Property("MEGNet", options={"channels": 4, "blocks": 1}, unit="eV"))
