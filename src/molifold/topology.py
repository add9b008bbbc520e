"""Torsions, rotatable bonds and chiral centres: what can be read off the graph of a molecule alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from molifold.molecule import Molecule

Quadruple = tuple[int, int, int, int]


def proper_torsions(molecule: Molecule) -> Int[ndarray, "torsions 4"]:
    """Every chain of four bonded atoms a-b-c-d, once, with b < c, sorted by (b, c, a, d).

    >>> len(proper_torsions(Molecule.from_smiles("CCCC")))
    27
    """
    bonded = molecule.neighbors
    found = [
        (a, b, c, d) for b, c in molecule.bonds for a in bonded[b] for d in bonded[c] if a != c and d != b and a != d
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def backbone_torsions(molecule: Molecule) -> dict[str, Int[ndarray, "torsions 4"]]:
    """Torsions phi (C-N-CA-C), psi (N-CA-C-N) and omega (CA-C-N-CA) of a peptide, in order of its residues.

    Found by PDB atom names and the bonds between residues; omega includes the peptide bonds of caps, and a molecule
    without peptide bonds has none of the three.

    >>> {name: len(found) for name, found in backbone_torsions(Molecule.from_sequence("AA")).items()}
    {'phi': 2, 'psi': 2, 'omega': 3}
    """
    found = _backbone(molecule)
    return {
        kind: np.array([q for name, q in found if name.split()[0] == kind], dtype=np.int64).reshape(-1, 4)
        for kind in ("phi", "psi", "omega")
    }


def rotatable_torsions(molecule: Molecule) -> dict[str, Quadruple]:
    """One torsion for every bond that turns: in no ring, with a further atom at both ends.

    Bonds have no order here, so double and amide bonds count (as omega); methyl groups count too. Peptides have the
    names "phi ALA2", "psi ALA2", "omega ALA2" (of the bond before ALA2) and "chi1 LEU3"; any other bond has the names
    of its two atoms. At either end the torsion takes the heaviest neighbour, then the first.

    >>> rotatable_torsions(Molecule.from_smiles("CCCC"))
    {'C1-C2': (4, 0, 1, 2), 'C2-C3': (0, 1, 2, 3), 'C3-C4': (1, 2, 3, 11)}
    """
    known = {tuple(sorted(q[1:3])): (name, q) for name, q in [*_side_chains(molecule), *_backbone(molecule)]}
    bonded = molecule.neighbors
    found = {}
    for b, c in molecule.bonds:
        if min(len(bonded[b]), len(bonded[c])) > 1 and not _in_ring(molecule, (b, c)):
            automatic = f"{_label(molecule, b)}-{_label(molecule, c)}"
            name, q = known.get((b, c), (automatic, (_reference(molecule, b, c), b, c, _reference(molecule, c, b))))
            found[name if name not in found else f"{name} ({b}-{c})"] = q
    return found


def ring_bonds(molecule: Molecule) -> frozenset[tuple[int, int]]:
    """Bonds that lie in a ring: without one of them its atoms would still be connected.

    >>> sorted(ring_bonds(Molecule(elements=("C",) * 4, bonds=((0, 1), (0, 2), (1, 2), (2, 3)))))
    [(0, 1), (0, 2), (1, 2)]
    """
    return frozenset(bond for bond in molecule.bonds if _in_ring(molecule, bond))


def chiral_centres(molecule: Molecule) -> Int[ndarray, "centres 4"]:
    """Atoms with four different groups, each followed by three of its neighbours.

    The hand of a conformation is the sign of (x1 - x0) x (x2 - x0) . (x3 - x0) along a row; three neighbours leave out
    a hydrogen if there is one, else the last. Groups differ if their graphs do (elements, charges, bonds; not the
    handedness within them, so that meso compounds have none).

    >>> molecule = Molecule.from_sequence("A")
    >>> [[molecule.atom_names[i] for i in row] for row in chiral_centres(molecule)]
    [['CA', 'N', 'CB', 'C']]
    """
    colours = _colours(molecule)
    rows = []
    for centre, around in enumerate(molecule.neighbors):
        if len(around) == 4 and len({colours[i] for i in around}) == 4:
            kept = sorted(around, key=lambda i: (molecule.elements[i] == "H", i))[:3]
            rows.append((centre, *kept))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def rings(molecule: Molecule, *, largest: int = 8) -> tuple[tuple[int, ...], ...]:
    """The shortest ring through every bond, each once, of at most ``largest`` atoms.

    Atoms come in the order of the ring, from the smallest index towards its smaller neighbour.

    >>> rings(Molecule.from_smiles("C1CCCC1"))
    ((0, 1, 2, 3, 4),)
    """
    found = set()
    for start, goal in molecule.bonds:
        paths, seen = [[start]], {start}
        while paths and goal not in seen and len(paths[0]) < largest:
            steps = [
                (path, j) for path in paths for j in molecule.neighbors[path[-1]] if {path[-1], j} != {start, goal}
            ]
            paths = []
            for path, j in steps:
                if j not in seen:
                    seen.add(j)
                    paths.append([*path, j])
        for path in paths:
            if path[-1] == goal:
                first = path.index(min(path))
                ring = path[first:] + path[:first]
                found.add(tuple(ring if ring[1] < ring[-1] else [ring[0], *ring[:0:-1]]))
    return tuple(sorted(found))


def _backbone(molecule: Molecule) -> list[tuple[str, Quadruple]]:
    """Named phi, psi and omega, residue by residue."""
    found = []
    # Nme calls C, and Ace CH3, what is CA in an amino acid.
    alpha = ("CA", "CH3", "C")
    residues = _residues(molecule)
    for (label, left), (label_right, right) in pairwise(residues):
        carbonyl, nitrogen = left.get("C"), right.get("N")
        if carbonyl is None or nitrogen is None or nitrogen not in molecule.neighbors[carbonyl]:
            continue
        if "N" in left and "CA" in left:
            found.append((f"psi {label}", (left["N"], left["CA"], carbonyl, nitrogen)))
        before = next((left[n] for n in alpha[:2] if n in left), None)
        after = next((right[n] for n in alpha if n in right), None)
        if before is not None and after is not None:
            found.append((f"omega {label_right}", (before, carbonyl, nitrogen, after)))
        if "CA" in right and "C" in right:
            found.append((f"phi {label_right}", (carbonyl, nitrogen, right["CA"], right["C"])))
    return found


def _side_chains(molecule: Molecule) -> list[tuple[str, Quadruple]]:
    """Named chi1, chi2, ... along the Greek letters of PDB names, first branch first."""
    found = []
    for label, atoms in _residues(molecule):
        if not {"N", "CA"} <= atoms.keys():
            continue
        # Branch 1 first, whatever its element: threonine's chi1 ends at OG1, not CG2.
        heavy = sorted((n for n in atoms if molecule.elements[atoms[n]] != "H"), key=lambda n: n[2:])
        chain = [atoms["N"], atoms["CA"]]
        for letter in "BGDEZH":
            chain += [atoms[n] for n in heavy if n[1:2] == letter and atoms[n] in molecule.neighbors[chain[-1]]][:1]
        for k in range(len(chain) - 3):
            a, b, c, d = chain[k : k + 4]
            found.append((f"chi{k + 1} {label}", (a, b, c, d)))
    return found


def _residues(molecule: Molecule) -> list[tuple[str, dict[str, int]]]:
    """Label and atoms by name of every residue, in order of its first atom."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for i, key in enumerate(zip(molecule.residue_names, molecule.residue_ids, strict=True)):
        found.setdefault(key, {})[molecule.atom_names[i]] = i
    return [(f"{name}{number}", atoms) for (name, number), atoms in found.items()]


