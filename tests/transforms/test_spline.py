"""Rational-quadratic splines against the formulas of the paper written out in NumPy, and their edges."""

import math

import numpy as np
import pytest
import torch

from molifold.transforms import rational_quadratic
from molifold.transforms.fused import univariate
from molifold.transforms.spline import MIN_BIN, MIN_SLOPE, TAIL, normalise_bins, positive_slopes, spline
from molifold.transforms.univariate import UNIVARIATE, parameter_count


def paper(x, widths, heights, slopes):
    """One number through eqs. 4 and 5 of arXiv 1906.04032: value and log-derivative."""
    xk, yk = np.concatenate([[0], np.cumsum(widths)]), np.concatenate([[0], np.cumsum(heights)])
    k = min(max(np.searchsorted(xk, x, side="right") - 1, 0), len(widths) - 1)
    xi = (x - xk[k]) / (xk[k + 1] - xk[k])
    s = (yk[k + 1] - yk[k]) / (xk[k + 1] - xk[k])
    d0, d1 = slopes[k], slopes[k + 1]
    below = s + (d1 + d0 - 2 * s) * xi * (1 - xi)
    value = yk[k] + (yk[k + 1] - yk[k]) * (s * xi**2 + d0 * xi * (1 - xi)) / below
    slope = s**2 * (d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2) / below**2
    return value, math.log(slope)


def paper_inverse(y, widths, heights, slopes):
    """Eqs. 6 to 8: the root of a quadratic."""
    xk, yk = np.concatenate([[0], np.cumsum(widths)]), np.concatenate([[0], np.cumsum(heights)])
    k = min(max(np.searchsorted(yk, y, side="right") - 1, 0), len(widths) - 1)
    w, h = xk[k + 1] - xk[k], yk[k + 1] - yk[k]
    s, d0, d1 = h / w, slopes[k], slopes[k + 1]
    a = h * (s - d0) + (y - yk[k]) * (d1 + d0 - 2 * s)
    b = h * d0 - (y - yk[k]) * (d1 + d0 - 2 * s)
    c = -s * (y - yk[k])
    return xk[k] + w * 2 * c / (-b - math.sqrt(b**2 - 4 * a * c))


def random_spline(n, batch, *, bins=8, seed=0, scale=1.5):
    g = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(3 * bins + 1, n, batch, generator=g, dtype=torch.float64)
    widths, heights = normalise_bins(raw[:bins]), normalise_bins(raw[bins : 2 * bins])
    return torch.rand(n, batch, generator=g, dtype=torch.float64), widths, heights, positive_slopes(raw[2 * bins :])


def test_values_and_slopes_are_those_of_the_paper():
    x, *shape = random_spline(3, 40)
    value, log_slope = rational_quadratic(x, *shape)
    for i in range(3):
        for j in range(40):
            expected = paper(float(x[i, j]), *(v[:, i, j].numpy() for v in shape))
            assert np.allclose((value[i, j], log_slope[i, j]), expected, rtol=1e-12, atol=1e-12)


def test_the_inverse_is_that_of_the_paper():
    y, *shape = random_spline(3, 40, seed=1)
    value, log_slope = rational_quadratic(y, *shape, inverse=True)
    for i in range(3):
        for j in range(40):
            given = [v[:, i, j].numpy() for v in shape]
            expected = paper_inverse(float(y[i, j]), *given)
            assert math.isclose(value[i, j], expected, rel_tol=1e-11, abs_tol=1e-12)
            assert math.isclose(log_slope[i, j], -paper(expected, *given)[1], rel_tol=1e-9, abs_tol=1e-9)


