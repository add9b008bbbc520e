"""Conformations in NumPy files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.perception import existing
from molifold.units import LENGTH, length_factor

#: Names under which coordinates are found in published npz files, in order of preference.
COORDINATES = ("x", "xyz", "positions", "coordinates", "coords", "pos", "R", "arr_0")


def array_pieces(path: Path, molecule: Molecule, *, unit: str | None, chunk: int | None) -> Iterator[Ensemble]:
    """Coordinates [frames, atoms, 3] or [frames, atoms * 3] of an npy or npz file, in nm, ``chunk`` frames at a time.

    An npy file in nm stays a memory map. Arrays of an npz file with one entry per frame become columns.
    """
    if unit is None:
        known = ", ".join(map(repr, LENGTH))
        raise ValueError(f"unit: missing; {path} does not say its unit of length, so pass unit= one of {known}")
    factor = length_factor(unit)
    arrays = _arrays(existing(path, expected="an npy or npz file"))
    name, x = _coordinates(arrays, molecule, path)
    x = x.reshape(-1, molecule.n_atoms, molecule.dimensions)
    others = {k: v for k, v in arrays.items() if k != name and v.ndim and len(v) == len(x) and v.dtype.kind in "fiub"}
    log_p, log_q = others.pop("log_p", None), others.pop("log_q", None)
    columns = {re.sub(r"^[^A-Za-z]+|\W", "_", k).lstrip("_") or "column": v for k, v in others.items()}
    whole = Ensemble(molecule, x, log_p=log_p, log_q=log_q, columns=columns)
    size = chunk or max(len(whole), 1)
    for start in range(0, max(len(whole), 1), size):
        part = whole[start : start + size]
        if factor != 1.0 or x.dtype.kind != "f":
            scaled = part.x * factor
            part = replace(part, x=scaled.astype(x.dtype if x.dtype.kind == "f" else np.float64))
        yield part


def _arrays(path: Path) -> dict[str, ndarray]:
    try:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, ndarray):
            return {"x": loaded}
        with loaded:
            return {k: loaded[k] for k in loaded.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"source: {path} cannot be read as a NumPy file of numbers: {error}; pickled objects are refused because "
            "loading them can run any code"
        ) from error


def _coordinates(arrays: dict[str, ndarray], molecule: Molecule, path: Path) -> tuple[str, ndarray]:
    """The one array that has the molecule's shape."""
    n, d = molecule.n_atoms, molecule.dimensions
    fitting = {k: v for k, v in arrays.items() if v.shape[1:] in ((n, d), (n * d,)) and v.dtype.kind in "fiu"}
    preferred = [k for k in COORDINATES if k in fitting] or (list(fitting) if len(fitting) == 1 else [])
    if not preferred:
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
        raise ValueError(
            f"source: {path} holds {shapes}; expected coordinates [frames, {n}, {d}] or [frames, {n * d}] of "
            f"{molecule!r}, in an npz file under one of the names {', '.join(COORDINATES)}"
        )
    return preferred[0], fitting[preferred[0]]
