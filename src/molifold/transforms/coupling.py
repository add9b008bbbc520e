"""Coupling: some coordinates are transformed with parameters that a conditioner computes from the others."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molifold.space import Space
from molifold.transforms.fused import univariate
from molifold.transforms.transform import Transform
from molifold.transforms.univariate import UNIVARIATE


class Conditioner(Protocol):
    """Turns the known coordinates into parameters of the unknown ones."""

    def __call__(self, known: Float[Tensor, "known batch"]) -> dict[str, Float[Tensor, "n parameters batch"]]:
        """Parameters of the unknown coordinates of every support, in order; see ``univariate.parameter_count``."""
        ...


class Coupling(Transform):
    """Transform the coordinates in ``mask`` with spline parameters computed from the ``given`` ones.

    Real coordinates are shifted, scaled and bent by a rational-quadratic spline with linear tails; circle coordinates
    are rotated and bent by a circular spline; intervals are bent. The map is exactly invertible because the
    conditioner sees only what stays unchanged (Dinh et al. 2017, arXiv 1605.08803).

    Args:
        space: what the coordinates are; supports must be "real", "circle" or "interval".
        mask: True for the coordinates to transform.
        conditioner: see ``Conditioner``.
        given: True for the coordinates that the conditioner sees; the default is all that are not transformed.

    Raises:
        ValueError: if the masks are empty or overlap, or a support has no univariate map.
    """

    _order: Tensor
    _restore: Tensor

    def __init__(
        self,
        space: Space,
        mask: Bool[Tensor, " size"],
        *,
        conditioner: nn.Module,
        given: Bool[Tensor, " size"] | None = None,
    ) -> None:
        super().__init__()
        given = ~mask if given is None else given
        if mask.shape != (space.size,) or not mask.any() or not given.any() or (mask & given).any():
            raise ValueError(
                f"mask: got shape {tuple(mask.shape)} with {int(mask.sum())} True, {int(given.sum())} given; "
                f"expected [{space.size}] with some coordinates transformed, some given, and none both"
            )
        if not set(space.supports) <= set(UNIVARIATE):
            raise ValueError(
                f"space: got {space!r}, expected supports among {', '.join(UNIVARIATE)}; standardise first"
            )
        self.domain = self.codomain = space
        self.mask, self.given = mask.numpy(), given.numpy()
        moved = {s: mask & torch.from_numpy(space.has(s)) for s in UNIVARIATE}
        parts = {"given": given, **moved, "rest": ~mask & ~given}
        self._sizes = {name: int(part.sum()) for name, part in parts.items()}
        order = torch.cat([part.nonzero()[:, 0] for part in parts.values()])
        self.register_buffer("_order", order, persistent=False)
        self.register_buffer("_restore", torch.argsort(order), persistent=False)
        self.conditioner = conditioner

    def forward(self, x: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Data side to latent side."""
        return self._move(x, inverse=False)

    def inverse(self, y: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Latent side to data side."""
        return self._move(y, inverse=True)

    def known(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "given batch"]:
        """What the conditioner sees."""
        return x.T[self._order[: self._sizes["given"]]]

    def _move(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        parts = dict(zip(self._sizes, x.T[self._order].split(list(self._sizes.values())), strict=True))
        raw = self.conditioner(parts["given"])
        log_det = x.new_zeros(x.shape[0])
        for support, parameters in raw.items():
            parts[support], gain = univariate(parts[support], parameters, support=support, inverse=inverse)
            log_det = log_det + gain
        return torch.cat(list(parts.values()))[self._restore].T, log_det

    def __repr__(self) -> str:
        moved = " + ".join(f"{n} {s}" for s, n in self._sizes.items() if s in UNIVARIATE and n)
        count = sum(p.numel() for p in self.parameters())
        return (
            f"Coupling({self._sizes['given']} given -> {moved}; {type(self.conditioner).__name__}, {count} parameters)"
        )
