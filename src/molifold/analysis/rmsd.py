"""Root-mean-square deviation of every two conformations of two sets, symmetric atoms exchanged where that helps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.molecule import Molecule

#: Permutations beyond this are left out (a molecule of many phenyl rings has thousands).
MOST_PERMUTATIONS = 256


def heavy_symmetries(molecule: Molecule, *, most: int = MOST_PERMUTATIONS) -> Int[ndarray, "permutations atoms"]:
    """Every way to map the heavy atoms onto themselves that keeps elements, charges and bonds; the identity is first.

    A molecule of hydrogens alone keeps them. Bonds have no order here: both oxygens of an acid count as equal.

    >>> heavy_symmetries(Molecule.from_smiles("CCC"))
    array([[0, 1, 2],
           [2, 1, 0]])
    """
    from rdkit import Chem

    heavy = [i for i, e in enumerate(molecule.elements) if e not in ("H", "D")] or list(range(molecule.n_atoms))
    place = {atom: k for k, atom in enumerate(heavy)}
    graph = Chem.RWMol()
    for i in heavy:
        atom = Chem.Atom(0)  # a label decides what is equal; chemistry would be questioned by RDKit
        kind = sorted(set(molecule.elements)).index(molecule.elements[i])
        hydrogens = sum(molecule.elements[j] in ("H", "D") for j in molecule.neighbors[i])
        atom.SetIsotope(1 + kind + 200 * hydrogens)
        atom.SetFormalCharge(molecule.formal_charges[i])
        graph.AddAtom(atom)
    for i, j in molecule.bonds:
        if i in place and j in place:
            graph.AddBond(place[i], place[j], Chem.BondType.SINGLE)
    found = graph.GetSubstructMatches(graph, uniquify=False, maxMatches=most) if len(heavy) > 1 else ()
    identity = tuple(range(len(heavy)))
    rows = [identity, *sorted(row for row in found if row != identity)]
    return np.array(heavy)[np.array(rows)]


def symmetric_rmsd(
    a: Float[ndarray, "frames atoms 3"],
    b: Float[ndarray, "others atoms 3"],
    *,
    permutations: Int[ndarray, "permutations atoms"],
) -> Float[ndarray, "frames others"]:
    """RMSD (nm) after the best rotation and the best permutation, for every frame of ``a`` and of ``b``.

    The sum of the singular values of the covariance (the last with the sign of the determinant, as reflections are no
    rotations) gives the best overlap; they come from the cubic that its square satisfies.

    Args:
        a, b: conformations, nm.
        permutations: atoms to compare, once in every equivalent order (``heavy_symmetries``).

    Reference: W. Kabsch, Acta Cryst. A32, 922 (1976), doi:10.1107/S0567739476001873.

    >>> x = np.random.default_rng(0).normal(size=(1, 5, 3))
    >>> turned = x[:, :, [1, 2, 0]] + 1.0
    >>> symmetric_rmsd(x, turned, permutations=np.arange(5)[None]).round(6).tolist()
    [[0.0]]
    """
    b = _centred(b[:, permutations[0]])
    best = np.full((len(a), len(b)), np.inf)
    for row in permutations:
        moved = _centred(a[:, row])
        size = (moved**2).sum((1, 2))[:, None] + (b**2).sum((1, 2))
        covariance = np.tensordot(moved, b, axes=([1], [1])).transpose(1, 3, 0, 2)
        square = np.maximum(size - 2 * _overlap(covariance), 0.0) / permutations.shape[1]
        best = np.minimum(best, square)
    return np.sqrt(best)


def _centred(x: ndarray) -> ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x - x.mean(1, keepdims=True)


def _overlap(m: Float[ndarray, "3 3 frames others"]) -> Float[ndarray, "frames others"]:
    """Largest trace of rotation times ``m``: the sum of its singular values, the smallest with the determinant's sign.

    The eigenvalues of the symmetric ``m^T m`` by the trigonometric formula.
    """
    m = np.ascontiguousarray(m)
    s = np.einsum("kifg,kjfg->ijfg", m, m)
    third = (s[0, 0] + s[1, 1] + s[2, 2]) / 3
    for i in range(3):
        s[i, i] -= third
    p = np.sqrt(np.maximum(np.einsum("ijfg,ijfg->fg", s, s) / 6, 1e-300))
    angle = np.arccos(np.clip(_determinant(s) / (2 * p**3), -1, 1)) / 3
    first = third + 2 * p * np.cos(angle)
    last = third + 2 * p * np.cos(angle + 2 * np.pi / 3)
    middle = 3 * third - first - last
    roots = [np.sqrt(np.maximum(v, 0)) for v in (first, middle, last)]
    return roots[0] + roots[1] + np.sign(_determinant(m)) * roots[2]


def _determinant(m: Float[ndarray, "3 3 frames others"]) -> Float[ndarray, "frames others"]:
    a, b, c = m
    return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
