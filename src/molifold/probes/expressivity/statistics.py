"""Streamed sums of what a layer sees and of what its loss asks of it; everything else follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

#: Directions whose eigenvalue lies below this share of the largest do not count: rounding in float64.
RELATIVE = 1e-9
#: Directions of a source that its layer explains to all but this share are no news (1 - squared correlation).
NEWS = 1e-6


@dataclass
class SourceMoments:
    """Sums over rows for one candidate source C: C'C, C'B and C'V."""

    cc: Float[Tensor, "c c"]
    cb: Float[Tensor, "c d"]
    cv: Float[Tensor, "c out"]


@dataclass
class Moments:
    """Second moments of one site, in float64, summed over rows; no activation is stored.

    Rows B [rows, d] are what the layer sees (its input, and 1), V [rows, out] is what the loss asks of its output,
    ``-d(sum of losses) / dA``, and C [rows, c] are candidate sources: what new units could see. Adding in pieces gives
    the same sums as adding at once. ``squares`` are those of V, output by output.

    >>> rows = torch.eye(3)
    >>> moments = Moments()
    >>> moments.add(rows, rows, {"twice": 2 * rows}, examples=3)
    >>> moments
    Moments(3 examples, 3 rows, 3 -> 3, sources twice)
    """

    bb: Tensor = field(default_factory=lambda: torch.zeros(0))
    bv: Tensor = field(default_factory=lambda: torch.zeros(0))
    squares: Tensor = field(default_factory=lambda: torch.zeros(0))
    rows: int = 0
    examples: int = 0
    sources: dict[str, SourceMoments] = field(default_factory=dict)

    def add(
        self,
        b: Float[Tensor, "rows d"],
        v: Float[Tensor, "rows out"],
        sources: Mapping[str, Float[Tensor, "rows c"]],
        *,
        examples: int,
    ) -> None:
        """Add rows; ``examples`` is the number of examples (terms of the loss) that they belong to."""
        b, v = b.double(), v.double()
        if self.rows == 0:
            self.bb, self.bv = b.new_zeros(b.shape[1], b.shape[1]), b.new_zeros(b.shape[1], v.shape[1])
            self.squares = v.new_zeros(v.shape[1])
        self.bb += b.T @ b
        self.bv += b.T @ v
        self.squares += v.square().sum(0)
        self.rows += len(b)
        self.examples += examples
        for name, source in sources.items():
            c = source.double()
            sums = SourceMoments(c.T @ c, c.T @ b, c.T @ v)
            if name in self.sources:
                old = self.sources[name]
                sums = SourceMoments(old.cc + sums.cc, old.cb + sums.cb, old.cv + sums.cv)
            self.sources[name] = sums

    @property
    def vv(self) -> float:
        """Squared norm of V."""
        return float(self.squares.sum())

    def part(self, inputs: Tensor, outputs: Tensor, reads: Mapping[str, Tensor]) -> Moments:
        """Those of some inputs, outputs and columns of sources, by their indices; sources without any are left out."""
        sources = {
            name: SourceMoments(sums.cc[k][:, k], sums.cb[k][:, inputs], sums.cv[k][:, outputs])
            for name, sums in self.sources.items()
            if name in reads and len(k := reads[name])
        }
        bb, bv = self.bb[inputs][:, inputs], self.bv[inputs][:, outputs]
        return Moments(bb, bv, self.squares[outputs], self.rows, self.examples, sources)

    def __repr__(self) -> str:
        shape = " -> ".join(map(str, self.bv.shape))
        return f"Moments({self.examples} examples, {self.rows} rows, {shape}, sources {', '.join(self.sources)})"


def pseudo_inverse(matrix: Float[Tensor, "d d"], *, relative: float = RELATIVE) -> Float[Tensor, "d d"]:
    """Pseudo-inverse of a covariance, scaled to unit diagonal first, so that units of the columns do not matter."""
    root, _ = inverse_root(matrix, torch.diagonal(matrix), relative=relative)
    return root @ root.T


def inverse_root(
    matrix: Float[Tensor, "d d"], scale: Float[Tensor, " d"], *, relative: float
) -> tuple[Float[Tensor, "d r"], int]:
    """Z with Z Z' the pseudo-inverse and Z' matrix Z = 1; the rank r.

    Columns are measured in units of the root of ``scale``; eigenvalues below ``relative`` (times the largest, where
    that is above 1) are dropped.
    """
    unit = torch.where(scale > 0, scale, torch.ones_like(scale)).rsqrt()
    values, vectors = torch.linalg.eigh(unit[:, None] * matrix * unit)
    kept = values > relative * values.max().clamp(min=1.0) if len(values) else values > 0
    return unit[:, None] * vectors[:, kept] * values[kept].rsqrt(), int(kept.sum())
