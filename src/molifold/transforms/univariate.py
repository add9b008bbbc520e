"""The splines of one coordinate, by its support: real, circle or interval. Zero parameters give the identity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.transforms.angles import unit
from molifold.transforms.spline import TAIL, spline

Univariate = Callable[..., tuple[Tensor, Tensor]]

#: Largest log-scale of a real coordinate either way.
LOG_SCALE = 2.0


def parameter_count(support: str, bins: int) -> int:
    """Numbers that the map of one coordinate takes.

    Widths, heights and slopes; a real coordinate adds a shift and a log-scale and has fixed end slopes, a circle adds
    a rotation and has one slope for both ends.

    >>> [parameter_count(s, 8) for s in ("real", "circle", "interval")]
    [25, 25, 25]
    """
    return {"real": 2 + 3 * bins - 1, "circle": 1 + 3 * bins, "interval": 3 * bins + 1}[support]


def real_parts(raw: Float[Tensor, "n parameters batch"]) -> tuple[Tensor, ...]:
    """Shift and log-scale [n, batch]; raw widths, heights and slopes of a spline [bins or knots, n, batch]."""
    bins = (raw.shape[1] - 1) // 3
    shift, log_scale, widths, heights, slopes = _parts(raw, 1, 1, bins, bins, bins - 1)
    end = torch.zeros_like(widths[:1])  # a raw slope of zero is a slope of one
    bounded = 2 * LOG_SCALE * torch.sigmoid(log_scale[0]) - LOG_SCALE
    return shift[0], bounded, widths, heights, torch.cat([end, slopes, end])


def circle_parts(raw: Float[Tensor, "n parameters batch"]) -> tuple[Tensor, ...]:
    """Rotation [n, batch]; raw widths, heights and slopes of a spline [bins or knots, n, batch]."""
    bins = (raw.shape[1] - 1) // 3
    shift, widths, heights, slopes = _parts(raw, 1, bins, bins, bins)
    return shift[0], widths, heights, torch.cat([slopes, slopes[:1]])


def transform_real(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Shift and scale, then a spline on [-TAIL, TAIL] with linear tails."""
    shift, log_scale, widths, heights, slopes = real_parts(raw)
    u = x if inverse else (x - shift) * torch.exp(-log_scale)
    # The slope is one at the ends, so adding what the clamp cut off is the linear tail (``torch.where`` is slower).
    inside = u.clamp(-TAIL, TAIL)
    v, log_slope = spline(inside / (2 * TAIL) + 0.5, widths, heights, slopes, inverse=inverse)
    v = (v - 0.5) * (2 * TAIL) + (u - inside)
    if inverse:
        return v * torch.exp(log_scale) + shift, log_slope + log_scale
    return v, log_slope - log_scale


def transform_circle(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Rotate, then a spline of the circle with equal slopes at both ends (Rezende et al. 2020, arXiv 2002.02428)."""
    shift, widths, heights, slopes = circle_parts(raw)
    u = unit(x if inverse else x - shift)
    v, log_slope = spline(u, widths, heights, slopes, inverse=inverse)
    v = (v - 0.5) * (2 * math.pi)
    if inverse:
        v = (unit(v + shift) - 0.5) * (2 * math.pi)
    return v, log_slope


def _parts(raw: Float[Tensor, "n parameters batch"], *sizes: int) -> tuple[Float[Tensor, "size n batch"], ...]:
    """Parameters first. One split, not slices: the backward of a slice fills a tensor as large as ``raw``."""
    return raw.transpose(0, 1).split(sizes)


def transform_interval(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """A spline of [0, 1] with free end slopes."""
    bins = raw.shape[1] // 3
    return spline(x, *_parts(raw, bins, bins, bins + 1), inverse=inverse)


#: The map of each support, in the order in which conditioners return parameters.
UNIVARIATE: Mapping[str, Univariate] = MappingProxyType(
    {"real": transform_real, "circle": transform_circle, "interval": transform_interval}
)
