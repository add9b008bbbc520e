"""Angles as tensors: wrapped, and as fractions of a turn."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrap(angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same angles within [-pi, pi].

    >>> wrap(torch.tensor(1.5 * math.pi))
    tensor(-1.5708)
    """
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def unit(angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Angles as fractions of a turn in [0, 1), counted from -pi; periodic.

    >>> unit(torch.tensor(0.0))
    tensor(0.5000)
    """
    return torch.remainder(angle / (2 * math.pi) + 0.5, 1.0)
