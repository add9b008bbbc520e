"""What the layers of ANY network compute on a batch: what they read, and how their nonlinearities respond."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from molifold.interfaces import ExampleLoss
from molifold.probes.expressivity.products import Product, Recorder
from molifold.probes.expressivity.sites import count, take

#: Elementwise torch functions that are taken for the nonlinearity of a layer.
NONLINEARITIES = {
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu", "relu6",
    "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Response:
    """How the units of one layer respond: ``value`` and ``slope`` of the nonlinearity ``function`` of what comes in.

    ``site`` is the parameter whose product that is.
    """

    site: str
    function: str
    incoming: Float[Tensor, "rows units"]
    value: Float[Tensor, "rows units"]
    slope: Float[Tensor, "rows units"]


class _Nonlinearities(TorchFunctionMode):
    """Notes the response of every nonlinearity behind a product that ``recorder``, entered before, has seen."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.found: list[Response] = []
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        layer = None
        if name in NONLINEARITIES and args and isinstance(args[0], Tensor):
            layer = _behind(args[0].shape, self._recorder.products)
        if layer is None:
            return func(*args, **kwargs)
        before = args[0].detach().clone().requires_grad_()  # a copy: the function may work in place
        out = func(*args, **kwargs)
        with torch.enable_grad():
            again = func(before.clone(), *args[1:], **kwargs)
            (slope,) = torch.autograd.grad(again.sum(), before)
        site, axis = layer
        rows = (t.movedim(axis, -1).flatten(0, -2) for t in (before.detach(), again.detach(), slope))
        self.found.append(Response(site, name, *rows))
        return out


def _behind(shape: torch.Size, products: Sequence[Product]) -> tuple[str, int] | None:
    """Site of the last product whose output a tensor of ``shape`` can be, and the axis of its units in that shape.

    The output itself, with constants added, as a view, broadcast over further leading axes, or of some of its rows; if
    there is none, sums of its rows (over neighbours, or heads).
    """
    for product in reversed(products):
        out = product.out.shape
        own = len(out) - (2 if product.left else 1)
        units, before, whole = out[own], math.prod(out[:own]), math.prod(out)
        for axis in range(len(shape)):
            if shape[axis] == units and math.prod(shape) == whole and math.prod(shape[:axis]) == before:
                return product.site, axis
        extra = len(shape) - len(out)
        if extra > 0 and len(out) > 1 and shape[extra:] == out:
            return product.site, own + extra
        if len(shape) == len(out) == 2 and own == 1 and shape[1] == units:
            return product.site, 1
    summed = (
        p for p in reversed(products) if not p.left and 1 < len(shape) < p.out.ndim and p.out.shape[-1] == shape[-1]
    )
    return next(((product.site, len(shape) - 1) for product in summed), None)


def responses(model: nn.Module, batch: Any, *, loss: ExampleLoss | None = None) -> list[Response]:
    """The response of every layer with a nonlinearity, in the order of calls.

    Args:
        model: any module, in eval mode.
        batch: what it is evaluated on.
        loss: how it is evaluated; default ``model(batch)``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> [(r.site, r.function, tuple(r.value.shape)) for r in responses(model, torch.zeros(5, 2))]
    [('0.weight', 'tanh', (5, 3))]
    """
    with torch.enable_grad(), Recorder(model) as recorder, _Nonlinearities(recorder) as noted:
        _evaluate(model, batch, loss)
    return noted.found


@dataclass(frozen=True)
class Features:
    """What one layer reads.

    ``rows`` [rows, features]: one row per application of its matrix; ``examples`` [examples, positions * features]: the
    same by example, None where rows are not those of single examples.
    """

    site: str
    rows: Float[Tensor, "rows features"]
    examples: Float[Tensor, "examples all"] | None


def features(model: nn.Module, batch: Any, *, loss: ExampleLoss | None = None) -> list[Features]:
    """What every layer (every product of a parameter with activations) reads, in the order of calls.

    A layer that is used several times stands once, with everything that it reads. Which axis holds the examples is seen
    from a second evaluation, on two of them. Arguments as in ``responses``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> [(f.site, tuple(f.examples.shape)) for f in features(model, torch.zeros(5, 2))]
    [('0.weight', (5, 2)), ('2.weight', (5, 3))]
    """
    products, n = _products(model, batch, loss), count(batch)
    few = _products(model, take(batch, torch.arange(2), n), loss) if n > 2 else []
    alike = [p.site for p in few] == [p.site for p in products]
    rows: dict[str, list[Tensor]] = {}
    whole: dict[str, list[Tensor | None]] = {}
    for k, product in enumerate(products):
        rows.setdefault(product.site, []).append(product.rows(product.x.detach()))
        by_example = _by_example(product.x.detach(), few[k].x.shape, n) if alike else None
        whole.setdefault(product.site, []).append(by_example)
    found = []
    for site, parts in rows.items():
        known = [part for part in whole[site] if part is not None]
        complete = torch.cat(known, dim=1) if len(known) == len(parts) else None
        found.append(Features(site, torch.cat(parts), complete))
    return found


def _evaluate(model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Any] | None) -> None:
    if loss is None:
        model(batch)
    else:
        loss(model, batch)


def _products(model: nn.Module, batch: Any, loss: ExampleLoss | None) -> list[Product]:
    with torch.enable_grad(), Recorder(model) as recorder:
        _evaluate(model, batch, loss)
    return recorder.products


def _by_example(x: Tensor, few: torch.Size, n: int) -> Tensor | None:
    """``x`` with examples first, from its shape on two examples; None if no axis, or more than one, holds them."""
    if len(few) != x.ndim:
        return None
    differing = [k for k in range(x.ndim) if x.shape[k] != few[k]]
    if len(differing) != 1 or few[differing[0]] * n != x.shape[differing[0]] * 2:
        return None
    return x.movedim(differing[0], 0).reshape(n, -1)
