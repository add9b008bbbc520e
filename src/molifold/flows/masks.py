"""Masks: which coordinates a coupling transforms, read off the z-matrix, so that no permutation layers are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from molifold.transforms.zmatrix import ZMatrix


def stiff_masks(
    tree: ZMatrix, *, atoms: Sequence[int], kinds: Int[ndarray, " size"], circle: Bool[ndarray, " size"], count: int
) -> list[Bool[ndarray, " size"]]:
    """``count`` masks over the stiff coordinates (bonds, angles, phases, rings), cycling through complementary halves.

    The halves separate what interacts most: angles from bonds and phases (of the same atom), siblings from each other
    (the three hydrogens of a methyl group), and parents from children.

    Args:
        tree: the z-matrix.
        atoms: atom that carries each coordinate.
        kinds: 0 bond, 1 angle, 2 phase or torsion in a ring of each coordinate.
        circle: True for rotations, which no mask contains.
        count: number of masks.
    """
    sibling = np.array([_sibling_rank(tree, a) for a in atoms])
    level = np.array([tree.level[a] for a in atoms])
    halves = [
        kinds == 1,
        (sibling + kinds) % 2 == 1,
        (level + (kinds == 0)) % 2 == 1,
        (sibling // 2 + level + (kinds == 2)) % 2 == 1,
    ]
    return _alternate(halves, ~circle, count)


def rotation_masks(
    tree: ZMatrix, *, atoms: Sequence[int], circle: Bool[ndarray, " size"], count: int
) -> list[Bool[ndarray, " size"]]:
    """``count`` masks over the rotations: complementary halves by place in the tree, then by rank.

    The first three pairs look the same around a rotation whatever the size of the molecule, so that one set of weights
    serves several: neighbours along a chain (odd and even levels), second neighbours and the two sides of the root
    bond, fourth neighbours and ends of the tree (methyl groups) against its branches. Then follow the binary digits of
    the rank: every two rotations differ in some digit, so in the end each has been conditioned on each.

    Args:
        tree: the z-matrix.
        atoms: atom that carries each coordinate.
        circle: True for rotations.
        count: number of masks.
    """
    level = np.array([tree.level[a] for a in atoms])
    side = np.array([_side(tree, a) for a in atoms])
    parents = {tree.parent[a] for a in tree.order[1:]}
    leaf = np.array([a not in parents for a in atoms])
    rank = np.cumsum(circle) - 1
    digits = max(1, int(np.ceil(np.log2(max(2, circle.sum())))))
    halves = [
        level % 2 == 0,
        (level // 2 + side) % 2 == 0,
        (level // 4 + leaf) % 2 == 0,
        *((rank >> d) % 2 == 0 for d in range(digits)),
    ]
    return _alternate(halves, circle, count)


def _alternate(
    halves: list[Bool[ndarray, " size"]], within: Bool[ndarray, " size"], count: int
) -> list[Bool[ndarray, " size"]]:
    pairs = [(h & within, ~h & within) for h in halves]
    masks = [m for pair in pairs if pair[0].any() and pair[1].any() for m in pair]
    return list(islice(_endless(masks), count))


def _endless(masks: list[Bool[ndarray, " size"]]) -> Iterator[Bool[ndarray, " size"]]:
    return cycle(masks) if masks else iter(())


def _sibling_rank(tree: ZMatrix, atom: int) -> int:
    same = [a for a in tree.order if tree.parent[a] == tree.parent[atom] and a not in tree.root]
    return 0 if atom in tree.root else 1 + sorted(same, key=lambda a: (a != tree.first[a], a)).index(atom)


def _side(tree: ZMatrix, atom: int) -> int:
    """Which atom of the root bond an atom descends from: 0 or 1."""
    while atom not in tree.root:
        atom = tree.parent[atom]
    return tree.root.index(atom)
