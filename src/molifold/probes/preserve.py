"""A context in which anything may be done with a module, and after which nothing has happened."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import nn


@contextmanager
def preserved_randomness() -> Iterator[Callable[[], None]]:
    """Restore the global random states of Python, NumPy and torch (CPU and GPUs) on leaving; yields the restorer.

    >>> with preserved_randomness():
    ...     inside = torch.rand(1)
    >>> bool(torch.rand(1) == inside)
    True
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)

    try:
        yield restore
    finally:
        restore()


@contextmanager
def _plainly() -> Iterator[None]:
    """Whatever is compiled runs as it is written, and in the precision of its tensors."""
    # Compilation is only touched where it is in use: loading it takes seconds.
    compiling = "torch._dynamo" in sys.modules
    with (
        torch.compiler.set_stance("force_eager") if compiling else nullcontext(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False) if torch.cuda.is_initialized() else nullcontext(),
    ):
        yield


@contextmanager
def preserved(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Put ``model`` into eval mode, eager and without autocast; restore it and all randomness on leaving.

    Yields the restorer.

    Restored bit for bit: parameters, buffers, gradients (their tensors as well as their values), ``requires_grad``,
    train and eval modes, gradient mode, and the random states of Python, NumPy and torch.

    >>> layer = nn.Linear(2, 1)
    >>> before = layer.weight.detach().clone()
    >>> with preserved(layer):
    ...     layer(torch.rand(5, 2)).sum().backward()
    ...     layer.weight.data.zero_()
    tensor([[0., 0.]])
    >>> layer.weight.grad is None and bool((layer.weight == before).all())
    True
    """
    modes = [(module, module.training) for module in model.modules()]
    slots = [(module, dict(module._buffers), dict(module._parameters)) for module in model.modules()]
    gradients = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    tensors = [*model.parameters(), *model.buffers(), *(g for _, g, _ in gradients if g is not None)]
    # ``.data`` shares memory but no version counter, so restoring does not spoil a graph that is still alive.
    kept = [(t, t.data, t.data.clone()) for t in tensors]
    grad_enabled = torch.is_grad_enabled()

    def restore_model() -> None:
        torch.set_grad_enabled(grad_enabled)
        for module, buffers, own in slots:
            module._buffers.update(buffers)
            module._parameters.update(own)
        for parameter, gradient, required in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(required)
        # Always, not only where a version counter moved: writing through ``.data`` moves none.
        for tensor, data, copy in kept:
            data.copy_(copy)
            tensor.data = data
        for module, training in modes:
            module.training = training

    with preserved_randomness() as restore_randomness, _plainly():

        def restore() -> None:
            restore_model()
            restore_randomness()
            model.eval()

        try:
            model.eval()
            yield restore
        finally:
            restore_model()
