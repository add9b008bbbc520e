"""Jumps of the loss: noticed as they happen, so that the batch behind them can be kept."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from torch import Tensor
from torch.utils import _pytree as pytree

#: Consistent with the standard deviation of a normal distribution.
MAD_SCALE = 1.4826


@dataclass(frozen=True)
class Spike:
    """A loss far above those before it: ``score`` robust standard deviations above their ``median``."""

    step: int
    loss: float
    median: float
    score: float

    def words(self) -> str:
        """One sentence."""
        return f"loss {self.loss:.4g} at step {self.step}, {self.score:.1f} deviations above {self.median:.4g}"


class LossSpikes:
    """Tells whether a loss is a spike, given those before it. Call it after every step.

    A spike lies more than ``threshold`` robust standard deviations (1.4826 times the median absolute deviation) above
    the median of the last ``window`` losses. Losses that are not finite are no spikes and are forgotten.

    Args:
        window: number of losses to compare with; none is judged before half of them are known.
        threshold: of the score.

    Raises:
        ValueError: if ``window`` is below 10 or ``threshold`` not positive.

    >>> spikes = LossSpikes(window=20)
    >>> [s.step for step in range(40) if (s := spikes(step, 9.0 if step == 30 else 1.0 + 0.01 * (step % 3)))]
    [30]
    """

    def __init__(self, *, window: int = 100, threshold: float = 6.0) -> None:
        if window < 10:
            raise ValueError(f"window: got {window!r}, expected at least 10 losses")
        if not threshold > 0:
            raise ValueError(f"threshold: got {threshold!r}, expected a positive number")
        self._known: deque[float] = deque(maxlen=window)
        self._threshold = threshold

    def __call__(self, step: int, loss: float) -> Spike | None:
        """The spike that ``loss`` is, or None."""
        if not math.isfinite(loss):
            return None
        known = sorted(self._known)  # faster than NumPy for a hundred numbers, and this runs at every step
        self._known.append(loss)
        if 2 * len(known) < (self._known.maxlen or 0):
            return None
        median = known[len(known) // 2]
        spread = MAD_SCALE * sorted(abs(value - median) for value in known)[len(known) // 2]
        # Losses that hardly differ: rounding is no spike.
        score = (loss - median) / max(spread, 1e-6 * abs(median), 1e-12)
        return Spike(step, loss, median, score) if score > self._threshold else None


def kept(batch: Any) -> dict[str, ndarray]:
    """The tensors of a batch, examples first, as columns of a table; those of another length are left out."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim]
    rows = len(leaves[0]) if leaves else 0
    columns = {f"tensor {i}": leaf.detach().cpu().numpy() for i, leaf in enumerate(leaves) if len(leaf) == rows}
    return {"name": np.arange(rows).astype(np.str_), **columns}
