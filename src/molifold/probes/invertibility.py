"""Invertibility: what is lost on the way through a map and back, in float32 and in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import Record

#: A round trip that is off by more than this, in units of the coordinates, moves conformations visibly.
LOST = 1e-2
#: In float64 rounding cannot explain more than this: the two directions are not each other's inverse.
BROKEN = 1e-6
#: An error of a log-density beyond this (nats) changes weights by a percent.
OFF = 0.01


@dataclass(frozen=True)
class Invertibility:
    """Errors of the round trip inverse(forward(x)) - x.

    Attributes:
        single, double: [frames, size] its absolute value in float32 and in float64; on circles the shorter way.
        log_det: [frames] |log-determinant in float32 - in float64| of forward, nats: the error of a log-density.
        names: of the coordinates.
    """

    single: Float[ndarray, "frames size"]
    double: Float[ndarray, "frames size"]
    log_det: Float[ndarray, " frames"]
    names: tuple[str, ...]

    @property
    def worst(self) -> tuple[int, int]:
        """Frame and coordinate of the largest error in float32; one that is not finite comes first."""
        error = np.where(np.isfinite(self.single), self.single, np.inf)
        return tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))  # type: ignore[return-value]

    def __repr__(self) -> str:
        return (
            f"Invertibility({len(self.single)} frames: float32 off by up to {self.single.max():.1g}, float64 by "
            f"{self.double.max():.1g}; log-densities in float32 by {self.log_det.max():.1g} nats)"
        )


@torch.no_grad()
def invertibility(
    transform: nn.Module,
    x: Float[Tensor, "frames size"],
    *,
    circle: Bool[ndarray, " size"] | None = None,
    names: Sequence[str] = (),
) -> Invertibility:
    """Go through a map and back with two copies of it, in float32 and in float64.

    Args:
        transform: returns (y, log_det) when called, and (x, log_det) from ``inverse(y)``.
        x: where.
        circle: coordinates that are angles.
        names: of the coordinates; default their numbers.

    Reference: Behrmann et al. (2021), arXiv 2006.09347.

    >>> class Offset(nn.Module):  # 1e8 leaves float32 no digit after the point
    ...     def forward(self, x):
    ...         return x + 1e8, x.new_zeros(len(x))
    ...     def inverse(self, y):
    ...         return y - 1e8, y.new_zeros(len(y))
    >>> invertibility(Offset(), torch.full((3, 2), 0.3))
    Invertibility(3 frames: float32 off by up to 0.3, float64 by 0; log-densities in float32 by 0 nats)
    """
    wraps = torch.zeros(x.shape[1], dtype=torch.bool) if circle is None else torch.as_tensor(circle)
    errors, log_dets = [], []
    for precision in (torch.float32, torch.float64):
        inner = copy.deepcopy(transform).to(precision)
        # Both begin at the same numbers, those of float32.
        start = x.detach().float().to(precision)
        y, log_det = inner(start)
        back, _ = inner.inverse(y)  # type: ignore[operator]
        apart = (back - start).double().cpu().abs()
        apart = torch.where(wraps, torch.minimum(apart, (2 * math.pi - apart).abs()), apart)
        errors.append(apart.numpy())
        log_dets.append(log_det.double().cpu())
    off = (log_dets[0] - log_dets[1]).abs().numpy()
    return Invertibility(errors[0], errors[1], off, tuple(names) or tuple(map(str, range(x.shape[1]))))


def findings(found: Invertibility) -> list[Finding]:
    """Errors for maps that are no bijection and for wrong weights, a warning for lost digits."""
    told = []
    frame, coordinate = found.worst
    single, double = float(found.single[frame, coordinate]), float(found.double.max())
    if not double < BROKEN:
        message = f"even in float64 the way back is off by up to {double:.2g}: the two directions are no inverses"
        told.append(Finding("error", "inverse", message, "check it with testing.check_transform", severity=2.0))
    elif not single < LOST:
        where = f"{found.names[coordinate]}, frame {frame}"
        message = f"in float32 the way there and back is off by {single:.2g} ({where}), in float64 by {double:.1g}"
        remedy = "draw in float64, or keep slopes from their limits (weight decay)"
        told.append(Finding("warning", "inverse", message, remedy, severity=single))
    median, most = float(np.median(found.log_det)), float(found.log_det.max())
    if not median < OFF:
        message = f"float32 makes log-densities wrong by {median:.2g} nats in the median, {most:.2g} at most"
        told.append(Finding("error", "weights", message, "compute log-densities in float64", severity=median))
    numbers = f"there and back is off by {single:.1g} in float32, {double:.1g} in float64; log-densities by {most:.1g}"
    return told or [Finding("ok", "inverse", f"{numbers} nats ({len(found.single)} conformations)")]


def records(found: Invertibility) -> dict[str, Record]:
    """One row per coordinate, and one per frame."""
    coordinates = {
        "name": np.array(found.names), "float32": found.single.max(0), "float64": found.double.max(0),
        "float32_rms": np.sqrt(np.square(found.single).mean(0)),
    }  # fmt: skip
    frames = {
        "name": np.arange(len(found.single)).astype(str), "float32": found.single.max(1),
        "float64": found.double.max(1), "log_density": found.log_det,
    }  # fmt: skip
    return {
        "invertibility - coordinates": ("table", coordinates),
        "invertibility - frames": ("table", frames),
    }
