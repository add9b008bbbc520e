"""Ensemble stores: conformations on disk, memory-mapped, appended to, and readable while they grow.

A store is a directory::

    header.json      what the arrays are
    x.f32            coordinates, nm, [frames, atoms, 3]
    energy.f64       any number of further arrays, one file each

``header.json`` is UTF-8 JSON with the keys

* ``format``: always ``"molifold-ensemble"``;
* ``version``: 1; a reader refuses any other;
* ``molecule``: the object that ``Molecule.to_json`` writes;
* ``arrays``: ``{name: {"dtype": tag, "shape": [...]}}``, the shape of one frame. Tags are ``f32 f64 i8 i16 i32 i64 u8
  u16 u32 u64 bool``. ``x`` is always there; ``log_p`` and ``log_q`` are the densities of ``Ensemble``; every other
  name is a column. Names match ``[A-Za-z][A-Za-z0-9_]*``;
* ``meta``: any JSON, the provenance.

Array ``name`` lives in the file ``<name>.<tag>``: frame after frame, C order, little endian, no header of its own.
The number of frames is the smallest number of complete frames over all files, so that what a writer has not
finished, or what a crash has torn, is ignored. Files only grow (but see ``Writer.truncate``); the header is replaced
atomically. Other files in the directory are left alone. One writer at a time; any number of readers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

FORMAT = "molifold-ensemble"
VERSION = 1
HEADER = "header.json"

#: Little-endian NumPy dtype of every tag.
DTYPES = {
    "f32": "<f4", "f64": "<f8", "i8": "|i1", "i16": "<i2", "i32": "<i4", "i64": "<i8",
    "u8": "|u1", "u16": "<u2", "u32": "<u4", "u64": "<u8", "bool": "|b1",
}  # fmt: skip

#: Tag and shape of one frame, by array name.
Layout = dict[str, tuple[str, tuple[int, ...]]]


class Writer:
    """Append frames to a store while others read it.

    Args:
        path: directory of the store; created if missing.
        molecule: what the atoms are.
        columns: dtype, or (dtype, shape of one frame), of every column that ``append`` will receive.
        meta: provenance, JSON-able.
        dtype: precision of the coordinates, float32 or float64.
        resume: continue an existing store of the same molecule and columns (if there is none, start one). All files
            are first cut to the common number of complete frames; ``meta`` is merged into what is there.

    Raises:
        FileExistsError: if ``path`` holds a store (and not ``resume``) or a directory of something else.
        ValueError: if a column or ``meta`` cannot be stored, or the store to resume has another layout.

    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Writer(f"{folder}/run", water, columns={"time": "float64"}) as writer:
    ...         writer.append(np.zeros((5, 3, 3)), time=np.arange(5.0))
    ...     load(f"{folder}/run")
    Ensemble('water': 5 frames x 3 atoms; columns time)
    """

    def __init__(
        self,
        path: str | Path,
        molecule: Molecule,
        *,
        columns: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        dtype: Any = np.float32,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.molecule = molecule
        self.meta = dict(meta or {})
        self.frames = 0
        _check_json(self.meta)
        self._layout = _layout(molecule, dtype, columns or {})
        self._files: dict[str, IO[bytes]] = {}
        if resume and (self.path / HEADER).exists():
            self._resume()
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "a store; pass resume=True to continue it" if (self.path / HEADER).exists() else "something else"
            raise FileExistsError(f"path: {self.path} already holds {what}, or choose another path")
        self.path.mkdir(parents=True, exist_ok=True)
        self._open()
        self.truncate(self.frames)
        self._write_header()

    def append(
        self,
        x: Float[ndarray, "frames atoms 3"],
        *,
        log_p: Float[ndarray, " frames"] | None = None,
        log_q: Float[ndarray, " frames"] | None = None,
        **columns: ndarray,
    ) -> None:
        """Add frames (buffered until ``flush``). Whether a store has log_p and log_q, the first append decides.

        Raises:
            ValueError: if an array is missing, unexpected, of another shape, or cannot be cast without loss of kind;
                nothing is written then.
        """
        densities = {k: v for k, v in {"log_p": log_p, "log_q": log_q}.items() if v is not None}
        given = {"x": x, **densities, **columns}
        if self.frames == 0:
            self._declare(densities)
        if given.keys() != self._layout.keys():
            raise ValueError(f"arrays: got {', '.join(given)}, expected {', '.join(self._layout)} in every append")
        ready = {name: _cast(name, value, *self._layout[name]) for name, value in given.items()}
        lengths = {name: len(value) for name, value in ready.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"frames: got different numbers of frames, {lengths}; expected one per frame of x")
        for name, value in ready.items():
            self._files[name].write(value.data)
        self.frames += len(ready["x"])

    def flush(self) -> None:
        """Hand everything appended to the operating system, so that readers see it and a kill does not lose it."""
        for file in self._files.values():
            file.flush()

    def annotate(self, **meta: Any) -> None:
        """Add to the provenance, atomically.

        Raises:
            ValueError: if it cannot be written as JSON.
        """
        _check_json(meta)
        self.meta = {**self.meta, **meta}
        self._write_header()

    def truncate(self, frames: int) -> None:
        """Forget everything after the first ``frames`` frames; readers that hold later ones must open again.

        Raises:
            ValueError: if the store has fewer.
        """
        if not 0 <= frames <= self.frames:
            raise ValueError(f"frames: got {frames}, expected 0 to {self.frames}, what the store holds")
        for name, file in self._files.items():
            file.flush()
            os.truncate(file.fileno(), frames * _row_bytes(*self._layout[name]))
        self.frames = frames

    def close(self) -> None:
        """Flush and close; calling it twice is fine."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Writer({str(self.path)!r}: {self.frames} frames of {self.molecule.name!r}; {', '.join(self._layout)})"

    def _resume(self) -> None:
        molecule, layout, meta = _read_header(self.path)
        if molecule != self.molecule:
            raise ValueError(f"molecule: got {self.molecule!r}, expected {molecule!r}, which {self.path} holds")
        declared = {k: v for k, v in layout.items() if k not in ("log_p", "log_q")}
        if declared != self._layout:
            raise ValueError(f"columns: got {self._layout}, expected {declared}, which {self.path} holds")
        self._layout, self.meta = layout, {**meta, **self.meta}
        self.frames = _frames(self.path, layout)

    def _declare(self, densities: Mapping[str, Any]) -> None:
        wanted = {k: v for k, v in self._layout.items() if k not in ("log_p", "log_q")}
        wanted |= dict.fromkeys(densities, ("f64", ()))
        if wanted.keys() != self._layout.keys():
            self._layout = wanted
            self._open()
            self._write_header()

    def _open(self) -> None:
        # Files before the header, so that a reader never meets an array without its file.
        for name, (tag, _) in self._layout.items():
            if name not in self._files:
                self._files[name] = open(self.path / f"{name}.{tag}", "ab", buffering=1 << 20)  # noqa: SIM115

    def _write_header(self) -> None:
        header = {
            "format": FORMAT,
            "version": VERSION,
            "molecule": json.loads(self.molecule.to_json()),
            "arrays": {name: {"dtype": tag, "shape": list(shape)} for name, (tag, shape) in self._layout.items()},
            "meta": self.meta,
        }
        part = self.path / f"{HEADER}.part"
        part.write_text(json.dumps(header, indent=1), encoding="utf-8")
        part.replace(self.path / HEADER)


