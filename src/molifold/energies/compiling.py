"""njit with a cache on disk that notices when a kernel it calls has changed."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit


@cache
def _stamp(folder: Path) -> str:
    """Digest of the source files that compiled code may come from: the kernels, and all files beside the function."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    kernels = (*sorted(here.glob("kernels*.py")), *sorted(here.glob("simd*.py")), here / "parameters.py")
    for path in (*kernels, *sorted(folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator like ``numba.njit(cache=True, nogil=True, error_model="numpy")`` for functions that call kernels.

    Numba looks only at the file of the function itself when it decides whether its compiled form on disk is still good;
    after a change in a file that it calls, it would go on computing with the old one. Where nothing can be written,
    the function is compiled anew in every process.

    Args:
        options: further options of ``njit``.

    >>> @compiled()
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # no directory can be written, or the function has no file
            return dispatcher
        index = dispatcher._cache._cache_file
        index._source_stamp = (index._source_stamp, _stamp(Path(inspect.getfile(function)).parent))
        return dispatcher

    return decorate
