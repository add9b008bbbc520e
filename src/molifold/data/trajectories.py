"""Trajectory files of other programs, read piece by piece through mdtraj and checked on the way."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from molifold.data.structure import structure
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.perception import complete_bonds, existing

if TYPE_CHECKING:
    import mdtraj

OnTruncation = Literal["error", "keep"]
Result = TypeVar("Result")

#: Formats that mdtraj reads in pieces; the others are read whole.
STREAMED = {
    ".dcd", ".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".h5", ".hdf5", ".mdcrd", ".crd", ".lammpstrj", ".xyz",
    ".xyz.gz", ".dtr", ".stk",
}  # fmt: skip

#: Formats that say which atoms they hold.
SELF_DESCRIBING = {
    ".pdb", ".pdb.gz", ".cif", ".cif.gz", ".mmcif", ".pdbx", ".gro", ".h5", ".hdf5", ".mol2",
}  # fmt: skip

#: Formats that hold times; for others mdtraj counts frames.
TIMED = {".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".h5", ".hdf5", ".gro", ".dtr", ".stk"}

STRUCTURES = {".pdb", ".ent", ".cif", ".mmcif", ".pdbx", ".sdf", ".mol", ".mol2", ".xyz"}


def extension(path: Path) -> str:
    """Lower-case extension, with the one before ``.gz``.

    >>> extension(Path("a.PDB.gz"))
    '.pdb.gz'
    """
    parts = [s.lower() for s in path.suffixes]
    return "".join(parts[-2:]) if parts[-1:] == [".gz"] else "".join(parts[-1:])


def topology(path: str | Path) -> Molecule:
    """The molecule of any file that has one: structures, AMBER prmtop, CHARMM psf, gro, mdtraj h5 ...

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read or holds no topology.
    """
    import mdtraj
    from openmm import app

    path = existing(path, expected="a file with a topology (pdb, cif, prmtop, psf, gro, h5, mol2, sdf)")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* models; took the first")  # here they are frames
        if extension(path) in STRUCTURES:
            return structure(path)[0]
        warnings.simplefilter("ignore")  # remarks of parsers, upon which nobody can act
        try:
            if extension(path) in (".gro", ".pdb.gz", ".cif.gz"):
                first = mdtraj.load(str(path))[0]
                molecule = Molecule.from_mdtraj(first.topology, name=path.stem)
                bonds = complete_bonds(molecule.elements, molecule.bonds, x=first.xyz[0], residues=molecule.residue_ids)
                return replace(molecule, bonds=bonds)
            if extension(path) in (".prmtop", ".parm7", ".prm7"):
                return Molecule.from_openmm(app.AmberPrmtopFile(str(path)).topology, name=path.stem)
            return Molecule.from_mdtraj(mdtraj.load_topology(str(path)), name=path.stem)
        except Exception as error:  # mdtraj's parsers raise whatever their line of text leads to
            raise ValueError(f"top: {path} cannot be read as a topology: {_why(error)}") from error


def pieces(path: Path, molecule: Molecule, *, chunk: int, on_truncation: OnTruncation) -> Iterator[Ensemble]:
    """All frames of one file, at most ``chunk`` at a time, with ``time`` (ps) where the format has it."""
    known = molecule.to_mdtraj()
    _check_atoms(path, molecule, known)
    for piece in _whole_frames(path, known, chunk=chunk, on_truncation=on_truncation):
        if piece.unitcell_vectors is not None and molecule.bonds:
            piece.make_molecules_whole(inplace=True)
        columns = {"time": np.asarray(piece.time, dtype=np.float64)} if extension(path) in TIMED else {}
        yield Ensemble(molecule, piece.xyz, columns=columns)


def check_finite(x: np.ndarray, *, path: Path, first: int) -> None:
    """Refuse coordinates that are not numbers.

    Raises:
        ValueError: naming the first such frame and atom.
    """
    if np.isfinite(x).all():
        return
    frame, atom = np.argwhere(~np.isfinite(x))[0][:2]
    raise ValueError(
        f"source: {path} has a coordinate that is not a finite number in frame {first + frame} (the first is 0), atom "
        f"{atom}; the simulation broke down there, so take the frames before it"
    )


def _whole_frames(
    path: Path, known: mdtraj.Topology, *, chunk: int, on_truncation: OnTruncation
) -> Iterator[mdtraj.Trajectory]:
    """Pieces of the file; if it breaks off, all whole frames before that, then an error or a warning."""
    done = 0
    reason = ""
    try:
        for piece in _read(path, known, chunk=chunk):
            done += len(piece)
            yield piece
    except Exception as error:  # each of mdtraj's readers has its own kind
        reason = _why(error)
        try:
            for piece in _read(path, known, chunk=1, skip=done):
                done += len(piece)
                yield piece
        except Exception:  # noqa: S110 (expected: this is where the file breaks off)
            pass
    expected = _expected_frames(path)
    if not reason and (expected is None or expected <= done):
        if not done:
            raise ValueError(f"source: {path} holds no frames")
        return
    if not done:
        raise ValueError(f"source: {path} cannot be read as a {extension(path)} file: {reason}")
    of = f" of {expected}" if expected and expected > done else ""
    message = f"source: {path} breaks off: {done}{of} frames can be read{reason and f' ({reason})'}"
    if on_truncation == "error":
        raise ValueError(f'{message}. Copy it again, or keep the whole frames with on_truncation="keep"')
    warnings.warn(message, stacklevel=2)


def _read(path: Path, known: mdtraj.Topology, *, chunk: int, skip: int = 0) -> Iterator[mdtraj.Trajectory]:
    import mdtraj

    top = {} if extension(path) in SELF_DESCRIBING else {"top": known}
    if extension(path) in STREAMED:
        stream = mdtraj.iterload(str(path), chunk=chunk, skip=skip, **top)
        while (piece := _quietly(lambda: next(stream, None))) is not None:
            yield piece
    elif not skip:
        whole = _quietly(lambda: mdtraj.load(str(path), **top))
        yield from (whole[i : i + chunk] for i in range(0, len(whole), chunk))


def _quietly(read: Callable[[], Result]) -> Result:
    """Without remarks on missing optional packages and unlikely unit cells, upon which nobody can act."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _check_atoms(path: Path, molecule: Molecule, known: mdtraj.Topology) -> None:
    """Refuse a file of another molecule before its frames are read."""
    import mdtraj

    ext = extension(path)
    if ext in SELF_DESCRIBING:
        found = topology(path)
        if found.elements != molecule.elements:
            raise ValueError(f"source: {path} holds {found!r}, expected the atoms of {molecule!r} in the same order")
        return
    if ext not in mdtraj.FormatRegistry.fileobjects:
        kinds = ", ".join(sorted({*mdtraj.FormatRegistry.fileobjects, ".npy", ".npz"}))
        raise ValueError(f"source: got {path}, expected an ensemble store or one of {kinds}")
    if ext not in STREAMED or ext in (".mdcrd", ".crd"):
        return  # such files do not count their atoms; reading them fails instead
    first = _first_frame(path)
    if first.shape[-2] != molecule.n_atoms:
        raise ValueError(
            f"top: {path} has {first.shape[-2]} atoms per frame, but {molecule!r} has {molecule.n_atoms}; give the "
            "topology that was simulated, with or without water as the trajectory"
        )


def _first_frame(path: Path) -> np.ndarray:
    import mdtraj

    try:
        with _quietly(lambda: mdtraj.open(str(path))) as file:
            read = _quietly(lambda: file.read(1))
    except Exception as error:  # each of mdtraj's readers has its own kind
        raise ValueError(f"source: {path} cannot be read as a {extension(path)} file: {_why(error)}") from error
    return read[0] if isinstance(read, tuple) else read


def _expected_frames(path: Path) -> int | None:
    """Frames that the file says it has, where it says so."""
    import mdtraj

    if extension(path) == ".dcd":
        # Bytes 0-3 are the length of the first record (84), 4-7 "CORD", 8-11 the number of frames.
        with path.open("rb") as file:
            head = file.read(12)
        order = "<" if head[:4] == struct.pack("<i", 84) else ">"
        return struct.unpack(f"{order}i", head[8:12])[0]
    if extension(path) in (".xtc", ".trr"):
        with mdtraj.open(str(path)) as file:
            return len(file)
    return None


def _why(error: Exception) -> str:
    if isinstance(error, ImportError) and "tables" in str(error).lower():
        return "mdtraj needs PyTables for HDF5; pip install tables"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
