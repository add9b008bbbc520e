"""Regularized: an energy whose clashes do not blow up a gradient."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.interfaces import Energy


class _Finite(torch.autograd.Function):
    """Identity whose gradient has no NaN and no infinity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.nan_to_num(gradients[0], nan=0.0, posinf=0.0, neginf=0.0)


class Regularized:
    """An energy that grows only logarithmically above ``cut``, for training on the energy.

    ``u`` where ``u < cut``; ``cut + log(1 + min(u, highest) - cut)`` above. Two atoms on top of each other have u of
    1e15 kT and more: one such conformation of a fresh flow would decide the gradient of a whole batch. Where u is
    NaN, infinite or above ``highest``, the value is that of ``highest`` and the gradient is zero, so values and
    gradients are always finite. This is the ``linlogcut`` of Noe et al., Science 365, eaaw1147 (2019),
    doi:10.1126/science.aaw1147.

    It changes the distribution: reweight with the bare energy, ``.energy``.

    Args:
        energy: to be regularised.
        cut: kT; choose it far above every energy of the equilibrium ensemble (highest seen plus 100, say).
        highest: kT.

    Raises:
        ValueError: if ``highest`` is not above ``cut``.

    >>> from molifold.energies import DoubleWell
    >>> energy = Regularized(DoubleWell(), cut=100.0)
    >>> [round(float(u), 2) for u in energy(torch.tensor([[[1.0, 0.0]], [[100.0, 0.0]], [[torch.nan, 0.0]]]))]
    [-1.75, 117.03, 146.05]
    """

    def __init__(self, energy: Energy, *, cut: float, highest: float = 1e20) -> None:
        if not highest > cut:
            raise ValueError(f"highest: got {highest}, expected more than cut ({cut})")
        self.energy = energy
        self.temperature = energy.temperature
        self.cut = cut
        self.highest = highest

    def at(self, temperature: float) -> Regularized:
        """The regularised energy in units of another kT; ``cut`` and ``highest`` stay as they are, in that kT."""
        return Regularized(self.energy.at(temperature), cut=self.cut, highest=self.highest)

    def __call__(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """Regularised u(x), kT."""
        u = self.energy(_Finite.apply(x))
        usable = u < self.highest  # False for NaN
        u = torch.where(usable, u, self.highest)
        above = (u - self.cut).clamp_min(0)
        return torch.where(u < self.cut, u, self.cut + torch.log1p(above))

    def __repr__(self) -> str:
        return f"Regularized({self.energy!r}, cut={self.cut:g}, highest={self.highest:g})"
