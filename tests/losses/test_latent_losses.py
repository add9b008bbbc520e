"""Objectives of the latent map against deeptime, closed forms and each other, on latents that are given."""

import numpy as np
import pytest
import torch
from torch import nn

from molifold.flows.latent_encoder import Posterior
from molifold.interfaces import Batch
from molifold.losses import elbo, latent_objective, propagation, vamp2, vamp2_score

N = 4000


class Given(nn.Module):
    """An "encoder" of frames that are their own latents, q(z|x) of one width."""

    def __init__(self, circle, width):
        super().__init__()
        self.circle, self.width = torch.tensor(circle), width

    def forward(self, x):
        mean = x[:, 0]
        return Posterior(mean, torch.full_like(mean, self.width), self.circle)


class Normal(nn.Module):
    """Independent standard normal latents, or a normal around ``rate`` times what is given."""

    def __init__(self, rate=0.0, width=1.0):
        super().__init__()
        self.rate, self.width = nn.Parameter(torch.tensor(rate, dtype=torch.float64)), width

    def log_prob(self, z, given=None):
        given = torch.zeros_like(z) if given is None or given.shape != z.shape else given
        return torch.distributions.Normal(self.rate * given, self.width).log_prob(z).sum(1)


class Reads(nn.Module):
    """p(x|z): normal of known width around z."""

    def log_prob(self, x, z):
        return torch.distributions.Normal(z, 0.5).log_prob(x[:, 0]).sum(1)


class Map(nn.Module):
    def __init__(self, circle=(False, False), width=0.5, rate=0.9):
        super().__init__()
        self.encoder, self.prior, self.generator = Given(list(circle), width), Normal(), Reads()
        self.propagator, self.latents = Normal(rate, 1.0), len(circle)


def process(decay=(0.95, 0.6), *, seed=0):
    """Independent autoregressive processes of unit variance."""
    rng = np.random.default_rng(seed)
    rates = np.array(decay)
    x = np.zeros((N + 1, len(rates)))
    noise = rng.normal(size=x.shape) * np.sqrt(1 - rates**2)
    for t in range(N):
        x[t + 1] = rates * x[t] + noise[t]
    return x


def batch(x, weights=None):
    rows = torch.from_numpy(x)[:, None]
    return Batch(rows[:-1], lagged=rows[1:], weights=weights)


def seeded():
    return torch.Generator().manual_seed(0)


def test_the_score_is_deeptimes():
    from deeptime.decomposition import VAMP

    x = process() @ np.array([[1.0, 0.4], [0.3, -2.0]])
    expected = VAMP(epsilon=1e-12).fit((x[:-1], x[1:])).fetch_model().score(2)
    assert float(vamp2_score(torch.from_numpy(x[:-1]), torch.from_numpy(x[1:]))) == pytest.approx(expected, rel=1e-5)


def test_the_score_does_not_see_linear_changes_of_the_latents():
    x = torch.from_numpy(process())
    mixed = x @ torch.tensor([[1.0, 0.4], [0.3, -2.0]], dtype=torch.float64) + 5
    assert vamp2_score(x[:-1], x[1:]) == pytest.approx(float(vamp2_score(mixed[:-1], mixed[1:])), rel=1e-4)


def test_vamp2_prefers_the_slow_process_first():
    """Closed form: the nested mean is 1 + r1^2 + r2^2 / 2 for independent processes."""
    x = process()
    slow, fast = (float(vamp2(Map(), batch(x[:, order]), None, seeded())) for order in ([0, 1], [1, 0]))
    assert slow == pytest.approx(-(1 + 0.95**2 + 0.6**2 / 2), abs=0.05)
    assert fast == pytest.approx(-(1 + 0.6**2 + 0.95**2 / 2), abs=0.05)


def test_a_full_turn_is_continuous_for_a_circular_latent():
    """A slow rotation: cosine and sine of the angle predict themselves, the angle with its jump does so worse."""
    angle = 0.05 * np.arange(N + 1) + 0.3 * np.random.default_rng(0).normal(size=N + 1)
    x = ((angle + np.pi) % (2 * np.pi) - np.pi)[:, None]
    circle, line = (float(vamp2(Map((c,)), batch(x), None, seeded())) for c in (True, False))
    assert circle == pytest.approx(-(1 + 2 * np.exp(-(0.3**2) * 2)), abs=0.05)
    assert line > circle + 0.5


