"""Flows: densities that agree with their samples, follow their generator, and reweight to a target."""

import math

import numpy as np
import pytest
import torch

from molifold import Block, Space
from molifold.flows import Base, Flow
from molifold.flows.conditioners import MLPConditioner
from molifold.transforms import Chain, Coupling, Marginal

MIXED = Space((Block("r", 2, "real"), Block("t", 2, "circle")))


def small(*, scale=0.3, seed=0):
    torch.manual_seed(seed)
    masks = [torch.tensor([True, False, True, False]), torch.tensor([False, True, False, True])]
    steps = [Coupling(MIXED, m, conditioner=MLPConditioner(MIXED, m, hidden=(16,))) for m in masks]
    flow = Flow(Chain([Marginal(MIXED), *steps])).double()
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=scale)
    return flow


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_log_prob_of_a_sample_is_its_log_q():
    flow = small()
    x, log_q = flow.sample(1000, generator=seeded())
    assert x.shape == (1000, 4)
    assert torch.allclose(flow.log_prob(x), log_q, atol=1e-9)


def test_samples_follow_the_density():
    """E_q[f] by sampling against quadrature of f exp(log_prob), for one-dimensional f of every coordinate."""
    space = Space((Block("r", 1, "real"), Block("t", 1, "circle")))
    torch.manual_seed(1)
    mask = torch.tensor([True, False])
    steps = [Coupling(space, m, conditioner=MLPConditioner(space, m, hidden=(8,))) for m in (mask, ~mask)]
    flow = Flow(Chain(steps)).double()
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=0.4)
    with torch.no_grad():
        x, _ = flow.sample(100_000, generator=seeded())
        r, t = torch.linspace(-15, 15, 1501).double(), torch.linspace(-math.pi, math.pi, 301).double()[:-1]
        grid = torch.cartesian_prod(r, t)
        p = flow.log_prob(grid).exp() * (r[1] - r[0]) * (t[1] - t[0])
    for f in (lambda v: v[:, 0], lambda v: v[:, 0] ** 2, lambda v: v[:, 1].cos(), lambda v: v[:, 0] * v[:, 1].sin()):
        exact, values = (p * f(grid)).sum(), f(x)
        error = values.std() / math.sqrt(len(x))
        assert abs(values.mean() - exact) < 5 * error + 1e-3


def test_the_same_generator_gives_the_same_draws_and_the_global_one_is_left_alone():
    flow = small()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (flow.sample(10, generator=seeded(s))[0] for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_an_untrained_flow_reweights_to_a_gaussian():
    """Unbiased for any flow that covers the target: Z and a mean of a Gaussian x von Mises, known in closed form."""
    from scipy.special import i0e, i1e

    flow = small(scale=0.15, seed=2)
    mean, width, kappa = 0.3, 0.8, 1.5

    def log_p(x):
        return -0.5 * ((x[:, :2] - mean) / width).square().sum(1) + kappa * x[:, 2:].cos().sum(1)

    with torch.no_grad():
        x, log_q = flow.sample(200_000, generator=seeded(3))
    w = (log_p(x) - log_q).exp()
    exact = 2 * math.log(width * math.sqrt(2 * math.pi)) + 2 * (math.log(2 * math.pi * i0e(kappa)) + kappa)
    error = float(w.std() / w.mean()) / math.sqrt(len(w))
    assert error < 0.02
    assert abs(math.log(w.mean()) - exact) < 4 * error
    for f, expected in ((x[:, 0], mean), (x[:, 3].cos(), i1e(kappa) / i0e(kappa))):
        assert abs(float((w * f).sum() / w.sum()) - expected) < 5 * error


def test_gradients_flow_through_samples_and_their_density():
    flow = small()
    x, log_q = flow.sample(50, generator=seeded())
    gradients = torch.autograd.grad(x.square().sum() + log_q.sum(), list(flow.parameters()))
    assert all(g.isfinite().all() and (g != 0).any() for g in gradients)


def test_base_moments_and_density():
    base = Base(MIXED)
    z = base.sample(200_000, generator=seeded())
    assert z.T.is_contiguous()
    assert torch.allclose(z[:, :2].std(0), torch.ones(2), atol=0.01)
    counts = np.histogram(z[:, 2].numpy(), bins=20, range=(-math.pi, math.pi))[0]
    chi2 = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 43.8  # 0.1 % of chi-squared with 19 degrees of freedom
    entropy = -base.log_prob(z).mean().item()
    assert math.isclose(entropy, 1 + math.log(2 * math.pi) + 2 * math.log(2 * math.pi), rel_tol=3e-3)


def test_a_flow_moves_between_precisions():
    flow = small()
    assert flow.sample(2)[0].dtype == torch.float64
    assert flow.float().sample(2)[0].dtype == torch.float32
    assert flow.parameters_count == sum(p.numel() for p in flow.parameters())


def test_supports_without_a_base_density_are_refused():
    with pytest.raises(ValueError, match="expected only real and circle supports"):
        Base(Space((Block("x", 1, "interval"),)))


def test_repr_of_a_flow_is_a_tree_of_its_steps():
    from molifold import Block, Space
    from molifold.transforms import Chain, Marginal

    space = Space((Block("t", 2, "circle"),))
    lines = repr(Flow(Chain([Marginal(space, bins=2), Chain([Marginal(space, bins=2)])]))).splitlines()
    assert lines == [
        "Flow(28 parameters, Space(2 dof: t[2] circle))",
        "Chain(",
        "  (0) Marginal(Space(2 dof: t[2] circle))",
        "  (1) Chain(",
        "    (0) Marginal(Space(2 dof: t[2] circle))",
        "  )",
        ")",
    ]
