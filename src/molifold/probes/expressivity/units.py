"""New units: how one behaves near zero, and what some of them add to a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.probes.expressivity.score import Proposal
from molifold.probes.expressivity.sites import ACTIVATIONS


@dataclass(frozen=True)
class Unit:
    """How one hidden unit behaves near zero: ``value`` at 0, ``left`` and ``right`` slopes.

    A unit with a kink at 0 is not linear in small amplitudes; a pair with opposite signs is, with slope ``left`` +
    ``right``.

    >>> Unit.of("relu"), Unit.of("relu").paired
    (Unit(name='relu', value=0.0, left=0.0, right=1.0), True)
    """

    name: str
    value: float
    left: float
    right: float

    @classmethod
    def of(cls, name: str) -> Unit:
        """By its name in ``ACTIVATIONS``."""
        function, step = ACTIVATIONS[name], 1e-6
        low, zero, high = function(torch.tensor([-step, 0.0, step], dtype=torch.float64)).tolist()
        return cls(name, zero, round((zero - low) / step, 5), round((high - zero) / step, 5))

    @property
    def paired(self) -> bool:
        """Whether it takes two units to be linear at small amplitudes."""
        return not math.isclose(self.left, self.right, rel_tol=1e-4)


@dataclass(frozen=True)
class Added:
    """What is added to the output of a layer that sees B: (f(C ``fan_in``) - f(0)) ``fan_out`` + B ``shift``.

    C is the source that the units read, f the function ``activation``. Without units it is the layer's own update.
    """

    activation: str
    fan_in: Float[Tensor, "c units"] | None
    fan_out: Float[Tensor, "units out"] | None
    shift: Float[Tensor, "d out"]

    @classmethod
    def step(cls, proposal: Proposal, source: str, activation: str, amplitude: float) -> Added:
        """What was proposed, at this amplitude to first order; units with a kink at 0 come in pairs."""
        units = proposal.units.get(source)
        if units is None:
            return cls(activation, None, None, amplitude * proposal.weights)
        unit, root = Unit.of(activation), math.sqrt(amplitude)
        signs = (1.0, -1.0) if unit.paired else (1.0,)
        slope = unit.left + unit.right if unit.paired else unit.right
        fan_in = torch.cat([sign * root * units.alpha for sign in signs], 1)
        fan_out = torch.cat([sign * root / slope * units.omega for sign in signs])
        return cls(activation, fan_in, fan_out, -amplitude * units.known @ units.omega)

    def rows(self, b: Float[Tensor, "*rows d"], c: Float[Tensor, "*rows c"] | None) -> Float[Tensor, "*rows out"]:
        """What it adds, for rows of what the layer sees and of the source."""
        own = b.double() @ self.shift
        if c is None or self.fan_in is None or self.fan_out is None:
            return own
        function = ACTIVATIONS[self.activation]
        return own + (function(c.double() @ self.fan_in) - function(c.new_zeros(())).double()) @ self.fan_out

    @property
    def reads(self) -> bool:
        """Whether it has units that read the source."""
        return self.fan_in is not None
