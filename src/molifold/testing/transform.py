"""The law of transforms: pass it, and a transform fits into any flow."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.transforms.transform import Transform


def check_transform(
    transform: Transform, x: Float[Tensor, "batch *domain"], *, tolerance: float = 1e-8, rigid: bool = False
) -> None:
    """Check shapes, round trip, log-determinants against autograd, and independence of the batch size.

    Run it in float64 on a few points of the domain that are not special (no zeros, no symmetric positions).

    Args:
        transform: the implementation under test.
        x: points of its domain, float64.
        tolerance: largest absolute error of round trip and log-determinant.
        rigid: the domain is Cartesian coordinates up to rigid motions: the round trip is then compared by distances,
            and the Jacobian is completed by the three translations and rotations.

    Raises:
        AssertionError: naming the law that is broken and by how much.

    >>> from molifold import Block, Space
    >>> from molifold.transforms import Marginal
    >>> check_transform(Marginal(Space((Block("x", 2, "real"),))).double(), torch.tensor([[0.3, -1.2]]).double())
    """
    y, log_det = transform(x)
    back, log_det_back = transform.inverse(y)
    _expect(y[0].numel() == transform.codomain.size, f"output has shape {tuple(y.shape)} in {transform.codomain!r}")
    _expect(log_det.shape == log_det_back.shape == (len(x),), f"log_det has shape {tuple(log_det.shape)}, not [batch]")
    _expect(back.shape == x.shape, f"inverse has shape {tuple(back.shape)}, expected {tuple(x.shape)}")
    gap = (torch.cdist(back, back) - torch.cdist(x, x)) if rigid else back - x
    _close(gap, tolerance, "round trip inverse(forward(x)) - x")
    _close(log_det + log_det_back, tolerance, "log_det(forward) + log_det(inverse)")
    for i in range(len(x)):
        exact = _autograd_log_det(transform, y[i].detach(), rigid=rigid)
        _close(exact - log_det_back[i], tolerance, "log_det of inverse against autograd")
    alone = torch.cat([transform(point[None])[0] for point in x])
    _close(alone - y, tolerance, "output against that of a batch of one")


def _autograd_log_det(transform: Transform, y: Tensor, *, rigid: bool) -> Tensor:
    def place(v: Tensor) -> Tensor:
        return transform.inverse(v[None])[0].reshape(-1)

    jacobian = torch.autograd.functional.jacobian(place, y)
    if rigid:
        x = transform.inverse(y[None])[0][0].detach()
        axes = torch.eye(3, dtype=x.dtype)
        turns = torch.stack([torch.linalg.cross(axis.expand_as(x), x).reshape(-1) for axis in axes], dim=1)
        jacobian = torch.cat([jacobian, axes.repeat(len(x), 1), turns], dim=1)
    return torch.linalg.slogdet(jacobian)[1]


def _expect(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise AssertionError(f"check_transform: {message}")


def _close(error: Tensor, tolerance: float, what: str) -> None:
    worst = float(error.detach().abs().max())
    _expect(worst <= tolerance, f"{what}: off by {worst:.3g}, expected at most {tolerance:.3g}")
