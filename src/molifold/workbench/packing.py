"""Answers of the workbench as bytes: JSON that points into the arrays behind it, one block a browser reads in place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.plots.encoding import ALIGN, Block
from molifold.runs.files import plain

#: What a typed array of a browser can hold; other kinds are cast to the nearest of them.
DTYPES = {"f": "<f4", "i": "<i4", "u": "<u4", "b": "|u1"}


def pack(tree: Any) -> bytes:
    """JSON-able ``tree`` with arrays in it, as one block.

    Four bytes hold the length of the JSON text; the text follows, padded to a multiple of eight; then the arrays. In
    the text an array is ``{"dtype", "shape", "offset"}``, the offset counted from the first byte after the padding.
    Arrays of float64 and of bytes stay what they are; numbers that are not finite are the strings of a run
    (``runs/FORMAT.md``).

    >>> unpack(pack({"x": np.arange(3.0), "words": ["a", None]}))
    {'x': array([0., 1., 2.]), 'words': ['a', None]}
    """
    block = Block()

    def place(value: Any) -> Any:
        if isinstance(value, ndarray) and value.dtype.kind in "fiub":
            kept = value.dtype in (np.float64, np.uint8)
            return block.place(np.ascontiguousarray(value, dtype=value.dtype if kept else DTYPES[value.dtype.kind]))
        if isinstance(value, Mapping):
            return {str(k): place(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [place(v) for v in value]
        return plain(value)

    return join(json.dumps(place(tree), ensure_ascii=False, allow_nan=False, separators=(",", ":")), *block.parts)


def join(text: str, *parts: bytes | memoryview) -> bytes:
    """One block of a JSON text and the arrays that it points into, such as ``Picture.encode`` gives."""
    head = text.encode()
    pad = b" " * (-(len(head) + 4) % ALIGN)
    return b"".join([len(head + pad).to_bytes(4, "little"), head, pad, *parts])


def unpack(block: bytes) -> Any:
    """Inverse of ``pack`` (arrays are views into ``block``)."""
    size = int.from_bytes(block[:4], "little")
    data = memoryview(block)[4 + size :]

    def found(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"dtype", "shape", "offset"}:
                count = int(np.prod(value["shape"]))
                return np.frombuffer(data, value["dtype"], count, value["offset"]).reshape(value["shape"])
            return {k: found(v) for k, v in value.items()}
        return [found(v) for v in value] if isinstance(value, list) else value

    return found(json.loads(block[4 : 4 + size]))
