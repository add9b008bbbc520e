"""Watch: run probes on a schedule and within a budget, and write what they see."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from torch import Tensor, nn

from molifold.interfaces import Moment, Probe
from molifold.probes.passive import gradient_norms, parameter_norms, update_ratios
from molifold.probes.preserve import preserved
from molifold.runs import Writer

#: What every training can afford.
PASSIVE: tuple[Probe, ...] = (gradient_norms, parameter_norms, update_ratios)


class Watch:
    """Watches a module learn; training with and without it ends in bit-identical parameters.

    Call it after every optimiser step, while the gradients are still there. Probes run on the raw module in eval mode,
    inside a context that restores everything (see ``preserved``). A probe that fails becomes an event, never an
    exception. No hook stays in the module.

    Args:
        model: the raw module (not its compiled or distributed wrapper).
        run: where to write; ``Run.create(...)`` makes one.
        probes: callables ``(Moment) -> {name: (kind, arrays)}``.
        batch: a small fixed batch for probes that run the module.
        every: steps between two looks.
        log_every: steps between two rows of scalars.
        budget: largest share of the time since the start that probes may take; a probe that would exceed it is skipped,
            and the first skip of a row of skips is told as an event. Every probe runs at least once.

    Raises:
        ValueError: if ``every``, ``log_every`` or ``budget`` is not positive.

    >>> import tempfile, torch
    >>> from molifold.runs import Run
    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Run.create(tempfile.mkdtemp() + "/x") as run:
    ...     watch = Watch(model, run, every=2, log_every=1, budget=2.0)
    ...     for step in range(1, 5):
    ...         loss = model(torch.ones(4, 3)).square().mean()
    ...         optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...         watch(step, loss=loss)
    >>> Run.open(run.path).records["update ratios"]
    (2, 4)
    """

    def __init__(
        self,
        model: nn.Module,
        run: Writer,
        *,
        probes: Sequence[Probe] = PASSIVE,
        batch: Any = None,
        every: int = 100,
        log_every: int = 10,
        budget: float = 0.05,
    ) -> None:
        for name, value in (("every", every), ("log_every", log_every), ("budget", budget)):
            if not value > 0:
                raise ValueError(f"{name}: got {value!r}, expected a positive number")
        self.model, self.run, self.probes, self.batch = model, run, tuple(probes), batch
        self.every, self.log_every, self.budget = every, log_every, budget
        self.seconds = 0.0
        self._began = self._row_time = time.perf_counter()
        self._calls, self._row_seconds = 0, 0.0
        self._costs: dict[int, float] = {}
        self._skipping: set[int] = set()
        self._before: dict[str, Tensor] = {}

    def __call__(self, step: int, **scalars: float | Tensor) -> None:
        """Tell that optimiser step ``step`` is done; scalars may be tensors and are read only when a row is due."""
        self._calls += 1
        if scalars and step % self.log_every == 0:
            self._write_row(step, scalars)
        if not self.probes:
            return
        start = time.perf_counter()
        if step % self.every == 0:
            self.look(step, **scalars)
        if (step + 1) % self.every == 0:
            self._before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.seconds += time.perf_counter() - start

    def look(self, step: int, **scalars: float | Tensor) -> None:
        """Run all probes now, within the budget."""
        moment = Moment(step, self.model, _numbers(scalars), self.batch, before=self._before)
        with preserved(self.model) as restore:
            for index, probe in enumerate(self.probes):
                if self._affordable(step, index):
                    start = time.perf_counter()
                    self._run(probe, moment)
                    self._costs[index] = time.perf_counter() - start
                    restore()
        self._before = {}

    def _run(self, probe: Probe, moment: Moment) -> None:
        text = cleandoc(probe.__doc__ or "")
        try:
            for name, (kind, arrays) in probe(moment).items():
                self.run.record(moment.step, name, kind=kind, arrays=arrays, text=text)
        except Exception as error:  # any probe may fail in any way; training goes on
            self.run.event(
                moment.step,
                "probe_failed",
                f"{_name(probe)}: {error!r}",
                probe=_name(probe),
                traceback=traceback.format_exc(),
            )

    def _affordable(self, step: int, index: int) -> bool:
        cost, name = self._costs.get(index), _name(self.probes[index])
        share = 0.0 if cost is None else (self.seconds + cost) / (time.perf_counter() - self._began)
        if share <= self.budget:
            if index in self._skipping:
                self._skipping.remove(index)
                self.run.event(step, "probe_back", f"{name}: affordable again", probe=name)
            return True
        if index not in self._skipping:
            self._skipping.add(index)
            message = f"{name}: skipped, it takes {cost:.3g} s and probes would use {share:.0%} > {self.budget:.0%}"
            self.run.event(step, "probe_skipped", message, probe=name, seconds=cost)
        return False

    def _write_row(self, step: int, scalars: dict[str, float | Tensor]) -> None:
        now = time.perf_counter()
        spent = self.seconds - self._row_seconds
        timing = {
            "step_seconds": (now - self._row_time - spent) / self._calls,
            "probe_share": spent / (now - self._row_time),
        }
        self.run.scalar(step, **_numbers(scalars), **timing)
        self._calls, self._row_time, self._row_seconds = 0, now, self.seconds

    def __repr__(self) -> str:
        return f"Watch({type(self.model).__name__}, every {self.every}: {', '.join(map(_name, self.probes))})"


def _numbers(scalars: Mapping[str, float | Tensor]) -> dict[str, float]:
    return {k: float(v.detach()) if isinstance(v, Tensor) else float(v) for k, v in scalars.items()}


def _name(probe: Probe) -> str:
    return getattr(probe, "__name__", type(probe).__name__)
