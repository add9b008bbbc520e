"""Oversquashing: how much an atom's output depends on atoms far away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.finding import Finding
from molifold.interfaces import Moment, Record
from molifold.probes.view import View, Views

#: Sensitivity to the farthest atoms below this share of that to neighbours counts as squashed.
SQUASHED = 1e-3


@dataclass(frozen=True)
class Squashing:
    """Sensitivity of every atom's output to every atom's input.

    Attributes:
        sensitivity: [target, source] root mean square over conformations of the Frobenius norm |d out_i / d in_j|.
        hops: bonds between the atoms.
        distances, mean, error: by graph distance: mean over pairs of atoms, and its standard error over pairs (nan for
            a single pair).
    """

    sensitivity: Float[ndarray, "atoms atoms"]
    hops: Int[ndarray, "atoms atoms"]
    distances: Int[ndarray, " distances"]
    mean: Float[ndarray, " distances"]
    error: Float[ndarray, " distances"]

    @property
    def reach(self) -> int:
        """Largest distance from which anything arrives at all."""
        return int(self.distances[self.mean > 0].max(initial=0))


def squashing(view: View, *, draws: int = 8, seed: int = 0) -> Squashing:
    """Sensitivity by graph distance, by automatic differentiation.

    The squared norm of the block [channels out, channels in] of the Jacobian is estimated from ``draws`` random
    combinations of the outputs with signs +-1 (unbiased: E |v^T J|^2 = |J|^2), and exact where there are no more
    outputs than draws.

    Args:
        view: the network, with a few conformations; the cost is atoms x draws backward passes.
        draws: see above.
        seed: of the signs.

    Raises:
        ValueError: if the outputs do not belong to atoms.

    Reference: Topping et al. (2022), arXiv 2111.14522; Di Giovanni et al. (2023), arXiv 2302.02941.

    >>> from torch import nn
    >>> hops = torch.tensor([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    >>> mean = (hops < 2) / (hops < 2).sum(1, keepdim=True)
    >>> view = View(nn.Identity(), torch.ones(2, 3, 1), lambda x: mean @ x, hops)
    >>> squashing(view).mean.round(3).tolist()
    [0.444, 0.417, 0.0]
    """
    features = view.features.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = view.on_atoms(view.run(features))
    if out is None:
        raise ValueError("run: its output does not belong to atoms; return [batch, atoms, channels]")
    channels = out.shape[2]
    if channels <= draws:
        signs = torch.eye(channels, dtype=out.dtype, device=out.device)
    else:
        generator = torch.Generator().manual_seed(seed)
        signs = (2.0 * torch.randint(2, (draws, channels), generator=generator) - 1).to(out) / draws**0.5
    square = out.new_zeros(out.shape[1], out.shape[1], dtype=torch.float64)
    for atom in range(out.shape[1]):
        for sign in signs:
            asked = (out[:, atom] @ sign).sum()
            (slope,) = torch.autograd.grad(asked, features, retain_graph=True, allow_unused=True)
            if slope is not None:
                square[atom] += slope.double().square().sum(2).mean(0)
    sensitivity, hops = square.sqrt().cpu().numpy(), view.hops.cpu().numpy()
    distances = np.unique(hops[hops >= 0])
    groups = [sensitivity[hops == d] for d in distances]
    error = [g.std(ddof=1) / len(g) ** 0.5 if len(g) > 1 else np.nan for g in groups]
    return Squashing(sensitivity, hops, distances, np.array([g.mean() for g in groups]), np.array(error))


def findings(found: Sequence[tuple[View, Squashing]]) -> list[Finding]:
    """Warnings where nothing, or next to nothing, arrives from the farthest atoms."""
    large = [(v, s) for v, s in found if len(s.distances) > 2]
    if not large:
        return []
    cut = [(v, s) for v, s in large if s.reach < s.distances[-1]]
    share = [s.mean[-1] / max(s.mean[1], 1e-300) for _, s in large]
    faint = [pair for pair, kept in zip(large, share, strict=True) if 0 < kept < SQUASHED]
    told = []
    if cut:
        view, worst = max(cut, key=lambda pair: int(pair[1].distances[-1]) - pair[1].reach)
        message = (
            f"in {len(cut)} of {len(large)} graph networks nothing arrives from the farthest atoms; in "
            f"{view.label('') or 'one'} from none more than {worst.reach} bonds away, of {worst.distances[-1]}"
        )
        remedy = "more message-passing layers, or a larger max_hops"
        told.append(Finding("warning", "reach", message, remedy, severity=len(cut) / len(large)))
    if faint:
        view, worst = min(faint, key=lambda pair: pair[1].mean[-1] / pair[1].mean[1])
        message = (
            f"in {len(faint)} of {len(large)} graph networks far atoms hardly matter; in {view.label('') or 'one'} one "
            f"{worst.distances[-1]} bonds away has {worst.mean[-1] / worst.mean[1]:.1g} of the influence of a neighbour"
        )
        remedy = "wider layers, or messages over longer distances"
        told.append(Finding("warning", "oversquashing", message, remedy, severity=len(faint) / len(large)))
    message = f"the farthest atoms have {min(share):.2g} or more of the influence of neighbours"
    return told or [Finding("ok", "oversquashing", message)]


class SquashingProbe:
    """Oversquashing: how strongly every atom's output depends on the input of atoms 0, 1, 2, ... bonds away.

    Shows the mean norm of d out_i / d in_j by graph distance, one row per network. Healthy: falls with distance by less
    than three powers of ten over the whole molecule. Otherwise: exactly 0 beyond some distance means too few layers to
    reach so far, so add layers; tiny but not 0 asks for wider layers, or messages between atoms farther apart.

    Args:
        views: finds the graph networks in a moment.
        draws: see ``squashing``.
    """

    def __init__(self, views: Views, *, draws: int = 2) -> None:
        self.views, self.draws = views, draws

    def __call__(self, moment: Moment) -> dict[str, Record]:
        """Record ``sensitivity by distance``."""
        return records([(view, squashing(view, draws=self.draws)) for view in self.views(moment)])


def records(found: Sequence[tuple[View, Squashing]]) -> dict[str, Record]:
    """One map over all networks: rows are networks, columns distances."""
    if not found:
        return {}
    most = max(int(s.distances[-1]) for _, s in found)
    values = np.full((len(found), most + 1), np.nan)
    for row, (_, s) in zip(values, found, strict=True):
        row[s.distances] = s.mean
    names = np.array([v.label("") for v, _ in found])
    return {"sensitivity by distance": ("map", {"values": values, "x": np.arange(most + 1), "y": names})}
