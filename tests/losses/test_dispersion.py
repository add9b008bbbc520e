"""The robust dispersion against the variance and against Huber's function."""

import math

import torch

from molifold.interfaces import Batch
from molifold.losses import log_dispersion


class Given:
    """A density whose values are given."""

    def __init__(self, values):
        self.values = values

    def log_prob(self, x):
        return self.values


def dispersion(values, **options):
    batch = Batch(torch.zeros(len(values), 1, 3), log_p=torch.zeros(len(values), dtype=values.dtype))
    return log_dispersion(Given(values), batch, None, torch.Generator(), **options)


def test_without_a_bound_it_is_the_variance():
    values = torch.randn(100, dtype=torch.float64) * 5
    assert torch.isclose(dispersion(values, huber=math.inf), values.var(correction=0))


def test_far_deviations_count_linearly():
    """Reference: torch's Huber loss, which is half of it."""
    values = torch.cat([torch.randn(100), torch.tensor([50.0, -80.0])]).double()
    deviation = values - values.mean()
    expected = 2 * torch.nn.functional.huber_loss(deviation, torch.zeros_like(deviation), delta=3.0)
    assert torch.isclose(dispersion(values), expected)
