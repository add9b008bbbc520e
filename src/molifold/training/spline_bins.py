"""Spline bins: which are in use, and which are pressed against their limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import Moment, Record
from molifold.training.flow_parts import coordinate_names, coupled, coupling_states
from molifold.transforms.angles import unit
from molifold.transforms.spline import MIN_BIN, MIN_SLOPE, TAIL, normalise_bins, positive_slopes
from molifold.transforms.univariate import LOG_SCALE, circle_parts, real_parts

#: At most this many times its limit, a width, height or slope is clamped; a scale from the reciprocal of it on.
NEAR = 1.05
#: A share of frames that is told.
TOLD = 0.05


@dataclass(frozen=True)
class SplineBins:
    """One row per coupling and coordinate that it moves; shares are of frames.

    Attributes:
        names: "transform.steps.3: rotation of CA 8".
        bins: how many the spline has.
        in_use: exp of the entropy of the bins that frames fall into: 1 if all are in one, ``bins`` if all are alike.
        floor: what ``in_use`` would be for equally likely bins and so many frames.
        tails: beyond the spline, where the map is a straight line of slope one (real coordinates).
        clamped: in a bin whose width or height is at its minimum.
        flat: between knots of which one has the smallest slope possible.
        scaled: scaled as much or as little as possible (real coordinates).
    """

    names: tuple[str, ...]
    bins: int
    in_use: Float[ndarray, " rows"]
    floor: float
    tails: Float[ndarray, " rows"]
    clamped: Float[ndarray, " rows"]
    flat: Float[ndarray, " rows"]
    scaled: Float[ndarray, " rows"]

    def __repr__(self) -> str:
        return (
            f"SplineBins({len(self.names)} splines of {self.bins} bins: {self.in_use.mean():.2g} in use, "
            f"tails {self.tails.mean():.1%}, clamped {self.clamped.mean():.1%}, flat {self.flat.mean():.1%}, "
            f"scaled {self.scaled.mean():.1%})"
        )


@torch.no_grad()
def spline_bins(flow: nn.Module, x: Float[Tensor, "frames atoms 3"]) -> SplineBins:
    """How the splines of every coupling are used by these conformations.

    Raises:
        TypeError: if the flow has no couplings.

    Reference: Durkan et al. (2019), arXiv 1906.04032 (the splines, their tails and minimal sizes).
    """
    labels, names, rows, bins = coordinate_names(flow), [], [], 0
    for name, (coupling, state) in coupling_states(flow, x).items():
        raw = coupling.conditioner(coupling.known(state))
        for support, parameters in raw.items():
            if support not in ("real", "circle"):
                continue
            moved = np.flatnonzero(coupling.mask & coupling.domain.has(support))
            bins = (parameters.shape[1] - 1) // 3
            rows += _rows(state.T[moved], parameters, support)
            names += [f"{name}: {labels[i]}" for i in moved]
    columns = np.array(rows).reshape(-1, 5).T
    floor = math.exp(math.log(bins) - (bins - 1) / (2 * len(x))) if bins else 0.0
    return SplineBins(tuple(names), bins, columns[0], floor, *columns[1:])


def _rows(x: Float[Tensor, "n frames"], raw: Tensor, support: str) -> list[list[float]]:
    """Every coordinate: bins in use, tails, clamped, flat, scaled."""
    none = torch.zeros_like(x, dtype=torch.bool)
    if support == "real":
        shift, log_scale, *parts = real_parts(raw)
        place = (x - shift) * torch.exp(-log_scale)
        tails, scaled = place.abs() > TAIL, log_scale.abs() > LOG_SCALE / NEAR
        place = place.clamp(-TAIL, TAIL) / (2 * TAIL) + 0.5
    else:
        shift, *parts = circle_parts(raw)
        place, tails, scaled = unit(x - shift), none, none
    widths, heights, slopes = normalise_bins(parts[0]), normalise_bins(parts[1]), positive_slopes(parts[2])
    at = (place >= widths.cumsum(0)[:-1]).sum(0, keepdim=True)
    smallest = torch.minimum(widths, heights).gather(0, at)[0]
    slope = torch.minimum(slopes.gather(0, at), slopes.gather(0, at + 1))[0]
    found = []
    for i, held in enumerate(at[0]):
        share = torch.bincount(held, minlength=len(widths)).double() / len(held)
        inside = ~tails[i]
        flags = (tails[i], (smallest[i] < NEAR * MIN_BIN) & inside, (slope[i] < NEAR * MIN_SLOPE) & inside, scaled[i])
        found.append([float(torch.special.entr(share).sum().exp()), *(float(f.double().mean()) for f in flags)])
    return found


#: What is told of a limit: attribute, words, remedy.
LIMITS = (
    ("tails", "beyond the spline, where its map is a straight line", "scales from a reference that covers the data"),
    ("clamped", "in a bin of the smallest size possible", "more couplings, or fewer bins"),
    ("flat", "where the slope is the smallest possible", "more couplings: the density has a hole that one cannot cut"),
    ("scaled", "scaled as far as possible", "scales from a reference that covers the data, or more couplings"),
)


def findings(found: SplineBins) -> list[Finding]:
    """A warning for every limit that holds more than ``TOLD`` of the frames of some coordinate."""
    told = []
    for key, words, remedy in LIMITS:
        share = getattr(found, key)
        if (share > TOLD).any():
            worst = int(share.argmax())
            message = (
                f"{int((share > TOLD).sum())} of {len(share)} have more than {TOLD:.0%} of the frames {words}, most of "
                f"all {found.names[worst]} ({share[worst]:.0%})"
            )
            told.append(Finding("warning", f"splines, {key}", message, remedy, severity=float((share > TOLD).mean())))
    message = f"{found.in_use.mean():.2g} of {found.bins} bins in use on average, none at its limits"
    return told or [Finding("ok", "splines", message)]


def watch_spline_bins(moment: Moment) -> dict[str, Record]:
    """Spline bins: how many every coupling uses for every coordinate, and which are at their limits.

    Shows bins in use (1: all frames in one bin), and the shares of frames in the linear tails, in bins of the smallest
    size, at the smallest slope, and at the largest scale. Healthy: several bins in use and the shares near 0.
    Otherwise: frames in tails or at the largest scale mean that the reference that set the scales does not cover the
    data; clamped bins and slopes mean that the density is sharper than one spline can be, so add couplings.
    """
    if not coupled(moment.model) or moment.batch is None:
        return {}
    return records(spline_bins(moment.model, moment.batch))


def records(found: SplineBins) -> dict[str, Record]:
    """One row per coupling and coordinate."""
    columns = {k: getattr(found, k) for k in ("in_use", "tails", "clamped", "flat", "scaled")}
    return {"spline bins": ("table", {"name": np.array(found.names, dtype=np.str_), **columns})}
