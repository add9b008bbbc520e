"""The law of probes: looking changes nothing, and what is seen can be kept."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from molifold.interfaces import ExampleLoss, Moment, Probe, Record, RecordKind
from molifold.probes import preserved

#: Arrays that a record of every kind must have; see ``runs/FORMAT.md``.
REQUIRED = {
    "scalar": ("value",),
    "histogram": ("edges", "counts"),
    "map": ("values",),
    "table": (),
    "series": ("x",),
    "text": ("text",),
}


def check_probe(
    probe: Probe, *, model: nn.Module | None = None, batch: Any = None, loss: ExampleLoss | None = None
) -> None:
    """Check a probe as ``Watch`` will use it: its records, its docstring, and that it leaves nothing behind.

    Args:
        probe: yours.
        model: a module that it can look at; default a small network. Its parameters get gradients.
        batch: probe batch; default [32, 4] normal numbers.
        loss: of every example, for probes that need one; default the squared output of the small network.

    Raises:
        AssertionError: naming what is wrong: a record of unknown kind or with missing, unequal or object arrays; no
            docstring that says what is healthy; hooks left in the module; another result for the same moment.

    >>> from molifold.probes import gradient_norms
    >>> check_probe(gradient_norms)
    >>> def careless(moment):
    ...     return {"loss": ("scalar", {"loss": np.zeros(())})}
    >>> check_probe(careless)
    Traceback (most recent call last):
    AssertionError: careless: record 'loss' of kind 'scalar' lacks the array 'value'
    """
    name = getattr(probe, "__name__", type(probe).__name__)
    if model is None and loss is None:
        loss = _squared_output
    model, batch = _example(model, batch)
    parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    before = {n: 1.01 * p for n, p in parameters.items()}
    moment = Moment(2, model, {"loss": 1.0}, batch, before=before, loss=loss)
    hooks = _hooks(model)
    with preserved(model) as restore:
        first = probe(moment)
        restore()
        second = probe(moment)
    _require(_hooks(model) == hooks, f"{name}: left hooks in the module; remove them before returning")
    for record, value in first.items():
        _check_record(name, record, value)
        for key, array in value[1].items():
            same = np.array_equal(array, second[record][1][key], equal_nan=np.asarray(array).dtype.kind == "f")
            assert same, (
                f"{name}: record {record!r} differs when the same moment is seen twice; where is its randomness?"
            )
    text = inspect.getdoc(probe) or ""
    assert "ealthy" in text, (
        f"{name}: its docstring must say what it shows, what healthy looks like, what to do otherwise"
    )


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert, but survives python -O
    if not condition:
        raise AssertionError(message)


def _check_record(probe: str, name: str, value: Record) -> None:
    kind, arrays = value
    _require(
        kind in get_args(RecordKind), f"{probe}: record {name!r} has kind {kind!r}, expected one of {list(REQUIRED)}"
    )
    for key in REQUIRED[kind]:
        _require(key in arrays, f"{probe}: record {name!r} of kind {kind!r} lacks the array {key!r}")
    whole = {key: np.asarray(array) for key, array in arrays.items()}
    for key, array in whole.items():
        _require(not isinstance(arrays[key], Tensor), f"{probe}: {name!r}[{key!r}] is a tensor; return NumPy arrays")
        _require(not array.dtype.hasobject, f"{probe}: {name!r}[{key!r}] has dtype object; return numbers or text")
    if kind in ("table", "series"):
        lengths = {key: array.shape[:1] for key, array in whole.items()}
        _require(len(set(lengths.values())) <= 1, f"{probe}: columns of {name!r} differ in length: {lengths}")
    if kind == "histogram":
        bins, edges = whole["counts"].shape[-1], whole["edges"].shape[-1]
        assert edges == bins + 1, (
            f"{probe}: {name!r} has {bins} counts and {edges} edges, expected one more edge than counts"
        )


def _example(model: nn.Module | None, batch: Any) -> tuple[nn.Module, Any]:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(32, 4, generator=generator) if batch is None else batch
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) if model is None else model
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
    return model, batch


def _squared_output(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean(1)


def _hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
