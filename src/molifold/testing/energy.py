"""The law of energies: pass it, and an energy can be trained on, sampled and reweighted with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.interfaces import Energy


def check_energy(
    energy: Energy,
    x: Float[Tensor, "batch atoms dim"],
    *,
    tolerance: float = 1e-6,
    rigid: bool = False,
    step: float = 1e-5,
    seed: int = 0,
) -> None:
    """Check shape, dtype, gradient, independence of the batch, ``.at`` and, for molecules, rigid motions.

    The gradient is compared with central differences along one random direction per conformation, relative to the norm
    of the gradient; energies are compared relative to ``1 + |u|``.

    Args:
        energy: the implementation under test.
        x: at least two conformations of finite energy, float64; not at a minimum, where gradients vanish.
        tolerance: largest relative error. For an energy that computes in float32 take 1e-3, and ``step=1e-3``.
        rigid: translations, and rotations in three dimensions, must leave the energy as it is.
        step: of the differences, in units of ``x``.
        seed: of the random directions and rotation.

    Raises:
        AssertionError: naming the law that is broken and by how much.

    >>> from molifold.energies import DW4
    >>> check_energy(DW4(), torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).double())
    """
    _expect(
        len(x) >= 2 and x.dtype == torch.float64, f"x: got {x.dtype} {tuple(x.shape)}, expected two or more, float64"
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        u = energy(x)
    _expect(isinstance(energy, Energy), "it has no temperature, __call__ or at")
    _expect(u.shape == (len(x),), f"u has shape {tuple(u.shape)}, expected [batch] = ({len(x)},)")
    _expect(u.dtype == x.dtype, f"u has dtype {u.dtype}, expected that of x, {x.dtype}")
    _expect(energy(x.float()).dtype == torch.float32, "u of a float32 batch is not float32")
    _expect(bool(u.isfinite().all()), f"u is not finite: {u}")
    _expect(len(energy(x[:0])) == 0, "u of an empty batch is not empty")
    _gradient(energy, x, generator, step=step, tolerance=tolerance)
    alone = torch.cat([energy(row[None]).detach() for row in x])
    _close(alone - u, u, tolerance, "u of a batch of one against that of the batch")
    _close(energy(x.flip(0)).detach().flip(0) - u, u, tolerance, "u of a reordered batch")
    _temperature(energy, x, u, tolerance=tolerance)
    if rigid:
        shift = torch.randn(x.shape[-1], generator=generator, dtype=x.dtype)
        _close(energy(x + shift).detach() - u, u, tolerance, "u after a translation")
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=x.dtype))[0]
        turn = turn * torch.linalg.det(turn)
        _close(energy(x @ turn.T).detach() - u, u, tolerance, "u after a rotation")


def _gradient(energy: Energy, x: Tensor, generator: torch.Generator, *, step: float, tolerance: float) -> None:
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(y).sum(), y)
    _expect(gradient.shape == x.shape and bool(gradient.isfinite().all()), "the gradient is not finite")
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    direction = direction / direction.flatten(1).norm(dim=1)[:, None, None]
    with torch.no_grad():
        slope = (energy(x + step * direction) - energy(x - step * direction)) / (2 * step)
    error = (slope - (gradient * direction).sum((1, 2))) / gradient.flatten(1).norm(dim=1)
    _close(error, torch.zeros(()), tolerance, "gradient against central differences")


def _temperature(energy: Energy, x: Tensor, u: Tensor, *, tolerance: float) -> None:
    other = energy.at(2 * energy.temperature)
    _expect(other.temperature == 2 * energy.temperature, f"at({2 * energy.temperature}) has {other.temperature}")
    _close(2 * other(x).detach() - u, u, tolerance, "twice the reduced energy at twice the temperature")


def _expect(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise AssertionError(f"check_energy: {message}")


def _close(error: Tensor, scale: Tensor, tolerance: float, what: str) -> None:
    worst = float((error / (1 + scale.abs())).abs().max())
    _expect(worst <= tolerance, f"{what}: off by {worst:.3g}, expected at most {tolerance:.3g}")
