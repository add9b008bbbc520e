"""Curvature of the loss: the largest and smallest eigenvalues of its Hessian, and the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import nn

from molifold.finding import Finding
from molifold.interfaces import ExampleLoss, Moment, Record
from molifold.probes.expressivity.sites import count, take

#: Parts of the batch whose scatter is the error.
PARTS = 4
#: Random vectors for the trace.
VECTORS = 16
#: A negative eigenvalue of more than this share of the largest is a direction in which the loss falls away.
SADDLE = 0.1


@dataclass(frozen=True)
class Curvature:
    """The Hessian of the mean loss.

    Attributes:
        top, bottom: [k] largest eigenvalues, descending, and smallest ones, ascending, of the batch. They are too
            extreme if there are few examples and many parameters.
        top_elsewhere, bottom_elsewhere: [k] curvature in the same directions on the held-out batch, if there is one.
        top_errors, bottom_errors: [k] standard errors of those, over parts of the batch.
        trace, trace_error: sum of all eigenvalues, with the error from random vectors and parts.
        parameters, examples: how many.
    """

    top: Float[ndarray, " k"]
    top_elsewhere: Float[ndarray, " k"]
    top_errors: Float[ndarray, " k"]
    bottom: Float[ndarray, " k"]
    bottom_elsewhere: Float[ndarray, " k"]
    bottom_errors: Float[ndarray, " k"]
    trace: float
    trace_error: float
    parameters: int
    examples: int


class _Hessian:
    """Products of the Hessian of the mean loss with vectors, by differentiating the gradient's graph again."""

    def __init__(self, model: nn.Module, loss: ExampleLoss, batch: Any, *, parts: int) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        n = count(batch)
        self.weights, self._gradients = [], []
        for rows in torch.arange(n).tensor_split(parts):
            with torch.enable_grad():
                mean = loss(model, take(batch, rows, n)).mean()
                found = torch.autograd.grad(mean, self._parameters, create_graph=True, allow_unused=True)
            self._gradients.append(found)
            self.weights.append(len(rows) / n)
        self.size = sum(p.numel() for p in self._parameters)

    def parts(self, vector: Float[ndarray, " size"]) -> Float[ndarray, "parts size"]:
        """The product for every part of the batch."""
        sizes = [p.numel() for p in self._parameters]
        chunks = torch.from_numpy(vector).split(sizes)
        along = [c.view(p.shape).to(p) for c, p in zip(chunks, self._parameters, strict=True)]
        products = []
        for gradient in self._gradients:
            pairs = [(g, v) for g, v in zip(gradient, along, strict=True) if g is not None and g.requires_grad]
            if not pairs:  # a loss that is linear in the parameters
                products.append(np.zeros(self.size))
                continue
            found = torch.autograd.grad(
                [g for g, _ in pairs], self._parameters, [v for _, v in pairs], retain_graph=True, allow_unused=True
            )
            whole = [torch.zeros_like(p) if h is None else h for h, p in zip(found, self._parameters, strict=True)]
            products.append(torch.cat([h.flatten() for h in whole]).double().cpu().numpy())
        return np.array(products)

    def __call__(self, vector: Float[ndarray, " size"]) -> Float[ndarray, " size"]:
        return np.average(self.parts(vector), axis=0, weights=self.weights)