def test_weights_count_like_repetition():
    x = process()
    count = np.random.default_rng(1).integers(0, 3, size=N)
    now, later = np.repeat(x[:-1], count, axis=0), np.repeat(x[1:], count, axis=0)
    repeated = Batch(torch.from_numpy(now)[:, None], lagged=torch.from_numpy(later)[:, None])
    weighted = batch(x, torch.from_numpy(count).double())
    assert float(vamp2(Map(), weighted, None, seeded())) == pytest.approx(
        float(vamp2(Map(), repeated, None, seeded())), rel=1e-9
    )
    noise_free = Map(width=1e-6)
    for loss in (elbo, propagation):
        ours, theirs = (loss(noise_free, b, None, seeded()).item() for b in (weighted, repeated))
        assert ours == pytest.approx(theirs, abs=2e-3 * abs(theirs))


def test_the_bound_in_closed_form():
    """x = z + noise with prior N(0, 1): reconstruction and KL of Gaussians, exactly."""
    width, x = 0.5, process()
    reconstruction = 0.5 * np.log(2 * np.pi * 0.25) + 0.5 * width**2 / 0.25
    divergence = -np.log(width) - 0.5 + 0.5 * (width**2 + np.mean(x[:-1] ** 2, axis=0))
    expected = 2 * reconstruction + divergence.sum()
    assert elbo(Map(), batch(x), None, seeded(), free_bits=0.0).item() == pytest.approx(expected, abs=0.05)


def test_free_bits_guard_against_collapse():
    """Below the threshold the KL is not pushed down: it has no gradient; above it has."""
    x = 0.01 * process()
    for free_bits, guarded in ((5.0, True), (0.0, False)):
        flow = Map(width=0.5)
        shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        flow.prior = Shifted(flow.prior, shift)
        elbo(flow, batch(x), None, seeded(), free_bits=free_bits).backward()
        assert bool(shift.grad.abs().max() < 1e-12) == guarded


class Shifted(nn.Module):
    def __init__(self, prior, shift):
        super().__init__()
        self.prior, self.shift = prior, shift

    def log_prob(self, z):
        return self.prior.log_prob(z + self.shift + 0.1)


def test_propagation_learns_the_decay():
    """The best rate of a linear propagator is the decay of the process, as it is seen through q's width."""
    x, width = process((0.9,)), 0.3

    def slope(rate):
        flow = Map((False,), width=width, rate=rate)
        propagation(flow, batch(x), None, seeded()).backward()
        return float(flow.propagator.rate.grad)

    best = slope(0.0) / (slope(0.0) - slope(1.0))  # the objective is a parabola in the rate
    assert best == pytest.approx((x[1:] * x[:-1]).mean() / ((x[:-1] ** 2).mean() + width**2), abs=0.02)


def test_the_sum_is_the_sum():
    flow, data = Map(width=1e-4), batch(process())
    total = latent_objective(flow, data, None, seeded(), slowness=3.0, memory=0.5, beta=0.7, free_bits=0.1)
    parts = (
        elbo(flow, data, None, seeded(), beta=0.7, free_bits=0.1)
        + 3 * vamp2(flow, data, None, seeded())
        + 0.5 * propagation(flow, data, None, seeded())
    )
    assert float(total) == pytest.approx(float(parts), rel=1e-3)


def test_mistakes_are_named():
    data = Batch(torch.zeros(4, 1, 2, dtype=torch.float64))
    for loss in (vamp2, propagation, latent_objective):
        with pytest.raises(ValueError, match="pass lag= \\(frames\\) to fit"):
            loss(Map(), data, None, seeded())
    timeless = Map()
    timeless.propagator = None
    with pytest.raises(ValueError, match="time_lagged=True"):
        propagation(timeless, batch(process()), None, seeded())
