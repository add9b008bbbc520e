"""Coupling: some coordinates are transformed with parameters that a conditioner computes from the others."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molifold.space import Space
from molifold.transforms.spline import normalise_bins, positive_slopes, rational_quadratic
from molifold.transforms.transform import Transform

#: Half-width of the splines on the line, in standard deviations of the standardised coordinate; linear beyond.
TAIL = 5.0


class Conditioner(Protocol):
    """Turns the known coordinates into parameters of the unknown ones."""

    def __call__(
        self, known: Float[Tensor, "known batch"]
    ) -> tuple[Float[Tensor, "reals real_parameters batch"], Float[Tensor, "circles circle_parameters batch"]]:
        """Parameters of the unknown real and circle coordinates, in order."""
        ...


def real_parameters(bins: int) -> int:
    """Numbers that ``transform_real`` needs per coordinate: shift, log-scale, widths, heights, inner slopes."""
    return 2 + 3 * bins - 1


def circle_parameters(bins: int) -> int:
    """Numbers that ``transform_circle`` needs per coordinate: rotation, widths, heights, slopes."""
    return 1 + 3 * bins


def transform_real(
    x: Float[Tensor, "n batch"], raw: Float[Tensor, "n parameters batch"], *, inverse: bool
) -> tuple[Float[Tensor, "n batch"], Float[Tensor, "n batch"]]:
    """Shift and scale, then a spline on [-TAIL, TAIL] with linear tails; zero parameters give the identity."""
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


class Coupling(Transform):
    """Transform the coordinates in ``mask`` with spline parameters computed from all the others.

    Real coordinates are shifted, scaled and bent by a rational-quadratic spline with linear tails; circle coordinates
    are rotated and bent by a circular spline. The map is exactly invertible because the conditioner sees only what
    stays unchanged (Dinh et al. 2017, arXiv 1605.08803).

    Args:
        space: what the coordinates are; supports must be "real" or "circle".
        mask: True for the coordinates to transform.
        given: True for the coordinates that the conditioner sees; the default is all that are not transformed.
        conditioner: see ``Conditioner``.

    Raises:
        ValueError: if the mask is trivial or a support is neither real nor circle.
    """

    def __init__(
        self,
        space: Space,
        mask: Bool[Tensor, " size"],
        *,
        conditioner: nn.Module,
        given: Bool[Tensor, " size"] | None = None,
    ) -> None:
        super().__init__()
        given = ~mask if given is None else given
        if mask.shape != (space.size,) or not mask.any() or not given.any() or (mask & given).any():
            raise ValueError(
                f"mask: got shape {tuple(mask.shape)} with {int(mask.sum())} True and {int(given.sum())} given, expected "
                f"[{space.size}] with some coordinates transformed, some given, and none both"
            )
        self.domain = self.codomain = space
        circle = torch.tensor([s == "circle" for s in space.supports])
        if any(s not in ("real", "circle") for s in space.supports):
            raise ValueError(f"space: got {space!r}, expected only real and circle supports; standardise first")
        parts = given, mask & ~circle, mask & circle, ~mask & ~given
        self._sizes = [int(p.sum()) for p in parts]
        order = torch.cat([p.nonzero()[:, 0] for p in parts])
        self.register_buffer("_order", order, persistent=False)
        self.register_buffer("_restore", torch.argsort(order), persistent=False)
        self.conditioner = conditioner

    def forward(self, x: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Data side to latent side."""
        return self._apply_direction(x, inverse=False)

    def inverse(self, y: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Latent side to data side."""
        return self._apply_direction(y, inverse=True)

    def _apply_direction(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        known, real, circle, rest = x.T[self._order].split(self._sizes)
        real_raw, circle_raw = self.conditioner(known)
        out, log_det = [known], x.new_zeros(x.shape[0])
        if len(real):
            moved, log_slope = transform_real(real, real_raw, inverse=inverse)
            out.append(moved)
            log_det = log_det + log_slope.sum(0)
        if len(circle):
            moved, log_slope = transform_circle(circle, circle_raw, inverse=inverse)
            out.append(moved)
            log_det = log_det + log_slope.sum(0)
        return torch.cat([*out, rest])[self._restore].T, log_det

    def extra_repr(self) -> str:
        """Counts of the coordinates on both sides."""
        known, real, circle, _ = self._sizes
        return f"{known} known -> {real} real + {circle} circle"
