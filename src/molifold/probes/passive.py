"""Probes that read what the training step computed anyway: gradients, parameters, updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from molifold.interfaces import Moment, Record


@torch.no_grad()
def gradient_norms(moment: Moment) -> dict[str, Record]:
    """Root-mean-square gradient of every parameter tensor, after clipping.

    Healthy: all within two or three powers of ten of each other, falling slowly. A tensor at 0 gets no signal: its
    branch is unused or saturated. One that towers above the rest dominates clipping: lower its learning rate or its
    initial scale. ``finite`` is the share of finite entries and must be 1.
    """
    found = {name: p.grad for name, p in moment.model.named_parameters() if p.grad is not None}
    finite = _numbers([g.isfinite().double().mean() for g in found.values()])
    return {"gradient norms": ("table", {"name": _names(found), "rms": _rms(list(found.values())), "finite": finite})}


@torch.no_grad()
def parameter_norms(moment: Moment) -> dict[str, Record]:
    """Root-mean-square value of every parameter tensor.

    Healthy: a slow drift that settles. Growth without end means that the weights only sharpen the output: add weight
    decay or lower the learning rate. A tensor that stays at 0 after its first steps does not take part.
    """
    found = dict(moment.model.named_parameters())
    return {"parameter norms": ("table", {"name": _names(found), "rms": _rms(list(found.values()))})}


@torch.no_grad()
def update_ratios(moment: Moment) -> dict[str, Record]:
    """Size of the last update of every parameter tensor over the size of the tensor.

    Healthy: around 1e-3 at the full learning rate. Above 1e-2 the step is too long for that tensor; below 1e-5 it
    hardly learns. Tensors that are still 0 have no ratio (nan).
    """
    found = {name: p for name, p in moment.model.named_parameters() if name in moment.before}
    change = _rms([p - moment.before[name] for name, p in found.items()])
    size = _rms([moment.before[name] for name in found])
    ratio = np.divide(change, size, out=np.full_like(change, np.nan), where=size > 0)
    return {"update ratios": ("table", {"name": _names(found), "ratio": ratio})} if found else {}


def _rms(tensors: list[Tensor]) -> np.ndarray:
    return _numbers([torch.linalg.vector_norm(t) / max(t.numel(), 1) ** 0.5 for t in tensors])


def _numbers(values: list[Tensor]) -> np.ndarray:
    # One transfer from the device for all tensors.
    return torch.stack(values).double().cpu().numpy() if values else np.zeros(0)


def _names(found: Mapping[str, Tensor]) -> np.ndarray:
    return np.array(list(found), dtype=np.str_)
