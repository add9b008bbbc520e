"""Spaces: what a vector of coordinates means, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

Support = Literal["real", "circle", "positive", "interval"]


@dataclass(frozen=True)
class Block:
    """A named part of a coordinate vector: ``size`` numbers with one kind of support.

    ``circle`` means angles in [-pi, pi) with both ends identified; ``interval`` means [0, 1].
    """

    name: str
    size: int
    support: Support

    def __repr__(self) -> str:
        return f"{self.name}[{self.size}] {self.support}"


@dataclass(frozen=True)
class Space:
    """Ordered named blocks; knows its size and its true number of degrees of freedom.

    ``dof`` is smaller than ``size`` when the vector is redundant, as Cartesian coordinates with the
    centre and orientation fixed are. Densities are normalised with respect to the ``dof`` dimensions.

    >>> Space((Block("bonds", 3, "positive"), Block("angles", 2, "interval"), Block("torsions", 1, "circle")))
    Space(6 dof: bonds[3] positive, angles[2] interval, torsions[1] circle)
    """

    blocks: tuple[Block, ...]
    dof: int = -1

    def __post_init__(self) -> None:
        if self.dof < 0:
            object.__setattr__(self, "dof", self.size)

    @property
    def size(self) -> int:
        """Length of the coordinate vector."""
        return sum(block.size for block in self.blocks)

    def slice(self, name: str) -> slice:
        """Where block ``name`` sits in the vector.

        Raises:
            KeyError: if no block has that name.
        """
        start = 0
        for block in self.blocks:
            if block.name == name:
                return slice(start, start + block.size)
            start += block.size
        raise KeyError(f"block: got {name!r}, expected one of {', '.join(b.name for b in self.blocks)}")

    @property
    def supports(self) -> tuple[Support, ...]:
        """Support of every coordinate."""
        return tuple(block.support for block in self.blocks for _ in range(block.size))

    def has(self, support: str) -> Bool[ndarray, " size"]:
        """Which coordinates have this support.

        >>> Space((Block("r", 1, "real"), Block("t", 2, "circle"))).has("circle").tolist()
        [False, True, True]
        """
        return np.array([s == support for s in self.supports], dtype=bool)

    def __repr__(self) -> str:
        return f"Space({self.dof} dof: {', '.join(map(repr, self.blocks))})"


#: Volume of one circle coordinate, [-pi, pi).
CIRCLE = 2 * math.pi
