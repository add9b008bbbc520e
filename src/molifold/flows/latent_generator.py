"""Flows given other coordinates: the generator p(x|z) and the propagator p(z'|z) of the latent map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from molifold.flows.flow import Base
from molifold.space import Space
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Transform


class ConditionalFlow(nn.Module):
    """log p(x|z): couplings in the joint space of x and z that are given z and never move it.

    Args:
        couplings: in the space ``[own coordinates, given coordinates]``; no mask may hold a given coordinate.
        own: the space of the coordinates that are drawn.
        frame: maps x to ``own`` coordinates before the couplings; None where x is such a vector already.

    Raises:
        ValueError: if a coupling would move a given coordinate.
    """

    def __init__(self, couplings: Sequence[Coupling], *, own: Space, frame: Transform | None = None) -> None:
        super().__init__()
        self.own, self.frame = own, frame
        self.couplings = nn.ModuleList(couplings)
        self.base = Base(own)
        given = sum(c.domain.size for c in couplings[:1]) - own.size
        for i, c in enumerate(couplings):
            start = c._sizes["given"]
            moved = c._order[start : len(c._order) - c._sizes["rest"]]
            if c.domain.size != own.size + given or (moved >= own.size).any():
                raise ValueError(f"couplings: number {i} would move a given coordinate, or lives in another space")

    def log_prob(self, x: Float[Tensor, "batch *event"], z: Float[Tensor, "batch given"]) -> Float[Tensor, " batch"]:
        """Normalised log-density of x, given z."""
        noise, log_det = self(x, z)
        return self.base.log_prob(noise) + log_det

    def sample(
        self, z: Float[Tensor, "batch given"], *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
        """One draw for every row of z, and its log-density given z."""
        noise = self.base.sample(len(z), generator=generator)
        x, log_det = self.inverse(noise, z)
        return x, self.base.log_prob(noise) - log_det

    def forward(
        self, x: Float[Tensor, "batch *event"], z: Float[Tensor, "batch given"]
    ) -> tuple[Float[Tensor, "batch own"], Float[Tensor, " batch"]]:
        """The base coordinates (noise) that x comes from, given z, and log|d noise / dx|."""
        y, total = (x, x.new_zeros(len(x))) if self.frame is None else self.frame(x)
        joint = torch.cat([y.T, z.T]).T
        for coupling in self.couplings:
            joint, log_det = coupling(joint)
            total = total + log_det
        return joint[:, : self.own.size], total

    def inverse(
        self, noise: Float[Tensor, "batch own"], z: Float[Tensor, "batch given"]
    ) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
        """What noise becomes, given z, and log|dx / d noise|; continuous in both."""
        joint, total = torch.cat([noise.T, z.T]).T, noise.new_zeros(len(noise))
        for coupling in reversed(self.couplings):
            joint, log_det = coupling.inverse(joint)  # type: ignore[operator]
            total = total + log_det
        x = joint[:, : self.own.size]
        if self.frame is not None:
            x, log_det = self.frame.inverse(x)
            total = total + log_det
        return x, total

    def at(self, z: Float[Tensor, " given"]) -> At:
        """The density of x at one z."""
        return At(self, z)

    def __repr__(self) -> str:
        steps = "".join(f"\n  ({i}) {c!r}" for i, c in enumerate(self.couplings))
        return f"ConditionalFlow({self.own!r}){steps}"


@dataclass(frozen=True)
class At:
    """A ``Density``: a conditional flow at one value of what is given."""

    flow: ConditionalFlow
    z: Float[Tensor, " given"]

    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Normalised log-density."""
        return self.flow.log_prob(x, self.z.expand(len(x), -1))

    def sample(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n *event"], Float[Tensor, " n"]]:
        """``n`` independent draws and their ``log_q``."""
        return self.flow.sample(self.z.expand(n, -1), generator=generator)