def save(ensemble: Ensemble, path: str | Path, *, dtype: Any = np.float32) -> Path:
    """Write a whole ensemble, coordinates in ``dtype``; replaces a store that is there, and nothing else.

    Raises:
        FileExistsError: if ``path`` exists and is not a store, or holds other files too.
        ValueError: if a column cannot be stored.
    """
    path = Path(path)
    _refuse_foreign(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside first: the ensemble may be a memory map of the very store it replaces.
    aside = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        columns = {k: (np.asarray(v).dtype, np.asarray(v).shape[1:]) for k, v in ensemble.columns.items()}
        with Writer(aside, ensemble.molecule, columns=columns, meta=ensemble.meta, dtype=dtype) as writer:
            for start in range(0, max(len(ensemble), 1), 65536):
                part = ensemble[start : start + 65536]
                writer.append(part.x, log_p=part.log_p, log_q=part.log_q, **part.columns)
        if path.exists():
            shutil.rmtree(path)
        aside.replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def load(path: str | Path) -> Ensemble:
    """Open a store as memory maps: the frames that are complete now.

    Raises:
        FileNotFoundError: if there is no store at ``path``.
        ValueError: if its header cannot be read, has another version or an unknown dtype, or a file is missing.
    """
    path = Path(path)
    molecule, layout, meta = _read_header(path)
    frames = _frames(path, layout)
    arrays = {name: _map(path, name, tag, (frames, *shape)) for name, (tag, shape) in layout.items()}
    return Ensemble(
        molecule, arrays.pop("x"), log_p=arrays.pop("log_p", None), log_q=arrays.pop("log_q", None),
        columns=arrays, meta=meta,
    )  # fmt: skip


def _map(path: Path, name: str, tag: str, shape: tuple[int, ...]) -> ndarray:
    if shape[0] == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype=DTYPES[tag])
    return np.memmap(path / f"{name}.{tag}", dtype=DTYPES[tag], mode="r", shape=shape)


