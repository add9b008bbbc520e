"""Ctrl-C and SIGTERM end a training after the current step, with a checkpoint; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; on leaving, the old handler receives that signal."""
    asked, received = threading.Event(), []
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield asked
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        received.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    if received:
        signal.raise_signal(received[0])
