"""Z-matrix: the tree of bonds in which internal coordinates are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray

from molifold.molecule import Molecule
from molifold.topology import backbone_torsions, ring_bonds


@dataclass(frozen=True)
class ZMatrix:
    """A spanning tree of the bond graph, rooted at a bond, with the torsions measured along it.

    Every atom but the two of the root bond hangs on a ``parent``. Its bond is measured to the parent, its angle to
    the parent's own parent (the atoms of the root bond are each other's parents), and its torsion about the bond
    between those two. The first child of an atom carries the *proper* torsion of that bond, a rotation; its siblings
    carry their *phase*, the difference to the first child's torsion, which hardly moves (near +-120 or 180 degrees)
    and holds the chirality. So a methyl group has one rotation and two stiff phases. A proper torsion about a bond of a
    ring does not turn freely either: it would open the ring.

    Attributes:
        root: the root bond (a, b).
        order: all atoms but ``root[0]``, level by level; ``order[0] == root[1]``, and ``order[1]`` is its first child,
            whose torsion is the gauge and no coordinate.
        parent: parent of every atom.
        first: for every atom the first child of its parent (itself if it is that child).
        level: distance of every atom from the root bond.
    """

    molecule: Molecule
    root: tuple[int, int]
    order: tuple[int, ...]
    parent: tuple[int, ...]
    first: tuple[int, ...]
    level: tuple[int, ...]

    @property
    def angles(self) -> tuple[int, ...]:
        """Atoms that carry an angle: all but the root bond's."""
        return tuple(a for a in self.order if a not in self.root)

    @property
    def torsions(self) -> tuple[int, ...]:
        """Atoms that carry a torsion: all but the root bond's and the gauge atom."""
        return self.angles[1:]

    @cached_property
    def is_rotation(self) -> ndarray:
        """[torsions] True for proper torsions, False for phases."""
        return np.array([self.first[a] == a for a in self.torsions], dtype=bool)

    @cached_property
    def in_ring(self) -> ndarray:
        """[torsions] True for proper torsions about a bond that lies in a ring."""
        rings = ring_bonds(self.molecule)
        about = [(self.parent[a], self.parent[self.parent[a]]) for a in self.torsions]
        return self.is_rotation & np.array([(min(b), max(b)) in rings for b in about], dtype=bool)

    def quadruple(self, atom: int) -> tuple[int, int, int, int]:
        """The four atoms whose torsion ``atom`` carries; for a phase the last is its first sibling.

        The torsion of a phase is measured about the same bond, from the first sibling to the atom.
        """
        j = self.parent[atom]
        k = self.parent[j]
        if self.first[atom] != atom:
            return atom, j, k, self.first[atom]
        if j == self.root[0]:
            return atom, j, k, self.order[1]
        return atom, j, k, self.parent[k] if j not in self.root and k not in self.root else self._beyond(j, k)

    def _beyond(self, j: int, k: int) -> int:
        """The atom opposite ``j`` as seen from root atom ``k``."""
        other = self.root[1] if k == self.root[0] else self.root[0]
        return other if other != j else self.order[1]

    def levels(self) -> Iterator[tuple[int, ...]]:
        """Atoms that can be placed at once, from the root bond outwards."""
        for depth in range(1, max(self.level) + 1):
            yield tuple(a for a in self.order if self.level[a] == depth)

    def __repr__(self) -> str:
        proper, rings = int(self.is_rotation.sum()), int(self.in_ring.sum())
        return (
            f"ZMatrix({self.molecule.name!r}: {self.molecule.n_atoms} atoms, {max(self.level)} levels, "
            f"{proper - rings} rotations, {f'{rings} in rings, ' if rings else ''}{len(self.torsions) - proper} phases)"
        )


def zmatrix(molecule: Molecule) -> ZMatrix:
    """Choose a z-matrix for a connected molecule; rings are cut at the bond farthest from the root.

    The root is the bond in the middle of the molecule, so that the tree is shallow (few sequential steps). First
    children are those on a peptide's backbone (phi, psi and omega are rotations), then those along a ring (whose
    torsions are the ring's own), then those with the largest branch.

    Raises:
        ValueError: if the molecule is not connected or has fewer than three atoms.

    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)), name="butane")
    >>> zmatrix(butane)
    ZMatrix('butane': 4 atoms, 1 levels, 1 rotations, 0 phases)
    """
    if molecule.n_atoms < 3:
        raise ValueError(f"molecule: got {molecule.n_atoms} atoms, expected at least 3 for internal coordinates")
    if len(molecule.components) > 1:
        raise ValueError(
            f"molecule: got {len(molecule.components)} unconnected parts {molecule.components}, expected one connected "
            "molecule; internal coordinates need a path of bonds between all atoms"
        )
    root = _central_bond(molecule)
    parent, level = _spanning_tree(molecule, root)
    size = _branch_sizes(parent, level, root)
    backbone = {int(a) for found in backbone_torsions(molecule).values() for a in found.ravel()}
    rings = ring_bonds(molecule)
    ringed = [(min(a, p), max(a, p)) in rings for a, p in enumerate(parent)]
    rank = [(a not in backbone, not ringed[a], -size[a], -molecule.masses[a], a) for a in range(molecule.n_atoms)]
    children = {
        p: sorted((a for a in range(molecule.n_atoms) if parent[a] == p and a not in root), key=rank.__getitem__)
        for p in range(molecule.n_atoms)
    }
    if not children[root[1]]:
        root = (root[1], root[0])
    first = [children[parent[a]][0] if a not in root else a for a in range(molecule.n_atoms)]
    gauge = children[root[1]][0]
    rest = sorted((a for a in range(molecule.n_atoms) if a not in (*root, gauge)), key=lambda a: (level[a], a))
    return ZMatrix(molecule, root, (root[1], gauge, *rest), tuple(parent), tuple(first), tuple(level))


def _central_bond(molecule: Molecule) -> tuple[int, int]:
    hops, masses = molecule.hops, np.asarray(molecule.masses)
    # Radius first; among equals prefer non-ring bonds of many neighbours, then heavy atoms.
    heavy = [len(n) for n in molecule.neighbors]

    def key(bond: tuple[int, int]) -> tuple[float, ...]:
        i, j = bond
        reach = np.minimum(hops[i], hops[j])
        return float(reach.max()), float(reach.mean()), -heavy[i] - heavy[j], -float(masses[i] + masses[j]), i

    i, j = min(molecule.bonds, key=key)
    # The gauge atom hangs on the second atom of the root bond; put the larger side there.
    return (i, j) if len(molecule.neighbors[j]) > 1 else (j, i)


def _spanning_tree(molecule: Molecule, root: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Breadth first, so that ring bonds far from the root are the ones left out."""
    parent = [-1] * molecule.n_atoms
    level = [-1] * molecule.n_atoms
    parent[root[0]], parent[root[1]] = root[1], root[0]
    level[root[0]] = level[root[1]] = 0
    frontier = list(root)
    while frontier:
        reached = []
        for a in frontier:
            for b in molecule.neighbors[a]:
                if level[b] < 0:
                    parent[b], level[b] = a, level[a] + 1
                    reached.append(b)
        frontier = reached
    return parent, level


def _branch_sizes(parent: list[int], level: list[int], root: tuple[int, int]) -> list[int]:
    size = [1] * len(parent)
    for a in sorted(range(len(parent)), key=lambda a: -level[a]):
        if a not in root:
            size[parent[a]] += size[a]
    return size
