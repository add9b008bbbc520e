"""Reference values: mdtraj's own reader."""

import mdtraj
import numpy as np
import pytest
from rdkit import Chem

from molifold import Ensemble, Molecule
from molifold.data.export import EXTENSIONS, write

ETHANE = Molecule(
    elements=("C", "C") + ("H",) * 6, bonds=((0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7)), name="ethane"
)


@pytest.fixture
def ensemble():
    x = np.random.default_rng(0).normal(size=(7, 8, 3)).astype(np.float32)
    return Ensemble(ETHANE, x, columns={"time": np.arange(7.0) * 2})


@pytest.mark.parametrize("extension", ["xtc", "dcd", "trr", "nc", "h5", "pdb", "gro", "mdcrd"])
def test_mdtraj_reads_the_same_back(ensemble, tmp_path, extension):
    path = write(ensemble, tmp_path / f"e.{extension}")
    top = None if extension in ("h5", "pdb", "gro") else ETHANE.to_mdtraj()
    back = mdtraj.load(str(path), **({"top": top} if top else {}))
    # xtc, pdb and gro store three decimals of nm (pdb of angstrom).
    np.testing.assert_allclose(back.xyz, ensemble.x, atol=6e-4 if extension in ("xtc", "pdb", "gro", "mdcrd") else 2e-6)
    if extension in ("xtc", "trr", "nc", "h5"):
        np.testing.assert_allclose(back.time, ensemble.columns["time"])


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_that_is_promised(ensemble, tmp_path, extension):
    assert write(ensemble[:1], tmp_path / f"e{extension}").stat().st_size > 0


def test_rdkit_reads_the_same_molecules_back(tmp_path):
    """Bond orders and the charges of a zwitterion come back although a Molecule holds no orders."""
    molecule = Molecule.from_smiles("[NH3+]CC(=O)[O-]")
    x = np.random.default_rng(0).normal(size=(3, molecule.n_atoms, 3))
    path = write(Ensemble(molecule, x), tmp_path / "e.sdf")
    back = list(Chem.SDMolSupplier(str(path), removeHs=False, sanitize=True))
    assert [Chem.MolToSmiles(Chem.RemoveHs(m)) for m in back] == ["[NH3+]CC(=O)[O-]"] * 3
    for mol, frame in zip(back, x, strict=True):
        np.testing.assert_allclose(mol.GetConformer().GetPositions() / 10, frame, atol=1e-5)
    radical = Molecule(elements=("N", "O"), bonds=((0, 1),), name="NO")
    with pytest.raises(ValueError, match="no bond orders for .*; write pdb, or give formal charges"):
        write(Ensemble(radical, x[:, :2]), tmp_path / "no.sdf")


def test_errors_name_the_fix(ensemble, tmp_path):
    for name in ("e.docx", "e.lammpstrj", "xtc"):
        with pytest.raises(ValueError, match=f"got '{name}', expected one of the extensions .xtc .trr"):
            write(ensemble, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        write(ensemble, tmp_path / "no" / "e.xtc")
    broken = ensemble.x.copy()
    broken[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 7 frames are not finite"):
        write(Ensemble(ETHANE, broken), tmp_path / "e.xtc")
