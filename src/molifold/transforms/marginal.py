"""Marginal: a learned map of every coordinate by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molifold.space import Space
from molifold.transforms.fused import univariate
from molifold.transforms.transform import Transform
from molifold.transforms.univariate import UNIVARIATE, parameter_count


class Marginal(Transform):
    """Bend every coordinate by its own spline, whatever the others are; the identity before training.

    Args:
        space: supports "real", "circle" or "interval".
        bins: spline bins.

    >>> from molifold import Block
    >>> Marginal(Space((Block("torsions", 1, "circle"),)))(torch.tensor([[0.5]]))[0]
    tensor([[0.5000]], grad_fn=<PermuteBackward0>)
    """

    _order: Tensor
    _restore: Tensor

    def __init__(self, space: Space, *, bins: int = 8) -> None:
        super().__init__()
        self.domain = self.codomain = space
        if not set(space.supports) <= set(UNIVARIATE):
            raise ValueError(
                f"space: got {space!r}, expected supports among {', '.join(UNIVARIATE)}; standardise first"
            )
        order = [i for s in UNIVARIATE for i, t in enumerate(space.supports) if t == s]
        self._counts = [space.supports.count(s) for s in UNIVARIATE]  # type: ignore[arg-type]
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        self.register_buffer("_restore", torch.argsort(torch.tensor(order)), persistent=False)
        self.raw = nn.ParameterDict(
            {
                s: nn.Parameter(torch.zeros(n, parameter_count(s, bins)))
                for s, n in zip(UNIVARIATE, self._counts, strict=True)
                if n
            }
        )

    def forward(self, x: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Data side to latent side."""
        return self._move(x, inverse=False)

    def inverse(self, y: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Latent side to data side."""
        return self._move(y, inverse=True)

    def _move(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        parts = dict(zip(UNIVARIATE, x.T[self._order].split(self._counts), strict=True))
        log_det = x.new_zeros(x.shape[0])
        for support, raw in self.raw.items():
            spread = raw[:, :, None].expand(-1, -1, x.shape[0])
            parts[support], gain = univariate(parts[support], spread, support=support, inverse=inverse)
            log_det = log_det + gain
        return torch.cat(list(parts.values()))[self._restore].T, log_det

    def __repr__(self) -> str:
        return f"Marginal({self.domain!r})"
