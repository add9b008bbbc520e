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
    """``count`` masks over the stiff coordinates (bonds, angles, phases), cycling through complementary halves.

    The halves separate what interacts most: angles from bonds and phases (of the same atom), siblings from each other
    (the three hydrogens of a methyl group), and parents from children.

    Args:
        tree: the z-matrix.
        atoms: atom that carries each coordinate.
        kinds: 0 bond, 1 angle, 2 phase of each coordinate.
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


def rotation_masks(circle: Bool[ndarray, " size"], *, count: int) -> list[Bool[ndarray, " size"]]:
    """``count`` masks over the rotations: halves by the binary digits of their rank.

    Every two rotations differ in some digit, so after two masks per digit each has been conditioned on each.
    """
    rank = np.cumsum(circle) - 1
    digits = max(1, int(np.ceil(np.log2(max(2, circle.sum())))))
    return _alternate([(rank >> d) % 2 == 0 for d in range(digits)], circle, count)


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
