"""Files that are always whole: atomic JSON and arrays, and line logs whose torn tail is ignored."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy import ndarray

#: JSON has no non-finite numbers; these strings stand for them.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file, then rename it to ``path``: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600; a colleague must be able to read a shared run.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object atomically."""
    text = json.dumps(plain(value), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``."""
    return restored(json.loads(path.read_text()))


def write_arrays(path: Path, arrays: Mapping[str, ndarray]) -> None:
    """Write an npz atomically; object arrays are refused (they would need pickle)."""
    whole = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in whole.items():
        if value.dtype.hasobject:
            raise TypeError(f"{name}: got dtype object, expected numbers, booleans or text (no pickle in a run)")
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **whole))


def read_arrays(path: Path) -> dict[str, ndarray]:
    """The arrays of an npz; never unpickles."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def append_line(file: IO[bytes], row: Mapping[str, Any]) -> None:
    """Append one JSON line in a single write, so that only the very last line of a file can be torn."""
    file.write((json.dumps(plain(row), allow_nan=False) + "\n").encode())
    file.flush()


def read_lines(path: Path, *, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from byte ``start`` on, and the byte after the last whole line; a torn tail is left for later."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole = data[: data.rfind(b"\n") + 1]
    return [restored(json.loads(line)) for line in whole.splitlines() if line.strip()], start + len(whole)


def truncate_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> int:
    """Cut ``path`` before the first whole line that ``keep`` refuses, and any torn tail; return its new length."""
    end = 0
    if not path.exists():
        path.touch()
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n") or not keep(restored(json.loads(line))):
                break
            end += len(line)
        file.truncate(end)
    return end


def plain(value: Any) -> Any:
    """``value`` with NumPy scalars, paths, tuples and non-finite numbers turned into what JSON has."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if isinstance(value, Path) else value


def restored(value: Any) -> Any:
    """What ``plain`` was given, as far as JSON can tell (non-finite numbers come back)."""
    if isinstance(value, dict):
        return {k: restored(v) for k, v in value.items()}
    if isinstance(value, list):
        return [restored(v) for v in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