def curvature(
    model: nn.Module,
    loss: ExampleLoss,
    batch: Any,
    *,
    held_out: Any = None,
    top: int = 3,
    vectors: int = VECTORS,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Curvature:
    """Extreme eigenvalues by Lanczos iteration and the trace by Hutchinson's estimator, from products H v only.

    The whole batch is held as one graph, as in a training step of its size; every product costs about two of them.

    Args:
        model: any module that can be differentiated twice; nothing in it changes.
        loss: ``loss(model, batch) -> [examples]``; the Hessian is that of its mean.
        batch: tensors with examples first, in any nesting of tuples and dicts.
        held_out: another batch, on which the curvature in the directions found is measured again.
        top: how many eigenvalues at either end.
        vectors: random sign vectors for the trace.
        tolerance: relative accuracy of the eigenvalues.
        seed: of the first Lanczos vector and of the sign vectors.

    Raises:
        ValueError: if there are fewer than 4 examples.
        RuntimeError: from torch, if some operation has no second derivative.

    References: Yao et al. (2020), arXiv 1912.07145; Hutchinson (1990); the iteration is ARPACK's, by scipy.

    >>> x = torch.eye(2)[[0, 1, 0, 1]]
    >>> model = nn.Linear(2, 1, bias=False)
    >>> found = curvature(model, lambda m, x: m(x)[:, 0] ** 2 * (1 + 4 * x[:, 0]), x, top=1)
    >>> found.top.round(4).tolist(), found.bottom.round(4).tolist(), round(found.trace, 4)
    ([5.0], [1.0], 6.0)
    """
    n = count(batch)
    if n < PARTS:
        raise ValueError(f"batch: got {n} examples, expected at least {PARTS}")
    hessian = _Hessian(model, loss, batch, parts=PARTS)
    random = np.random.default_rng(seed)
    values, directions = _ends(hessian, top, tolerance, random)
    second = hessian if held_out is None else _Hessian(model, loss, held_out, parts=PARTS)
    parts = np.array([second.parts(v) @ v for v in directions.T])  # [values, parts]
    elsewhere, errors = np.average(parts, axis=1, weights=second.weights), np.apply_along_axis(_error, 1, parts)
    signs = random.choice([-1.0, 1.0], size=(vectors, hessian.size))
    found = np.array([hessian.parts(v) @ v for v in signs])  # [vectors, parts]
    traces = np.average(found, axis=1, weights=hessian.weights)
    trace_error = np.hypot(_error(traces), _error(found.mean(0)))
    kept = min(top, len(values))
    return Curvature(
        top=values[::-1][:kept],
        top_elsewhere=elsewhere[::-1][:kept],
        top_errors=errors[::-1][:kept],
        bottom=values[:kept],
        bottom_elsewhere=elsewhere[:kept],
        bottom_errors=errors[:kept],
        trace=float(traces.mean()),
        trace_error=float(trace_error),
        parameters=hessian.size,
        examples=n,
    )


def _ends(hessian: _Hessian, top: int, tolerance: float, random: np.random.Generator) -> tuple[ndarray, ndarray]:
    """Eigenvalues at both ends, ascending, and their vectors [size, values]."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    size = hessian.size
    if size <= max(20, 4 * top):
        dense = np.array([hessian(v) for v in np.eye(size)])
        values, directions = np.linalg.eigh((dense + dense.T) / 2)
        return values, directions
    operator = LinearOperator((size, size), matvec=hessian, dtype=np.float64)
    start = random.normal(size=size)
    values, directions = eigsh(operator, k=2 * top, which="BE", tol=tolerance, v0=start)
    order = np.argsort(values)
    return values[order], directions[:, order]


def _error(values: ndarray) -> float:
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


def watch_curvature(moment: Moment) -> dict[str, Record]:
    """Largest and smallest eigenvalues of the loss's Hessian, and its trace, on the probe batch.

    Healthy: a largest eigenvalue that rises early and then settles, and small negative ones. With plain gradient
    descent steps are stable while the learning rate is below 2 / the largest eigenvalue; a jump of it comes with loss
    spikes: lower the learning rate or clip. Large negative eigenvalues late in a training say that it stopped at a
    saddle or on a slope: train on.

    Several products with the Hessian: for a schedule of its own, say ``every=10_000``, or for a checkpoint.
    """
    if moment.batch is None or moment.loss is None or count(moment.batch) < PARTS:
        return {}
    return records(curvature(moment.model, moment.loss, moment.batch, top=1, vectors=4, tolerance=0.05))


def records(found: Curvature) -> dict[str, Record]:
    """The result as the table "curvature"."""
    k = range(1, len(found.top) + 1)
    columns = {
        "name": np.array([*(f"largest {i}" for i in k), *(f"smallest {i}" for i in k), "trace"]),
        "value": np.array([*found.top, *found.bottom, found.trace]),
        "elsewhere": np.array([*found.top_elsewhere, *found.bottom_elsewhere, np.nan]),
        "error": np.array([*found.top_errors, *found.bottom_errors, found.trace_error]),
    }
    return {"curvature": ("table", columns)}


def findings(found: Curvature) -> Sequence[Finding]:
    """What there is to say about the sharpness of the minimum, and whether it is one."""
    largest, smallest = found.top_elsewhere[0], found.bottom_elsewhere[0]
    told = (
        f"largest eigenvalue {found.top[0]:.3g} ({largest:.3g} +- {found.top_errors[0]:.1g} in the same direction on "
    )
    told += f"other frames), smallest {found.bottom[0]:.3g} ({smallest:.3g} +- {found.bottom_errors[0]:.1g}), trace "
    told += f"{found.trace:.3g} +- {found.trace_error:.1g}; {found.parameters} parameters, {found.examples} examples"
    if smallest + 3 * found.bottom_errors[0] < -SADDLE * abs(largest):
        remedy = "the loss still falls away in some direction: train on"
        return [Finding("warning", "curvature", told, remedy, severity=min(1.0, -smallest / abs(largest)) / 10)]
    return [Finding("ok", "curvature", told)]
