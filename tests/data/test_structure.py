"""Structures from files, SMILES and sequences. References: AMBER energies by OpenMM, RDKit files, L-chirality."""

from __future__ import annotations

import mdtraj
import numpy as np
import openmm
import pytest
from rdkit import Chem

from molifold.data import from_force_field, structure
from molifold.geometry import distances
from molifold.molecule import Molecule
from molifold.peptide import handedness

FILES = ("amber99sbildn.xml", "amber99_obc.xml")


def energy(system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    return context.getState(getEnergy=True).getPotentialEnergy()._value


@pytest.mark.parametrize("sequence", ["A", "AAA", "GPG", "YYDPETGTWY", "RHKNCQ", "SFLIMVTWE"])
@pytest.mark.parametrize("caps", [True, False])
def test_peptides_are_sound(sequence, caps):
    molecule, x = structure(sequence=sequence, caps=caps)
    assert molecule == Molecule.from_sequence(sequence, caps=caps)
    assert x.shape == (1, molecule.n_atoms, 3)
    trajectory = mdtraj.Trajectory(x, molecule.to_mdtraj())
    assert (np.abs(mdtraj.compute_omega(trajectory)[1]) > np.radians(150)).all()
    for centre, (triple, sign) in handedness(molecule).items():
        assert np.sign(np.linalg.det(x[0, list(triple)] - x[0, centre])) == sign
    if len(sequence) == 1 and not caps:
        with pytest.raises(ValueError, match="does not fit the force field .*No template found for residue .*ALA"):
            from_force_field(molecule, x, files=FILES)  # AMBER's termini are those of chains
        return
    # No clash and no stretched bond: with implicit solvent, far below the 50 kJ/mol that one clash costs per residue.
    assert energy(from_force_field(molecule, x, files=FILES).openmm_system(), x[0]) < 40 * (len(sequence) + 2)


def test_alpha_carbons_are_l():
    """CORN rule: seen from HA, the carbonyl C (CO), side chain (R) and N run clockwise."""
    molecule, x = structure(sequence="AWI")
    for k, name in enumerate(molecule.atom_names):
        if name != "CA":
            continue
        here = {molecule.atom_names[i]: x[0, i] - x[0, k] for i in molecule.neighbors[k]}
        view = here["HA"] / np.linalg.norm(here["HA"])
        co, r, n = (v - view * (v @ view) for v in (here["C"], here["CB"], here["N"]))
        # Clockwise towards the viewer: each turn is negative about the axis that points at the viewer.
        assert np.cross(co, r) @ view < 0
        assert np.cross(r, n) @ view < 0


def test_seed_decides():
    a, b, c = (structure(smiles="CCCCO", seed=s)[1] for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)
    assert 0.09 < distances(a, np.array([[0, 1]]))[0, 0] < 0.16  # a C-C bond, in nm


def test_open_stereo_centres_are_pointed_out():
    with pytest.warns(UserWarning, match="leaves the handedness of C2 open"):
        structure(smiles="CC(O)F")
    _, x = structure(smiles="C[C@H](O)F")
    _, mirrored = structure(smiles="C[C@@H](O)F")

    def volume(x):
        return np.linalg.det(x[0, [0, 2, 3]] - x[0, 1])

    assert volume(x) * volume(mirrored) < 0


@pytest.mark.parametrize("suffix", [".sdf", ".mol", ".xyz", ".pdb"])
def test_files_of_small_molecules(tmp_path, suffix):
    molecule, x = structure(smiles="CC(=O)Nc1ccccc1")
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)Nc1ccccc1"))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(x[0] * 10)
    mol.AddConformer(conformer)
    write = {".sdf": Chem.MolToMolFile, ".mol": Chem.MolToMolFile, ".xyz": Chem.MolToXYZFile, ".pdb": Chem.MolToPDBFile}
    write[suffix](mol, str(tmp_path / f"a{suffix}"))
    found, there = structure(tmp_path / f"a{suffix}")
    assert found.elements == molecule.elements
    assert found.bonds == molecule.bonds
    assert there == pytest.approx(x, abs=6e-5)  # three or four decimals of an angstrom


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, ValueError, "got nothing, expected exactly one of path, smiles, sequence"),
        ({"smiles": "C", "sequence": "A"}, ValueError, "got smiles, sequence, expected exactly one"),
        (
            {"path": "CCCC"},
            FileNotFoundError,
            "no file 'CCCC', expected a structure file; for chemical notation use smiles=",
        ),
        ({"path": "bad.sdf"}, ValueError, "bad.sdf cannot be read as a structure"),
        ({"path": "bad.doc"}, ValueError, "bad.doc, expected one of .pdb, .cif, .sdf"),
        ({"smiles": "C1CC"}, ValueError, "smiles: got 'C1CC'"),
        ({"sequence": "AZ"}, ValueError, "'Z' at position 2"),
    ],
)
def test_mistakes(arguments, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bad.sdf", "bad.doc"):
        (tmp_path / name).write_text("nonsense\n")
    with pytest.raises(kind, match=message):
        structure(**arguments)
