"""The splines of one coordinate, by its support: real, circle or interval. Zero parameters give the identity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.transforms.spline import normalise_bins, positive_slopes, rational_quadratic

#: Half-width of the splines on the line, in standard deviations of the standardised coordinate; linear beyond.
TAIL = 5.0

Univariate = Callable[..., tuple[Tensor, Tensor]]


def parameter_count(support: str, bins: int) -> int:
    """Numbers that the map of one coordinate takes.

    Widths, heights and slopes; a real coordinate adds a shift and a log-scale and has fixed end slopes, a circle adds
    a rotation and has one slope for both ends.

    >>> [parameter_count(s, 8) for s in ("real", "circle", "interval")]
    [25, 25, 25]
    """
    return {"real": 2 + 3 * bins - 1, "circle": 1 + 3 * bins, "interval": 3 * bins + 1}[support]


def transform_real(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Shift and scale, then a spline on [-TAIL, TAIL] with linear tails."""
    raw = raw.transpose(0, 1)
    bins = (raw.shape[0] - 1) // 3
    shift, log_scale = raw[0], 2 * torch.tanh(raw[1] / 2)
    one = torch.ones_like(raw[:1])
    widths, heights = normalise_bins(raw[2 : 2 + bins]), normalise_bins(raw[2 + bins : 2 + 2 * bins])
    slopes = torch.cat([one, positive_slopes(raw[2 + 2 * bins :]), one])
    u = x if inverse else (x - shift) * torch.exp(-log_scale)
    inside = u.abs() < TAIL
    v, log_slope = rational_quadratic((u / (2 * TAIL) + 0.5).clamp(0, 1), widths, heights, slopes, inverse=inverse)
    v = torch.where(inside, (v - 0.5) * (2 * TAIL), u)
    log_slope = torch.where(inside, log_slope, torch.zeros_like(log_slope))
    if inverse:
        return v * torch.exp(log_scale) + shift, log_slope + log_scale
    return v, log_slope - log_scale


def transform_circle(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Rotate, then a spline of the circle with equal slopes at both ends (Rezende et al. 2020, arXiv 2002.02428)."""
    raw = raw.transpose(0, 1)
    bins = (raw.shape[0] - 1) // 3
    shift = raw[0]
    widths, heights = normalise_bins(raw[1 : 1 + bins]), normalise_bins(raw[1 + bins : 1 + 2 * bins])
    slopes = positive_slopes(raw[1 + 2 * bins :])
    slopes = torch.cat([slopes, slopes[:1]])
    u = _unit(x if inverse else x - shift)
    v, log_slope = rational_quadratic(u, widths, heights, slopes, inverse=inverse)
    v = (v - 0.5) * (2 * math.pi)
    if inverse:
        v = (_unit(v + shift) - 0.5) * (2 * math.pi)
    return v, log_slope


def _unit(angle: Tensor) -> Tensor:
    """Angles to [0, 1], periodic."""
    return torch.remainder(angle / (2 * math.pi) + 0.5, 1.0)


def transform_interval(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """A spline of [0, 1] with free end slopes."""
    raw = raw.transpose(0, 1)
    bins = raw.shape[0] // 3
    widths, heights = normalise_bins(raw[:bins]), normalise_bins(raw[bins : 2 * bins])
    return rational_quadratic(x, widths, heights, positive_slopes(raw[2 * bins :]), inverse=inverse)


#: The map of each support, in the order in which conditioners return parameters.
UNIVARIATE: Mapping[str, Univariate] = MappingProxyType(
    {"real": transform_real, "circle": transform_circle, "interval": transform_interval}
)
