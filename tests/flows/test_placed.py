"""The Cartesian density of a placed flow: normalised in 3N dimensions, uniform in orientation."""

import math

import numpy as np
import pytest
import torch

from molifold import Block, Molecule, Space
from molifold.flows import Flow, Placed
from molifold.flows.placed import ROTATIONS, _rotation
from molifold.transforms import Chain, InternalCoordinates, Transform

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")


class Stiff(Transform):
    """Bonds and the angle of water to standard normals."""

    def __init__(self, domain):
        super().__init__()
        self.domain, self.codomain = domain, Space((Block("z", 3, "real"),))
        self.register_buffer("mean", torch.tensor([0.1, 0.1, 1.9], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor([0.004, 0.004, 0.08], dtype=torch.float64))

    def forward(self, x):
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(len(x))

    def inverse(self, y):
        return y * self.scale + self.mean, self.scale.log().sum().expand(len(y))


@pytest.fixture
def placed():
    internal = InternalCoordinates(WATER)
    return Placed(Flow(Chain([internal, Stiff(internal.codomain)])).double(), root=internal.tree.root[0], spread=0.5)


def euler(alpha, cos_beta, gamma):
    def turn(angle_cos, angle_sin, axes):
        a, b = axes
        m = torch.eye(3, dtype=torch.float64)
        m = m.index_put((torch.tensor([a, b]), torch.tensor([a, b])), torch.stack([angle_cos, angle_cos]))
        return m.index_put((torch.tensor([a, b]), torch.tensor([b, a])), torch.stack([-angle_sin, angle_sin]))

    sin_beta = (1 - cos_beta**2).sqrt()
    about_y = turn(cos_beta, -sin_beta, (0, 2))
    return turn(alpha.cos(), alpha.sin(), (0, 1)) @ about_y @ turn(gamma.cos(), gamma.sin(), (0, 1))


def test_the_measure_is_that_of_euler_angles(placed):
    """Reference: the Jacobian, by autograd, of all 9 coordinates by shape, position and Euler angles."""
    torch.manual_seed(0)
    x, _ = placed.flow.sample(1)
    y, log_det = placed.flow.transform.steps[0](x)
    free = torch.tensor([0.3, -0.2, 0.7, 0.4, 0.25, -1.1], dtype=torch.float64)

    def place(v):
        shape, _ = placed.flow.transform.steps[0].inverse(v[None, :3])
        shape = shape[0] - shape[0, placed.root]
        return (shape @ euler(v[6], v[7], v[8]).T + v[3:6]).reshape(-1)

    jacobian = torch.autograd.functional.jacobian(place, torch.cat([y[0], free]))
    assert torch.isclose(torch.linalg.slogdet(jacobian)[1], -log_det[0], atol=1e-9)
    assert math.isclose(ROTATIONS, 2 * math.pi * 2 * 2 * math.pi)


def test_log_prob_of_a_draw_is_its_log_q(placed):
    x, log_q = placed.sample(50, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(placed.log_prob(x), log_q, atol=1e-9)


def test_rotations_are_proper_and_uniform():
    """Reference: E[R] = 0 and E[R_ij^2] = 1/3 on the rotation group."""
    r = _rotation(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    assert torch.allclose(torch.linalg.det(r), torch.ones(len(r), dtype=torch.float64))
    assert np.allclose(r.mean(0), 0, atol=5 * math.sqrt(1 / 3 / len(r)))
    assert np.allclose(r.square().mean(0), 1 / 3, atol=0.01)
