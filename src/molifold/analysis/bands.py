"""Several numbers with their uncertainties at once: what an ``Estimate`` is for one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class Band:
    """Numbers with standard errors and 95 % intervals, all arrays of one shape."""

    value: Float[ndarray, "*shape"]
    error: Float[ndarray, "*shape"]
    low: Float[ndarray, "*shape"]
    high: Float[ndarray, "*shape"]

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Band:
        parts = (np.asarray(a)[index] for a in (self.value, self.error, self.low, self.high))
        return Band(*parts)

    def __contains__(self, value: object) -> bool:
        """Whether every one of the numbers ``value`` lies in its interval."""
        given = np.asarray(value)
        return bool(((self.low <= given) & (given <= self.high)).all())

    def __repr__(self) -> str:
        if self.value.ndim != 1 or len(self) > 12:
            return f"Band(shape {self.value.shape})"
        return "[" + ", ".join(f"{v:.4g} +- {e:.2g}" for v, e in zip(self.value, self.error, strict=True)) + "]"


def band(
    value: Float[ndarray, "*shape"], replicates: Float[ndarray, "repeats *shape"], *, blocks: int, log: bool = False
) -> Band:
    """A band from bootstrap replicates over ``blocks`` blocks; ``log`` makes the interval of a positive number.

    The plain bootstrap of few blocks is too small by ``sqrt((n - 1) / n)``, and its interval is that of Student's t.
    Replicates that are not finite are left out. With one block there is no error: it is infinite.

    >>> band(np.array([1.0]), np.array([[0.9], [1.1], [1.0]]), blocks=32)
    [1 +- 0.1]
    """
    from scipy.special import stdtrit

    value, replicates = np.asarray(value, dtype=float), np.asarray(replicates, dtype=float)
    if blocks < 2:
        infinite = np.full(value.shape, math.inf)
        return Band(value, infinite, np.zeros(value.shape) if log else -infinite, infinite)
    with np.errstate(divide="ignore", invalid="ignore"):
        point, draws = (np.log(value), np.log(replicates)) if log else (value, replicates)
        draws = np.where(np.isfinite(draws), draws, np.nan)
        enough = np.isfinite(draws).sum(axis=0) >= 2
        centred = draws - np.nanmean(np.where(enough, draws, 0.0), axis=0)
        spread = np.sqrt(np.nansum(centred**2, axis=0) / np.maximum(np.isfinite(draws).sum(axis=0) - 1, 1))
        spread = np.where(enough, spread, math.inf) * math.sqrt(blocks / (blocks - 1))
        half = float(stdtrit(blocks - 1, 0.975)) * spread
        if log:
            return Band(value, value * spread, value * np.exp(-half), value * np.exp(half))
    return Band(value, spread, value - half, value + half)
