"""A Lightning callback: ``Watch`` in a training that somebody else's ``Trainer`` runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from molifold.interfaces import ExampleLoss, Probe
from molifold.probes.watch import DEFAULT, Watch
from molifold.runs import Run, Writer

if TYPE_CHECKING:
    Callback: Any = object
elif "lightning" not in sys.modules and "pytorch_lightning" in sys.modules:
    from pytorch_lightning import Callback  # the one that the caller uses, where both are installed
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError as error:
            raise ImportError(
                f"lightning: {error}; install it with: pip install 'molifold[lightning]' (or pytorch-lightning)"
            ) from error


class WatchCallback(Callback):
    """Watches a ``LightningModule`` learn and writes a run that ``molifold watch`` and ``report`` open.

    After every optimiser step, so once per accumulated batch; only in the first process. The batches behind jumps of
    the loss are kept. Training with and without it ends in bit-identical parameters (see ``Watch``).

    Args:
        to: directory of the run, new or empty.
        batch: a small fixed batch for probes that run the module.
        loss: ``loss(module, batch) -> [examples]``; without it ``module(batch)`` is evaluated, and probes that need a
            loss say nothing.
        probes, every, log_every, budget: as in ``Watch``.

    Raises:
        ImportError: from this module, if neither lightning nor pytorch_lightning is installed.
        FileExistsError: at the start of the training, if ``to`` holds files already.

    ::

        callback = WatchCallback("runs/mine", batch=x[:64], loss=lambda m, x: -m.flow.log_prob(x))
        Trainer(callbacks=[callback]).fit(module, data)
    """

    def __init__(
        self,
        to: str | Path,
        *,
        batch: Any = None,
        loss: ExampleLoss | None = None,
        probes: Sequence[Probe] = DEFAULT,
        every: int = 100,
        log_every: int = 10,
        budget: float = 0.05,
    ) -> None:
        self.to = Path(to)
        self._options = {
            "batch": batch, "loss": loss, "probes": probes, "every": every, "log_every": log_every, "budget": budget,
        }  # fmt: skip
        self._run: Writer | None = None
        self._watch: Watch | None = None
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run."""
        if trainer.is_global_zero:
            self._run = Run.create(self.to, seed=None)
            self._watch = Watch(pl_module, self._run, **self._options)
            self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look, if an optimiser step was made."""
        if self._watch is None or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        metrics = trainer.callback_metrics.items()
        scalars = {n: value for n, value in metrics if value.numel() == 1 and n not in ("step", "time", "seen")}
        if isinstance(outputs, dict) and isinstance(outputs.get("loss"), Tensor):
            scalars["loss"] = outputs["loss"]
        self._watch(self._step, seen=batch, **scalars)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run."""
        if self._run is not None:
            self._run.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Tell the run what happened."""
        if self._run is not None:
            self._run.__exit__(type(exception), exception, exception.__traceback__)
