"""Energies computed outside of torch, made differentiable by their forces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

#: x [batch, atoms, 3] -> potential energies [batch] kJ/mol and forces [batch, atoms, 3] kJ/mol/nm, of the dtype of x.
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


class _WithForces(torch.autograd.Function):
    """The gradient is minus the force; its own derivative, when asked for, comes from ``smooth``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluate: Evaluate, smooth: Callable[[Tensor], Tensor] | None) -> Tensor:
        u, force = evaluate(x)
        ctx.save_for_backward(x, force)
        ctx.smooth = smooth
        return u

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (outer,) = gradients
        x, force = ctx.saved_tensors
        if not torch.is_grad_enabled():  # grad mode is on only under create_graph
            return -outer[:, None, None] * force, None, None
        if ctx.smooth is None:
            raise NotImplementedError(
                "create_graph: second derivatives of this energy are not available; use MolecularMechanics"
            )
        (gradient,) = torch.autograd.grad(ctx.smooth(x), x, outer, create_graph=True)
        return gradient, None, None


def with_forces(
    x: Float[Tensor, "batch atoms 3"],
    evaluate: Evaluate,
    *,
    smooth: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, " batch"]:
    """Energies of ``evaluate``, differentiable by its forces.

    Derivatives of the gradient go through ``smooth``, the same energy written in torch.

    >>> x = torch.ones(1, 2, 3, requires_grad=True)
    >>> with_forces(x, lambda x: ((x**2).sum((1, 2)), -2 * x)).sum().backward()
    >>> x.grad[0, 0]
    tensor([2., 2., 2.])
    """
    result: Tensor = _WithForces.apply(x, evaluate, smooth)
    return result
