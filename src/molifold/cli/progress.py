"""Progress on stderr: a live bar in a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Seconds between two plain lines; a log of a night stays readable.
PLAIN_EVERY = 15.0


class Display:
    """One bar per phase of the work. Use as a context manager; call it as a progress callback.

    ``display.phase("sampling")`` starts a new bar; ``display(done, total, ess=0.4)`` moves it. Numbers are shown
    as they come: pass what a user decides by (ns/day, loss, effective sample size).
    """

    def __init__(self, *, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live: Progress | None = None
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("[bold]{task.description:<11}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=self.console,
            )
        self._task: TaskID | None = None
        self._name = ""
        self._started = self._said = time.monotonic()

    def phase(self, name: str) -> Display:
        """Start a new bar; returns self, so that it can be passed on as the callback."""
        self._name, self._started = name, time.monotonic()
        self._said = self._started
        if self._live is not None:
            self._task = self._live.add_task(name, total=None, figures="")
        else:
            self._line(f"{name} ...")
        return self

    def __call__(self, done: float, total: float, **figures: float | str) -> None:
        """Move the bar to ``done`` of ``total`` and show the figures."""
        shown = "  ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items())
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=total, figures=shown)
            return
        now = time.monotonic()
        if done < total and now - self._said < PLAIN_EVERY:
            return
        self._said = now
        elapsed = now - self._started
        left = f"{_duration(elapsed / done * (total - done))} left" if 0 < done < total else _duration(elapsed)
        self._line("  ".join(filter(None, [f"{self._name} {100 * done / max(total, 1e-12):.0f} %", shown, left])))

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._live is not None:
            self._live.console.print(text, highlight=False)
        else:
            self._line(text)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _line(self, text: str) -> None:
        # Not through Rich: it would wrap a log at 80 columns.
        print(text, file=self.console.file if self.console.file is not sys.stdout else sys.stderr, flush=True)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"
