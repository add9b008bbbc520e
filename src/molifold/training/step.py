"""One optimiser step: the weighted sum of losses, and a guard against what is not finite."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from molifold.interfaces import Batch, Energy, Loss

#: A number, or a function of the step.
Weight = float | Callable[[int], float]


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says what to try."""


class _Once:
    """A flow that evaluates the density of the same batch only once, however many losses ask for it."""

    def __init__(self, flow: nn.Module) -> None:
        self._flow = flow
        self._last: tuple[Tensor, Tensor] | None = None

    def log_prob(self, x: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not x:
            self._last = x, self._flow.log_prob(x)  # type: ignore[operator]
        return self._last[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)


def members(flow: nn.Module) -> tuple[nn.Module, ...]:
    """The flows of a training: those of a ``ModuleList``, or the one that there is."""
    return tuple(flow) if isinstance(flow, nn.ModuleList) else (flow,)


class Objective(nn.Module):
    """The weighted sum of losses as one module, so that distributed wrappers see a single forward per step.

    Args:
        flow: what is trained; the flows of a ``ModuleList`` take turns, step by step.
        losses: weights and losses.
        energies: what losses may ask for, one for every flow (or None).
    """

    def __init__(
        self, flow: nn.Module, losses: Sequence[tuple[Weight, Loss]], energies: Sequence[Energy | None]
    ) -> None:
        super().__init__()
        self.flow = flow
        self.losses = tuple(losses)
        # A tuple hides them from torch: the energies' tensors are no weights of ours.
        self.energies = tuple(energies)

    def forward(
        self,
        x: Tensor,
        log_p: Tensor | None,
        weights: Tensor | None,
        step: int,
        generator: Generator,
        lagged: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The sum, and every term before weighting [losses] (nan where the weight is 0 and nothing was computed)."""
        batch = Batch(x, log_p=log_p, weights=weights, step=step, lagged=lagged)
        total, terms = x.new_zeros(()), []
        turn = (step - 1) % len(self.energies)
        flow, energy = _Once(members(self.flow)[turn]), self.energies[turn]
        for weight, loss in self.losses:
            factor = float(weight(step)) if callable(weight) else float(weight)
            if factor == 0:
                terms.append(x.new_full((), torch.nan))
                continue
            value = loss(flow, batch, energy, generator)  # type: ignore[arg-type]
            total = total + factor * value
            terms.append(value.detach().to(total.dtype))
        return total, torch.stack(terms)


@dataclass(frozen=True)
class Outcome:
    """What a step computed; ``ok`` is False if it was skipped because something was not finite."""

    ok: bool
    loss: float
    gradient_norm: float
    terms: dict[str, float]


def update(
    evaluate: Callable[[], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    names: Sequence[str],
    clip_norm: float | None,
    agree: Callable[[bool], bool],
) -> Outcome:
    """Gradient, guard, clip, step.

    ``evaluate`` leaves the gradients in the parameters and returns the objective and its terms; ``agree`` makes all
    processes skip what one of them must skip.
    """
    optimizer.zero_grad(set_to_none=True)
    total, terms = evaluate()
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    # The only point at which the host waits for the device.
    numbers = torch.cat([total.detach().view(1), norm.view(1).to(total), terms.view(-1)]).tolist()
    loss, size = numbers[:2]
    ok = not agree(not (np.isfinite(loss) and np.isfinite(size)))
    if ok:
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        optimizer.step()
    return Outcome(ok, loss, size, dict(zip(names, numbers[2:], strict=True)))


def seed_step(seed: int, step: int, rank: int, generator: Generator) -> None:
    """Derive all randomness of a step from (seed, step, process): a resumed run needs no remembered state.

    The loss's own generator as well as the global ones, which dropout and the like draw from.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint64)
    generator.manual_seed(int(words[0] >> 1))
    # torch.manual_seed would visit every backend, which takes a hundred times longer.
    torch.default_generator.manual_seed(int(words[1] >> 1))
    if generator.device.type == "cuda":
        torch.cuda.manual_seed_all(int(words[1] >> 1))
    np.random.seed(int(words[1] & 0xFFFFFFFF))  # noqa: NPY002
    random.seed(int(words[1]))


@torch.no_grad()
def bad_rows(flow: nn.Module, x: Tensor, energy: Energy | None) -> list[int]:
    """Rows of a batch to blame: their coordinates, density or energy is not finite. All, if none stands out."""
    finite = x.flatten(1).isfinite().all(1)
    try:
        finite &= flow.log_prob(x).isfinite()  # type: ignore[operator]
        if energy is not None:
            finite &= energy(x).isfinite()
    except Exception:  # noqa: S110 - a module that chokes on the batch has told us enough
        pass
    rows = (~finite).nonzero().flatten().tolist()
    return rows or list(range(len(x)))


def loss_names(losses: Sequence[tuple[Weight, Loss]]) -> tuple[str, ...]:
    """A name for every loss: its function's, numbered where two agree.

    >>> def nll(flow, batch, energy, generator): ...
    >>> loss_names([(1.0, nll), (0.5, nll)])
    ('nll', 'nll 2')
    """
    names: list[str] = []
    for _, loss in losses:
        function = loss.func if isinstance(loss, partial) else loss
        name = getattr(function, "__name__", type(function).__name__)
        seen = sum(n.split(" ")[0] == name for n in names)
        names.append(f"{name} {seen + 1}" if seen else name)
    return tuple(names)
