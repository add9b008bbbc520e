"""Watch: run probes on a schedule and within a budget, and write what they see."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from torch import Tensor, nn

from molifold.interfaces import Density, ExampleLoss, Moment, Probe
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
        loss: ``loss(model, batch) -> [examples]``, how the module is evaluated on ``batch``; default the negative
            ``log_prob`` of a density. Without it ``model(batch)`` is evaluated, and probes that need one say nothing.
        every: steps between two looks.
        log_every: steps between two rows of scalars.
        budget: largest share of the time since the start that probes may take. It is shared evenly, what cheap probes
            do not need goes to the dear ones, and a probe runs when it has saved up what it costs; the first time that
            one has to wait is told as an event. The first run of a probe is on credit, and one such run is made at
            every look at least.

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
        if loss is None and isinstance(model, Density):
            self.loss = lambda m, x: -m.log_prob(x)  # type: ignore[operator]
        self.every, self.log_every, self.budget = every, log_every, budget
        self.seconds = 0.0
        self._began = self._row_time = time.perf_counter()
        self._calls, self._row_seconds = 0, 0.0
        self._looked, self._overhead = self._began, 0.0
        self._costs: dict[int, float] = {}
        self._credit = dict.fromkeys(range(len(self.probes)), 0.0)
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
            self._look_for_spike(step, _numbers(scalars)["loss"], seen)
        if scalars and step % self.log_every == 0:
            self._write_row(step, scalars)
        if not self.probes:
            return
        if step % self.every == 0:
            self.look(step, everything=False, **scalars)
        if (step + 1) % self.every == 0:
            start = time.perf_counter()
            self._before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            took = time.perf_counter() - start
            self.seconds, self._overhead = self.seconds + took, self._overhead + took

    def look(self, step: int, *, everything: bool = True, **scalars: float | Tensor) -> None:
        """Run all probes now, or without ``everything`` as far as the budget goes."""
        began = time.perf_counter()
        allowance = max(0.0, self.budget * (began - self._looked) - self._overhead)
        self._looked = began
        self._grant(allowance)
        moment = Moment(step, self.model, _numbers(scalars), self.batch, before=self._before, loss=self.loss)
        ran = 0.0
        with preserved(self.model) as restore:
            for index, probe in enumerate(self.probes):
                start = time.perf_counter()
                known = index in self._costs
                if not everything and self._costs.get(index, 0.0) > self._credit[index]:
                    self._tell_skip(step, index)
                elif everything or known or start - began <= allowance or len(self._costs) == index:
                    self._run(probe, moment)
                    restore()
                    self._costs[index] = time.perf_counter() - start
                    self._credit[index] -= self._costs[index]
                    ran += self._costs[index]
        self._before = {}
        spent = time.perf_counter() - began
        self.seconds += spent
        self._overhead = spent - ran  # keeping and restoring the module; the next look's allowance pays for it

    def _grant(self, allowance: float) -> None:
        """Share what may be spent: evenly, but nobody saves more than the next run costs."""
        by_cost = sorted(self._costs, key=self._costs.__getitem__)
        for place, index in enumerate(by_cost):
            wanted = max(0.0, self._costs[index] - self._credit[index])
            given = min(allowance / (len(by_cost) - place), wanted)
            self._credit[index] += given
            allowance -= given

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

    def _tell_skip(self, step: int, index: int) -> None:
        if index in self._told:
            return
        self._told.add(index)
        name, cost = _name(self.probes[index]), self._costs[index]
        message = f"{name}: skipped, it takes {cost:.3g} s; from now on as often as {self.budget:.0%} of the time allow"
        self.run.event(step, "probe_skipped", message, probe=name, seconds=cost)

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
        # An evaluation within the row is no training either.
        spent = self.seconds - self._row_seconds + float(scalars.get("evaluation_seconds", 0.0))
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
