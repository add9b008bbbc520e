"""PDB and mmCIF files with alternate locations, several models, a missing end. Reference: mdtraj's own readers."""

from __future__ import annotations

import warnings

import mdtraj
import numpy as np
import pytest

from molifold.data import load, structure
from molifold.data.examples import FILES
from molifold.molecule import Molecule

#: A water whose hydrogen H1 is at two places, the second of them the more likely; and a methanol that is at one.
ATOMS = [
    # name, place, residue, number, angstrom, occupancy
    ("O", "", "HOH", 1, (0.0, 0.0, 0.0), 1.0),
    ("H1", "A", "HOH", 1, (0.96, 0.0, 0.0), 0.4),
    ("H1", "B", "HOH", 1, (0.0, 0.96, 0.0), 0.6),
    ("H2", "", "HOH", 1, (-0.24, -0.93, 0.0), 1.0),
    ("C", "", "MOH", 2, (5.0, 0.0, 0.0), 1.0),
    ("O'", "", "MOH", 2, (6.4, 0.0, 0.0), 1.0),
]
MMCIF_COLUMNS = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id", "label_seq_id",
    "auth_seq_id", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "pdbx_PDB_model_num",
)  # fmt: skip


def pdb(atoms, *, model=None, end="END\n"):
    lines = [
        f"ATOM  {i + 1:5d} {name:<4s}{place or ' '}{residue:>3s} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"{occupancy:6.2f}  0.00          {name[0]:>2s}\n"
        for i, (name, place, residue, number, (x, y, z), occupancy) in enumerate(atoms)
    ]
    inside = "".join(lines)
    return inside + end if model is None else f"MODEL     {model:4d}\n{inside}ENDMDL\n"


def mmcif(atoms, *, end="#\n"):
    head = "data_test\n#\nloop_\n" + "".join(f"_atom_site.{c}\n" for c in MMCIF_COLUMNS)
    rows = []
    for i, (name, place, residue, number, (x, y, z), occupancy) in enumerate(atoms):
        quoted = f'"{name}"' if "'" in name else name
        rows.append(
            f"ATOM {i + 1} {name[0]} {quoted} {place or '.'} {residue} A {number} {number} {x} {y} {z} {occupancy} 1\n"
        )
    return head + "".join(rows) + end


WRITERS = {"pdb": pdb, "cif": mmcif}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    path = tmp_path / f"water.{request.param}"
    path.write_text(WRITERS[request.param](ATOMS))
    return path


