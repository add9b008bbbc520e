"""The batched molecular mechanics against OpenMM's Reference platform (double precision)."""

import numpy as np
import openmm
import pytest
import torch
from energy_systems import CUTOFF, SYSTEMS, conformations, dipeptide, prmtop, system, xml
from openmm import app

from molifold.energies import MolecularMechanics, OpenMMEnergy, UnsupportedForceError
from molifold.energies.kernels import energy_forces
from molifold.energies.parameters import INTEGER, cast
from molifold.interfaces import Energy
from molifold.testing import check_energy
from molifold.units import kT

pytestmark = pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")
KINDS = ["300 K", "1000 K", "clash"]


def usable(name, kind):
    """HCT has no tanh: in a crushed molecule its Born radii turn negative, in OpenMM as here, and u is NaN."""
    x = conformations(kind)
    return x[:4] if (name, kind) == ("ff96+hct", "clash") else x


def errors(u, f, exact_u, exact_f):
    """Largest relative error of the energy, and of the forces in units of the force norm."""
    norm = np.linalg.norm(exact_f.reshape(len(u), -1), axis=1)
    return (
        np.max(np.abs((u - exact_u) / exact_u)),
        np.max(np.linalg.norm((f - exact_f).reshape(len(u), -1), axis=1) / norm),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_float64_agrees_with_openmm_reference(name, kind):
    x = usable(name, kind)
    exact = OpenMMEnergy(system(name), temperature=300.0).potential_and_forces(x)
    ours = MolecularMechanics.from_system(system(name), temperature=300.0, precision="float64")
    assert np.isfinite(exact[0]).all()
    assert errors(*ours.potential_and_forces(x), *exact) < (1e-10, 1e-10)  # the promise is 1e-6 and 1e-5


@pytest.mark.parametrize("name", ["amber99sbildn+obc", "ff96+obc1", "gbn2+ace", "ff19sb-cmap"])
def test_float32_is_as_exact_as_documented(name):
    ours = MolecularMechanics.from_system(system(name), temperature=300.0)
    for kind, limit in (("300 K", 0.01), ("1000 K", 0.01), ("clash", None)):
        x = conformations(kind)
        exact_u, exact_f = OpenMMEnergy(system(name), temperature=300.0).potential_and_forces(x)
        u, f = ours.potential_and_forces(x)
        assert u.dtype == f.dtype == np.float32
        relative, force = errors(u, f, exact_u, exact_f)
        assert np.max(np.abs(u - exact_u)) < limit if limit else relative < 1e-4  # kJ/mol
        assert force < 2e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_torch_path_is_the_same_energy(name, kind):
    energy = MolecularMechanics.from_system(system(name), temperature=300.0, precision="float64")
    x = torch.tensor(usable(name, kind), requires_grad=True)
    kernel, smooth = energy(x), energy._smooth(x)
    assert torch.allclose(kernel, smooth, rtol=1e-11)
    by_forces, by_autograd = (torch.autograd.grad(u.sum(), x)[0] for u in (kernel, smooth))
    assert (by_forces - by_autograd).norm() < 1e-11 * by_autograd.norm()


@pytest.mark.parametrize("name", ["amber99sbildn+obc", "gbn2+salt+cutoff", "ff19sb-cmap", "torsions"])
def test_second_derivatives(name):
    energy = MolecularMechanics.from_system(system(name), temperature=300.0, precision="float64")
    x = torch.tensor(conformations("300 K")[:2]) + 1e-3
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def gradient(y):
        return torch.autograd.grad(energy(y.requires_grad_()).sum(), y, create_graph=True)[0]

    y = x.clone()
    (product,) = torch.autograd.grad((gradient(y) * direction).sum(), y)  # Hessian times direction
    step = 1e-5
    differences = (gradient(x + step * direction) - gradient(x - step * direction)).detach() / (2 * step)
    assert (product - differences).norm() < 1e-5 * differences.norm()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["ff96+obc1", "gbn2+salt+cutoff", "ff19sb-cmap"])
def test_law(name, precision):
    energy = MolecularMechanics.from_system(system(name), temperature=300.0, precision=precision)
    x = torch.tensor(conformations("1000 K"))
    if precision == "float64":
        check_energy(energy, x, rigid=True, tolerance=1e-6)
    else:
        check_energy(energy, x, rigid=True, tolerance=2e-3, step=1e-3)


def test_lanes_threads_and_layout_do_not_change_a_bit():
    x = np.concatenate([conformations("1000 K"), conformations("clash"), conformations("300 K")])[:23]
    for precision in ("float32", "float64"):
        p = cast(MolecularMechanics.from_system(system("ff96+obc1"), temperature=300.0).table, precision)
        u, f = energy_forces(x, p)
        for other in (energy_forces(x, p, threads=3), energy_forces(np.asfortranarray(x), p)):
            assert np.array_equal(u, other[0])
            assert np.array_equal(f, other[1])
        singles = [energy_forces(row[None], p) for row in x]
        assert np.array_equal(u, [v[0][0] for v in singles])
        reversed_ = energy_forces(x[::-1], p)
        assert np.array_equal(u, reversed_[0][::-1])


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["ff96+obc1", "gbn2+ace", "ff19sb-cmap"])
def test_coinciding_atoms_and_lines_stay_finite(name, precision):
    energy = MolecularMechanics.from_system(system(name), temperature=300.0, precision=precision)
    x = np.repeat(dipeptide()[1][None], 4, 0)
    x[0, 5] = x[0, 9]  # two atoms in one place
    x[1] = 0  # all of them
    x[2, :, 1:] = 0  # on a line: no torsion is defined
    x[3, 8] = x[3, 6] + (x[3, 6] - x[3, 4])  # one straight angle
    u, f = energy.potential_and_forces(x)
    assert np.isfinite(u).all()
    assert np.isfinite(f).all()
    assert u[0] > 1e6


