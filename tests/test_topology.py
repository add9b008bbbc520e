"""Torsions and chiral centres of known molecules. References: mdtraj for backbones, RDKit for stereo and rotors."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from rdkit import Chem

from molifold.data import example, structure
from molifold.geometry import torsions
from molifold.molecule import Molecule
from molifold.topology import backbone_torsions, chiral_centres, proper_torsions, rotatable_torsions


def names(molecule, rows):
    return ["-".join(molecule.atom_names[i] for i in row) for row in rows]


def test_torsions_of_alanine_dipeptide():
    molecule = example("alanine-dipeptide").molecule
    found = backbone_torsions(molecule)
    # Atom numbers (from 0) of the literature, e.g. Noe et al. 2019: phi 4 6 8 14, psi 6 8 14 16.
    assert found["phi"].tolist() == [[4, 6, 8, 14]]
    assert found["psi"].tolist() == [[6, 8, 14, 16]]
    assert found["omega"].tolist() == [[1, 4, 6, 8], [8, 14, 16, 18]]
    turning = rotatable_torsions(molecule)
    assert turning["phi ALA2"] == (4, 6, 8, 14)
    assert turning["psi ALA2"] == (6, 8, 14, 16)
    assert set(turning) == {
        "phi ALA2", "psi ALA2", "omega ALA2", "omega NME3", "ACE1:CH3-ACE1:C", "ALA2:CA-ALA2:CB", "NME3:N-NME3:C",
    }  # fmt: skip
    assert len(proper_torsions(molecule)) == 41  # the prmtop has 41 distinct proper quadruples


def test_proper_torsions_are_those_of_the_prmtop():
    system = example("alanine-dipeptide")
    openmm_system = system.openmm_system()  # must outlive its forces
    force = next(f for f in openmm_system.getForces() if f.getName() == "PeriodicTorsionForce")
    in_file = {tuple(force.getTorsionParameters(k)[:4]) for k in range(force.getNumTorsions())}
    bonded = system.molecule.hops == 1
    proper = {
        q if q[1] < q[2] else q[::-1]
        for q in in_file
        if bonded[q[0], q[1]] and bonded[q[1], q[2]] and bonded[q[2], q[3]]
    }
    ours = {tuple(q) for q in proper_torsions(system.molecule).tolist()}
    assert ours == proper


@pytest.mark.parametrize("sequence", ["AAA", "GPW", "LIVT"])
def test_backbone_agrees_with_mdtraj(sequence):
    molecule, x = structure(sequence=sequence)
    trajectory = mdtraj.Trajectory(x, molecule.to_mdtraj())
    ours = backbone_torsions(molecule)
    for name, compute in {"phi": mdtraj.compute_phi, "psi": mdtraj.compute_psi}.items():
        quadruples, values = compute(trajectory)
        assert ours[name].tolist() == quadruples.tolist()
        assert torsions(x, ours[name]) == pytest.approx(values, abs=1e-4)
    assert len(ours["omega"]) == len(sequence) + 1
    assert np.abs(torsions(x, ours["omega"])) == pytest.approx(np.pi, abs=0.3)  # trans


def test_side_chains_of_ile_and_thr_take_the_first_branch():
    molecule = Molecule.from_sequence("ITLM")
    turning = rotatable_torsions(molecule)
    found = {n: names(molecule, [q])[0] for n, q in turning.items() if n.startswith("chi")}
    assert found == {
        "chi1 ILE2": "N-CA-CB-CG1", "chi2 ILE2": "CA-CB-CG1-CD1", "chi1 THR3": "N-CA-CB-OG1",
        "chi1 LEU4": "N-CA-CB-CG", "chi2 LEU4": "CA-CB-CG-CD1",
        "chi1 MET5": "N-CA-CB-CG", "chi2 MET5": "CA-CB-CG-SD", "chi3 MET5": "CB-CG-SD-CE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("smiles", "rotors"),
    [("CCCC", 3), ("C1CCCCC1", 0), ("CC1CCCCC1", 1), ("c1ccccc1c1ccccc1", 1), ("O", 0), ("CCO", 2), ("C1CC1C1CC1", 1)],
)
def test_one_torsion_for_every_bond_outside_rings(smiles, rotors):
    molecule = Molecule.from_smiles(smiles)
    turning = rotatable_torsions(molecule)
    assert len(turning) == rotors
    for a, b, c, d in turning.values():
        assert molecule.hops[a, b] == molecule.hops[b, c] == molecule.hops[c, d] == 1
        assert len({a, b, c, d}) == 4


@pytest.mark.parametrize("smiles", ["CCCC", "C1CC1", "C1CCC1", "c1ccccc1O", "OO", "O", "CC(C)(C)C"])
def test_proper_torsions_against_a_substructure_search(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    expected = {
        q if q[1] < q[2] else q[::-1] for q in mol.GetSubstructMatches(Chem.MolFromSmarts("*~*~*~*"), uniquify=False)
    }
    found = [tuple(q) for q in proper_torsions(Molecule.from_rdkit(mol)).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert found == sorted(found, key=lambda q: (q[1], q[2], q[0], q[3]))


@pytest.mark.parametrize(
    "smiles",
    [
        "CCCC",
        "CC(O)C(=O)O",
        "CC1CCC(O)C1C",
        "OC1CCCCC1",
        "FC(Cl)Br",
        "CC(N)C(O)C(C)C",
        "CC(=O)NC(C)C(=O)NC",
        "C[N+](CC)(CCC)CCCC",
    ],
)
def test_chiral_centres_are_those_of_rdkit(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    options = {"force": True, "includeUnassigned": True, "useLegacyImplementation": False}
    expected = {i for i, _ in Chem.FindMolChiralCenters(mol, **options)}
    molecule = Molecule.from_rdkit(mol)
    rows = chiral_centres(molecule)
    assert set(rows[:, 0].tolist()) == expected
    for centre, *around in rows.tolist():
        assert set(around) <= set(molecule.neighbors[centre])


def test_hand_of_an_l_amino_acid():
    molecule, x = structure(sequence="AIT")
    rows = chiral_centres(molecule)
    assert [molecule.atom_names[i] for i in rows[:, 0]] == ["CA", "CA", "CB", "CA", "CB"]
    mirror = x * np.array([1, 1, -1])

    def hand(x):
        a, b, c = (x[0, rows[:, k]] - x[0, rows[:, 0]] for k in (1, 2, 3))
        return np.sign((np.cross(a, b) * c).sum(-1))

    assert (hand(x) == -hand(mirror)).all()
    # N, CB, C seen from HA run clockwise in L ("CORN" reads CO, R, N clockwise), a negative triple product.
    assert (hand(x)[[0, 1, 3]] == -1).all()


def test_molecules_without_any():
    water = Molecule.from_smiles("O")
    assert proper_torsions(water).shape == (0, 4)
    assert chiral_centres(water).shape == (0, 4)
    assert rotatable_torsions(water) == {}
    assert all(found.shape == (0, 4) for found in backbone_torsions(water).values())
