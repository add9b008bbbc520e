"""Readers on small files that mdtraj, NumPy and the store wrote, and every way in which a file can be wrong."""

from __future__ import annotations

import sys
import warnings

import mdtraj
import numpy as np
import pytest

from molifold import data, store
from molifold.data import sources, trajectories
from molifold.ensemble import Ensemble
from molifold.geometry import distances
from molifold.molecule import Molecule

FRAMES = 11
PROPANE = Molecule.from_smiles("CCC")
BONDS = np.array(PROPANE.bonds)

#: Extension, keeps times, largest error in nm.
FORMATS = {
    "dcd": (False, 1e-6), "xtc": (True, 6e-4), "trr": (True, 1e-6), "nc": (True, 1e-6), "netcdf": (True, 1e-6),
    "pdb": (False, 6e-5), "pdb.gz": (False, 6e-5), "cif": (False, 6e-5), "gro": (True, 6e-4), "xyz": (False, 6e-5),
    "xyz.gz": (False, 6e-5), "mdcrd": (False, 6e-5),
}  # fmt: skip
BINARY = ["dcd", "xtc", "trr", "nc"]


@pytest.fixture(scope="module")
def trajectory():
    _, x = data.structure(smiles="CCC")
    rng = np.random.default_rng(0)
    return mdtraj.Trajectory(
        x + rng.normal(0, 0.003, (FRAMES, PROPANE.n_atoms, 3)), PROPANE.to_mdtraj(), time=2.0 * np.arange(FRAMES)
    )


@pytest.fixture
def written(trajectory, tmp_path):
    def write(extension, *, of=trajectory, name="run"):
        path = tmp_path / f"{name}.{extension}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            of.save(str(path))
        return path

    return write


# ------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format(extension, written, trajectory):
    timed, tolerance = FORMATS[extension]
    e = data.load(written(extension), molecule=PROPANE)
    assert e.molecule is PROPANE
    assert np.abs(e.x - trajectory.xyz).max() < tolerance
    assert e.columns["trajectory"].tolist() == [0] * FRAMES
    assert ("time" in e.columns) == timed
    if timed:
        assert e.columns["time"] == pytest.approx(trajectory.time)


def test_hdf5(written, trajectory):
    path = written("h5")
    e = data.load(path)
    assert e.molecule.elements == PROPANE.elements
    assert e.x == pytest.approx(trajectory.xyz)
    assert e.columns["time"] == pytest.approx(trajectory.time)


@pytest.mark.parametrize("extension", ["pdb", "gro", "cif", "pdb.gz"])
def test_files_that_know_their_molecule(extension, written):
    e = data.load(written(extension))
    assert e.molecule.elements == PROPANE.elements
    assert e.molecule.bonds == PROPANE.bonds
    assert len(e) == FRAMES  # every model is a frame


@pytest.mark.parametrize("extension", ["pdb", "gro"])
def test_topology_from_another_file(extension, written):
    e = data.load(written("xtc"), top=written(extension, name="top"))
    assert e.molecule.bonds == PROPANE.bonds


def test_topology_from_prmtop():
    from molifold.data.examples import FILES

    molecule = trajectories.topology(FILES / "alanine-dipeptide.prmtop")
    assert molecule == data.example("alanine-dipeptide").molecule


