"""Distances, angles and torsions of conformations, in NumPy. Lengths in nm, angles in radians."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def distances(x: Float[ndarray, "frames atoms 3"], pairs: Int[ndarray, "pairs 2"]) -> Float[ndarray, "frames pairs"]:
    """Distances (nm) between pairs of atoms.

    >>> x = np.array([[[0.0, 0, 0], [3.0, 4, 0]]])
    >>> distances(x, np.array([[0, 1]]))
    array([[5.]])
    """
    pairs = np.asarray(pairs).reshape(-1, 2)
    return np.linalg.norm(x[:, pairs[:, 1]] - x[:, pairs[:, 0]], axis=-1)


def angles(x: Float[ndarray, "frames atoms 3"], triples: Int[ndarray, "angles 3"]) -> Float[ndarray, "frames angles"]:
    """Angles (radians, 0 to pi) at the middle atom of each triple.

    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0]]])
    >>> bool(np.isclose(angles(x, np.array([[0, 1, 2]]))[0, 0], np.pi / 2))
    True
    """
    triples = np.asarray(triples).reshape(-1, 3)
    a = x[:, triples[:, 0]] - x[:, triples[:, 1]]
    b = x[:, triples[:, 2]] - x[:, triples[:, 1]]
    # atan2 of cross and dot stays accurate near 0 and pi, where arccos does not.
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))


def torsions(
    x: Float[ndarray, "frames atoms 3"], quadruples: Int[ndarray, "torsions 4"]
) -> Float[ndarray, "frames torsions"]:
    """Torsion angles (radians, -pi to pi), IUPAC sign: 0 is cis, positive is clockwise.

    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]])
    >>> bool(np.isclose(torsions(x, np.array([[0, 1, 2, 3]]))[0, 0], np.pi / 2))
    True
    """
    q = np.asarray(quadruples).reshape(-1, 4)
    # [4, 3, frames, torsions]: component by component the loops are long, more than twice as fast as np.cross.
    p = np.ascontiguousarray(np.moveaxis(x[:, q], (2, 3), (0, 1)))
    b1, b2, b3 = p[1] - p[0], p[2] - p[1], p[3] - p[2]
    c1, c2 = _cross(b1, b2), _cross(b2, b3)
    return np.arctan2(np.sqrt((b2 * b2).sum(0)) * (b1 * c2).sum(0), (c1 * c2).sum(0))


def _cross(a: Float[ndarray, "3 ..."], b: Float[ndarray, "3 ..."]) -> Float[ndarray, "3 ..."]:
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def superpose(
    x: Float[ndarray, "frames atoms 3"],
    reference: Float[ndarray, "atoms 3"],
    *,
    weights: Float[ndarray, " atoms"] | None = None,
) -> Float[ndarray, "frames atoms 3"]:
    """Rotate and translate every frame onto ``reference`` (least squares, proper rotations only).

    Reference: W. Kabsch, Acta Cryst. A32, 922 (1976), doi:10.1107/S0567739476001873.

    >>> x = np.random.default_rng(0).normal(size=(1, 5, 3))
    >>> bool(np.allclose(superpose(x[:, :, [1, 2, 0]], x[0]), x))
    True
    """
    w = np.ones(x.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    w = (w / w.sum())[:, None]
    target = reference - (w * reference).sum(0)
    moved = x - (w * x).sum(1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("fai,aj->fij", moved * w, target))
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., -1] *= sign[:, None]
    return moved @ (u @ vt) + (w * reference).sum(0)


def wrap(angle: Float[ndarray, ...]) -> Float[ndarray, ...]:
    """Angles wrapped into [-pi, pi).

    >>> bool(np.isclose(wrap(np.array(3 * np.pi / 2)), -np.pi / 2))
    True
    """
    return (angle + np.pi) % (2 * np.pi) - np.pi
