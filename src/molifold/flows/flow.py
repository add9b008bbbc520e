"""Flow: a base density and a Transform; and the base densities."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from molifold.space import Space
from molifold.transforms.transform import Transform


class Base(nn.Module):
    """Standard normal on real coordinates, uniform on circles.

    >>> from molifold import Block, Space
    >>> Base(Space((Block("torsions", 2, "circle"),))).log_prob(torch.zeros(1, 2))
    tensor([-3.6758])
    """

    _circle: Tensor
    _like: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        bad = [s for s in space.supports if s not in ("real", "circle")]
        if bad:
            raise ValueError(f"space: got {space!r}, expected only real and circle supports")
        self.space = space
        self.register_buffer("_circle", torch.from_numpy(space.has("circle")), persistent=False)
        # Carries the precision and the device of the flow's draws.
        self.register_buffer("_like", torch.zeros(()), persistent=False)
        reals = sum(s == "real" for s in space.supports)
        self._constant = -(reals / 2 + (space.size - reals)) * math.log(2 * math.pi)

    def log_prob(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        """Normalised log-density."""
        return self._constant - 0.5 * torch.where(self._circle[:, None], 0.0, z.T.square()).sum(0)

    def sample(self, n: int, *, generator: Generator | None = None) -> Float[Tensor, "n size"]:
        """Independent draws, batch last in memory."""
        shape, device, dtype = (self.space.size, n), self._like.device, self._like.dtype
        normal = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        angle = (torch.rand(shape, generator=generator, device=device, dtype=dtype) - 0.5) * (2 * math.pi)
        return torch.where(self._circle[:, None], angle, normal).T


class Flow(nn.Module):
    """A density that can be evaluated and sampled exactly: ``log_q(x) = log base(z) + log|dz/dx|``, z = transform(x).

    Args:
        transform: maps conformations to latent coordinates (``forward``) and back (``inverse``).

    Reference: Noe, Olsson, Koehler, Wu, Boltzmann generators (2019), arXiv 1812.01729.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.base = Base(transform.codomain)

    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Normalised log-density of conformations."""
        z, log_det = self.transform(x)
        return self.base.log_prob(z) + log_det

    def sample(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n *event"], Float[Tensor, " n"]]:
        """``n`` independent draws and their ``log_q``; gradients flow through both."""
        z = self.base.sample(n, generator=generator)
        x, log_det = self.transform.inverse(z)
        return x, self.base.log_prob(z) - log_det

    @property
    def parameters_count(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def __repr__(self) -> str:
        return f"Flow({self.parameters_count} parameters, {self.base.space!r})\n{self.transform!r}"