def read_silently(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return structure(path, **options)


# ------------------------------------------------------------------------------------------- alternate locations


def test_the_first_place_is_taken_and_the_others_are_offered(written):
    said = (
        rf"{written.name}: 1 atom is at several places, A \(mean occupancy 0.40\), B \(mean occupancy 0.60\); took the "
        r"first of each, A; for another pass alternate='B' \(--alternate B\)"
    )
    with pytest.warns(UserWarning, match=said):
        molecule, x = structure(written)
    assert molecule.n_atoms == 5
    assert x[0] == pytest.approx(mdtraj.load(str(written)).xyz[0], abs=1e-4)
    with pytest.warns(UserWarning, match=said):
        assert Molecule.from_pdb(written) == molecule


@pytest.mark.parametrize(("label", "place"), [("A", (0.096, 0.0, 0.0)), ("B", (0.0, 0.096, 0.0))])
def test_the_place_that_is_asked_for_is_taken(written, label, place):
    molecule, x = read_silently(written, alternate=label)
    assert molecule == Molecule.from_pdb(written, alternate=label)
    assert molecule.n_atoms == 5
    assert molecule.atom_names == ("O", "H1", "H2", "C", "O'")
    assert x[0, 1] == pytest.approx(place)
    assert x[0, [0, 2, 3, 4]] * 10 == pytest.approx(np.array([ATOMS[i][4] for i in (0, 3, 4, 5)]))


def test_places_that_are_not_there(written, tmp_path):
    with pytest.raises(ValueError, match=r"alternate: got 'C', but .*water\.\w+ has the labels A, B"):
        structure(written, alternate="C")
    whole = written.with_stem("whole")
    whole.write_text(WRITERS[written.suffix[1:]]([a for a in ATOMS if a[1] != "B"]))
    with pytest.raises(ValueError, match="alternate: got 'B', but .* has no atom at several places; leave alternate"):
        structure(whole, alternate="B")
    with pytest.raises(ValueError, match="alternate: got 'B' with sequence, expected it with a PDB or mmCIF file only"):
        structure(sequence="A", alternate="B")
    (tmp_path / "a.xyz").write_text("1\n\nO 0 0 0\n")
    with pytest.raises(ValueError, match=r"alternate: got 'B' for .*a.xyz, expected it with a PDB"):
        structure(tmp_path / "a.xyz", alternate="B")


def test_loading_frames_says_so_too(written):
    with pytest.warns(UserWarning, match="took the first of each, A"):
        ensemble = load(written)
    assert ensemble.x[0, 1] == pytest.approx([0.096, 0, 0], abs=1e-6)


# ------------------------------------------------------------------------------------------- models, and their end


def test_of_several_models_the_first_is_taken_with_a_warning(tmp_path):
    path = tmp_path / "nmr.pdb"
    moved = [(*a[:4], tuple(c + 1 for c in a[4]), a[5]) for a in ATOMS]
    kept = [[a for a in atoms if a[1] != "B"] for atoms in (ATOMS, moved)]
    path.write_text("".join(pdb(atoms, model=k + 1) for k, atoms in enumerate(kept)))
    with pytest.warns(UserWarning, match=r"nmr.pdb: 2 models; took the first \(data.load reads all\)"):
        _, x = structure(path)
    assert x[0, 0] == pytest.approx([0, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(path).x[:, 0, 0] == pytest.approx([0, 0.1], abs=1e-6)


@pytest.mark.parametrize("columns", [20, 34, 52])
def test_a_file_cut_within_an_atom_is_an_error(written, columns):
    lines = written.read_text().splitlines()
    last = next(i for i, line in enumerate(lines) if line.startswith("ATOM") and " C " in line)
    written.write_text("\n".join([*lines[:last], lines[last][: columns if written.suffix == ".pdb" else columns // 2]]))
    with pytest.raises(
        ValueError, match=rf"path: .*{written.name} breaks off in line {last + 1}, 'ATOM.*; copy it again"
    ):
        structure(written, alternate="A")


def test_a_file_cut_within_a_model_is_an_error(tmp_path):
    path = tmp_path / "nmr.pdb"
    path.write_text(pdb(ATOMS, model=1) + pdb(ATOMS, model=2).removesuffix("ENDMDL\n"))
    with pytest.raises(ValueError, match=r"path: .*nmr.pdb breaks off in model 2, which has no ENDMDL; copy it again"):
        structure(path)


@pytest.mark.parametrize(("extension", "end"), [("pdb", "END"), ("cif", "#")])
def test_a_file_that_may_be_cut_between_atoms_is_a_warning(extension, end, tmp_path):
    path = tmp_path / f"water.{extension}"
    path.write_text(WRITERS[extension](ATOMS[4:], end="").rstrip("\n"))
    with pytest.warns(UserWarning, match=rf"may be cut short; if it is whole, end it with a line '{end}'"):
        assert structure(path)[0].n_atoms == 2
    path.write_text(path.read_text() + "\n" + end)
    assert read_silently(path)[0].n_atoms == 2


@pytest.mark.parametrize("name", ["ace-a3-nme.pdb", "ace-a5-nme.pdb", "butane.pdb"])
def test_files_in_order_pass_in_silence(name):
    read_silently(FILES / name)


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.pdb").write_text("\n")
    (tmp_path / "header.pdb").write_text("REMARK nothing\nEND\n")
    (tmp_path / "text.cif").write_text("this is not a cif file")
    (tmp_path / "head.cif").write_text("data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n")
    (tmp_path / "unknown.pdb").write_text(pdb([("QQ", "", "LIG", 1, (0, 0, 0), 1.0)]).replace(" Q\n", "  \n"))
    (tmp_path / "nan.pdb").write_text(pdb([("C", "", "LIG", 1, (0, float("nan"), 0), 1.0)]))
    cases = {
        "missing.pdb": (FileNotFoundError, "path: no file .*missing.pdb"),
        "empty.pdb": (ValueError, "path: .*empty.pdb is empty"),
        "header.pdb": (ValueError, "path: .*header.pdb (holds no atoms|cannot be read)"),
        "text.cif": (ValueError, "path: .*text.cif has no _atom_site records, so it is no mmCIF file of a molecule"),
        "head.cif": (ValueError, "path: .*head.cif breaks off before its first atom; copy it again"),
        "unknown.pdb": (ValueError, "atom 'QQ' of residue 'LIG' has no known chemical element"),
        "nan.pdb": (ValueError, r"nan.pdb has a coordinate that is not a finite number at atom C of residue LIG1 \(1 "),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, (kind, message) in cases.items():
            with pytest.raises(kind, match=message):
                Molecule.from_pdb(tmp_path / name)
