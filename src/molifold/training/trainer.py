"""Trainer: everything one training holds, and the few things that can be done with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from molifold.ensemble import Ensemble
from molifold.interfaces import Energy, Loss
from molifold.training.average import Average
from molifold.training.checkpoint import load_into, read_state, read_weights, restore_optimizer, write_checkpoint
from molifold.training.crew import Crew
from molifold.training.data import Frames, Part
from molifold.training.schedule import Schedule
from molifold.training.settings import Settings
from molifold.training.step import (
    Objective,
    Outcome,
    TrainingError,
    Weight,
    bad_rows,
    loss_names,
    members,
    seed_step,
    update,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Blocks of neighbouring frames for the standard error of the validation loss.
ERROR_BLOCKS = 10
#: The guard counts bad batches over this many steps.
BAD_WINDOW = 100


@dataclass
class Progress:
    """Where a training stands: all that a checkpoint keeps besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_nll: float = float("inf")
    best_error: float = float("nan")
    worse: int = 0
    skipped: int = 0
    recent_bad: list[int] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Trainer:
    """One training: data, modules, optimiser and progress. ``fit`` drives it.

    Several ensembles take turns, step by step, each with its own flow of the ``ModuleList`` ``flow``.
    """

    def __init__(
        self,
        fabric: Fabric,
        flow: nn.Module,
        ensembles: Sequence[Ensemble],
        *,
        energies: Sequence[Energy | None],
        losses: Sequence[tuple[Weight, Loss]],
        settings: Settings,
        schedule: Schedule,
    ) -> None:
        self.fabric, self.flow, self.settings, self.schedule = fabric, flow, settings, schedule
        self.energies = [fabric.to_device(e) if isinstance(e, nn.Module) else e for e in energies]
        self.progress = Progress()
        self.names = loss_names(losses)
        self.generator = Generator(device=fabric.device)
        objective = Objective(flow, losses, self.energies)
        self.objective = fabric.setup_module(objective)
        self._crew = Crew(objective, settings.threads) if settings.threads > 1 else None
        self.optimizer: torch.optim.Optimizer = fabric.setup_optimizers(_adamw(flow, settings))  # type: ignore[assignment]
        self._follower = None if settings.ema is None else Average(flow, decay=settings.ema)
        self.average = flow if self._follower is None else self._follower.module
        self.best: dict[str, Tensor] | None = None

        dtype = next(flow.parameters()).dtype
        self.parts = [
            Part(
                ensemble, validation=settings.validation, batch_size=settings.batch_size, seed=settings.seed,
                lag=settings.lag, dtype=dtype, device=fabric.device,
            )
            for ensemble in ensembles
        ]  # fmt: skip
        self._since = time.monotonic()

    # ------------------------------------------------------------------ time

    @property
    def seconds(self) -> float:
        """Time spent, pauses not counted."""
        return self.progress.seconds + time.monotonic() - self._since

    def pause(self) -> None:
        """Stop the clock."""
        self.progress.seconds, self._since = self.seconds, time.monotonic()

    def proceed(self) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def spent(self, seconds: float) -> float:
        """Share of the budget that is spent, in [0, 1]: of steps or of time, whichever is further."""
        now, s = self.progress.step, self.settings
        by_steps = (now - s.from_step) / (s.steps - s.from_step) if s.steps else 0.0
        by_time = (seconds - s.from_seconds) / (s.max_seconds - s.from_seconds) if s.max_seconds else 0.0
        return max(0.0, min(1.0, max(by_steps, by_time)))

    # ------------------------------------------------------------------ the step

    @property
    def turn(self) -> int:
        """Number of the ensemble whose turn it is."""
        return (self.progress.step - 1) % len(self.parts)

    @property
    def part(self) -> Part:
        """The ensemble whose turn it is."""
        return self.parts[self.turn]

    def rows(self) -> np.ndarray:
        """Rows of the step's batch that belong to this process."""
        rows = self.part.shuffle((self.progress.step - 1) // len(self.parts) + 1)
        return rows[self.fabric.global_rank :: self.fabric.world_size]

    def learning_rate(self, spent: float) -> float:
        """The rate of the next step."""
        # Half a step ahead, so that the first step of a warm-up does something and the last one is not zero.
        ahead = 0.5 / (self.settings.steps - self.settings.from_step) if self.settings.steps else 0.0
        return self.settings.learning_rate * self.schedule(min(1.0, spent + ahead))

    def advance(self, spent: float) -> Outcome:
        """One optimiser step on the next batch."""
        now, settings, fabric = self.progress, self.settings, self.fabric
        now.step += 1
        rate = self.learning_rate(spent)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows, frames = self.rows(), self.part.frames
        x, log_p, weights = frames.take(rows)
        seed_step(settings.seed, now.step, fabric.global_rank, self.generator)
        inputs = x, log_p, weights, now.step, self.generator, frames.take_lagged(rows)
        outcome = update(
            lambda: self._evaluate(inputs),
            self.optimizer,
            names=self.names,
            clip_norm=settings.clip_norm,
            agree=self.any_process,
        )
        if outcome.ok:
            if self._follower is not None:
                self._follower.follow(step=now.step)
            self._add({"loss": outcome.loss, "gradient_norm": outcome.gradient_norm})
            self._add({f"loss/{k}": v for k, v in outcome.terms.items()} if len(outcome.terms) > 1 else {})
        return outcome

    def _evaluate(self, inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        if self._crew is not None:
            return self._crew(*inputs)
        total, terms = self.objective(*inputs)
        self.fabric.backward(total)
        return total, terms

    def close(self) -> None:
        """Send the threads home."""
        if self._crew is not None:
            self._crew.close()

    def blame(self) -> tuple[list[int], list[int]]:
        """Of the batch just skipped: indices in the ensemble of the frames to blame, and of all frames.

        Raises:
            TrainingError: after too many bad batches.
        """
        now, rows, frames_of = self.progress, self.rows(), self.part.frames
        batch = frames_of.indices[rows].tolist()
        flow, energy = members(self.flow)[self.turn], self.energies[self.turn]
        frames = [batch[i] for i in bad_rows(flow, frames_of.take(rows)[0], energy)]
        now.skipped += 1
        now.recent_bad = [s for s in now.recent_bad if s > now.step - BAD_WINDOW] + [now.step]
        if len(now.recent_bad) > self.settings.max_bad_batches:
            raise TrainingError(
                f"{len(now.recent_bad)} of the last {min(now.step, BAD_WINDOW)} batches gave a loss or gradient that "
                f"is not finite (max_bad_batches={self.settings.max_bad_batches}); last at step {now.step}, frames "
                f"{frames[:5]}. Look for broken frames in the data; otherwise lower learning_rate or clip_norm"
            )
        return frames, batch

    def row(self) -> dict[str, float]:
        """Means since the last row, over all processes, and the learning rate; starts new means."""
        now = self.progress
        row = {name: now.sums[name] / now.counts[name] for name in now.sums}
        row["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        now.sums, now.counts = {}, {}
        if self.fabric.world_size > 1:
            means = self.fabric.all_reduce(torch.tensor(list(row.values()), dtype=torch.float64), reduce_op="mean")
            row = dict(zip(row, means.tolist(), strict=True))  # type: ignore[union-attr]
        return row

    def _add(self, values: dict[str, float]) -> None:
        now = self.progress
        for name, value in values.items():
            if value == value:  # a loss of weight 0 was not computed
                now.sums[name] = now.sums.get(name, 0.0) + value
                now.counts[name] = now.counts.get(name, 0) + 1

    # ------------------------------------------------------------------ validation

    @property
    def validates(self) -> bool:
        """Whether frames are held out."""
        return len(self.parts[0].held_out) > 0

    @torch.no_grad()
    def validate(self, flow: nn.Module) -> dict[str, float]:
        """Mean negative log-likelihood of the held-out frames, its error, and what log_p tells of the weights.

        Of several ensembles the mean, and the likelihood of each under its molecule's name.
        """
        rows = [self._judged(f, part.held_out) for f, part in zip(members(flow), self.parts, strict=True)]
        if len(rows) == 1:
            return rows[0]
        row = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if all(k in r for r in rows)}
        row["validation_error"] = float(np.linalg.norm([r["validation_error"] for r in rows]) / len(rows))
        return row | {
            f"validation_nll/{part.name}": r["validation_nll"] for part, r in zip(self.parts, rows, strict=True)
        }

    def _judged(self, flow: nn.Module, held_out: Frames) -> dict[str, float]:
        log_q = self._log_q(flow, held_out)
        nll = -log_q
        if held_out.weights is not None:
            nll = nll * held_out.weights.double().cpu().numpy()
        blocks = np.array([b.mean() for b in np.array_split(nll, min(ERROR_BLOCKS, len(nll)))])
        error = blocks.std(ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
        row = {"validation_nll": float(nll.mean()), "validation_error": float(error)}
        if held_out.log_p is not None:
            row["validation_ess"] = _ess_from_target(held_out.log_p.double().cpu().numpy() - log_q)
        return row

    def _log_q(self, flow: nn.Module, held_out: Frames) -> np.ndarray:
        fabric, n = self.fabric, len(held_out)
        mode = flow.training
        flow.eval()
        out = torch.zeros(n, dtype=torch.float64, device=fabric.device)
        mine = np.arange(fabric.global_rank, n, fabric.world_size)
        size = max(1, self.settings.batch_size // fabric.world_size)
        for rows in np.array_split(mine, max(1, -(-len(mine) // size))):
            with fabric.autocast():
                log_q = flow.log_prob(held_out.take(rows)[0])  # type: ignore[operator]
            out[torch.from_numpy(rows).to(fabric.device)] = log_q.double()
        flow.train(mode)
        if fabric.world_size > 1:
            out = fabric.all_reduce(out, reduce_op="sum")  # type: ignore[assignment]
        return out.cpu().numpy()

    def judge(self, row: dict[str, float]) -> None:
        """Remember the weights of ``row`` if they are the best so far."""
        now = self.progress
        if row["validation_nll"] < now.best_nll:
            now.best_nll, now.best_error = row["validation_nll"], row["validation_error"]
            now.best_step, now.worse = now.step, 0
            self.best = {k: v.detach().clone() for k, v in self.average.state_dict().items()}
        else:
            now.worse += 1

    # ------------------------------------------------------------------ processes

    def any_process(self, mine: bool) -> bool:  # noqa: FBT001 - one obvious argument
        """Whether any process says yes."""
        return self.agree(float(mine)) > 0

    def agree(self, mine: float) -> float:
        """The largest of all processes' numbers."""
        if self.fabric.world_size == 1:
            return mine
        number = torch.tensor(mine, dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.all_reduce(number, reduce_op="max"))  # type: ignore[arg-type]

    # ------------------------------------------------------------------ checkpoints

    def save(self, path: Path) -> None:
        """Write a checkpoint of this very state."""
        weights = {"model": self.flow.state_dict()}
        if self.average is not self.flow:
            weights["average"] = self.average.state_dict()
        if self.best is not None:
            weights["best"] = self.best
        state = {**asdict(self.progress), "seconds": self.seconds}
        write_checkpoint(path, weights=weights, optimizer=self.optimizer, state=state)

    def restore(self, path: Path) -> None:
        """Go back to the state that ``save`` wrote."""
        state: dict[str, Any] = read_state(path)
        load_into(self.flow, read_weights(path, "model"))
        if self.average is not self.flow:
            load_into(self.average, read_weights(path, "average"))
        if state["best_step"]:
            self.best = {k: v.to(self.fabric.device) for k, v in read_weights(path, "best").items()}
        restore_optimizer(path, self.optimizer)
        self.progress = Progress(**{k: v for k, v in state.items() if k != "optimizer"})
        self.proceed()


def _adamw(flow: nn.Module, settings: Settings) -> torch.optim.AdamW:
    # The fused kernel: one launch for all tensors, also on the CPU.
    wanted = [p for p in flow.parameters() if p.requires_grad]
    return torch.optim.AdamW(wanted, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def _ess_from_target(log_w: np.ndarray) -> float:
    """Kish's effective sample share of draws from q, estimated from frames of p: 1 / (E_p[w] E_p[1/w])."""
    return float(np.exp(-_log_mean_exp(log_w) - _log_mean_exp(-log_w)))


def _log_mean_exp(a: np.ndarray) -> float:
    top = a.max()
    return float(top + np.log(np.mean(np.exp(a - top))))
