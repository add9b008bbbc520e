"""The z-matrix: a tree that places every atom once, with the torsions that chemists name as explicit rotations."""

import numpy as np
import pytest

from molifold import Molecule
from molifold.data import example
from molifold.data.structure import structure
from molifold.topology import backbone_torsions
from molifold.transforms import zmatrix

MOLECULES = {
    "water": lambda: Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))),
    "hydrogen peroxide": lambda: Molecule.from_smiles("OO"),
    "neopentane": lambda: Molecule.from_smiles("CC(C)(C)C"),
    "benzene": lambda: Molecule.from_smiles("c1ccccc1"),
    "cyclohexane": lambda: Molecule.from_smiles("C1CCCCC1"),
    "cubane": lambda: Molecule.from_smiles("C12C3C4C1C5C2C3C45"),
    "proline": lambda: Molecule.from_sequence("P"),
    "alanine dipeptide": lambda: example("alanine-dipeptide").molecule,
    "Ace-A5-Nme": lambda: example("ace-a5-nme").molecule,
    "a chain of 166 atoms": lambda: Molecule.from_sequence("YYDPETGTWY", caps=False),
}


@pytest.fixture(params=MOLECULES)
def molecule(request):
    return MOLECULES[request.param]()


def test_every_atom_is_placed_once_after_its_references(molecule):
    tree = zmatrix(molecule)
    assert sorted((tree.root[0], *tree.order)) == list(range(molecule.n_atoms))
    placed = set(tree.root)
    for atoms in tree.levels():
        for a in atoms:
            assert tree.parent[a] in placed
            assert tree.parent[tree.parent[a]] in placed
            assert tuple(sorted((a, tree.parent[a]))) in molecule.bonds
        placed |= set(atoms)
    assert placed == set(range(molecule.n_atoms))


def test_there_are_3n_minus_6_coordinates_and_one_rotation_per_bond_that_has_torsions(molecule):
    tree, n = zmatrix(molecule), molecule.n_atoms
    assert (len(tree.order), len(tree.angles), len(tree.torsions)) == (n - 1, n - 2, n - 3)
    first = [tree.first[a] for a, turns in zip(tree.torsions, tree.is_rotation, strict=True) if turns]
    assert len(set(first)) == len(first)
    # All torsions about a bond but one are phases: the gauge atom carries the one of the root's own first side.
    inner = {tree.parent[a] for a in tree.angles}
    assert len(first) == len(inner) - 1


def test_quadruples_are_four_atoms_about_the_bond_to_the_parent(molecule):
    tree = zmatrix(molecule)
    for atom, turns in zip(tree.torsions, tree.is_rotation, strict=True):
        a, j, k, last = tree.quadruple(atom)
        assert len({a, j, k, last}) == 4
        assert (a, j, k) == (atom, tree.parent[atom], tree.parent[tree.parent[atom]])
        assert (last in molecule.neighbors[k]) if turns else (tree.parent[last] == j)


def test_the_tree_is_shallow(molecule):
    tree = zmatrix(molecule)
    reach = molecule.hops[list(tree.root)].min(0).max()
    # No path is longer than the shortest path of bonds, and no root bond reaches all atoms in fewer steps.
    assert max(tree.level) == reach == min(molecule.hops[list(b)].min(0).max() for b in molecule.bonds)


def test_alanine_dipeptide():
    molecule = example("alanine-dipeptide").molecule
    tree = zmatrix(molecule)
    assert {molecule.atom_names[a] for a in tree.root} == {"N", "CA"}
    assert (tree.is_rotation.sum(), (~tree.is_rotation).sum(), max(tree.level)) == (7, 12, 4)


@pytest.mark.parametrize("sequence", ["A", "AAA", "AAAAA", "AP", "GSVKF"])
def test_phi_psi_and_omega_are_rotations(sequence):
    molecule = Molecule.from_sequence(sequence)
    tree = zmatrix(molecule)
    turning = [a for a, turns in zip(tree.torsions, tree.is_rotation, strict=True) if turns]
    explicit = {q for a in turning for q in (tree.quadruple(a), tree.quadruple(a)[::-1])}
    named = backbone_torsions(molecule)
    assert {k: len(v) for k, v in named.items()} == {
        "phi": len(sequence),
        "psi": len(sequence),
        "omega": len(sequence) + 1,
    }
    missing = [(k, tuple(q)) for k, found in named.items() for q in found.tolist() if tuple(q) not in explicit]
    assert missing == []


def test_a_methyl_group_has_one_rotation_and_two_phases():
    molecule, _ = structure(smiles="CCO")
    tree = zmatrix(molecule)
    hydrogens = [a for a in molecule.neighbors[0] if molecule.elements[a] == "H"]
    kinds = [tree.first[a] == a for a in hydrogens]
    assert sorted(kinds) == [False, False, True]


def test_rings_are_cut_where_the_tree_meets_itself():
    tree = zmatrix(Molecule.from_smiles("C1CCCCC1"))
    used = {tuple(sorted((a, tree.parent[a]))) for a in range(tree.molecule.n_atoms)}
    (cut,) = set(tree.molecule.bonds) - used
    assert np.abs(np.subtract(*[tree.level[a] for a in cut])) <= 1
    assert min(tree.level[a] for a in cut) == 2


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        (Molecule(elements=("H", "H"), bonds=((0, 1),)), "got 2 atoms, expected at least 3"),
        (Molecule(elements=("C",) * 4, bonds=((0, 1), (2, 3))), "got 2 unconnected parts"),
    ],
)
def test_errors_say_what_is_wrong(molecule, message):
    with pytest.raises(ValueError, match=message):
        zmatrix(molecule)
