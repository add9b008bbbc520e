"""TensorBoard: a run as an event file, at once or while it grows."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy import ndarray

from molifold.runs import Run

#: Tables of more rows (frames, say) are left out: every entry would be a chart of its own.
ROWS = 1000


class TensorBoard:
    """Mirrors a run into a TensorBoard event file; the run itself is only read. A context manager.

    Scalars keep their names and times. Of the records, scalars and the numbers of tables become scalars
    ``RECORD/COLUMN/ROW``, histograms become histograms, text becomes text; events are the text ``events``. Maps and
    series are left out: ``molifold watch`` shows them.

    To mirror a training while it runs, call ``update`` from its ``progress``, or from another process now and then.

    Args:
        run: a run, or its directory.
        to: directory of the event files.

    Raises:
        ImportError: if tensorboard is not installed.
        RunFormatError: if ``run`` is no run.

    >>> import tempfile
    >>> with Run.create(tempfile.mkdtemp() + "/x") as writer:
    ...     writer.scalar(1, loss=0.5)
    >>> with TensorBoard(writer.path, tempfile.mkdtemp()) as board:
    ...     board.update()
    1
    """

    def __init__(self, run: Run | str | Path, to: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(f"tensorboard: {error}; install it with: pip install 'molifold[tensorboard]'") from error
        self._run = run if isinstance(run, Run) else Run(run)
        self._writer: Any = SummaryWriter(str(to))  # type: ignore[no-untyped-call]
        self._scalars = self._events = 0
        self._seen: dict[str, int] = {}

    def update(self) -> int:
        """Write what is new since the last call; returns how many rows, records and events that was."""
        written = 0
        rows, self._scalars = self._run.scalars(since=self._scalars)
        for row in rows:
            for name, value in row.items():
                if name not in ("step", "time"):
                    self._writer.add_scalar(name, value, row["step"], walltime=row["time"])
        events, self._events = self._run.events(since=self._events)
        for event in events:
            self._writer.add_text("events", f"{event['kind']}: {event['message']}", event["step"], event["time"])
        for name, steps in self._run.records.items():
            for step in steps:
                if step > self._seen.get(name, -1):
                    kind, arrays = self._run.record(name, step=step)
                    self._record(name, step, kind, arrays)
                    self._seen[name] = step
                    written += 1
        self._writer.flush()
        return written + len(rows) + len(events)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _record(self, name: str, step: int, kind: str, arrays: dict[str, ndarray]) -> None:
        if kind == "scalar":
            for key, value in arrays.items():
                self._writer.add_scalar(name if key == "value" else f"{name}/{key}", float(value), step)
        elif kind == "text":
            self._writer.add_text(name, str(arrays["text"]), step)
        elif kind == "table":
            rows = arrays.get("name", np.zeros(0))
            columns = {k: v for k, v in arrays.items() if v.ndim == 1 and v.dtype.kind in "iufb"}
            for key, values in columns.items() if len(rows) <= ROWS else ():
                for row, value in zip(rows, values, strict=True):
                    self._writer.add_scalar(f"{name}/{key}/{row}", float(value), step)
        elif kind == "histogram":
            counts = np.atleast_2d(arrays["counts"])
            rows = arrays.get("name", np.array([""] * len(counts)))
            for row, count in zip(rows, counts, strict=True):
                self._histogram(f"{name}/{row}" if row else name, step, arrays["edges"], count)

    def _histogram(self, tag: str, step: int, edges: ndarray, counts: ndarray) -> None:
        middle = (edges[1:] + edges[:-1]) / 2  # the values themselves are gone: moments are those of the bins
        self._writer.add_histogram_raw(
            tag, min=float(edges[0]), max=float(edges[-1]), num=int(counts.sum()), sum=float(counts @ middle),
            sum_squares=float(counts @ middle**2), bucket_limits=edges[1:].tolist(), bucket_counts=counts.tolist(),
            global_step=step,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TensorBoard({self._run!r})"
