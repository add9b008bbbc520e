"""The run directory: what a training leaves behind, written by one process, read by any number. NumPy only.

``FORMAT.md`` beside this file is the contract; anybody's program may write or read it.
"""

from molifold.runs.inbox import Request
from molifold.runs.lock import RunBusyError
from molifold.runs.run import Run, RunFormatError
from molifold.runs.writer import Writer

__all__ = ["Request", "Run", "RunBusyError", "RunFormatError", "Writer"]
