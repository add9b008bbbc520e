"""Standardize: unit scales, uniform circles, and what happens to references that cannot set a scale."""

import math

import numpy as np
import pytest
import torch

from molifold import Block, Space
from molifold.data import example
from molifold.transforms import InternalCoordinates, Standardize

SPACE = Space(
    (Block("bonds", 3, "positive"), Block("angles", 2, "positive"), Block("rotations", 2, "circle"), Block("phases", 2, "circle"))
)  # fmt: skip


def reference(frames=20_000, *, seed=0):
    """Correlated bonds and angles, one rotation with three wells and one across +-pi, one stiff phase, one loose."""
    rng = np.random.default_rng(seed)
    mix = np.eye(5) + 0.5 * np.tril(np.random.default_rng(42).normal(size=(5, 5)), -1)
    reals = [0.15, 0.11, 0.1, 1.9, 2.0] + rng.normal(size=(frames, 5)) @ mix.T * [0.003, 0.003, 0.002, 0.05, 0.04]
    wells = rng.choice([-1.1, 1.1, math.pi], p=[0.3, 0.1, 0.6], size=frames) + 0.25 * rng.normal(size=frames)
    across = math.pi + 0.4 * rng.normal(size=frames)
    # The stiff phase sits at the seam and follows the second bond.
    stiff = math.pi + 20 * (reals[:, 1] - 0.11) + 0.03 * rng.normal(size=frames)
    loose = rng.choice([0.0, math.pi], size=frames) + 0.2 * rng.normal(size=frames)
    angles = np.stack([wells, across, stiff, loose], axis=1)
    return torch.from_numpy(np.concatenate([reals, (angles + np.pi) % (2 * np.pi) - np.pi], axis=1))


@pytest.fixture(scope="module")
def scale():
    return Standardize(SPACE, reference()).double()


def test_the_codomain_says_what_turned_and_what_is_stiff(scale):
    assert scale.codomain.supports == ("real",) * 6 + ("circle",) * 3
    assert scale.source.tolist() == [0, 1, 2, 3, 4, 7, 5, 6, 8]
    assert scale.codomain.dof == SPACE.dof


def test_stiff_coordinates_have_unit_covariance_even_across_the_seam(scale):
    z, _ = scale(reference())
    covariance = torch.cov(z[:, :6].T)
    assert torch.allclose(covariance, torch.eye(6, dtype=torch.float64), atol=1e-3)
    assert z[:, :6].mean(0).abs().max() < 0.02
    fresh = torch.cov(scale(reference(seed=1))[0][:, :6].T)
    # 20,000 frames determine a correlation to 1 / sqrt(20,000) = 0.007.
    assert (fresh - torch.eye(6)).abs().max() < 0.05


def test_rotations_are_uniform_in_fresh_samples(scale):
    z, _ = scale(reference(seed=1))
    for column in z[:, 6:].T:
        unit = np.sort(column.numpy()) / (2 * math.pi) + 0.5
        distance = np.abs(unit - (np.arange(len(unit)) + 0.5) / len(unit)).max()
        # A share of 0.05 of uniform density and the smoothing are meant to be there; before, the distance is above 0.3.
        assert distance < 0.06


def test_every_angle_stays_possible(scale):
    y = reference(1).expand(361, -1).clone()
    y[:, 5] = torch.linspace(-math.pi, math.pi, 361)
    _, log_det = scale(y)
    # log_det is the log-density of this rotation but for a constant; the floor is 0.05 of uniform. The spline between
    # 32 knots undershoots it by less than half.
    constant = log_det.exp().mean().log()
    assert (log_det - constant).exp().min() > 0.05 / 2


def test_round_trip_wraps_into_the_canonical_range(scale):
    y = reference(500, seed=2)
    shifted = y.clone()
    shifted[:, 5:] += 2 * math.pi
    z, log_det = scale(shifted)
    back, _ = scale.inverse(z)
    assert torch.allclose(z, scale(y)[0], atol=1e-9)
    assert torch.allclose(back, y, atol=1e-9)
    assert back[:, 5:].abs().max() <= math.pi
    assert log_det.shape == (500,)


def test_float32(scale):
    single = Standardize(SPACE, reference())
    y = reference(500, seed=2).float()
    z, _ = single(y)
    gap = single.inverse(z)[0] - y
    gap[:, 5:] = torch.remainder(gap[:, 5:] + math.pi, 2 * math.pi) - math.pi
    assert gap.abs().max() < 2e-5
    assert torch.allclose(z.double(), scale(y.double())[0], atol=1e-3)


def test_whitening_keeps_every_coordinate_on_its_atom():
    """Row i of z = L^-1 (y - mean) is coordinate i less its prediction from earlier ones: positive, lower triangular."""
    system = example("alanine-dipeptide")
    internal = InternalCoordinates(system.molecule)
    x = torch.from_numpy(system.x + 0.004 * np.random.default_rng(0).normal(size=(2000, 22, 3)))
    scale = Standardize(internal.codomain, internal(x)[0])
    assert torch.equal(scale.whiten, scale.whiten.tril())
    assert (scale.whiten.diagonal() > 0).all()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda y: y[:50], "got 50 frames of 9 coordinates; expected at least 90"),
        (lambda y: torch.where(y == y[0, 0], torch.nan, y), "some not finite"),
        (lambda y: y[:, :8], "of 8 coordinates"),
    ],
)
def test_a_reference_that_cannot_set_a_scale_is_refused(broken, message):
    with pytest.raises(ValueError, match=message):
        Standardize(SPACE, broken(reference(1000)))


def test_an_exactly_symmetric_reference_still_has_a_scale():
    y = reference(1000)
    y[:, 1] = y[:, 0]
    y[:, 2] = 0.1
    z, log_det = Standardize(SPACE, y).double()(y)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