def _in_ring(molecule: Molecule, bond: tuple[int, int]) -> bool:
    """Whether its two atoms are still connected without it."""
    start, goal = bond
    seen, frontier = {start}, [start]
    while frontier:
        here = frontier.pop()
        for there in molecule.neighbors[here]:
            if there not in seen and {here, there} != {start, goal}:
                seen.add(there)
                frontier.append(there)
    return goal in seen


def _colours(molecule: Molecule) -> list[int]:
    """Equal for atoms whose ever larger neighbourhoods look the same (Morgan 1965; Weisfeiler and Leman 1968)."""
    keys: list = [*zip(molecule.elements, molecule.formal_charges, strict=True)]
    colours, n_before = _ranks(keys), 0
    while len(set(colours)) > n_before:
        n_before = len(set(colours))
        keys = [(colours[i], *sorted(colours[j] for j in around)) for i, around in enumerate(molecule.neighbors)]
        colours = _ranks(keys)
    return colours


def _ranks(keys: list) -> list[int]:
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys]


def _reference(molecule: Molecule, atom: int, not_this: int) -> int:
    """The heaviest further neighbour, then the first."""
    return min((i for i in molecule.neighbors[atom] if i != not_this), key=lambda i: (-molecule.masses[i], i))


def _label(molecule: Molecule, atom: int) -> str:
    if len(set(molecule.residue_ids)) == 1:
        return molecule.atom_names[atom]
    return f"{molecule.residue_names[atom]}{molecule.residue_ids[atom]}:{molecule.atom_names[atom]}"
