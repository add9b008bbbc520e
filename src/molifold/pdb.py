"""PDB and mmCIF files: atoms and coordinates, and what such files may hide: alternate locations, a missing end."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.perception import Fields, complete_bonds, existing, openmm_fields

PDB = (".pdb", ".ent")
MMCIF = (".cif", ".mmcif", ".pdbx")

#: A value of mmCIF: quoted, where a quotation mark ends it only before white space, or a word.
_VALUE = re.compile(r"""'((?:[^']|'(?=\S))*)'(?=\s|$)|"((?:[^"]|"(?=\S))*)"(?=\s|$)|(\S+)""")
#: Columns that together name an atom of mmCIF (of each pair the first that there is).
_NAMES = ("auth_asym_id", "label_asym_id", "auth_seq_id", "label_seq_id", "pdbx_PDB_ins_code", "label_atom_id")


@dataclass(frozen=True)
class _Record:
    """One place of one atom: line of the file, model, what names the atom, label of the place ("": the only one)."""

    line: int
    model: str
    atom: tuple[str, ...]
    label: str
    occupancy: float


def read_pdb(path: str | Path, *, alternate: str | None = None) -> tuple[Fields, Float[ndarray, "1 atoms 3"]]:
    """Fields of a Molecule and coordinates (nm) of the first model of a PDB or mmCIF file; see ``Molecule.from_pdb``.

    Args:
        path: the file.
        alternate: label of the place to take, "A", "B", ..., of atoms that have several; None: the first of each.
    """
    from openmm import app, unit

    path = existing(path, expected="a PDB or mmCIF file")
    text = path.read_text(errors="replace")
    lines = text.splitlines()
    if not text.strip():
        raise ValueError(f"path: {path} is empty, expected a PDB or mmCIF file")
    in_mmcif = path.suffix.lower() in MMCIF
    records = list(_mmcif_records(lines, path) if in_mmcif else _pdb_records(lines, path))
    lines, choice = _one_place_each(lines, records, path=path, alternate=alternate)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on record order; nothing that changes the result
            file = (app.PDBxFile if in_mmcif else app.PDBFile)(io.StringIO("\n".join(lines) + "\n"))
    except Exception as error:  # the parsers raise whatever their line of text leads to
        raise ValueError(f"path: {path} cannot be read as a PDB or mmCIF file: {error!r}") from error
    if file.topology.getNumAtoms() == 0:
        raise ValueError(f"path: {path} holds no atoms, expected ATOM or HETATM records")
    fields = openmm_fields(file.topology)
    x = np.array(file.getPositions(asNumpy=True).value_in_unit(unit.nanometer), dtype=np.float64)[None]
    _check_finite(x, fields, path)
    models = file.getNumFrames()
    told = [f"{models} models; took the first (data.load reads all)"] if models > 1 else []
    for remark in [*told, *filter(None, [choice, _ending(text, in_mmcif=in_mmcif)])]:
        warnings.warn(f"{path.name}: {remark}", stacklevel=3)
    bonds = complete_bonds(fields["elements"], fields["bonds"], x=x[0], residues=fields["residue_ids"])
    return {**fields, "bonds": bonds}, x


def _pdb_records(lines: Sequence[str], path: Path) -> Iterator[_Record]:
    model, opened, closed = "", 0, 0
    for i, line in enumerate(lines):
        kind = line[:6].strip()
        opened, closed = opened + (kind == "MODEL"), closed + (kind == "ENDMDL")
        if kind == "MODEL":
            model = line[6:].strip()
        if kind in ("ATOM", "HETATM"):
            if len(line) < 54 and i == len(lines) - 1:  # z ends in column 54
                raise ValueError(f"path: {path} breaks off in line {i + 1}, {line.strip()!r}; copy it again")
            atom = (line[21:22], line[22:27].strip(), line[12:16].strip())
            yield _Record(i, model, atom, line[16:17].strip(), _number(line[54:60]))
    if opened > closed:
        raise ValueError(f"path: {path} breaks off in model {model}, which has no ENDMDL; copy it again")


def _mmcif_records(lines: Sequence[str], path: Path) -> Iterator[_Record]:
    header = [i for i, line in enumerate(lines) if line.strip().startswith("_atom_site.")]
    if not header:
        raise ValueError(f"path: {path} has no _atom_site records, so it is no mmCIF file of a molecule")
    names = [lines[i].split()[0].removeprefix("_atom_site.") for i in header]
    naming = [names.index(n) for n in _NAMES if n in names]
    first = header[-1] + 1
    if first == len(lines):
        raise ValueError(f"path: {path} breaks off before its first atom; copy it again")
    for i in range(first, len(lines)):
        if not lines[i].strip() or lines[i].lstrip().startswith(("#", "_", "loop_", "data_", ";")):
            return
        row = [next(filter(None, found.groups()), "") for found in _VALUE.finditer(lines[i])]
        if len(row) != len(names):
            if i == len(lines) - 1:
                raise ValueError(f"path: {path} breaks off in line {i + 1}, {lines[i].strip()!r}; copy it again")
            return  # rows of several lines: nobody writes them, and the parser can read them
        value = dict(zip(names, row, strict=True))
        label = value.get("label_alt_id", ".")
        yield _Record(
            i,
            value.get("pdbx_PDB_model_num", "1"),
            tuple(row[k] for k in naming),
            "" if label in (".", "?") else label,
            _number(value.get("occupancy", "")),
        )


def _one_place_each(
    lines: list[str], records: Sequence[_Record], *, path: Path, alternate: str | None
) -> tuple[list[str], str]:
    """The lines without the places that are not wanted, and a remark on what was taken."""
    first = [r for r in records if r.model == records[0].model]  # the parsers want all models alike
    places: dict[tuple[str, ...], list[_Record]] = {}
    for record in first:
        places.setdefault(record.atom, []).append(record)
    several = {atom: found for atom, found in places.items() if len({r.label for r in found}) > 1}
    labels = sorted({r.label for found in several.values() for r in found} - {""})
    if alternate is not None and alternate not in labels:
        there = f"the labels {', '.join(labels)}" if labels else "no atom at several places; leave alternate out"
        raise ValueError(f"alternate: got {alternate!r}, but {path} has {there}")
    if not several:
        return lines, ""
    if alternate is not None:
        have = {atom for atom, found in several.items() if any(r.label == alternate for r in found)}
        dropped = {r.line for r in records if r.atom in have and r.label != alternate}
        return [line for i, line in enumerate(lines) if i not in dropped], ""
    shares = {label: [r.occupancy for f in several.values() for r in f if r.label == label] for label in labels}
    described = ", ".join(f"{label} (mean occupancy {np.mean(share):.2f})" for label, share in shares.items())
    taken = sorted({found[0].label for found in several.values()} - {""})
    others = [label for label in labels if label not in taken] or labels
    return lines, (
        f"{len(several)} {'atom is' if len(several) == 1 else 'atoms are'} at several places, {described}; took the "
        f"first of each, {', '.join(taken)}; for another pass alternate={others[0]!r} (--alternate {others[0]})"
    )


def _ending(text: str, *, in_mmcif: bool) -> str:
    """A remark if the file ends with an atom: without END, TER or the like (in mmCIF: without a last newline)."""
    last = text.splitlines()[-1]
    if not last.startswith(("ATOM", "HETATM", "ANISOU")) or (in_mmcif and text.endswith("\n")):
        return ""
    end = "#" if in_mmcif else "END"
    return f"nothing follows the last atom, so the file may be cut short; if it is whole, end it with a line {end!r}"


def _check_finite(x: Float[ndarray, "1 atoms 3"], fields: Fields, path: Path) -> None:
    broken = np.flatnonzero(~np.isfinite(x[0]).all(axis=1))
    if len(broken):
        i = broken[0]
        raise ValueError(
            f"path: {path} has a coordinate that is not a finite number at atom {fields['atom_names'][i]} of residue "
            f"{fields['residue_names'][i]}{fields['residue_ids'][i]} ({len(broken)} such atoms); the program that "
            "wrote it broke down, so take an earlier frame"
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
