"""OpenMMEnergy and Regularized."""

import numpy as np
import openmm
import pytest
import torch
from energy_systems import conformations, system

from molifold.energies import DoubleWell, MolecularMechanics, OpenMMEnergy, Regularized
from molifold.testing import check_energy


def test_law():
    check_energy(OpenMMEnergy(system("ff96+obc1"), temperature=300.0), torch.tensor(conformations("300 K")), rigid=True)


def test_any_force():
    force = openmm.CustomExternalForce("x^2 + 3*y")
    s = openmm.System()
    for i in range(2):
        s.addParticle(1.0)
        force.addParticle(i, [])
    s.addForce(force)
    u, f = OpenMMEnergy(s, temperature=300.0).potential_and_forces(np.array([[[1.0, 2, 3], [0, 1, 0]]]))
    assert np.allclose(u, 1 + 6 + 3)
    assert np.allclose(f[0], [[-2, -3, 0], [0, -3, 0]])


def test_workers_and_broken_conformations():
    x = conformations("300 K").copy()
    one = OpenMMEnergy(system("vacuum"), temperature=300.0)
    three = OpenMMEnergy(system("vacuum"), temperature=300.0, workers=3)
    assert np.array_equal(one.potential_and_forces(x)[0], three.potential_and_forces(x)[0])
    x[2] = np.nan
    u, f = three.potential_and_forces(x)
    assert np.isnan(u).tolist() == [k == 2 for k in range(8)]
    assert np.isfinite(np.delete(f, 2, 0)).all()


def test_second_derivative_is_refused_with_the_alternative():
    x = torch.tensor(conformations("300 K"), requires_grad=True)
    u = OpenMMEnergy(system("vacuum"), temperature=300.0)(x)
    with pytest.raises(NotImplementedError, match="MolecularMechanics"):
        torch.autograd.grad(u.sum(), x, create_graph=True)


def test_unknown_platform():
    with pytest.raises(ValueError, match="platform: got 'Quantum', expected one of .*Reference"):
        OpenMMEnergy(system("vacuum"), temperature=300.0, platform="Quantum")


@pytest.mark.parametrize("backend", [MolecularMechanics.from_system, OpenMMEnergy])
def test_regularized_is_exact_below_and_finite_above(backend):
    bare = backend(system("ff96+obc1"), temperature=300.0)
    energy = Regularized(bare, cut=100.0)
    good = torch.tensor(conformations("300 K"))
    assert torch.equal(energy(good), bare(good))
    bad = good.clone()
    bad[1, 5] = bad[1, 9] + 1e-7
    bad[2] *= 1e-3
    bad[3, 0, 0] = torch.nan
    bad[4, 0, 0] = torch.inf
    bad[5, 1] += 0.12
    bad.requires_grad_()
    u = energy(bad)
    (gradient,) = torch.autograd.grad(u.sum(), bad)
    assert bool(u.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert float(u.detach().max()) < 100 + np.log(1e20) + 1
    expected = 100 + torch.log1p(bare(bad.detach())[5] - 100)
    assert float(u.detach()[5]) == pytest.approx(float(expected))
    assert gradient[5].norm() > 0
    y = good[:2].clone().requires_grad_()
    assert torch.allclose(torch.autograd.grad(energy(y).sum(), y)[0], torch.autograd.grad(bare(y).sum(), y)[0])


def test_regularized_law_and_limits():
    x = torch.tensor([[[0.3, 0.1]], [[9.0, 2.0]], [[-1.0, 0.4]]], dtype=torch.float64)
    check = Regularized(DoubleWell(), cut=100.0)
    y = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(check, (y,))
    assert torch.autograd.gradgradcheck(check, (y,))
    with pytest.raises(ValueError, match="highest: got 5"):
        Regularized(DoubleWell(), cut=10.0, highest=5.0)