def test_monotone_from_end_to_end():
    _, widths, heights, slopes = random_spline(5, 1)
    x = torch.linspace(0, 1, 5001, dtype=torch.float64).expand(5, -1)
    shape = [v.expand(-1, -1, x.shape[1]) for v in (widths, heights, slopes)]
    y, _ = rational_quadratic(x, *shape)
    assert (y.diff(dim=1) > 0).all()
    assert torch.allclose(y[:, [0, -1]], torch.tensor([0.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("inverse", [False, True])
def test_value_and_slope_are_continuous_at_the_knots(inverse):
    _, widths, heights, slopes = random_spline(4, 1)
    knots = torch.cumsum(heights if inverse else widths, 0)[:-1, :, 0].T  # n, bins - 1
    shape = [v.expand(-1, -1, knots.shape[1]) for v in (widths, heights, slopes)]
    left, right = (rational_quadratic(knots + d, *shape, inverse=inverse) for d in (-1e-10, 1e-10))
    assert torch.allclose(left[0], right[0], atol=1e-6)
    assert torch.allclose(left[1], right[1], atol=1e-5)
    expected = slopes[1:-1, :, 0].T.log()
    assert torch.allclose(right[1], -expected if inverse else expected, atol=1e-5)


def test_zeros_are_the_identity():
    x = torch.rand(2, 50)
    value, log_slope = spline(x, *(torch.zeros(n, 2, 50) for n in (8, 8, 9)))
    assert torch.allclose(value, x, atol=1e-6)
    assert torch.allclose(log_slope, torch.zeros_like(x), atol=1e-6)


def test_bins_and_slopes_have_floors():
    raw = torch.full((4, 1, 1), -50.0)
    raw[0] = 50.0
    assert normalise_bins(raw).min() >= MIN_BIN * (1 - 1e-6)
    assert math.isclose(normalise_bins(raw).sum(), 1, rel_tol=1e-6)
    assert positive_slopes(raw).min() >= MIN_SLOPE


def parameters(support, *, n=6, batch=2000, bins=8, scale=1.0, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(n, parameter_count(support, bins), batch, generator=g, dtype=torch.float64)
    unit = torch.rand(n, batch, generator=g, dtype=torch.float64)
    x = {"real": 16 * unit - 8, "circle": 2 * math.pi * unit - math.pi, "interval": unit}[support]
    return x.to(dtype), raw.to(dtype)


def plain(x, raw, *, support, inverse):
    return UNIVARIATE[support](x, raw, inverse=inverse)


@pytest.mark.parametrize("bend", [plain, univariate])
@pytest.mark.parametrize("support", UNIVARIATE)
@pytest.mark.parametrize("inverse", [False, True])
def test_extreme_parameters_stay_finite_in_float32(bend, support, inverse):
    x, raw = parameters(support)
    raw = (20 * raw.sign()).requires_grad_()
    x.requires_grad_()
    value, log_slope = bend(x, raw, support=support, inverse=inverse)
    gradients = torch.autograd.grad((value.sum(), log_slope.sum()), (x, raw))
    assert all(v.isfinite().all() for v in (value, log_slope, *gradients))


@pytest.mark.parametrize("bend", [plain, univariate])
@pytest.mark.parametrize(("support", "length"), [("real", 2 * TAIL), ("circle", 2 * math.pi), ("interval", 1.0)])
def test_inverse_accuracy_in_float32(bend, support, length):
    x, raw = parameters(support, n=1, batch=10_000)
    y, log_slope = bend(x, raw, support=support, inverse=False)
    back, log_slope_back = bend(y, raw, support=support, inverse=True)
    gap = (back - x).abs() / length
    if support == "circle":
        gap = torch.minimum(gap, 1 - gap)
    # The inverse's slope magnifies the rounding of y, 6e-8 of the length.
    assert (gap / torch.exp(-log_slope).clamp_min(1)).max() < 3e-6
    assert gap.median() < 2e-7
    assert (log_slope + log_slope_back).abs().median() < 2e-6


def test_tails_are_linear_with_unit_slope_before_scale_and_shift():
    x, raw = parameters("real", dtype=torch.float64)
    raw[:, 0], raw[:, 1] = 0.7, 0.4
    y, log_slope = UNIVARIATE["real"](x, raw, inverse=False)
    log_scale = 2 * math.tanh(0.2)
    u = (x - 0.7) * math.exp(-log_scale)
    outside = u.abs() > TAIL
    assert 0.05 < outside.double().mean() < 0.8
    assert torch.allclose(y[outside], u[outside], atol=1e-12)
    assert torch.allclose(log_slope[outside], torch.full_like(u[outside], -log_scale), atol=1e-9)


def test_a_circle_is_seamless():
    _, raw = parameters("circle", dtype=torch.float64)
    ends = torch.tensor([-math.pi + 1e-9, math.pi - 1e-9], dtype=torch.float64)
    (a, b) = (UNIVARIATE["circle"](e.expand(6, 2000), raw, inverse=False) for e in ends)
    gap = torch.remainder(a[0] - b[0] + math.pi, 2 * math.pi) - math.pi
    assert gap.abs().max() < 1e-6
    assert torch.allclose(a[1], b[1], atol=1e-5)


@pytest.mark.parametrize("support", UNIVARIATE)
def test_second_derivatives_are_those_of_finite_differences(support):
    x, raw = parameters(support, n=2, batch=2, bins=3, dtype=torch.float64)
    x = 0.9 * x if support != "interval" else 0.05 + 0.9 * x
    inputs = x.requires_grad_(), raw.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a, b: UNIVARIATE[support](a, b, inverse=False), inputs)
