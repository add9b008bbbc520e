"""Run: a training as it lies on disk, for reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from molifold.molecule import Molecule
from molifold.runs import inbox
from molifold.runs.files import read_arrays, read_json, read_lines
from molifold.runs.lock import is_alive

if TYPE_CHECKING:
    from molifold.ensemble import Ensemble
    from molifold.runs.writer import Writer

FORMAT = "molifold-run"
VERSION = 1

#: A cursor is attempt * 2**_SHIFT + bytes, so that it outlives a truncation; both fit a JavaScript integer.
_SHIFT = 40


class RunFormatError(ValueError):
    """A directory is no run, or one of a format that this version cannot read."""


class Run:
    """A run directory, opened for reading; everything is read afresh, so a growing run can be followed.

    Args:
        path: the directory.

    Raises:
        RunFormatError: if the directory is no run or its version is newer than this package.

    >>> import tempfile
    >>> with Run.create(tempfile.mkdtemp() + "/toy", seed=1) as writer:
    ...     for step in (10, 20):
    ...         writer.scalar(step, loss=1.0 / step)
    >>> run = Run.open(writer.path)
    >>> run
    Run('toy': finished, step 20; 0 records, 0 ensembles, 0 checkpoints)
    >>> run.series("loss")
    (array([10, 20]), array([0.1 , 0.05]))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _ = self.info

    @staticmethod
    def open(path: str | Path) -> Run:
        """Open ``path`` for reading (the same as ``Run(path)``)."""
        return Run(path)

    @staticmethod
    def create(
        path: str | Path,
        *,
        molecule: Molecule | None = None,
        recipe: Mapping[str, Any] | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Writer:
        """Begin a new run in ``path``, a directory that does not exist yet or is empty, and return its writer.

        Args:
            path: the directory.
            molecule: what is learnt, if it is one molecule.
            recipe: everything needed to repeat the run, JSON-able.
            seed: of all randomness.
            settings: anything else to be kept in ``run.json``, JSON-able.

        Raises:
            FileExistsError: if ``path`` holds files already.
        """
        from molifold.runs.writer import begin

        return begin(Path(path), molecule=molecule, recipe=recipe, seed=seed, settings=settings)

    @staticmethod
    def resume(path: str | Path, *, step: int) -> Writer:
        """Go on writing the run in ``path`` from ``step``: later scalars, records and checkpoints are cut off.

        Ensembles ``history`` and ``history-...`` are cut likewise, by their column ``step``.

        Raises:
            RunBusyError: if another living process writes it.
            RunFormatError: if ``path`` is no run.
        """
        from molifold.runs.writer import go_on

        return go_on(Run(path), step=step)

    @staticmethod
    def annotate(path: str | Path) -> Writer:
        """Add records to the run in ``path``, which nobody trains: nothing is cut; close it with the state it had.

        Raises:
            RunBusyError: if another living process writes it.
            RunFormatError: if ``path`` is no run.
        """
        from molifold.runs.writer import add_to

        return add_to(Run(path))

    @property
    def info(self) -> dict[str, Any]:
        """``run.json`` as it is now: created, packages, seed, recipe, molecule, settings, state, attempts."""
        try:
            info = read_json(self.path / "run.json")
        except (FileNotFoundError, NotADirectoryError):
            raise RunFormatError(f"path: {self.path} holds no run.json, expected a run directory") from None
        except ValueError as error:
            raise RunFormatError(f"{self.path / 'run.json'}: half written or damaged, not JSON ({error})") from None
        if info.get("format") != FORMAT or not isinstance(info.get("version"), int):
            raise RunFormatError(f"{self.path}: got format {info.get('format')!r}, expected {FORMAT!r}")
        if info["version"] > VERSION:
            raise RunFormatError(
                f"{self.path}: got format version {info['version']}, this molifold reads up to {VERSION}; update it"
            )
        return info

    @property
    def molecule(self) -> Molecule | None:
        """What was learnt, if the run says so."""
        text = self.info["molecule"]
        return None if text is None else Molecule.from_json(text)

    @property
    def recipe(self) -> dict[str, Any] | None:
        """Everything needed to repeat the run, if the run says so."""
        return self.info["recipe"]

    @property
    def state(self) -> str:
        """One of running, paused, finished, stopped (by request), failed (an error was recorded), crashed."""
        state = str(self.info["state"])
        if state in ("running", "paused") and not is_alive(self.path / "writer.json"):
            # The writer may have closed the run between the two looks.
            state = str(self.info["state"])
            return "crashed" if state in ("running", "paused") else state
        return state

    @property
    def step(self) -> int:
        """The last step of which the run knows, 0 at first."""
        rows = self.recent()
        return int(rows[-1]["step"]) if rows else 0

    def recent(self) -> list[dict[str, Any]]:
        """The last rows of scalars (64 kB of them), for a glance at a long run."""
        path = self.path / "scalars.jsonl"
        try:
            return read_lines(path, start=_line_start(path, max(0, path.stat().st_size - 65536)))[0]
        except FileNotFoundError:
            return []

    def scalars(self, *, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Rows ``{"step", "time", name: number, ...}`` written after the cursor ``since``, and the next cursor.

        Start from 0 and pass back what came. Steps rise, except after a resume: a row whose step is at or below one
        already seen replaces everything from that step on.
        """
        attempts = self.info["attempts"]
        attempt, start = since >> _SHIFT, since & ((1 << _SHIFT) - 1)
        # Every resume since then has cut the file; go back to the shortest cut.
        start = min([start, *(a["bytes"] for a in attempts[attempt + 1 :])])
        rows, end = read_lines(self.path / "scalars.jsonl", start=start)
        return rows, ((len(attempts) - 1) << _SHIFT) + end

    def series(self, name: str) -> tuple[ndarray, ndarray]:
        """Steps and values [rows] of one scalar; empty if it was never written."""
        rows = [(row["step"], row[name]) for row in self.scalars()[0] if name in row]
        return np.array([r[0] for r in rows], dtype=int), np.array([r[1] for r in rows], dtype=float)

    def events(self, *, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Rows ``{"step", "time", "kind", "message", ...}`` after the cursor ``since``, and the next cursor."""
        return read_lines(self.path / "events.jsonl", start=since)

    @property
    def records(self) -> dict[str, tuple[int, ...]]:
        """Steps at which every record was taken, ascending."""
        folder = self.path / "records"
        names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.exists() else []
        return {name: tuple(sorted(int(p.stem) for p in (folder / name).glob("[0-9]*.npz"))) for name in names}

    def record(self, name: str, *, step: int | None = None) -> tuple[str, dict[str, ndarray]]:
        """Kind and arrays of record ``name`` at ``step`` (default: the last).

        Raises:
            KeyError: if there is no such record or step.
        """
        steps = self.records.get(name, ())
        if not steps:
            raise KeyError(f"name: got {name!r}, expected one of {', '.join(self.records) or 'none yet'}")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise KeyError(f"step: got {step}, expected one of {_shortened(steps)} for record {name!r}")
        return self.about(name)["kind"], read_arrays(self.path / "records" / name / f"{step:08d}.npz")

    def about(self, name: str) -> dict[str, Any]:
        """What record ``name`` is: ``kind`` and ``text`` (what it shows, what healthy looks like, what to do)."""
        return read_json(self.path / "records" / name / "about.json")

    @property
    def ensembles(self) -> tuple[str, ...]:
        """Names of the ensembles that the run keeps."""
        folder = self.path / "ensembles"
        return tuple(sorted(p.parent.name for p in folder.glob("*/header.json")))

    def ensemble(self, name: str) -> Ensemble:
        """One ensemble, as memory maps.

        Raises:
            KeyError: if the run keeps none of that name.
        """
        if name not in self.ensembles:
            raise KeyError(f"name: got {name!r}, expected one of {', '.join(self.ensembles) or 'none yet'}")
        from molifold.store import load

        return load(self.path / "ensembles" / name)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Whole checkpoints by step, ascending."""
        found = (self.path / "checkpoints").glob("step-*")
        return dict(sorted((int(p.name[5:]), p) for p in found if re.fullmatch(r"step-\d+", p.name)))

    def shapes(self, *, step: int | None = None) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights of a checkpoint (default: the last), read without any weight; {} if none.

        Raises:
            RunFormatError: if the file is no safetensors file.
        """
        from safetensors import SafetensorError, safe_open

        kept = self.checkpoints
        path = kept.get(max(kept, default=-1) if step is None else step)
        if path is None or not (path / "model.safetensors").exists():
            return {}
        try:
            with safe_open(path / "model.safetensors", framework="numpy") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
        except SafetensorError as error:
            raise RunFormatError(f"{path / 'model.safetensors'}: not a safetensors file ({error})") from None

    @property
    def inbox(self) -> tuple[inbox.Request, ...]:
        """Requests that the writer has not taken yet."""
        return tuple(r for r in inbox.pending(self.path / "inbox").values() if isinstance(r, inbox.Request))

    def request(self, kind: str, **arguments: Any) -> Path:
        """Ask the running training to ``pause``, ``resume``, ``checkpoint``, ``stop``, ``probe`` or ``evaluate``.

        ``probe`` runs the probes now and draws; ``evaluate`` only draws, ``frames=`` of them.

        Raises:
            ValueError: if no such kind of request exists.
        """
        return inbox.post(self.path / "inbox", kind, arguments)

    def __repr__(self) -> str:
        kept = f"{len(self.records)} records, {len(self.ensembles)} ensembles, {len(self.checkpoints)} checkpoints"
        return f"Run({self.path.name!r}: {self.state}, step {self.step}; {kept})"


def _line_start(path: Path, offset: int) -> int:
    if offset == 0:
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        file.readline()
        return file.tell()


def _shortened(steps: tuple[int, ...]) -> str:
    return ", ".join(map(str, steps)) if len(steps) <= 6 else f"{steps[0]}, {steps[1]}, ..., {steps[-1]}"
