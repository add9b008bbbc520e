import numpy as np
import pytest

from molifold import Ensemble, Molecule, geometry
from molifold.analysis import measure, multimodality, named_torsions, ramachandran_pairs

ALANINE = Molecule.from_sequence("A")


def test_chunks_of_a_memory_map_give_what_all_frames_give(tmp_path):
    x = np.random.default_rng(0).normal(size=(1000, ALANINE.n_atoms, 3)).astype(np.float32)
    Ensemble(ALANINE, x).save(tmp_path / "e.ens")
    mapped = Ensemble.load(tmp_path / "e.ens")
    found = measure(mapped, names=["phi", "psi"], chunk=64)
    quadruples = np.array([named_torsions(ALANINE)[n] for n in ("phi", "psi")])
    np.testing.assert_allclose(
        np.stack([found.columns["phi"], found.columns["psi"]], 1),
        geometry.torsions(x.astype(float), quadruples),
        atol=1e-6,
    )
    assert set(found.columns) == {"phi", "psi"}


def test_phi_and_psi_are_what_mdtraj_measures():
    import mdtraj

    x = np.random.default_rng(0).normal(size=(20, ALANINE.n_atoms, 3))
    e = measure(Ensemble(ALANINE, x), names=["phi", "psi"])
    trajectory = mdtraj.Trajectory(x, ALANINE.to_mdtraj())
    np.testing.assert_allclose(e.columns["phi"], mdtraj.compute_phi(trajectory)[1][:, 0], atol=1e-4)
    np.testing.assert_allclose(e.columns["psi"], mdtraj.compute_psi(trajectory)[1][:, 0], atol=1e-4)


def test_columns_that_are_there_are_kept():
    x = np.zeros((3, ALANINE.n_atoms, 3))
    e = Ensemble(ALANINE, x, columns={"phi": np.arange(3.0)})
    assert measure(e, names=["phi"]) is e


def test_an_unknown_torsion_is_an_error_that_lists_the_known():
    with pytest.raises(KeyError, match="chi9.*phi"):
        measure(Ensemble(ALANINE, np.zeros((1, ALANINE.n_atoms, 3))), names=["chi9"])


def test_names_are_unique_and_can_be_columns_of_a_store():
    import re

    for molecule in (
        Molecule.from_sequence("AAA"),
        Molecule.from_sequence("LKW"),
        Molecule.from_smiles("CC(=O)Oc1ccccc1C(=O)O"),
    ):
        names = named_torsions(molecule)
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in names)
        assert len({tuple(sorted(q[1:3])) for q in names.values()}) == len(names)


def test_every_residue_of_a_chain_has_a_map():
    molecule = Molecule.from_sequence("AAA")
    pairs = ramachandran_pairs(Ensemble(molecule, np.zeros((1, molecule.n_atoms, 3))))
    assert len(pairs) == 3
    assert all(a.split("_")[1] == b.split("_")[1] for a, b in pairs)


def test_without_a_backbone_the_torsions_that_vary_are_shown_and_methyls_last():
    hexane = Molecule.from_smiles("CCCCCC")
    names = list(named_torsions(hexane))
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(0, 0.1, 3000) for name in names}
    columns[names[2]] = rng.choice([-1.0, 1.0, 3.0], 3000) + rng.normal(0, 0.1, 3000)
    columns[names[0]] = columns[names[2]]  # a methyl turns as much
    e = Ensemble(hexane, np.zeros((3000, hexane.n_atoms, 3)), columns=columns)
    ((first, second),) = ramachandran_pairs(e)
    assert names[2] in (first, second)
    assert names[0] not in (first, second)
    assert ramachandran_pairs(Ensemble(Molecule.from_smiles("CC"), np.zeros((2, 8, 3)))) == ()


@pytest.mark.parametrize(("centres", "share"), [([0.0], 0), ([0.0, 2.0], 0.5), ([3.1, 1.0, -1.0], 2 / 3)])
def test_multimodality_counts_what_is_outside_the_main_mode(centres, share):
    rng = np.random.default_rng(0)
    angle = rng.choice(centres, 30_000) + rng.normal(0, 0.15, 30_000)
    assert multimodality(angle) == pytest.approx(share, abs=0.02)
