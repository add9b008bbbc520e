"""Watch: run probes on a schedule and within a budget, and write what they see."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from torch import Tensor, nn

from molifold.interfaces import ExampleLoss, Moment, Probe
from molifold.probes.activations import watch_activations
from molifold.probes.alignment import watch_layers
from molifold.probes.gradient_noise import watch_gradient_noise
from molifold.probes.passive import gradient_norms, parameter_norms, update_ratios
from molifold.probes.preserve import preserved
from molifold.probes.ranks import watch_ranks
from molifold.probes.spikes import LossSpikes, kept
from molifold.runs import Writer

#: Probes that read what the step computed anyway.
PASSIVE: tuple[Probe, ...] = (gradient_norms, parameter_norms, update_ratios)
#: What ``fit`` and ``Watch`` look at if nobody says otherwise; the dearer ones as often as the budget allows.
DEFAULT: tuple[Probe, ...] = (*PASSIVE, watch_activations, watch_ranks, watch_gradient_noise, watch_layers)
#: Batches behind loss spikes that are kept; of later spikes only the event is.
SPIKES_KEPT = 10
SPIKE = (
    "The batch of a step whose loss jumped, one row per example. Healthy: none, or a few early ones. Otherwise look "
    "for broken or extreme examples; if there are none, lower the learning rate or clip the gradient."
)


class Watch:
    """Watches a module learn; training with and without it ends in bit-identical parameters.

    Call it after every optimiser step (with accumulated gradients: not after every micro-batch), while the gradients
    are still there. Probes run on the raw module in eval mode, eagerly and without autocast, inside a context that
    restores everything (see ``preserved``). A probe that fails becomes an event, never an exception. No hook stays in
    the module. With several processes, watch in one of them: probes call no collective.

    Args:
        model: the raw module (not its compiled or distributed wrapper).
        run: where to write; ``Run.create(...)`` makes one.
        probes: callables ``(Moment) -> {name: (kind, arrays)}``.
        batch: a small fixed batch for probes that run the module.
        loss: ``loss(model, batch) -> [examples]``, how the module is evaluated on ``batch``; without it
            ``model(batch)`` is, and probes that need a loss say nothing.
        every: steps between two looks.
        log_every: steps between two rows of scalars.
        budget: largest share of the time since the start that probes may take. At every look the probes that were
            waiting longest come first, and one that never ran yet runs anyhow; one that would exceed the budget waits
            for a later look, which is told as an event the first time.

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
        probes: Sequence[Probe] = DEFAULT,
        batch: Any = None,
        loss: ExampleLoss | None = None,
        every: int = 100,
        log_every: int = 10,
        budget: float = 0.05,
    ) -> None:
        for name, value in (("every", every), ("log_every", log_every), ("budget", budget)):
            if not value > 0:
                raise ValueError(f"{name}: got {value!r}, expected a positive number")
        self.model, self.run, self.probes, self.batch, self.loss = model, run, tuple(probes), batch, loss
        self.every, self.log_every, self.budget = every, log_every, budget
        self.seconds = 0.0
        self._began = self._row_time = time.perf_counter()
        self._calls, self._row_seconds = 0, 0.0
        self._costs: dict[int, float] = {}
        self._last = dict.fromkeys(range(len(self.probes)), -math.inf)
        self._told: set[int] = set()
        self._before: dict[str, Tensor] = {}
        self._spikes, self._kept = LossSpikes(), 0

    def __call__(self, step: int, *, seen: Any = None, **scalars: float | Tensor) -> None:
        """Tell that optimiser step ``step`` is done; scalars may be tensors and are read only when a row is due.

        Given ``seen``, the batch of the step, and ``loss``, a jump of the loss is told as an event and the batch is
        kept as the record "loss spike" (the first ten); then ``loss`` is read at every step.
        """
        self._calls += 1
        if seen is not None and "loss" in scalars:
            self._look_for_spike(step, float(scalars["loss"]), seen)
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
        """Run the probes now, as far as the budget goes."""
        moment = Moment(step, self.model, _numbers(scalars), self.batch, before=self._before, loss=self.loss)
        began = time.perf_counter()
        with preserved(self.model) as restore:
            order = sorted(self._last, key=lambda k: self._last[k])
            for index in order:
                start = time.perf_counter()
                first = index == order[0] and index not in self._costs
                if first or self._affordable(step, index, spent=self.seconds + start - began):
                    self._run(self.probes[index], moment)
                    restore()
                    self._last[index], self._costs[index] = step, time.perf_counter() - start
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

    def _affordable(self, step: int, index: int, *, spent: float) -> bool:
        cost, name = self._costs.get(index, 0.0), _name(self.probes[index])
        share = (spent + cost) / (time.perf_counter() - self._began)
        if share <= self.budget:
            return True
        if index not in self._told:
            self._told.add(index)
            takes = f"it takes {cost:.3g} s and " if index in self._costs else ""
            message = (
                f"{name}: skipped, {takes}probes would use {share:.0%} > {self.budget:.0%} of the time; from now on "
            )
            self.run.event(step, "probe_skipped", message + "as often as that allows", probe=name, seconds=cost)
        return False

    def _look_for_spike(self, step: int, loss: float, seen: Any) -> None:
        spike = self._spikes(step, loss)
        if spike is None:
            return
        details = {"loss": spike.loss, "median": spike.median, "score": spike.score}
        self.run.event(step, "loss_spike", spike.words(), **details)
        if self._kept < SPIKES_KEPT:
            self._kept += 1
            self.run.record(step, "loss spike", kind="table", arrays=kept(seen), text=SPIKE)

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
