"""Exponential moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of ``flow`` that follows it: a <- d a + (1 - d) w after every step; buffers are copied.

    The first steps use d = (1 + step) / (10 + step), so that the random start is forgotten (as TensorFlow's
    ExponentialMovingAverage does).

    Args:
        flow: the module to follow.
        decay: d.

    >>> flow = nn.Linear(1, 1)
    >>> average = Average(flow, decay=0.5)
    >>> before = flow.weight.item()
    >>> _ = flow.weight.data.add_(1.0)
    >>> average.follow(step=100)
    >>> round(average.module.weight.item() - before, 6)
    0.5
    """

    def __init__(self, flow: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(flow).requires_grad_(requires_grad=False).eval()
        self._decay = decay
        # Walking through the modules at every step would cost more than the averaging.
        self._kept: list[Tensor] = list(self.module.parameters())
        self._new: list[Tensor] = list(flow.parameters())
        self._buffers = list(zip(self.module.buffers(), flow.buffers(), strict=True))

    @torch.no_grad()
    def follow(self, *, step: int) -> None:
        """Move towards the flow after optimiser step ``step``."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._kept, self._new, 1 - decay)
        for kept, new in self._buffers:
            kept.copy_(new)