def _read_header(path: Path) -> tuple[Molecule, Layout, dict[str, Any]]:
    if not (path / HEADER).is_file():
        found = "a directory without header.json" if path.is_dir() else "a file" if path.exists() else "nothing"
        raise FileNotFoundError(f"path: {path} is {found}, expected an ensemble store; did you mean data.load?")
    try:
        raw = json.loads((path / HEADER).read_text(encoding="utf-8"))
        kind, version = raw["format"], raw["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path: {path / HEADER} is not the header of an ensemble store ({error!r})") from None
    if (kind, version) != (FORMAT, VERSION):
        raise ValueError(
            f"path: {path} is {kind!r} version {version!r}, this molifold reads {FORMAT!r} version {VERSION}; "
            "use the molifold that wrote it"
        )
    layout = {name: (a["dtype"], tuple(a["shape"])) for name, a in raw["arrays"].items()}
    for name, (tag, _) in layout.items():
        _check_name(name)
        if tag not in DTYPES:
            raise ValueError(f"dtype: {path} has {tag!r} for {name!r}, expected one of {', '.join(DTYPES)}")
    return Molecule.from_json(json.dumps(raw["molecule"])), layout, raw["meta"]


def _frames(path: Path, layout: Layout) -> int:
    for name, (tag, _) in layout.items():
        if not (path / f"{name}.{tag}").is_file():
            raise ValueError(f"path: {path} lacks the file {name}.{tag}, which its header names; copy it again")
    return min((path / f"{n}.{tag}").stat().st_size // _row_bytes(tag, shape) for n, (tag, shape) in layout.items())


def _row_bytes(tag: str, shape: tuple[int, ...]) -> int:
    return np.dtype(DTYPES[tag]).itemsize * int(np.prod(shape, dtype=np.int64))


def _layout(molecule: Molecule, dtype: Any, columns: Mapping[str, Any]) -> Layout:
    layout: Layout = {"x": (_tag("x", dtype), (molecule.n_atoms, molecule.dimensions))}
    for name, spec in columns.items():
        _check_name(name)
        if name.lower() in {"x", "log_p", "log_q"} | {other.lower() for other in layout}:
            raise ValueError(f"columns: got the name {name!r}, which is taken (upper and lower case are the same file)")
        kind, shape = spec if isinstance(spec, tuple) else (spec, ())
        if 0 in shape:
            raise ValueError(f"columns: {name!r} has shape {tuple(shape)}, expected at least one number per frame")
        layout[name] = (_tag(name, kind), tuple(int(n) for n in shape))
    return layout


def _check_json(meta: Mapping[str, Any]) -> None:
    try:
        json.dumps(dict(meta))
    except TypeError as error:
        raise ValueError(
            f"meta: got something that JSON cannot hold ({error}); use numbers, text, lists, dicts"
        ) from None


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"columns: got the name {name!r}, expected letters, digits and _, starting with a letter")


def _tag(name: str, dtype: Any) -> str:
    wanted = np.dtype(dtype).newbyteorder("<")
    for tag, stored in DTYPES.items():
        if np.dtype(stored) == wanted:
            return tag
    raise ValueError(f"dtype: got {np.dtype(dtype)} for {name!r}, expected one of {', '.join(DTYPES)}")


def _cast(name: str, value: ndarray, tag: str, shape: tuple[int, ...]) -> ndarray:
    value = np.asarray(value)
    if value.shape[1:] != shape or value.ndim == 0:
        raise ValueError(f"{name}: got shape {list(value.shape)}, expected [frames, {str(list(shape))[1:]}")
    try:
        return np.ascontiguousarray(value.astype(DTYPES[tag], casting="same_kind", copy=False))
    except TypeError:
        raise ValueError(f"{name}: got {value.dtype}, expected something that fits {tag}; convert it first") from None


def _refuse_foreign(path: Path) -> None:
    if not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not path.is_dir() or not (path / HEADER).is_file():
        raise FileExistsError(f"path: {path} exists and is not an ensemble store; choose another path")
    _, layout, _ = _read_header(path)
    foreign = {p.name for p in path.iterdir()} - {HEADER} - {f"{n}.{tag}" for n, (tag, _) in layout.items()}
    if foreign:
        raise FileExistsError(f"path: {path} also holds {', '.join(sorted(foreign))}; move it away, or save elsewhere")
