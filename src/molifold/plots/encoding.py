"""A picture as JSON and one block of bytes, and back: the format of ``FORMAT.md``. Nothing in a file is executed."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.plots.marks import KINDS, Mark
from molifold.plots.picture import Axis, Panel, Picture

VERSION = 1
#: Arrays begin at multiples of this many bytes, so that a browser can look at them in place.
ALIGN = 8
DTYPES = ("<f8", "<i8", "|b1")


class Block:
    """Arrays one behind the other. Copied once only, when ``parts`` are joined: they may be large."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self._size = 0

    def place(self, array: ndarray) -> dict[str, Any]:
        """Put an array behind the others and say where it is."""
        pad = -self._size % ALIGN
        place = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": self._size + pad}
        self.parts += [b"\0" * pad, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data]
        self._size += pad + array.nbytes
        return place


def encode(picture: Picture) -> tuple[str, bytes]:
    """JSON text and array bytes of a picture."""
    block = Block()

    def plain(value: Any) -> Any:
        if isinstance(value, ndarray):
            return block.place(value)
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        if isinstance(value, Mark | Panel | Axis | Picture):
            kind = {"mark": type(value).__name__.lower()} if isinstance(value, Mark) else {}
            return kind | {f.name: plain(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
        return value.item() if isinstance(value, np.generic) else value

    tree = {"format": "molifold picture", "version": VERSION} | plain(picture)
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")), b"".join(block.parts)


def decode(text: str, data: bytes) -> Picture:
    """The picture that ``encode`` gave.

    Raises:
        ValueError: if the text is no picture, or of another version; if an array lies outside of the data.
    """
    tree = json.loads(text)
    if not isinstance(tree, dict) or tree.pop("format", None) != "molifold picture":
        raise ValueError("text: got JSON without format 'molifold picture', expected what Picture.encode gives")
    if (version := tree.pop("version", None)) != VERSION:
        raise ValueError(f"version: got {version}, expected {VERSION}; read the file with the molifold that wrote it")
    panels = tuple(_panel(p, data) for p in tree.pop("panels"))
    return _made(Picture, {**{k: _plain(v) for k, v in tree.items()}, "panels": panels})


def _panel(tree: dict[str, Any], data: bytes) -> Panel:
    marks = tuple(_mark(m, data) for m in tree.pop("marks"))
    axes = {k: _made(Axis, {n: _plain(v) for n, v in tree.pop(k).items()}) for k in ("x", "y")}
    return _made(Panel, {**{k: _plain(v) for k, v in tree.items()}, **axes, "marks": marks})


def _mark(tree: dict[str, Any], data: bytes) -> Mark:
    kind = tree.pop("mark", None)
    if kind not in KINDS:
        raise ValueError(f"mark: got {kind!r}, expected one of {', '.join(KINDS)}")
    return _made(KINDS[kind], {k: _array(v, data) if isinstance(v, dict) else _plain(v) for k, v in tree.items()})


def _made(cls: type, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except TypeError as e:
        raise ValueError(f"{cls.__name__.lower()}: {e}") from e


def _array(place: dict[str, Any], data: bytes) -> ndarray:
    dtype, shape, offset = place["dtype"], tuple(place["shape"]), place["offset"]
    if dtype not in DTYPES or min((offset, *shape)) < 0:
        raise ValueError(f"array: got {place}, expected dtype {' or '.join(DTYPES)}, a shape and an offset")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if offset + count * np.dtype(dtype).itemsize > len(data):
        raise ValueError(f"array: got {place}, beyond the {len(data)} bytes of data; is the .bin of this .json?")
    return np.frombuffer(data, dtype, count, offset).reshape(shape)


def _plain(value: Any) -> Any:
    return tuple(_plain(v) for v in value) if isinstance(value, list) else value
