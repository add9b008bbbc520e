"""Exponential moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def averaged_copy(flow: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters want no gradient."""
    return copy.deepcopy(flow).requires_grad_(requires_grad=False).eval()


@torch.no_grad()
def follow(average: nn.Module, flow: nn.Module, *, decay: float, step: int) -> None:
    """Move ``average`` towards ``flow``: a <- d a + (1 - d) w, buffers copied.

    The first steps use d = (1 + step) / (10 + step), so that the random start is forgotten (as TensorFlow's
    ExponentialMovingAverage does).
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(flow.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), flow.buffers(), strict=True):
        kept.copy_(new)
