"""PartialGeometry: the shape of a molecule as far as it is known, for networks that need distances."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.standardize import Standardize


class PartialGeometry(nn.Module):
    """Conformations built from the known standardised coordinates; the unknown ones stand at their reference values.

    A coupling may show its conditioner nothing but the coordinates that it leaves alone. Here these are completed by
    zeros, which stand for the mean of the reference (the middle of its turn, for a rotation), and carried through the
    flow's own ``Standardize`` and ``InternalCoordinates`` back to Cartesian coordinates. Whatever is computed from them
    depends on the known coordinates alone, so the coupling is inverted exactly.

    Args:
        internal, scale: the first steps of the flow.
        given: True for the known coordinates, in the order of ``scale.codomain``.
    """

    _place: Tensor

    def __init__(self, internal: InternalCoordinates, scale: Standardize, given: Bool[Tensor, " size"]) -> None:
        super().__init__()
        # In a tuple: they are steps of the flow, which saves them and moves them between devices and precisions.
        self._steps = scale, internal
        place = torch.full_like(given, int(given.sum()), dtype=torch.long)  # row of zeros
        place[given] = torch.arange(int(given.sum()))
        self.register_buffer("_place", place, persistent=False)

    def forward(self, known: Float[Tensor, "known batch"]) -> Float[Tensor, "batch atoms 3"]:
        """Cartesian coordinates (nm) in the molecule's standard frame."""
        y = torch.cat([known, known.new_zeros(1, known.shape[1])])[self._place].T
        for step in self._steps:
            y, _ = step.inverse(y)
        return y
