"""Placed: a flow on shapes as a density of Cartesian coordinates, anywhere in space and in any orientation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from molifold.flows.flow import Flow

#: Volume of the rotation group in the measure d alpha d cos(beta) d gamma of Euler angles.
ROTATIONS = 8 * math.pi**2


class Placed(nn.Module):
    """The density in all 3N Cartesian coordinates: the flow's shape, a normal position, a uniform orientation.

    A flow through ``InternalCoordinates`` is normalised in the 3N - 6 dimensional space of shapes (see there for the
    measure). Here the position of the root atom is normal with standard deviation ``spread`` in each direction and
    the orientation is uniform, so that

        log q(x) = log q_shape(x) + log N(x_root; 0, spread^2) - log 8 pi^2

    is normalised with respect to d^3N x, as flows and energies on plain Cartesian coordinates are.

    Args:
        flow: a density of shapes whose ``sample`` returns conformations in a frame of its own.
        root: the atom whose position is normal, say ``InternalCoordinates.tree.root[0]``.
        spread: nm.
    """

    def __init__(self, flow: Flow, *, root: int, spread: float = 1.0) -> None:
        super().__init__()
        if not spread > 0:
            raise ValueError(f"spread: got {spread!r}, expected a positive length (nm)")
        self.flow, self.root, self.spread = flow, root, spread

    def log_prob(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """Normalised log-density with respect to d^3N x (nm^-3N)."""
        return self.flow.log_prob(x) + self._log_place(x[:, self.root])

    def sample(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n atoms 3"], Float[Tensor, " n"]]:
        """``n`` independent draws and their ``log_q``."""
        x, log_q = self.flow.sample(n, generator=generator)
        drawn = torch.randn(n, 7, generator=generator, dtype=x.dtype, device=x.device)
        quaternion, origin = drawn[:, :4], self.spread * drawn[:, 4:]
        placed = (x - x[:, self.root, None]) @ _rotation(quaternion).mT + origin[:, None]
        return placed, log_q + self._log_place(origin)

    def _log_place(self, origin: Float[Tensor, "batch 3"]) -> Float[Tensor, " batch"]:
        normal = -0.5 * (origin / self.spread).square().sum(1) - 1.5 * math.log(2 * math.pi * self.spread**2)
        return normal - math.log(ROTATIONS)


def _rotation(quaternion: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices; uniform on the group if the quaternions are normal (Shoemake 1992)."""
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
