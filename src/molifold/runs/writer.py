"""Writer: the one process that fills a run directory."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy import ndarray

from molifold.molecule import Molecule
from molifold.runs import inbox
from molifold.runs.files import append_line, read_json, truncate_lines, write_arrays, write_json
from molifold.runs.lock import RunBusyError, WriterLock
from molifold.runs.run import FORMAT, VERSION, Run

#: Kinds of record that a viewer knows how to draw; see ``interfaces.RecordKind`` and FORMAT.md.
KINDS = ("scalar", "histogram", "map", "table", "series", "text")

_PACKAGES = ("molifold", "numpy", "torch", "lightning-fabric", "openmm", "safetensors")


class Writer:
    """Writes a run; made by ``Run.create`` and ``Run.resume``. A context manager: leaving it closes the run.

    Only one process at a time can hold the writer of a directory.
    """

    def __init__(self, path: Path, lock: WriterLock) -> None:
        self.path = path
        self._lock = lock
        self._scalars = (path / "scalars.jsonl").open("ab")
        self._events = (path / "events.jsonl").open("ab")
        self._info = read_json(path / "run.json")
        self._step = 0

    @property
    def run(self) -> Run:
        """The same directory, for reading."""
        return Run(self.path)

    def scalar(self, step: int, **values: float) -> None:
        """Append one row of numbers measured at ``step``; steps must rise.

        Raises:
            ValueError: if ``step`` does not lie after the last row's.
        """
        if step <= self._step:
            raise ValueError(f"step: got {step} after a row of step {self._step}, expected a larger one")
        append_line(self._scalars, {"step": step, "time": time.time(), **{k: float(v) for k, v in values.items()}})
        self._step = step

    def event(self, step: int, kind: str, message: str, **details: Any) -> None:
        """Append something that happened once: a kind (a word), a message for people, JSON-able details."""
        row = {"step": step, "time": time.time(), "kind": kind, "message": message, **details}
        append_line(self._events, row)

    def record(self, step: int, name: str, *, kind: str, arrays: Mapping[str, ndarray], text: str = "") -> None:
        """Keep arrays under ``records/name`` for ``step``; ``text`` is printed beside their picture.

        Raises:
            ValueError: if the kind is unknown or differs from before, or the name cannot be a folder's.
        """
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r} for record {name!r}, expected one of {', '.join(KINDS)}")
        folder = self.path / "records" / _checked(name, "name")
        about = folder / "about.json"
        if not about.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(about, {"kind": kind, "text": text})
        elif (before := read_json(about)["kind"]) != kind:
            raise ValueError(f"kind: got {kind!r} for record {name!r}, which is a {before!r}; use another name")
        write_arrays(folder / f"{step:08d}.npz", arrays)

    def ensemble_path(self, name: str) -> Path:
        """Where the ensemble ``name`` belongs; write it there with ``molifold.store``."""
        path = self.path / "ensembles" / _checked(name, "name")
        path.parent.mkdir(exist_ok=True)
        return path

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` belongs, once it is whole (write elsewhere, then rename)."""
        path = self.path / "checkpoints" / f"step-{step:08d}"
        path.parent.mkdir(exist_ok=True)
        return path

    def requests(self) -> tuple[inbox.Request, ...]:
        """Take all requests out of the inbox, oldest first; a malformed one is removed and told as an event.

        Raises:
            RunBusyError: if this process was silent so long that another one has taken the run over.
        """
        self._check_held()
        taken = []
        for path, found in inbox.pending(self.path / "inbox").items():
            path.unlink(missing_ok=True)
            if isinstance(found, str):
                self.event(self._step, "request_rejected", found)
                continue
            taken.append(found)
            self.event(self._step, "request", found.kind, arguments=dict(found.arguments))
        return tuple(taken)

    def set_state(self, state: str) -> None:
        """Tell readers how things are: running, paused, finished, stopped or failed.

        Raises:
            RunBusyError: if this process was silent so long that another one has taken the run over.
        """
        self._check_held()
        self._info["state"] = state
        write_json(self.path / "run.json", self._info)

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep the arguments that decide the course of the training, JSON-able."""
        self._check_held()
        self._info["settings"] = dict(settings)
        write_json(self.path / "run.json", self._info)

    def close(self, state: str = "finished") -> None:
        """End writing; safe to call twice."""
        if self._scalars.closed:
            return
        try:
            self.set_state(state)
        finally:
            self._scalars.close()
            self._events.close()
            self._lock.release()

    def _check_held(self) -> None:
        if not self._lock.held:
            raise RunBusyError(f"{self.path}: another process took this run over while this one was suspended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._scalars.closed:
            self.close()
            return
        stopped = isinstance(error, KeyboardInterrupt)
        details = "".join(traceback.format_exception(kind, error, trace))
        self.event(self._step, "stopped" if stopped else "failed", str(error) or repr(error), traceback=details)
        self.close("stopped" if stopped else "failed")

    def __repr__(self) -> str:
        return f"Writer({self.run!r})"


def begin(
    path: Path,
    *,
    molecule: Molecule | None,
    recipe: Mapping[str, Any] | None,
    seed: int | None,
    settings: Mapping[str, Any] | None,
) -> Writer:
    """Make a new run directory and its writer."""
    # What a process leaves that was killed while it began is no content.
    if path.exists() and any(p.name not in ("inbox", "writer.json") and p.name[0] != "." for p in path.iterdir()):
        raise FileExistsError(f"path: {path} is not empty; resume that run or choose another directory")
    path.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(path / "writer.json")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    (path / "inbox").mkdir(exist_ok=True)
    info = {
        "format": FORMAT,
        "version": VERSION,
        "created": now,
        "packages": _versions(),
        "seed": seed,
        "recipe": recipe,
        "molecule": None if molecule is None else molecule.to_json(),
        "settings": settings or {},
        "state": "running",
        "attempts": [{"started": now, "step": 0, "bytes": 0}],
    }
    write_json(path / "run.json", info)
    return Writer(path, lock)


def go_on(run: Run, *, step: int) -> Writer:
    """Take over a run that nobody writes, cut to what was known at ``step``."""
    lock = WriterLock(run.path / "writer.json")
    try:
        size = truncate_lines(run.path / "scalars.jsonl", lambda row: row["step"] <= step)
        truncate_lines(run.path / "events.jsonl", lambda _: True)
        for path in (run.path / "records").glob("*/[0-9]*.npz"):
            if int(path.stem) > step:
                path.unlink()
        for at, checkpoint in run.checkpoints.items():
            if at > step:
                shutil.rmtree(checkpoint)
        for draft in (run.path / "checkpoints").glob(".*"):  # what a killed writer left half done
            shutil.rmtree(draft)
        for path in (run.path / "ensembles").glob("history*"):
            _cut(path, step)
        info = run.info
        now = datetime.now(UTC).isoformat(timespec="seconds")
        info["attempts"].append({"started": now, "step": step, "bytes": size})
        info |= {"state": "running", "packages": _versions()}
        write_json(run.path / "run.json", info)
        writer = Writer(run.path, lock)
    except BaseException:
        lock.release()
        raise
    writer._step = run.step
    writer.event(step, "resumed", f"attempt {len(info['attempts'])} goes on from step {step}")
    return writer


def add_to(run: Run) -> Writer:
    """Hold a run that nobody writes, as it is."""
    writer = Writer(run.path, WriterLock(run.path / "writer.json"))
    writer._step = run.step
    return writer


def _cut(path: Path, step: int) -> None:
    """Cut a history before its first frame of a later step."""
    from molifold import store

    known = store.load(path)
    later = np.asarray(known.columns["step"]) > step
    columns = {name: (value.dtype, value.shape[1:]) for name, value in known.columns.items()}
    with store.Writer(path, known.molecule, columns=columns, dtype=known.x.dtype, resume=True) as writer:
        writer.truncate(int(later.argmax()) if later.any() else len(later))


def _checked(name: str, argument: str) -> str:
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError(f"{argument}: got {name!r}, expected letters, digits, '_', '-', '+', '.' and spaces")
    return name


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
