"""What every simulation needs besides physics: time limits, progress, frames, checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from molifold import store
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

#: The first checkpoint comes after this many seconds, so that short runs outlive a kill, too.
FIRST_CHECKPOINT = 1.0
#: ``progress(fraction done, ns of all walkers per day, what is going on)``.
Progress = Callable[[float, float, str], None]

STATE = "state.npz"
COLUMNS: dict[str, Any] = {"temperature": "float32", "time": "float64", "trajectory": "int32", "energy": "float64"}


class Job(Protocol):
    """A simulation in progress. ``step`` counts production steps; equilibration has negative ones."""

    step: int
    seconds: float

    @property
    def first_step(self) -> int:
        """Where equilibration began: zero or negative."""
        ...

    @property
    def ps_per_step(self) -> float:
        """Simulated time of all walkers per step, ps."""
        ...

    def advance(self, limit: int | None) -> None:
        """Go on to the next event, but not beyond step ``limit``."""
        ...

    def message(self) -> str:
        """What is going on, in a few words."""
        ...

    def checkpoint(self) -> None:
        """Make everything so far survive a kill."""
        ...


def drive(
    job: Job,
    *,
    began: float,
    steps: int | None,
    max_seconds: float | None,
    checkpoint_seconds: float,
    progress: Progress | None,
) -> None:
    """Run a job to ``steps``, or until ``max_seconds`` are over; ``began`` is when time started to count."""
    spent_before, first = job.seconds, job.step
    started = told = time.monotonic()
    checked = started - max(checkpoint_seconds - FIRST_CHECKPOINT, 0)
    while True:
        now = time.monotonic()
        job.seconds = spent_before + now - began
        speed = (job.step - first) * job.ps_per_step * 86.4 / max(now - started, 1e-9)
        if progress and now - told > 0.5:
            progress(_fraction(job, steps, max_seconds), speed, job.message())
            told = now
        if now - checked >= checkpoint_seconds:
            job.checkpoint()
            checked = now
        if (steps is not None and job.step >= steps) or (max_seconds is not None and job.seconds >= max_seconds):
            break
        job.advance(steps)
    job.checkpoint()
    if progress:
        progress(1.0, speed, "done")


def _fraction(job: Job, steps: int | None, max_seconds: float | None) -> float:
    by_steps = 0.0 if steps is None else (job.step - job.first_step) / max(steps - job.first_step, 1)
    by_time = 0.0 if max_seconds is None else job.seconds / max_seconds
    return min(max(by_steps, by_time), 1.0)


def check_limits(*, steps: int | None, max_seconds: float | None, to: str | Path | None, resume: bool) -> None:
    """Refuse runs without an end, and resuming without a place.

    Raises:
        ValueError: in these cases.
    """
    if steps is None and max_seconds is None:
        raise ValueError("steps: got None for steps and for max_seconds, expected at least one of them")
    if resume and to is None:
        raise ValueError("resume: got True without a path, expected to= the store to continue")


class Memory:
    """Keeps frames as ``store.Writer`` does, but in memory."""

    def __init__(self, molecule: Molecule, *, columns: Mapping[str, Any]) -> None:
        self.frames = 0
        self._molecule = molecule
        self._columns = columns
        self._parts: list[dict[str, ndarray]] = []
        self._meta: dict[str, Any] = {}

    def append(self, x: ndarray, **arrays: ndarray) -> None:
        """Add frames."""
        self._parts.append({"x": x, **arrays})
        self.frames += len(x)

    def annotate(self, **meta: Any) -> None:
        """Add to the provenance."""
        self._meta |= meta

    def ensemble(self) -> Ensemble:
        """All frames."""
        if not self._parts:
            x = np.empty((0, self._molecule.n_atoms, self._molecule.dimensions), np.float32)
            return Ensemble(self._molecule, x, meta=self._meta)
        arrays = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        return Ensemble(self._molecule, arrays.pop("x"), log_p=arrays.pop("log_p"), columns=arrays, meta=self._meta)


class Recorder:
    """Frames and checkpoints of a run, in a store or in memory.

    Args:
        to: the store, or None.
        molecule: what the atoms are.
        columns: as for ``store.Writer``.
        settings: what determines every frame, JSON-able; a resumed run must agree.
        resume: continue what is there.

    Raises:
        ValueError: if the settings differ.
    """

    def __init__(
        self,
        to: str | Path | None,
        molecule: Molecule,
        *,
        settings: Mapping[str, Any],
        columns: Mapping[str, Any] = COLUMNS,
        resume: bool,
    ) -> None:
        self.settings = json.loads(json.dumps(dict(settings)))
        self.saved = _read_state(Path(to) / STATE, self.settings) if resume and to is not None else None
        self._writer = None if to is None else store.Writer(to, molecule, columns=columns, resume=resume)
        self._sink = self._writer or Memory(molecule, columns=columns)
        self.append = self._sink.append
        if self._writer is not None:
            # Frames after the last checkpoint will be made again, the same ones.
            self._writer.truncate(0 if self.saved is None else int(self.saved["frames"]))

    @property
    def frames(self) -> int:
        """Saved so far."""
        return self._sink.frames

    def checkpoint(self, state: Mapping[str, ndarray], *, results: Mapping[str, Any]) -> None:
        """Write the state of a run, and its results into the provenance."""
        self._sink.annotate(simulation={**self.settings, **results})
        if self._writer is None:
            return
        self._writer.flush()
        everything = {**state, "frames": np.array(self.frames), "settings": np.array(json.dumps(self.settings))}
        part = self._writer.path / f"{STATE}.part"
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **everything)
        os.replace(part, self._writer.path / STATE)

    def close(self) -> None:
        """Close the store, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def ensemble(self) -> Ensemble:
        """All frames; memory maps if they are in a store."""
        return self._sink.ensemble() if isinstance(self._sink, Memory) else store.load(self._sink.path)


def _read_state(path: Path, settings: dict[str, Any]) -> dict[str, ndarray] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        saved = {name: file[name] for name in file.files}
    theirs = json.loads(str(saved["settings"]))
    changed = {k: (theirs.get(k), new) for k, new in settings.items() if theirs.get(k) != new}
    if changed:
        told = "; ".join(f"{k} was {was}, is {now}" for k, (was, now) in changed.items())
        raise ValueError(f"resume: {path.parent} was made with other settings ({told}); repeat them or start elsewhere")
    return saved
