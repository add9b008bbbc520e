"""The analytic systems: published values, other people's data where its statistics are known, and the law."""

import numpy as np
import pytest
import torch

from molifold.data import example
from molifold.energies import DW4, LJ13, DoubleWell, MuellerBrown, ParticleDimer
from molifold.testing import check_energy

START = {
    "double-well": DoubleWell(),
    "mueller-brown": MuellerBrown(),
    "particle-dimer": ParticleDimer(),
    "dw4": DW4(),
    "lj13": LJ13(),
}


def near(name, n=4, spread=0.1):
    x = torch.tensor(example(name).x)
    return x + spread * torch.randn((n, *x.shape[1:]), generator=torch.Generator().manual_seed(0), dtype=x.dtype)


@pytest.mark.parametrize("name", START)
def test_law(name):
    check_energy(START[name], near(name), rigid=name == "lj13")


@pytest.mark.parametrize("name", START)
def test_the_shipped_example_fits(name):
    assert type(START[name]).__name__ == example(name).kind
    assert START[name].shape == example(name).x.shape[1:]


def test_double_well_has_the_free_energy_difference_of_the_paper():
    # 4.777: both wells of exp(-(x^4/4 - 3 x^2 + x)), split at x = 0, by quadrature.
    x = torch.linspace(-6, 6, 200001, dtype=torch.float64)
    u = DoubleWell()(torch.stack([x, torch.zeros_like(x)], -1)[:, None])
    assert float(torch.logsumexp(-u[x < 0], 0) - torch.logsumexp(-u[x > 0], 0)) == pytest.approx(4.777, abs=2e-3)


def test_mueller_brown_stationary_points():
    # K. Mueller, L. D. Brown (1979): three minima and two saddle points, and their energies.
    points = [(-0.558, 1.442), (0.623, 0.028), (-0.050, 0.467), (-0.822, 0.624), (0.212, 0.293)]
    x = torch.tensor(points, dtype=torch.float64)[:, None].requires_grad_()
    u = MuellerBrown(scale=1.0)(x)
    assert torch.allclose(u, torch.tensor([-146.70, -108.17, -80.77, -40.66, -72.25]).double(), atol=0.02)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    assert gradient.norm(dim=-1).max() < 2.0  # the points are given to three digits


def test_particle_dimer_terms():
    # By hand from the constants of the authors' code.
    x = torch.tensor(example("particle-dimer").x)
    energy = ParticleDimer()
    start = energy(x)
    moved = x.clone()
    moved[0, 2] = torch.tensor([3.5, 40.0])  # outside by 0.5 and 37, far from all others
    gone = energy(moved)
    others = torch.cat([x[0, :2], x[0, 3:]])
    repulsion = ((1.1**2 / ((x[0, 2] - others) ** 2).sum(-1)) ** 6).sum()
    r2 = ((moved[0, 2] - others) ** 2).sum(-1)
    assert float(gone - start) == pytest.approx(
        float(200 * (0.5**2 + 37.0**2) - repulsion + ((1.1**2 / r2) ** 6).sum()), rel=1e-9
    )
    ends = torch.zeros(1, 38, 2, dtype=torch.float64)
    ends[0, 0, 0], ends[0, 1, 0] = -1.0, 1.2  # d = 2.2, e = 1.4, centre off by 0.2
    expected = 20 * 0.2**2 - 0.5 * 1.4 - 25 * 1.4**2 + 10 * 1.4**4
    assert float(energy.dimer(ends)) == pytest.approx(expected)


def test_lj13_has_the_known_global_minimum():
    # Cambridge Cluster Database: -44.326801 for thirteen particles, the centred icosahedron; ours counts ordered pairs.
    shape = torch.tensor(example("lj13").x)
    scales = torch.linspace(0.9, 1.1, 20001, dtype=torch.float64)[:, None, None]
    x = scales * shape
    bare = LJ13()(x) - 0.5 * (x**2).sum((1, 2))
    assert float(bare.min()) == pytest.approx(2 * -44.326801, abs=1e-5)


def test_dw4_virial():
    """<x . grad u> = 6, the degrees of freedom under exp(-u) with the centre fixed, by Langevin Monte Carlo (MALA)."""
    energy, name, step = DW4(), "dw4", 0.01
    generator = torch.Generator().manual_seed(3)

    def evaluate(x):
        y = x.detach().requires_grad_()
        u = energy(y)
        return u.detach(), torch.autograd.grad(u.sum(), y)[0]

    x = near(name, n=64, spread=0.02)
    x = x - x.mean(1, keepdim=True)
    u, g = evaluate(x)
    virials = []
    for k in range(1500):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        noise = noise - noise.mean(1, keepdim=True)
        new = x - step * g + (2 * step) ** 0.5 * noise
        u_new, g_new = evaluate(new)
        back = ((x - new + step * g_new) ** 2).sum((1, 2)) / (4 * step)
        accept = torch.rand(len(x), generator=generator) < (u - u_new - back + (noise**2).sum((1, 2)) / 2).exp()
        x, g = (torch.where(accept[:, None, None], a, b) for a, b in ((new, x), (g_new, g)))
        u = torch.where(accept, u_new, u)
        if k >= 500:
            virials.append(float((x * g).sum((1, 2)).mean()))
    assert np.mean(virials) == pytest.approx((x.shape[1] - 1) * x.shape[2], rel=0.05)


def test_wrong_shape_and_temperature():
    with pytest.raises(ValueError, match=r"x: got shape \[3, 8\], expected \[batch, 4, 2\]"):
        DW4()(torch.zeros(3, 8))
    with pytest.raises(ValueError, match="temperature: got 0"):
        DW4().at(0)
    assert np.isclose(DW4().at(2.0)(near("dw4")), DW4()(near("dw4")) / 2).all()