def test_a_broken_conformation_does_not_touch_its_neighbours():
    energy = MolecularMechanics.from_system(system("ff96+obc1"), temperature=300.0)
    x = conformations("300 K").copy()
    clean, _ = energy.potential_and_forces(x)
    x[3] = np.nan
    u, f = energy.potential_and_forces(x)
    assert np.isnan(u[3])
    assert np.array_equal(np.delete(u, 3), np.delete(clean, 3))
    assert np.isfinite(np.delete(f, 3, 0)).all()


def test_units_temperature_and_dtype():
    energy = MolecularMechanics.from_system(system("ff96+obc1"), temperature=300.0, precision="float64")
    assert isinstance(energy, Energy)
    x = conformations("300 K")
    u, _ = energy.potential_and_forces(x)
    assert np.allclose(energy(torch.tensor(x)), u / kT(300.0), rtol=1e-14)
    assert np.allclose(energy.at(450.0)(torch.tensor(x)), u / kT(450.0), rtol=1e-14)
    single = energy(torch.tensor(x, dtype=torch.float32))
    assert single.dtype == torch.float32
    far = (
        torch.tensor(x) + 1000.0
    )  # float32 arithmetic keeps its precision far from the origin, given float64 positions
    fast = MolecularMechanics.from_system(system("ff96+obc1"), temperature=300.0)
    assert torch.allclose(fast(far), energy(far), atol=5e-3)


def test_centre_of_mass_remover_and_constraints_have_no_energy():
    bare, dressed = prmtop(removeCMMotion=False), prmtop(removeCMMotion=True)
    u = [
        MolecularMechanics.from_system(s, temperature=300.0).potential_and_forces(conformations("300 K"))[0]
        for s in (bare, dressed)
    ]
    assert np.array_equal(*u)
    constrained = xml("amber99sbildn.xml", "amber99_obc.xml", constraints=app.HBonds)
    table = MolecularMechanics.from_system(constrained, temperature=300.0).table
    assert len(table.bond_k) == 21 - 12  # 12 bonds to hydrogen


def with_force(force):
    s = openmm.System()
    for _ in range(2):
        s.addParticle(1.0)
    s.addForce(force)
    return s


def custom_gb(**changes):
    """OBC1 as OpenMM writes it, with one formula changed."""
    s = prmtop(implicitSolvent=app.OBC1)
    (force,) = (f for f in s.getForces() if isinstance(f, openmm.CustomGBForce))
    if "radius" in changes:
        name, _, kind = force.getComputedValueParameters(1)
        force.setComputedValueParameters(1, name, changes["radius"], kind)
    if "term" in changes:
        force.addEnergyTerm(changes["term"], openmm.CustomGBForce.SingleParticle)
    return s


def periodic():
    force = openmm.NonbondedForce()
    for _ in range(2):
        force.addParticle(0.0, 0.3, 1.0)
    force.setNonbondedMethod(force.PME)
    return with_force(force)


def drude():
    force = openmm.CustomExternalForce("x^2")
    force.addParticle(0, [])
    return with_force(force)


def named(name, force):
    force.setName(name)
    return force


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (periodic, "NonbondedForce.*periodic"),
        (drude, "CustomExternalForce"),
        (lambda: with_force(openmm.CustomBondForce("r")), "CustomBondForce"),
        (lambda: with_force(named("LennardJones", openmm.CustomNonbondedForce("r"))), "LennardJones"),  # CHARMM36's
        (lambda: custom_gb(radius="1/(1/or-tanh(psi)/radius);psi=I*or;radius=or+offset;offset=0.009"), "Born radius"),
        (lambda: custom_gb(term="charge^2"), "energy term"),
    ],
)
def test_what_it_does_not_know_is_an_error_that_names_the_fallback(make, says):
    with pytest.raises(UnsupportedForceError, match=rf"(?s){says}.*OpenMMEnergy"):
        MolecularMechanics.from_system(make(), temperature=300.0)


def test_wrong_arguments_are_named():
    energy = MolecularMechanics.from_system(system("vacuum"), temperature=300.0)
    with pytest.raises(ValueError, match=r"x: got shape \[3, 22, 2\], expected \[batch, 22, 3\]"):
        energy(torch.zeros(3, 22, 2))
    with pytest.raises(ValueError, match="precision: got 'half'"):
        MolecularMechanics.from_system(system("vacuum"), temperature=300.0, precision="half")
    with pytest.raises(ValueError, match="temperature: got -3"):
        energy.at(-3)


def test_parameters_are_ready_for_numba():
    p = MolecularMechanics.from_system(system("ff19sb-cmap"), temperature=300.0).parameters("float32")
    for name, value in zip(p._fields, p, strict=True):
        assert value.dtype == (np.int32 if name in INTEGER else np.float32), name
        assert value.flags.c_contiguous, name
    assert (
        CUTOFF["nonbondedCutoff"]
        == MolecularMechanics.from_system(system("obc+cutoff"), temperature=1.0).table.cutoff[0]
    )
