"""Session: the loop of ``fit`` and its dealings with the outside: the run directory, a viewer's wishes, signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from molifold.energies import Regularized
from molifold.ensemble import Ensemble
from molifold.interfaces import Energy, Probe
from molifold.probes import Watch
from molifold.runs import Request, Run, Writer
from molifold.training.checkpoint import load_into, prune
from molifold.training.data import fingerprint
from molifold.training.evaluation import FRAMES, Evaluation
from molifold.training.result import FitResult
from molifold.training.spikes import SpikeKeeper
from molifold.training.step import members
from molifold.training.trainer import Trainer

#: Frames of the data that are kept in the run, so that the flow can be built again without the data.
REFERENCE_FRAMES = 10_000
#: Seconds between two looks at the inbox, and between two checkpoints where no number of steps is given.
INBOX_EVERY, CHECKPOINT_EVERY = 0.5, 60.0
#: Looks at draws, evenly spread over the budget, as far as their share of the time allows.
LOOKS = 30
#: Draws that a request may ask for at once.
MOST_FRAMES = 1_000_000
#: A spent share that means: somebody asked to stop.
STOP = 2.0


class Session:
    """Drives a trainer to its end.

    Args:
        trainer: what is trained.
        interrupted: set when a signal asks to stop.
        progress: called with every row of scalars.
        checkpoint_every: steps between checkpoints, or None for one a minute.
        keep: how many of them.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        interrupted: threading.Event,
        progress: Callable[[Mapping[str, float]], None] | None,
        checkpoint_every: int | None,
        keep: int,
    ) -> None:
        self.trainer, self.settings = trainer, trainer.settings
        self.history: list[Mapping[str, float]] = []
        self.writer: Writer | None = None
        self.path: Path | None = None
        self._watch: Watch | None = None
        self._spikes: SpikeKeeper | None = None
        self._evaluations: list[Evaluation] = []
        self._interrupted, self._stop = interrupted, False
        self._progress, self._checkpoint_every, self._keep = progress, checkpoint_every, keep
        self._looked = self._saved = time.monotonic()

    # ------------------------------------------------------------------ the loop

    def run(self) -> FitResult:
        """Train until the budget is spent, validation no longer improves, or somebody asks to stop."""
        trainer = self.trainer
        trainer.flow.train()
        spent = self._spent()
        while (reason := self._reason(spent)) is None:
            outcome = trainer.advance(spent)
            if not outcome.ok:
                self._tell_bad_batch()
            elif self._spikes is not None:
                self._spikes(outcome.loss)
            spent = self._spent()
            self._log(last=1 <= spent < STOP)
            self._obey()
            self._save(due_only=True)
        return self._finish(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error anywhere is told in the run, and the run is free for the next attempt.
        if self.writer is not None:
            self.writer.__exit__(kind, error, trace)

    def _spent(self) -> float:
        asked = self._stop or self._interrupted.is_set()
        return self.trainer.agree(STOP if asked else self.trainer.spent(self.trainer.seconds))

    def _reason(self, spent: float) -> str | None:
        now, patience = self.trainer.progress, self.settings.early_stopping
        if patience is not None and now.worse >= patience:
            return "early stopping"
        if spent >= STOP:
            return "stopped"
        if spent >= 1:
            return "steps" if self.settings.steps is not None and now.step >= self.settings.steps else "time"
        return None

    def _finish(self, reason: str) -> FitResult:
        trainer, now = self.trainer, self.trainer.progress
        trainer.pause()
        self._save()
        best = trainer.best if self.settings.early_stopping is not None and reason != "stopped" else None
        load_into(trainer.flow, best or trainer.average.state_dict())
        trainer.flow.eval()
        final = trainer.validate(trainer.flow) if trainer.validates else {}
        if self.writer is not None:
            self.writer.event(now.step, "ended", reason)
            self.writer.close("stopped" if reason == "stopped" else "finished")
        return FitResult(
            flow=trainer.flow,
            history=tuple(self.history),
            steps=now.step,
            seconds=now.seconds,
            validation_nll=final.get("validation_nll", float("nan")),
            validation_error=final.get("validation_error", float("nan")),
            best_step=now.best_step,
            skipped=now.skipped,
            reason=reason,
            path=self.path,
        )

    # ------------------------------------------------------------------ telling

    def _log(self, *, last: bool) -> None:
        trainer, settings, step = self.trainer, self.settings, self.trainer.progress.step
        judged = trainer.validates and (last or step % settings.validate_every == 0)
        row: dict[str, float] = {}
        if judged or last or step % settings.log_every == 0:
            row = trainer.row() | {"seconds": trainer.seconds, "progress": trainer.spent(trainer.seconds)}
            if judged:
                row |= trainer.validate(trainer.average)
                trainer.judge(row)
            for evaluation in self._evaluations:
                row |= evaluation(step, mark=int(LOOKS * row["progress"]), force=last)
            self.history.append({"step": step, **row})
        if self._watch is not None:
            self._watch(step, **row)
        if row and self._progress is not None and trainer.fabric.is_global_zero:
            self._progress({"step": step, **row})

    def _tell_bad_batch(self) -> None:
        frames, batch = self.trainer.blame()
        if self.writer is not None:
            shown = ", ".join(map(str, frames[:5])) + (" ..." if len(frames) > 5 else "")
            message = f"skipped: loss or gradient not finite; frames {shown}"
            self.writer.event(self.trainer.progress.step, "bad_batch", message, frames=frames, batch=batch)

    # ------------------------------------------------------------------ obeying

    def _obey(self) -> None:
        now = time.monotonic()
        if self.writer is None or now - self._looked < INBOX_EVERY:
            return
        self._looked = now
        if self._take_requests() == "pause":
            self._pause()

    def _take_requests(self) -> str | None:
        """Do what was asked; returns the last wish to pause or to resume."""
        assert self.writer is not None
        wish = None
        for request in self.writer.requests():
            if request.kind in ("pause", "resume"):
                wish = request.kind
            elif request.kind == "checkpoint":
                self._save()
            elif request.kind in ("probe", "evaluate"):
                self._look(request)
            elif request.kind == "stop":
                self._stop = True
        return wish

    def _look(self, request: Request) -> None:
        """Probe and draw now, or only draw; the numbers stand in the next row."""
        assert self.writer is not None
        step, frames = self.trainer.progress.step, request.arguments.get("frames", FRAMES)
        if not isinstance(frames, int) or not 1 <= frames <= MOST_FRAMES:
            message = f"frames: got {frames!r}, expected a whole number from 1 to {MOST_FRAMES:,}"
            self.writer.event(step, "request_rejected", message)
            return
        if request.kind == "probe" and self._watch is not None:
            self._watch.look(step)
        for evaluation in self._evaluations:
            evaluation.look(step, frames=frames)

    def _pause(self) -> None:
        assert self.writer is not None
        self.trainer.pause()
        self.writer.set_state("paused")
        while not (self._stop or self._interrupted.is_set()) and self._take_requests() != "resume":
            time.sleep(INBOX_EVERY)
        self.writer.set_state("running")
        self.trainer.proceed()

    # ------------------------------------------------------------------ the run directory

    def open(
        self,
        to: Path | Writer,
        ensembles: Sequence[Ensemble],
        *,
        recipe: Mapping[str, Any] | None,
        references: Sequence[Ensemble],
        resume: bool,
        probes: Sequence[Probe],
        probe_every: int,
        probe_frames: int,
        probe_budget: float,
        evaluate: int,
        evaluate_budget: float,
    ) -> None:
        """Begin or resume the run ``to``, or take its writer over; every process must call it."""
        fabric, self.path = self.trainer.fabric, to.path if isinstance(to, Writer) else to
        checkpoint = fabric.broadcast(self._open(to, ensembles, recipe, resume) if fabric.is_global_zero else None)
        if checkpoint is not None:
            self.trainer.restore(checkpoint)
        if self.writer is None:
            return
        for k, reference in enumerate(references):
            name = "reference" if k == 0 else f"reference-{k + 1}"
            if name not in self.writer.run.ensembles:
                reference.thinned(REFERENCE_FRAMES).save(self.writer.ensemble_path(name))
        self._save()
        self._spikes = SpikeKeeper(self.trainer, self.writer, ensembles)
        frames = self.trainer.parts[0].frames
        rows = np.random.default_rng(self.settings.seed).permutation(len(frames))[:probe_frames]
        self._watch = Watch(
            self.trainer.flow, self.writer, probes=probes, batch=frames.take(rows)[0], every=probe_every, log_every=1,
            loss=_first_nll, budget=probe_budget,
        )  # fmt: skip
        self._evaluations = list(self._evaluated(ensembles, frames=evaluate, budget=evaluate_budget))

    def _evaluated(self, ensembles: Sequence[Ensemble], *, frames: int, budget: float) -> Iterator[Evaluation]:
        """An evaluation of every flow, each with its share of the budget."""
        trainer, writer, several = self.trainer, self.writer, len(ensembles) > 1
        assert writer is not None
        for flow, ensemble, energy in zip(members(trainer.average), ensembles, trainer.energies, strict=True):
            name = ensemble.molecule.name if several else ""
            # Weights are of the target itself; frames with importances of their own are no reference.
            yield Evaluation(
                flow, writer, molecule=ensemble.molecule, energy=_bare(energy), name=name, frames=frames,
                reference=None if "weight" in ensemble.columns else ensemble.thinned(REFERENCE_FRAMES),
                budget=budget / len(ensembles), seed=self.settings.seed, device=str(trainer.fabric.device),
            )  # fmt: skip

    def _open(
        self,
        to: Path | Writer,
        ensembles: Sequence[Ensemble],
        recipe: Mapping[str, Any] | None,
        resume: bool,  # noqa: FBT001
    ) -> Path | None:
        settings = {**asdict(self.settings), "data": " ".join(map(fingerprint, ensembles))}
        if not isinstance(to, Writer) and not (to / "run.json").exists():
            to = Run.create(to, molecule=ensembles[0].molecule, recipe=recipe, seed=self.settings.seed)
        elif not isinstance(to, Writer) and not resume:
            raise FileExistsError(f"to: {to} holds a run already; pass resume=True to go on, or another directory")
        run = to.run if isinstance(to, Writer) else Run.open(to)
        self.settings.check_same(run.info["settings"])
        before = run.info["settings"].get("data", settings["data"])
        if before != settings["data"]:
            raise ValueError(
                f"ensemble: got {settings['data']} (frames-checksum), but the run was started with {before}; pass the "
                "same data, or another directory"
            )
        step, checkpoint = next(reversed(run.checkpoints.items()), (0, None))
        if isinstance(to, Writer):
            self.writer = to
        elif run.state != "finished":  # a finished run is only read: nothing is left to do
            self.writer = Run.resume(to, step=step)
        if self.writer is not None:
            self.writer.set_settings(settings)
        self.history = [{k: v for k, v in row.items() if k != "time"} for row in run.scalars()[0]]
        return checkpoint

    def _save(self, *, due_only: bool = False) -> None:
        if self.writer is None:
            return
        step, now = self.trainer.progress.step, time.monotonic()
        every = self._checkpoint_every
        due = step % every == 0 if every is not None else now - self._saved >= CHECKPOINT_EVERY
        if due or not due_only:
            self.trainer.save(self.writer.checkpoint_path(step))
            prune(self.writer.run.checkpoints, keep=self._keep)
            self._saved = time.monotonic()


def _first_nll(flow: nn.Module, x: Tensor) -> Tensor:
    """Of the flow (the first of several), as probes evaluate it."""
    return -members(flow)[0].log_prob(x)  # type: ignore[operator]


def _bare(energy: Energy | None) -> Energy | None:
    """The target itself, without what makes it easier to train on."""
    return energy.energy if isinstance(energy, Regularized) else energy
