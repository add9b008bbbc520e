"""Conformations from files: everything that mdtraj reads, NumPy arrays, and our own stores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from molifold import store
from molifold.data.arrays import array_pieces
from molifold.data.trajectories import SELF_DESCRIBING, OnTruncation, check_finite, extension, pieces, topology
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

Source = str | Path | Sequence[str | Path]

#: Frames held at a time while a file is read.
CHUNK = 4096


def load(
    source: Source,
    *,
    molecule: Molecule | None = None,
    top: str | Path | None = None,
    unit: str | None = None,
    stride: int = 1,
    on_truncation: OnTruncation = "error",
) -> Ensemble:
    """Conformations of one or several files, with columns ``trajectory`` (0, 1, ...) and, where present, ``time`` (ps).

    Coordinates come out in nm. A periodic cell is dropped: every molecule is first made whole along its bonds, and
    molecules stay where that leaves them. One store, and an npy file in nm, stay memory maps.

    Args:
        source: file or files of one molecule: any format of mdtraj (dcd, xtc, trr, nc, h5, pdb, cif, gro, xyz ...),
            npy, npz, or an ensemble store (a directory).
        molecule: what the atoms are, in the order of the files.
        top: instead of ``molecule``, a file that says so (pdb, cif, prmtop, psf, gro ...); neither is needed if the
            source does.
        unit: of the coordinates in npy and npz files: "nm", "angstrom", "bohr" or "pm". Other formats define theirs.
        stride: take every ``stride``-th frame of every file.
        on_truncation: what to do when a file breaks off: "error", or "keep" its whole frames and warn.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file is of another molecule, breaks off, cannot be read or has coordinates that are not finite;
            if the molecule or the unit is missing; if an argument makes no sense.

    >>> import tempfile
    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/water.npy", np.zeros((6, 3, 3)))
    ...     load(f"{folder}/water.npy", molecule=water, unit="angstrom", stride=2)
    Ensemble('water': 3 frames x 3 atoms; columns trajectory)
    """
    parts = list(_parts(source, molecule, top=top, unit=unit, stride=stride, chunk=None, on_truncation=on_truncation))
    whole = parts[0] if len(parts) == 1 else Ensemble.concat(parts)
    return replace(whole, meta={**_provenance(source, unit=unit, stride=stride), **whole.meta})


def convert(
    source: Source,
    store_path: str | Path,
    *,
    molecule: Molecule | None = None,
    top: str | Path | None = None,
    unit: str | None = None,
    stride: int = 1,
    chunk: int = CHUNK,
    on_truncation: OnTruncation = "error",
) -> Path:
    """Write what ``load`` would return to an ensemble store, with at most ``chunk`` frames in memory.

    (PDB, mmCIF, npz and single-frame formats are read whole, one file at a time.) If anything fails, no store is left.

    Raises:
        FileExistsError: if there is something at ``store_path``.
        ValueError, FileNotFoundError: as ``load``.

    >>> import tempfile
    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/water.npy", np.zeros((6, 3, 3)))
    ...     load(convert(f"{folder}/water.npy", f"{folder}/store", molecule=water, unit="nm"))
    Ensemble('water': 6 frames x 3 atoms; columns trajectory)
    """
    if chunk < 1:
        raise ValueError(f"chunk: got {chunk}, expected a positive number of frames")
    path = Path(store_path)
    parts = _parts(source, molecule, top=top, unit=unit, stride=stride, chunk=chunk, on_truncation=on_truncation)
    first = next(parts)
    columns = {k: (v.dtype, v.shape[1:]) for k, v in first.columns.items()}
    meta = {**_provenance(source, unit=unit, stride=stride), **first.meta}
    writer = store.Writer(path, first.molecule, columns=columns, meta=meta)
    try:
        with writer:
            for part in chain([first], parts):
                writer.append(part.x, log_p=part.log_p, log_q=part.log_q, **part.columns)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _parts(
    source: Source,
    molecule: Molecule | None,
    *,
    top: str | Path | None,
    unit: str | None,
    stride: int,
    chunk: int | None,
    on_truncation: OnTruncation,
) -> Iterator[Ensemble]:
    """Ensembles that make up the sources, one after the other; arrays and stores in one part if ``chunk`` is None."""
    paths = _paths(source)
    if stride < 1:
        raise ValueError(f"stride: got {stride}, expected a positive number of frames")
    if on_truncation not in ("error", "keep"):
        raise ValueError(f"on_truncation: got {on_truncation!r}, expected 'error' or 'keep'")
    molecule = _molecule(paths[0], molecule, top)
    trajectory = 0
    for path in paths:
        read = last = 0
        for part in _file(path, molecule, unit=unit, chunk=chunk, on_truncation=on_truncation):
            part = _numbered(part, first=trajectory)
            last = max(last, int(part.columns["trajectory"].max(initial=trajectory)))
            yield part[-read % stride :: stride]
            read += len(part)
        trajectory = last + 1


def _numbered(part: Ensemble, *, first: int) -> Ensemble:
    """With a column ``trajectory`` that starts at ``first``; one that is there is shifted."""
    own = part.columns.get("trajectory")
    if own is None:
        return part.assign(trajectory=np.full(len(part), first, dtype=np.int32))
    return part if first == 0 else part.assign(trajectory=np.asarray(own) + np.asarray(own).dtype.type(first))


def _file(
    path: Path, molecule: Molecule, *, unit: str | None, chunk: int | None, on_truncation: OnTruncation
) -> Iterator[Ensemble]:
    if extension(path) in (".npy", ".npz"):
        parts = array_pieces(path, molecule, unit=unit, chunk=chunk)
    elif unit is not None:
        raise ValueError(f"unit: got {unit!r} for {path}, which defines its own unit; leave unit out")
    elif _is_store(path):
        parts = _store_pieces(path, molecule, chunk=chunk)
    else:
        parts = pieces(path, molecule, chunk=chunk or CHUNK, on_truncation=on_truncation)
    first = 0
    for part in parts:
        for i in range(0, len(part), CHUNK):  # a piece at a time, because it may be a large memory map
            check_finite(part.x[i : i + CHUNK], path=path, first=first + i)
        first += len(part)
        yield part


def _is_store(path: Path) -> bool:
    return path.is_dir() and (path / store.HEADER).is_file()


def _store_pieces(path: Path, molecule: Molecule, *, chunk: int | None) -> Iterator[Ensemble]:
    whole = store.load(path)
    if whole.molecule.elements != molecule.elements:
        raise ValueError(f"source: {path} holds {whole.molecule!r}, expected {molecule!r}")
    size = chunk or max(len(whole), 1)
    for start in range(0, max(len(whole), 1), size):
        yield replace(whole[start : start + size], molecule=molecule)


def _paths(source: Source) -> list[Path]:
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(s) for s in source]
    if not paths:
        raise ValueError("source: got no file, expected at least one")
    missing = [str(p) for p in paths if not p.exists()]
    if missing:
        raise FileNotFoundError(f"source: no file {', '.join(missing)}, expected trajectories, arrays or a store")
    return paths


def _molecule(path: Path, molecule: Molecule | None, top: str | Path | None) -> Molecule:
    """What the first source, or the caller, says that the atoms are."""
    if molecule is not None and top is not None:
        raise ValueError("top: got molecule as well, expected one of the two")
    if molecule is not None:
        return molecule
    if top is not None:
        return topology(top)
    if _is_store(path):
        return store.load(path).molecule
    if extension(path) in SELF_DESCRIBING:
        return topology(path)
    raise ValueError(f"top: missing; {path} does not say what its atoms are, so pass top= (a pdb, say) or molecule=")


def _provenance(source: Source, *, unit: str | None, stride: int) -> dict[str, object]:
    return {"source": [str(p) for p in _paths(source)], "unit": unit, "stride": stride}
