"""Oversmoothing: whether message passing makes all atoms alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from molifold.finding import Finding
from molifold.interfaces import Moment, Record
from molifold.probes.view import View, Views, layer_states

#: Neighbours count as alike below this roughness: 1 % of what unrelated features would have.
ALIKE = 0.01


@dataclass(frozen=True)
class Smoothing:
    """How different neighbouring atoms are after every layer; means over conformations and their standard errors.

    Attributes:
        layers: names, in the order of the calls, from the input to the output.
        dirichlet: Dirichlet energy, (1/v) sum_i sum_{j in N(i)} |x_i - x_j|^2; 0 only if bonded atoms are the same.
        roughness: the same energy over that of unrelated features of the same size: 0 alike, 1 unrelated, 2 opposite.
            It does not change with the scale of the features, and decides.
        mad: mean average distance, 1 - cos(x_i, x_j), over neighbours, then atoms; 0 alike, 2 opposite.
        *_error: standard errors; 0 where all conformations agree, nan for a single one.
    """

    layers: tuple[str, ...]
    dirichlet: Float[ndarray, " layers"]
    dirichlet_error: Float[ndarray, " layers"]
    roughness: Float[ndarray, " layers"]
    roughness_error: Float[ndarray, " layers"]
    mad: Float[ndarray, " layers"]
    mad_error: Float[ndarray, " layers"]


def smoothing(view: View) -> Smoothing:
    """Dirichlet energy and mean average distance of the features after every layer of a graph network.

    Raises:
        ValueError: if no atom has a neighbour.

    Reference: Rusch, Bronstein and Mishra (2023), arXiv 2303.10993 (Dirichlet energy of the unnormalised Laplacian,
    which vanishes for constant features only); Chen et al. (2020), arXiv 1909.03211 (MAD).

    >>> from torch import nn
    >>> hops = torch.tensor([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    >>> x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    >>> found = smoothing(View(nn.Identity(), x, lambda x: x, hops))
    >>> found.layers, found.roughness.tolist(), found.mad.tolist()
    (('input', 'output'), [1.0, 1.0], [1.0, 1.0])
    """
    if not bool(view.neighbours.any()):
        raise ValueError("hops: got no pair that is one bond apart, expected neighbours to compare")
    states = layer_states(view)
    rows = [_measure(x.detach().double(), view.neighbours.double()) for x in states.values()]
    mean = np.array([[float(q.mean()) for q in row] for row in rows])
    error = (
        np.array([[float(q.std()) if len(q) > 1 else np.nan for q in row] for row in rows]) / len(view.features) ** 0.5
    )
    return Smoothing(tuple(states), *(part[:, k] for k in range(3) for part in (mean, error)))


def _measure(x: Float[Tensor, "batch atoms channels"], near: Float[Tensor, "atoms atoms"]) -> tuple[Tensor, ...]:
    """Dirichlet energy, roughness and mean average distance of every conformation."""
    size = x.square().sum(-1)
    # Over all pairs at once: |x_i - x_j|^2 from products would lose the digits that matter when all are alike.
    i, j = near.nonzero().unbind(1)
    apart = (x[:, i] - x[:, j]).square().sum(-1)
    energy = apart.sum(1) / x.shape[1]
    roughness = apart.sum(1) / (size[:, i] + size[:, j]).sum(1).clamp(min=1e-300)
    distance = 1 - F.cosine_similarity(x[:, i], x[:, j], dim=-1, eps=1e-150)
    real = ((size[:, i] > 0) & (size[:, j] > 0)).to(x)  # a vector of zeros has no direction
    per_atom = x.new_zeros(2, len(x), x.shape[1]).index_add(2, i, torch.stack([distance * real, real]))
    has = per_atom[1] > 0
    mad = (per_atom[0] / per_atom[1].clamp(min=1)).sum(1) / has.sum(1).clamp(min=1)
    return energy, roughness, mad


def findings(found: Sequence[tuple[View, Smoothing]]) -> list[Finding]:
    """A warning where layers made alike what was different before."""
    alike = [(v, s) for v, s in found if s.roughness[-1] < ALIKE < s.roughness[0]]
    if not alike:
        least = min((s.roughness[-1] for _, s in found), default=1.0)
        message = f"bonded atoms stay different (roughness {least:.2g} or more; graph networks: {len(found)})"
        return [Finding("ok", "oversmoothing", message)] if found else []
    view, worst = min(alike, key=lambda pair: pair[1].roughness[-1])
    layer = worst.layers[int(np.argmax(worst.roughness < ALIKE))]
    message = (
        f"in {len(alike)} of {len(found)} graph networks the layers make bonded atoms alike, most in "
        f"{view.label(layer)} (roughness {worst.roughness[-1]:.2g} +- {worst.roughness_error[-1]:.1g} "
        f"at the end, {worst.roughness[0]:.2g} "
        f"in its input, 1 is unrelated; MAD {worst.mad[-1]:.2g})"
    )
    remedy = "fewer message-passing layers, or residual connections"
    return [Finding("warning", "oversmoothing", message, remedy, severity=len(alike) / len(found))]


class SmoothingProbe:
    """Oversmoothing: how different bonded atoms are after every layer of a graph network.

    Shows Dirichlet energy, roughness (the same relative to unrelated features of that size: 0 alike, 1 unrelated) and
    mean average distance. Healthy: roughness of the last layer well above 0.01 and not falling by a constant factor
    from layer to layer. Otherwise: fewer message-passing layers, residual connections, or features that tell atoms
    apart to begin with.

    Args:
        views: finds the graph networks in a moment.
    """

    def __init__(self, views: Views) -> None:
        self.views = views

    def __call__(self, moment: Moment) -> dict[str, Record]:
        """Record ``smoothing``, one row per layer."""
        return records([(view, smoothing(view)) for view in self.views(moment) if bool(view.neighbours.any())])


def records(found: Sequence[tuple[View, Smoothing]]) -> dict[str, Record]:
    """One table over all networks."""
    if not found:
        return {}
    columns = ("roughness", "roughness_error", "dirichlet", "dirichlet_error", "mad", "mad_error")
    table = {c: np.concatenate([getattr(s, c) for _, s in found]) for c in columns}
    return {"smoothing": ("table", {"name": np.array([v.label(n) for v, s in found for n in s.layers]), **table})}
