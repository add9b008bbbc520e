"""Jacobian of a map: how much it stretches, squeezes and changes volume, conformation by conformation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from molifold.finding import Finding
from molifold.interfaces import Record

#: In float32 a map of this condition number loses half of its digits on the way there and back.
ILL = 3e3
#: A reported log-determinant off by more than this (nats) spoils weights.
OFF = 0.01


@dataclass(frozen=True)
class Jacobian:
    """Singular values of dy/dx at every conformation of a batch.

    Attributes:
        singular: [frames, directions] the largest first.
        reported: the log-determinants that the map itself reports; nan where it reports none.
    """

    singular: Float[ndarray, "frames directions"]
    reported: Float[ndarray, " frames"]

    @property
    def volume(self) -> Float[ndarray, " frames"]:
        """Log of the local change of volume, the sum of the logs of the singular values."""
        with np.errstate(divide="ignore"):
            return np.log(self.singular).sum(1)

    @property
    def condition(self) -> Float[ndarray, " frames"]:
        """Largest over smallest singular value; infinite where a direction is lost."""
        with np.errstate(divide="ignore"):
            return self.singular[:, 0] / self.singular[:, -1]

    @property
    def lipschitz(self) -> tuple[float, float]:
        """Largest stretch of the map and of its inverse over the batch: lower bounds of the two Lipschitz constants."""
        with np.errstate(divide="ignore"):
            return float(self.singular[:, 0].max()), float(np.float64(1) / self.singular[:, -1].min())

    @property
    def disagreement(self) -> Float[ndarray, " frames"]:
        """|log|det dy/dx| - reported log-determinant|, nats."""
        return np.abs(self.volume - self.reported)

    def __repr__(self) -> str:
        n, low, high = len(self.volume), np.median(self.condition), self.condition.max()
        error = self.volume.std(ddof=1) / n**0.5 if n > 1 else float("nan")
        there, back = self.lipschitz
        return (
            f"Jacobian({n} frames, log-volume {self.volume.mean():.4g} +- {error:.1g}, condition {low:.3g} in the "
            f"median and {high:.3g} at most, stretches by up to {there:.3g} and back by {back:.3g})"
        )


def jacobian(f: Callable[[Tensor], Any], x: Float[Tensor, "frames size"]) -> Jacobian:
    """Singular values of the Jacobian of ``f``, which treats every conformation alone.

    Args:
        f: returns y [frames, size out], or (y, log_det).
        x: where; the cost is one backward pass per output.

    Raises:
        ValueError: if ``x`` or y are not [frames, size].

    Reference: Behrmann et al. (2021), arXiv 2006.09347 (condition and bi-Lipschitz constants of invertible networks);
    Verine et al. (2021), arXiv 2107.07232.

    >>> found = jacobian(lambda x: x * torch.tensor([10.0, 1.0, 0.1]), torch.ones(4, 3))
    >>> found.condition.round(3).tolist(), np.round(found.lipschitz, 3).tolist()
    ([100.0, 100.0, 100.0, 100.0], [10.0, 10.0])
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = f(x)
    y, log_det = out if isinstance(out, tuple) else (out, None)
    if x.ndim != 2 or y.ndim != 2 or len(y) != len(x):
        raise ValueError(f"x: got {tuple(x.shape)} -> {tuple(y.shape)}, expected [frames, size] -> [frames, size]")
    rows = []
    for column in y.unbind(1):
        (slope,) = torch.autograd.grad(column.sum(), x, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(x) if slope is None else slope.detach())
    singular = torch.linalg.svdvals(torch.stack(rows, 1).double()).cpu().numpy()
    nothing = np.full(len(x), np.nan)
    return Jacobian(singular, nothing if log_det is None else log_det.detach().double().cpu().numpy())


def findings(found: Jacobian) -> list[Finding]:
    """An error for a wrong log-determinant, a warning for a map that loses digits."""
    told = []
    known = found.disagreement[np.isfinite(found.disagreement)]
    wrong = float(known.max(initial=0.0))
    if wrong > OFF:
        message = f"the log-determinant is off by up to {wrong:.3g} nats from that of the Jacobian"
        told.append(Finding("error", "volume", message, "check the transform with testing.check_transform", wrong))
    worst, middle = float(found.condition.max()), float(np.median(found.condition))
    there, back = found.lipschitz
    numbers = f"condition {middle:.2g} in the median, {worst:.2g} at most"
    if worst > ILL:
        message = f"{numbers}: stretches by up to {there:.2g}, the inverse by {back:.2g}"
        remedy = "weight decay on what makes its parameters, or more and gentler layers; draw in float64"
        told.append(Finding("warning", "stretching", message, remedy, severity=float(np.log10(worst))))
    return told or [Finding("ok", "stretching", f"{numbers} ({len(found.volume)} conformations)")]


def records(found: Jacobian) -> dict[str, Record]:
    """One row per conformation."""
    table = {
        "name": np.arange(len(found.volume)).astype(str), "condition": found.condition, "log_volume": found.volume,
        "largest": found.singular[:, 0], "smallest": found.singular[:, -1],
    }  # fmt: skip
    return {"jacobian": ("table", table)}
