"""fit: learn a density from conformations and energies."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from molifold.ensemble import Ensemble
from molifold.interfaces import Density, Energy, Loss, Probe
from molifold.probes import DEFAULT, preserved_randomness
from molifold.runs import Writer
from molifold.training.interrupt import graceful_stop
from molifold.training.result import FitResult
from molifold.training.schedule import Schedule, cosine
from molifold.training.session import Session
from molifold.training.settings import Settings
from molifold.training.step import Weight, members
from molifold.training.trainer import Trainer

T = TypeVar("T")


def fit(
    flow: nn.Module,
    ensemble: Ensemble | Sequence[Ensemble],
    *,
    energy: Energy | Sequence[Energy] | None = None,
    losses: Sequence[tuple[Weight, Loss]] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    max_seconds: float | None = None,
    from_step: int = 0,
    from_seconds: float = 0.0,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    schedule: Schedule | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | None = 10.0,
    ema: float | None = 0.999,
    lag: int | None = None,
    validation: float = 0.1,
    validate_every: int = 200,
    early_stopping: int | None = None,
    max_bad_batches: int = 10,
    seed: int = 0,
    to: str | Path | Writer | None = None,
    recipe: Mapping[str, Any] | None = None,
    reference: Ensemble | Sequence[Ensemble] | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    resume: bool = True,
    probes: Sequence[Probe] = DEFAULT,
    probe_every: int = 100,
    probe_frames: int = 64,
    probe_budget: float = 0.05,
    evaluate: int = 0,
    evaluate_budget: float = 0.02,
    log_every: int = 10,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    threads: int = 1,
    progress: Callable[[Mapping[str, float]], None] | None = None,
) -> FitResult:
    """Train ``flow`` on ``ensemble``, and on ``energy`` where a loss asks for it.

    Args:
        flow: a module with ``log_prob`` and ``sample`` (``interfaces.Density``); trained in place. For several
            ensembles a ``ModuleList`` of as many, say the ``flows`` of a ``Family``, which share their weights.
        ensemble: conformations, nm. ``log_p`` and the columns ``weight`` (importance of a frame) and ``trajectory``
            (which frames belong together) are used if present. Several ensembles (of different molecules) take turns:
            every step sees a batch of one, and validation is their mean.
        energy: reduced potential for losses that need one; one for every ensemble.
        losses: pairs of a weight (number, or function of the step) and a loss; default maximum likelihood.
        steps, epochs, max_seconds: when to end, at least one of them; the learning rate follows whichever ends first,
            so that it has annealed to its last value when the budget ends.
        from_step, from_seconds: where the budget begins, and the learning rate with it: what a run had behind it that
            is trained on (``training.growth``).
        batch_size: frames per step, over all processes together.
        learning_rate: of AdamW; ``schedule`` maps the spent share of the budget to a factor on it (default
            ``cosine()``).
        weight_decay, clip_norm: as in AdamW; largest norm of the gradient.
        ema: decay of the moving average of the weights, which validation, sampling and the result use; None for none.
        lag: frames between the two of a pair, for losses that learn from time (``losses.vamp2``); both lie in one
            trajectory.
        validation: share of frames held out, in whole trajectories or blocks; judged every ``validate_every`` steps.
        early_stopping: end after that many validations without improvement and return the best weights.
        max_bad_batches: a batch whose loss or gradient is not finite is skipped and told as an event with its
            frames; more than this many within 100 steps end the training.
        seed: of everything random.
        to: directory of the run, or the writer of one, which is closed at the end; an unfinished run is resumed
            unless ``resume`` is False.
        recipe: kept in the run; ``recipe["flow"]`` lets ``load_flow`` build the flow again.
        reference: what the flow was built from, kept in the run; default up to 10 000 frames of ``ensemble``.
        checkpoint_every: steps between checkpoints (default: a minute), of which the last ``keep`` are kept.
        probes, probe_every, probe_budget: what to watch, see ``Watch``; needs ``to``. ``probe_frames`` frames are the
            batch that probes look at.
        evaluate, evaluate_budget: draws to judge the flow by, 30 times while it learns and at the end, within that
            share of the time; 0 for none; see ``Evaluation``; needs ``to``.
        log_every: steps between two rows of scalars.
        accelerator, devices, precision: as in Lightning Fabric; "auto" takes a CUDA device if there is one. With
            several devices, start the script with ``torchrun`` or ``srun`` (gloo on CPUs, nccl on GPUs).
        threads: CPU threads that share every batch, see ``Crew``; only for one process on a CPU.
        progress: called with every row of scalars.

    Returns:
        FitResult: the flow with the weights to use, its history and its validation loss.

    With ``steps`` or ``epochs``, a run that was killed at any moment and is started again with the same call ends
    with bit-identical weights on the same machine. With ``max_seconds`` it goes on from its last checkpoint, but time,
    and so the learning rate, does not repeat.

    Raises:
        ValueError: if an argument is out of range, or differs from that of the run that would be resumed.
        TypeError: if ``flow`` is no module with ``log_prob`` and ``sample``.
        FileExistsError: if ``to`` holds a run and ``resume`` is False.
        TrainingError: after too many bad batches.

    >>> import numpy as np, torch
    >>> from molifold import Molecule
    >>> class Normal(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mean = nn.Parameter(torch.zeros(1))
    ...     def log_prob(self, x):
    ...         return torch.distributions.Normal(self.mean, 1.0).log_prob(x.flatten(1)).sum(1)
    ...     def sample(self, n, *, generator=None):
    ...         x = self.mean + torch.randn(n, 1, 1, generator=generator)
    ...         return x, self.log_prob(x)
    >>> def nll(flow, batch, energy, generator):
    ...     return -flow.log_prob(batch.x).mean()
    >>> x = 3.0 + np.random.default_rng(0).normal(size=(1000, 1, 1))
    >>> particle = Ensemble(Molecule(elements=("X",), dimensions=1), x)
    >>> result = fit(Normal(), particle, losses=[(1.0, nll)], steps=300, batch_size=100, learning_rate=0.1, ema=None)
    >>> abs(result.flow.mean.item() - float(x.mean())) < 0.1
    True
    """
    ensembles = _several(ensemble)
    _check_flow(flow, len(ensembles))
    energies = (None,) * len(ensembles) if energy is None else _several(energy)
    if len(energies) != len(ensembles):
        raise ValueError(f"energy: got {len(energies)}, expected one for each of the {len(ensembles)} ensembles")
    if epochs is not None:
        if not epochs > 0:
            raise ValueError(f"epochs: got {epochs!r}, expected a positive number")
        per_epoch = max(1, round(sum(map(len, ensembles)) * (1 - validation)) // batch_size)
        steps = min(steps or epochs * per_epoch, epochs * per_epoch)
    if evaluate < 0 or not evaluate_budget > 0:
        raise ValueError(
            f"evaluate: got {evaluate!r} draws and evaluate_budget {evaluate_budget!r}, expected a number of draws (0 "
            "for none) and a positive share of the time"
        )
    settings = Settings(
        steps=steps, max_seconds=max_seconds, batch_size=batch_size, learning_rate=learning_rate,
        weight_decay=weight_decay, clip_norm=clip_norm, ema=ema, validation=validation, validate_every=validate_every,
        early_stopping=early_stopping, log_every=log_every, max_bad_batches=max_bad_batches, seed=seed,
        precision=precision, threads=threads, lag=lag, from_step=from_step, from_seconds=from_seconds,
    )  # fmt: skip
    # Imported late: it takes seconds, and reading a recipe or a checkpoint does not need it.
    from lightning_fabric import Fabric

    if accelerator == "auto":
        # Not Apple's GPUs: they have no double precision, which densities need.
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave_group)
    if threads > 1 and (accelerator != "cpu" or fabric.world_size > 1):
        raise ValueError(
            f"threads: got {threads} on {accelerator} with {fabric.world_size} processes, expected 1 there"
        )
    if batch_size % fabric.world_size:
        raise ValueError(f"batch_size: got {batch_size}, expected a multiple of the {fabric.world_size} processes")
    with preserved_randomness(), graceful_stop() as interrupted:
        trainer = Trainer(
            fabric, flow, ensembles, energies=energies, losses=losses or _maximum_likelihood(), settings=settings,
            schedule=schedule or cosine(),
        )  # fmt: skip
        session = Session(
            trainer, interrupted=interrupted, progress=progress, checkpoint_every=checkpoint_every, keep=keep
        )
        with session, closing(trainer):
            if to is not None:
                session.open(
                    to if isinstance(to, Writer) else Path(to), ensembles, recipe=recipe,
                    references=ensembles if reference is None else _several(reference),
                    resume=resume, probes=probes, probe_every=probe_every,
                    probe_frames=probe_frames, probe_budget=probe_budget,
                    evaluate=evaluate, evaluate_budget=evaluate_budget,
                )  # fmt: skip
            return session.run()


def _several(given: T | Sequence[T]) -> tuple[T, ...]:
    return tuple(given) if isinstance(given, list | tuple) else (given,)  # type: ignore[return-value]


def _check_flow(flow: nn.Module, ensembles: int) -> None:
    """Raises TypeError unless there is a density for every ensemble."""
    found = members(flow)
    wrong = [f for f in found if not (isinstance(f, nn.Module) and isinstance(f, Density))]
    if wrong:
        raise TypeError(f"flow: got {type(wrong[0]).__name__}, expected an nn.Module with log_prob and sample")
    if len(found) != ensembles:
        raise TypeError(
            f"flow: got {len(found)} for {ensembles} ensembles, expected one for each; pass several as an nn.ModuleList"
        )


def _maximum_likelihood() -> list[tuple[Weight, Loss]]:
    from molifold.losses import nll

    return [(1.0, nll)]


def _leave_group() -> None:
    """Close the connections between processes before Python does; Fabric does so for nccl only.

    The threads of a gloo group that is still open at the end now and then abort a process that has done its work.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
