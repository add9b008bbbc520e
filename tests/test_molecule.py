"""Molecule and its constructors. References: OpenMM's template matching, RDKit's periodic table, textbook graphs."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import pytest
from openmm import app
from rdkit import Chem

from molifold.data.examples import FILES
from molifold.molecule import MASSES, Molecule
from molifold.perception import complete_bonds, residue_numbers

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="module")
def amber14():
    return app.ForceField("amber14-all.xml")


def pdb_line(serial, name, residue, number, xyz, *, element="", alternate=" ", record="ATOM  "):
    x, y, z = xyz
    return (
        f"{record}{serial:5d} {name:<4s}{alternate}{residue:>3s} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
        f"          {element:>2s}\n"
    )


# ---------------------------------------------------------------------------------------------- the graph itself


def test_graph_of_butane():
    butane = Molecule.from_smiles("CCCC")
    assert butane.formula == "C4H10"
    assert butane.neighbors[0] == (1, 4, 5, 6)
    assert butane.hops[0, 3] == 3
    assert butane.hops.max() == 5  # from a methyl hydrogen to one at the other end
    assert np.array_equal(butane.hops, butane.hops.T)


def test_components_are_separate_molecules():
    two = Molecule.from_smiles("O.CO")
    assert len(two.components) == 2
    assert sorted(len(c) for c in two.components) == [3, 6]
    assert sorted(i for c in two.components for i in c) == list(range(9))
    first, second = (set(c) for c in two.components)
    assert (two.hops[np.ix_(list(first), list(second))] == -1).all()


def test_equal_molecules_are_one_key_of_a_dict():
    again = Molecule.from_json(WATER.to_json())
    assert again == WATER
    assert {WATER: 1}[again] == 1
    assert hash(Molecule(elements=("H", "O", "H"), bonds=((0, 1),), name="water")) != hash(WATER)
    again.hops.sum(), again.neighbors  # noqa: B018  # cached, and not part of identity
    assert again == WATER
    with pytest.raises(AttributeError):
        again.name = "ice"


def test_masses_are_those_of_rdkit():
    table = Chem.GetPeriodicTable()
    for symbol, mass in MASSES.items():
        if symbol not in ("X", "D"):
            assert mass == pytest.approx(table.GetAtomicWeight(symbol), rel=5e-3), symbol


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"elements": ("Qq",)}, r"elements: got \['Qq'\]"),
        ({"elements": ("H", "H"), "bonds": ((0, 2),)}, r"bonds: got \[\(0, 2\)\]"),
        ({"elements": ("H", "H"), "bonds": ((1, 0),)}, r"bonds: got \[\(1, 0\)\]"),
        ({"elements": ("H", "H", "H"), "bonds": ((1, 2), (0, 1))}, "bonds: got unsorted"),
        ({"elements": ("H",), "masses": (0.0,)}, "masses: expected positive"),
        ({"elements": ("H",), "atom_names": ("a", "b")}, r"atom_names: got 2 entries, expected one per atom \(1\)"),
    ],
)
def test_impossible_molecules(fields, message):
    with pytest.raises(ValueError, match=message):
        Molecule(**fields)


# ------------------------------------------------------------------------------------------------- round trips


ROUND_TRIPS = {
    "capped": Molecule.from_sequence("AWP"),
    "charged": Molecule.from_sequence("RED", caps=False),
    "ring": Molecule.from_smiles("C1CCCCC1O"),
    "ions": Molecule.from_smiles("[Na+].[Cl-].CC(=O)[O-]"),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
@pytest.mark.parametrize("program", ["openmm", "mdtraj"])
def test_round_trip_keeps_everything(name, program):
    molecule = ROUND_TRIPS[name]
    topology = getattr(molecule, f"to_{program}")()
    back = getattr(Molecule, f"from_{program}")(topology, name=molecule.name)
    one_residue = len(set(molecule.residue_ids)) == 1
    for field in ("elements", "bonds", "masses", "atom_names", "residue_names", "formal_charges"):
        assert getattr(back, field) == getattr(molecule, field), field
    if not one_residue:
        assert back.residue_ids == molecule.residue_ids
    assert Molecule.from_json(back.to_json()) == back


def test_chains_are_connected_molecules():
    topology = ROUND_TRIPS["ions"].to_openmm()
    assert topology.getNumChains() == 3


def test_rdkit_keeps_names_and_charges():
    mol = Chem.AddHs(Chem.MolFromSmiles("C[NH3+]"))
    molecule = Molecule.from_rdkit(mol, name="methylammonium")
    assert molecule.formal_charges[1] == 1
    assert molecule.n_atoms == 8
    with pytest.raises(ValueError, match="mol: got 6 implicit hydrogens"):
        Molecule.from_rdkit(Chem.MolFromSmiles("C[NH3+]"))


def test_virtual_sites_are_refused():
    topology = app.Topology()
    topology.addAtom("M", None, topology.addResidue("HOH", topology.addChain()))
    with pytest.raises(ValueError, match="atom 'M' of residue 'HOH' has no known chemical element"):
        Molecule.from_openmm(topology)


def test_residue_numbers_of_the_file_are_kept_where_they_say_something():
    assert residue_numbers(["12", "13"]) == [12, 13]
    assert residue_numbers(["12", "12"]) == [1, 2]
    assert residue_numbers(["12", "12A"]) == [1, 2]


# ---------------------------------------------------------------------------------------- SMILES and sequences


@pytest.mark.parametrize("smiles", ["", "C1CC", "xyz", "C(C)(C)(C)(C)C"])
def test_invalid_smiles(smiles):
    with pytest.raises(ValueError, match="smiles: got"):
        Molecule.from_smiles(smiles)


@pytest.mark.parametrize("letter", AMINO_ACIDS)
def test_every_residue_fits_amber_templates(letter, amber14):
    molecule = Molecule.from_sequence(letter)
    system = amber14.createSystem(molecule.to_openmm())
    assert system.getNumParticles() == molecule.n_atoms
    assert len(molecule.components) == 1
    assert sum(molecule.formal_charges) == {"R": 1, "K": 1, "D": -1, "E": -1}.get(letter, 0)


@pytest.mark.parametrize("force_field", ["amber99sbildn.xml", "amber96.xml", "amber14-all.xml"])
@pytest.mark.parametrize("caps", [True, False])
def test_sequences_fit_every_amber_force_field(force_field, caps):
    molecule = Molecule.from_sequence("P" + AMINO_ACIDS + "P", caps=caps)
    system = app.ForceField(force_field).createSystem(molecule.to_openmm())
    nonbonded = next(f for f in system.getForces() if "NonbondedForce" in f.getName())
    charge = sum(nonbonded.getParticleParameters(i)[0]._value for i in range(system.getNumParticles()))
    assert charge == pytest.approx(sum(molecule.formal_charges), abs=1e-3)


def test_sequence_names_are_those_of_a_pdb_file():
    from_file = Molecule.from_pdb(FILES / "ace-a3-nme.pdb")
    built = Molecule.from_sequence("AAA")
    for field in ("elements", "bonds", "atom_names", "residue_names", "residue_ids", "formal_charges"):
        assert getattr(built, field) == getattr(from_file, field), field


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("AXA", "'X' at position 2"),
        ("aaa", "'a' at position 1"),
        ("", "an empty sequence"),
        ("A-B", "'-' at position 2, 'B' at position 3"),
    ],
)
def test_unknown_letters(sequence, message):
    with pytest.raises(ValueError, match=f"sequence: got {message}"):
        Molecule.from_sequence(sequence)


# -------------------------------------------------------------------------------------------------------- files


def test_cif_and_pdb_give_the_same_molecule(tmp_path):
    file = app.PDBFile(str(FILES / "ace-a3-nme.pdb"))
    with (tmp_path / "a.cif").open("w") as out:
        app.PDBxFile.writeFile(file.topology, file.positions, out)
    a, b = Molecule.from_pdb(tmp_path / "a.cif"), Molecule.from_pdb(FILES / "ace-a3-nme.pdb")
    assert (a.atom_names, a.bonds, a.residue_names) == (b.atom_names, b.bonds, b.residue_names)
    assert b.n_atoms == 42
    assert len(b.bonds) == 41
    assert b.name == "ace-a3-nme"


def test_bonds_of_unknown_residues_come_from_distances(tmp_path):
    ethanol, x = smiles_with_coordinates("CCO")
    lines = [
        pdb_line(i + 1, n, "LIG", 1, x[i], element=e, record="HETATM")
        for i, (n, e) in enumerate(zip(ethanol.atom_names, ethanol.elements, strict=True))
    ]
    lines += [pdb_line(20, "NA", "NA", 2, x[2] + np.array([0, 0, 2.3]), element="NA", record="HETATM")]
    (tmp_path / "ligand.pdb").write_text("".join([*lines, "END\n"]))
    found = Molecule.from_pdb(tmp_path / "ligand.pdb")
    assert found.bonds == ethanol.bonds  # and the ion stays alone, 2.3 angstrom from the oxygen
    assert found.elements == (*ethanol.elements, "Na")


@pytest.mark.parametrize("smiles", ["CCCC", "c1ccccc1O", "CS(=O)(=O)N", "C1CC1", "CC(=O)Nc1ccc(Cl)cc1", "BrCCI"])
def test_distances_find_the_bonds_of_rdkit(smiles):
    molecule, x = smiles_with_coordinates(smiles)
    assert complete_bonds(molecule.elements, (), x=x / 10) == molecule.bonds


def smiles_with_coordinates(smiles):
    from molifold.data import structure

    molecule, x = structure(smiles=smiles)
    return molecule, x[0] * 10


def test_mdtraj_and_openmm_read_the_same_file_alike():
    path = Path(FILES / "ace-a5-nme.pdb")
    a = Molecule.from_mdtraj(mdtraj.load_topology(str(path)), name=path.stem)
    assert a == Molecule.from_pdb(path)
