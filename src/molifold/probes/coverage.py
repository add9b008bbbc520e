"""Whether samples cover data: nothing can be learnt from samples about what they do not contain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: The noise floor: this share of data counts as uncovered by other data of the same size.
FLOOR = 0.01
#: Rows per side of the comparison at most.
ROWS = 4000


@dataclass(frozen=True)
class Coverage:
    """Share of the data without a sample nearby, its standard error, and the share for data against data."""

    uncovered: float
    error: float
    floor: float = FLOOR

    @property
    def holds(self) -> bool:
        """Whether nothing is missing beyond noise and twice the floor."""
        return self.uncovered - 3 * self.error <= 2 * self.floor

    def words(self, what: str = "probe samples") -> str:
        """One sentence."""
        if self.holds:
            return f"{what} cover the data ({self.uncovered:.1%} without one nearby, {self.floor:.0%} is noise)"
        return (
            f"{what} do not cover the data: {self.uncovered:.1%} +- {self.error:.1%} of it has none nearby "
            f"({self.floor:.0%} is noise); what is not sampled cannot be judged"
        )


def coverage(samples: Float[Tensor, "samples features"], data: Float[Tensor, "data features"]) -> Coverage:
    """Share of ``data`` that lies farther from every sample than data lie from each other.

    Half of the data measure, and are compared with as many samples as the other half has rows; "nearby" is the distance
    that 99 % of the data keep to the other half.

    Raises:
        ValueError: if either has fewer than 100 rows or the features differ.

    >>> data = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> coverage(data[data[:, 0] > 0], data).holds
    False
    """
    if min(len(samples), len(data)) < 100 or samples.shape[1:] != data.shape[1:]:
        raise ValueError(
            f"samples: got {tuple(samples.shape)} for data {tuple(data.shape)}, expected at least 100 rows of as many "
            "features"
        )
    thin = data[:: max(1, len(data) // (2 * ROWS))].double()
    scale = thin.std(0).clamp(min=1e-12)
    ours, others = thin[::2] / scale, thin[1::2] / scale
    given = samples[:: max(1, len(samples) // len(others))][: len(others)].double() / scale
    others = others[: len(given)]
    near = float(torch.quantile(_nearest(ours, others), 1 - FLOOR))
    share = float((_nearest(ours, given) > near).double().mean())
    return Coverage(share, math.sqrt(max(share * (1 - share), FLOOR) / len(ours)))


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, b).amin(1) for part in a.split(1000)])