@pytest.mark.parametrize("extension", ["dcd", "xtc", "xyz", "pdb"])
@pytest.mark.parametrize("stride", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
def test_stride_takes_the_same_frames_in_any_pieces(extension, stride, chunk, written, monkeypatch):
    path = written(extension)
    whole = data.load(path, molecule=PROPANE)
    monkeypatch.setattr(sources, "CHUNK", chunk)
    assert np.array_equal(data.load(path, molecule=PROPANE, stride=stride).x, whole.x[::stride])


def test_several_files_are_several_trajectories(written, trajectory):
    paths = [written("xtc", name="a"), written("dcd", name="b"), written("xtc", of=trajectory[:3], name="c")]
    e = data.load(paths, molecule=PROPANE, stride=2)
    assert e.columns["trajectory"].tolist() == [0] * 6 + [1] * 6 + [2] * 2
    assert list(e.columns) == ["trajectory"]  # a dcd file has no time
    assert "time" in data.load(paths[::2], molecule=PROPANE).columns
    assert e.meta["source"] == [str(p) for p in paths]


@pytest.mark.parametrize("unit", ["nm", "angstrom", "bohr"])
@pytest.mark.parametrize("flat", [True, False])
def test_arrays(unit, flat, tmp_path, trajectory):
    from molifold.units import LENGTH

    x = trajectory.xyz / np.float32(LENGTH[unit])
    np.save(tmp_path / "x.npy", x.reshape(FRAMES, -1) if flat else x)
    e = data.load(tmp_path / "x.npy", molecule=PROPANE, unit=unit)
    assert e.x == pytest.approx(trajectory.xyz, rel=1e-6)
    assert e.x.dtype == np.float32
    assert isinstance(e.x, np.memmap) == (unit == "nm")


def test_npz_brings_its_columns(tmp_path, trajectory):
    u = np.arange(FRAMES) * 1.5
    forces = np.zeros_like(trajectory.xyz)
    np.savez(tmp_path / "a.npz", positions=trajectory.xyz, forces=forces, u=u, log_p=-u, z=[6, 1], **{"E (eV)": u})
    e = data.load(tmp_path / "a.npz", molecule=PROPANE, unit="nm")
    assert np.array_equal(e.x, trajectory.xyz)
    assert e.log_p.tolist() == (-u).tolist()
    assert set(e.columns) == {"forces", "u", "E__eV_", "trajectory"}


def test_toys_have_their_own_dimensions(tmp_path):
    np.save(tmp_path / "dw4.npy", np.arange(24.0).reshape(3, 8))
    e = data.load(tmp_path / "dw4.npy", molecule=data.example("dw4").molecule, unit="nm")
    assert e.x.shape == (3, 4, 2)
    assert e.x[0, 1].tolist() == [2.0, 3.0]


def test_stores_are_joined_and_renumbered(tmp_path, trajectory):
    e = Ensemble(PROPANE, trajectory.xyz, log_p=np.zeros(FRAMES), columns={"trajectory": np.arange(FRAMES) // 6})
    store.save(e, tmp_path / "a")
    one = data.load(tmp_path / "a")
    assert isinstance(one.x, np.memmap)
    assert one.log_p is not None
    two = data.load([tmp_path / "a", tmp_path / "a"])
    assert two.columns["trajectory"].tolist() == [*(np.arange(FRAMES) // 6), *(np.arange(FRAMES) // 6 + 2)]


def test_molecules_come_out_whole(trajectory, written):
    """A triclinic cell, every atom wrapped into it, and the molecule sitting on a corner."""
    cell = np.array([[0.9, 0, 0], [0.2, 0.8, 0], [-0.3, 0.1, 0.7]])
    rng = np.random.default_rng(1)
    moved = trajectory.xyz + rng.uniform(-2, 2, (FRAMES, 1, 3))
    fractional = moved @ np.linalg.inv(cell)
    wrapped = mdtraj.Trajectory((fractional % 1) @ cell, trajectory.topology, time=trajectory.time)
    wrapped.unitcell_vectors = np.repeat(cell[None], FRAMES, axis=0)
    broken = distances(wrapped.xyz, BONDS).max(1) > 0.2
    assert broken.sum() > 5
    e = data.load(written("xtc", of=wrapped), molecule=PROPANE)
    assert distances(e.x, BONDS) == pytest.approx(distances(trajectory.xyz, BONDS), abs=2e-3)


# ------------------------------------------------------------------------------------------------- conversion


@pytest.mark.parametrize("extension", ["dcd", "xtc", "nc", "pdb"])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_conversion_is_loading(extension, chunk, written, tmp_path):
    paths = [written(extension, name="a"), written(extension, name="b")]
    done = data.convert(paths, tmp_path / "store", molecule=PROPANE, stride=2, chunk=chunk)
    expected, found = data.load(paths, molecule=PROPANE, stride=2), data.load(done)
    assert np.array_equal(found.x, expected.x)
    assert found.columns.keys() == expected.columns.keys()
    for name in expected.columns:
        assert np.array_equal(found.columns[name], expected.columns[name])
    assert found.meta["stride"] == 2
    assert found.meta["source"] == [str(p) for p in paths]


def test_conversion_of_arrays_and_stores(tmp_path, trajectory):
    np.save(tmp_path / "x.npy", trajectory.xyz * 10)
    data.convert(tmp_path / "x.npy", tmp_path / "a", molecule=PROPANE, unit="angstrom", chunk=4)
    assert data.load(tmp_path / "a").x == pytest.approx(trajectory.xyz, rel=1e-6)
    data.convert([tmp_path / "a"] * 2, tmp_path / "b", chunk=4)
    assert data.load(tmp_path / "b").columns["trajectory"].tolist() == [0] * FRAMES + [1] * FRAMES


def test_conversion_holds_one_piece_at_a_time(written, tmp_path, monkeypatch):
    sizes = []
    append = store.Writer.append

    def spy(self, x, **columns):
        sizes.append(len(x))
        append(self, x, **columns)

    monkeypatch.setattr(store.Writer, "append", spy)
    data.convert(written("dcd"), tmp_path / "store", molecule=PROPANE, chunk=4)
    assert sizes == [4, 4, 3]


def test_a_failed_conversion_leaves_nothing(written, trajectory, tmp_path):
    broken = trajectory[:]
    broken.xyz[8, 2, 1] = np.nan
    path = written("dcd", of=broken)
    with pytest.raises(ValueError, match="frame 8"):
        data.convert(path, tmp_path / "store", molecule=PROPANE, chunk=4)
    assert not (tmp_path / "store").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError):
        data.convert(written("xtc"), tmp_path / "full", molecule=PROPANE)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


# ---------------------------------------------------------------------------------------------------- mistakes


def halved(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.503)])
    return path


@pytest.mark.parametrize("extension", ["dcd", "xtc", "trr"])
def test_a_file_cut_in_half(extension, written, trajectory):
    path = halved(written(extension))
    whole = {"dcd": 4, "xtc": 5, "trr": 5}[extension]  # a dcd file begins with a long header
    said = rf'run.{extension} breaks off: {whole}( of 6| of 11)? frames.*on_truncation="keep"'
    with pytest.raises(ValueError, match=said):
        data.load(path, molecule=PROPANE)
    with pytest.warns(UserWarning, match=f"breaks off: {whole}"):
        e = data.load(path, molecule=PROPANE, on_truncation="keep")
    assert e.x == pytest.approx(trajectory.xyz[:whole], abs=6e-4)
    with pytest.warns(UserWarning, match="breaks off"):
        assert len(data.load([path, path], molecule=PROPANE, on_truncation="keep", stride=3)) == 4


@pytest.mark.parametrize("extension", ["nc", "pdb", "pdb.gz", "gro"])
def test_a_file_cut_in_half_that_cannot_be_read_at_all(extension, written):
    path = halved(written(extension))
    with pytest.raises(ValueError, match=rf"run.{extension}.* (breaks off|cannot be read)"):
        data.load(path, molecule=PROPANE, on_truncation="keep")


@pytest.mark.parametrize("extension", ["dcd", "xtc", "trr", "nc", "xyz"])
def test_wrong_topology(extension, written):
    with pytest.raises(
        ValueError, match=rf"top: .*run.{extension} has 11 atoms per frame, but Molecule\('CC'.* has 8;"
    ):
        data.load(written(extension), molecule=Molecule.from_smiles("CC"))


@pytest.mark.parametrize("extension", ["pdb", "gro"])
def test_wrong_molecule_for_a_file_that_knows_better(extension, written):
    with pytest.raises(
        ValueError, match=rf"run.{extension} holds Molecule.*C3H8.*, expected the atoms of Molecule\('CC'"
    ):
        data.load(written(extension), molecule=Molecule.from_smiles("CC"))


@pytest.mark.parametrize("extension", ["dcd", "trr", "nc", "npy"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_are_not_numbers(extension, value, written, trajectory, tmp_path):
    broken = trajectory[:]
    broken.xyz[7, 3, 1] = value
    if extension == "npy":
        path, options = tmp_path / "x.npy", {"unit": "nm"}
        np.save(path, broken.xyz)
    else:
        path, options = written(extension, of=broken), {}
    with pytest.raises(ValueError, match=r"not a finite number in frame 7 \(the first is 0\), atom 3"):
        data.load(path, molecule=PROPANE, **options)


def test_mistakes(written, tmp_path, trajectory):
    np.save(tmp_path / "x.npy", trajectory.xyz)
    np.save(tmp_path / "short.npy", trajectory.xyz[:, :5])
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=trajectory.xyz, b=trajectory.xyz)
    (tmp_path / "text.dcd").write_text("not a trajectory at all")
    (tmp_path / "empty.xtc").write_bytes(b"")
    (tmp_path / "notes.doc").write_text("hello")
    (tmp_path / "folder").mkdir()
    xtc = written("xtc")
    p = {"molecule": PROPANE}
    cases = [
        (tmp_path / "none.xtc", p, FileNotFoundError, "source: no file .*none.xtc"),
        ([], p, ValueError, "source: got no file"),
        (xtc, {}, ValueError, "top: missing; .*run.xtc does not say what its atoms are"),
        (xtc, {**p, "top": "a.pdb"}, ValueError, "top: got molecule as well"),
        (xtc, {"top": tmp_path / "none.pdb"}, FileNotFoundError, "none.pdb"),
        (xtc, {"top": tmp_path / "notes.doc"}, ValueError, "top: .*notes.doc cannot be read as a topology"),
        (xtc, {**p, "unit": "nm"}, ValueError, "unit: got 'nm' for .*run.xtc, which defines its own unit"),
        (xtc, {**p, "stride": 0}, ValueError, "stride: got 0"),
        (xtc, {**p, "on_truncation": "ignore"}, ValueError, "on_truncation: got 'ignore'"),
        (tmp_path / "x.npy", p, ValueError, "unit: missing; .*pass unit= one of 'nm', 'angstrom'"),
        (tmp_path / "x.npy", {**p, "unit": "A"}, ValueError, "length unit: got 'A'"),
        (
            tmp_path / "short.npy",
            {**p, "unit": "nm"},
            ValueError,
            r"short.npy holds x \[11, 5, 3\]; expected coordinates \[frames, 11, 3\]",
        ),
        (tmp_path / "two.npz", {**p, "unit": "nm"}, ValueError, r"holds a \[11, 11, 3\], b \[11, 11, 3\]"),
        (tmp_path / "objects.npy", {**p, "unit": "nm"}, ValueError, "pickled objects are refused"),
        (tmp_path / "text.dcd", p, ValueError, "text.dcd cannot be read as a .dcd file"),
        (tmp_path / "empty.xtc", p, ValueError, "empty.xtc (holds no frames|cannot be read)"),
        (tmp_path / "notes.doc", p, ValueError, "notes.doc, expected an ensemble store or one of"),
        (tmp_path / "folder", p, ValueError, "folder, expected an ensemble store or one of"),
    ]
    for source, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            data.load(source, **options)
    with pytest.raises(ValueError, match="chunk: got 0"):
        data.convert(xtc, tmp_path / "s", molecule=PROPANE, chunk=0)


def test_missing_pytables_is_said(written, monkeypatch):
    path = written("h5")
    monkeypatch.setitem(sys.modules, "tables", None)  # from now on, importing it fails
    with pytest.raises(ValueError, match=r"run.h5 .*mdtraj needs PyTables for HDF5; pip install tables"):
        data.load(path, molecule=PROPANE)
