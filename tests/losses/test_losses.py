"""Losses against quadrature and closed forms, on a Gaussian that is its own flow."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from molifold.interfaces import Batch, Density
from molifold.losses import log_dispersion, nll, reverse_kl


class Gaussian(nn.Module):
    """A trainable Gaussian over [batch, 1, 1] "conformations"; the smallest Density there is."""

    def __init__(self, mean=0.0, log_width=0.0):
        super().__init__()
        self.mean, self.log_width = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (mean, log_width))

    def log_prob(self, x):
        z = (x[:, 0, 0] - self.mean) * torch.exp(-self.log_width)
        return -0.5 * z.square() - self.log_width - 0.5 * math.log(2 * math.pi)

    def sample(self, n, *, generator=None):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        x = (self.mean + torch.exp(self.log_width) * z)[:, None, None]
        return x, self.log_prob(x)


@dataclass(frozen=True)
class Harmonic:
    """u = (x - centre)^2 / (2 width^2)."""

    centre: float = 0.5
    width: float = 2.0
    temperature: float = 1.0

    def __call__(self, x):
        return 0.5 * ((x[:, 0, 0] - self.centre) / self.width).square()

    def at(self, temperature):
        raise NotImplementedError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def kl(flow, energy):
    """KL(q || p) of two Gaussians minus log Z."""
    s, m = math.exp(flow.log_width.item()), flow.mean.item()
    known = math.log(energy.width / s) + (s**2 + (m - energy.centre) ** 2) / (2 * energy.width**2) - 0.5
    return known - math.log(energy.width * math.sqrt(2 * math.pi))


def test_the_toy_is_a_density():
    assert isinstance(Gaussian(), Density)


def test_nll_is_the_cross_entropy_by_quadrature():
    flow, energy = Gaussian(0.3, 0.4), Harmonic()
    x = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None, None]
    p = torch.exp(-energy(x))
    cross = -(p * flow.log_prob(x).detach()).sum() / p.sum()
    weighted = nll(flow, Batch(x, weights=p), None, seeded())
    assert torch.isclose(weighted, cross, rtol=1e-12)
    s, m = math.exp(0.4), 0.3
    exact = 0.4 + 0.5 * math.log(2 * math.pi) + (energy.width**2 + (energy.centre - m) ** 2) / (2 * s**2)
    assert math.isclose(float(cross), exact, rel_tol=1e-9)


def test_nll_without_weights_is_the_mean():
    flow, x = Gaussian(0.3, 0.4), torch.randn(50, 1, 1, dtype=torch.float64)
    assert torch.isclose(nll(flow, Batch(x), None, seeded()), -flow.log_prob(x).mean())
    alike = nll(flow, Batch(x, weights=torch.full((50,), 7.0)), None, seeded())
    assert torch.isclose(alike, nll(flow, Batch(x), None, seeded()))


def test_reverse_kl_and_its_gradient_are_unbiased():
    flow, energy = Gaussian(-0.4, 0.2), Harmonic()
    n = 400_000
    loss = reverse_kl(flow, Batch(torch.zeros(1, 1, 1)), energy, seeded(), samples=n)
    assert abs(loss.item() - kl(flow, energy)) < 5 / math.sqrt(n)
    gradients = torch.autograd.grad(loss, [flow.mean, flow.log_width])
    exact = (-0.4 - energy.centre) / energy.width**2, math.exp(0.4) / energy.width**2 - 1
    for got, expected in zip(gradients, exact, strict=True):
        assert abs(got.item() - expected) < 8 / math.sqrt(n)


def test_reverse_kl_draws_as_many_samples_as_the_batch_has_and_only_from_its_generator():
    flow, energy, batch = Gaussian(), Harmonic(), Batch(torch.zeros(7, 1, 1))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    losses = [reverse_kl(flow, batch, energy, seeded(s)).item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(state, torch.get_rng_state())
    x, log_q = flow.sample(7, generator=seeded(1))
    assert math.isclose(losses[0], (log_q + energy(x)).mean().item())


@pytest.mark.parametrize("weights", [None, torch.rand(100, dtype=torch.float64)])
def test_log_dispersion_and_its_gradient_vanish_for_the_exact_model(weights):
    energy = Harmonic()
    flow = Gaussian(energy.centre, math.log(energy.width))
    x = 3 * torch.randn(100, 1, 1, dtype=torch.float64)  # any points will do, not only samples
    loss = log_dispersion(flow, Batch(x, weights=weights), energy, seeded())
    assert loss.item() < 1e-24
    assert all(g.abs() < 1e-10 for g in torch.autograd.grad(loss, list(flow.parameters())))


def test_log_dispersion_is_the_weighted_variance_of_the_difference():
    flow, energy = Gaussian(0.1, 0.3), Harmonic()
    x, weights = torch.randn(60, 1, 1, dtype=torch.float64), torch.rand(60, dtype=torch.float64)
    difference = flow.log_prob(x) + energy(x)
    repeated = log_dispersion(flow, Batch(x, weights=torch.tensor([2.0, 1.0] * 30)), energy, seeded())
    twice = torch.cat([x[::2], x])
    assert torch.isclose(repeated, log_dispersion(flow, Batch(twice), energy, seeded()))
    mean = (weights * difference).sum() / weights.sum()
    expected = (weights * (difference - mean).square()).sum() / weights.sum()
    assert torch.isclose(log_dispersion(flow, Batch(x, weights=weights), energy, seeded()), expected)


def test_log_dispersion_prefers_known_energies_and_ignores_their_zero():
    flow, energy = Gaussian(0.1, 0.3), Harmonic()
    x = torch.randn(60, 1, 1, dtype=torch.float64)
    evaluated = log_dispersion(flow, Batch(x), energy, seeded())
    known = log_dispersion(flow, Batch(x, log_p=17.0 - energy(x)), None, seeded())
    assert torch.isclose(evaluated, known)


@pytest.mark.parametrize(
    ("loss", "message"), [(reverse_kl, "energy: got None"), (log_dispersion, "batch.log_p: got None")]
)
def test_missing_energies_are_named(loss, message):
    with pytest.raises(ValueError, match=message):
        loss(Gaussian(), Batch(torch.zeros(2, 1, 1)), None, seeded())
