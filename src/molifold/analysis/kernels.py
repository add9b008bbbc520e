"""Distances, angles, torsions and block histograms of many frames: compiled loops, imported where they run.

A tile of frames is turned so that neighbouring numbers belong to neighbouring frames; every loop over it is free of
branches and becomes vector instructions. All functions stand in this one file, because numba's cache looks at no
other when it decides whether compiled code is still good.
"""

# Numba functions; numba, not mypy, types them.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, E741
from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.polynomial import Chebyshev, Polynomial

#: Frames per tile: coordinates of some hundred atoms stay in the first caches.
TILE = 64
#: Codes of what is measured.
DISTANCE, ANGLE, TORSION = 0, 1, 2


def _fit_atan(degree: int) -> tuple[float, ...]:
    """Coefficients, lowest first, of atan(t) / t in z = t^2 for |t| up to tan(pi / 8); error 2e-16 at degree 10."""

    def ratio(z):
        t = np.sqrt(np.abs(z))
        return np.where(t < 1e-8, 1 - z / 3, np.arctan(t) / np.where(t == 0, 1, t))

    series = Chebyshev.interpolate(ratio, degree, domain=[0.0, math.tan(math.pi / 8) ** 2])
    return tuple(float(c) for c in series.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef)


C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10 = _fit_atan(10)
EIGHTH = math.tan(math.pi / 8)
#: Keeps 0 / 0 away; no length of a molecule (nm) comes near it.
TINY = 1e-300


@njit(inline="always")
def _atan2(y, x):
    """Angle of (x, y), without branches; NaN stays NaN."""
    ax, ay = abs(x), abs(y)
    far = ax if ax > ay else ay
    near = ay if ax > ay else ax
    near = near + 0.0 * (x + y)  # a NaN that lost both comparisons
    over = near > EIGHTH * far
    # tan(a - pi/4) = (t - 1) / (t + 1) halves the interval.
    top = near - far if over else near
    bottom = (near + far if over else far) + TINY
    t = top / bottom
    z = t * t
    p = C10
    p = p * z + C9
    p = p * z + C8
    p = p * z + C7
    p = p * z + C6
    p = p * z + C5
    p = p * z + C4
    p = p * z + C3
    p = p * z + C2
    p = p * z + C1
    p = p * z + C0
    a = p * t + (0.25 * math.pi if over else 0.0)
    a = 0.5 * math.pi - a if ay > ax else a
    a = math.pi - a if x < 0 else a
    return -a if y < 0 else a


@njit(inline="always")
def _distance(t, o, n, i, j):
    for l in range(n):
        x, y, z = t[3 * j, l] - t[3 * i, l], t[3 * j + 1, l] - t[3 * i + 1, l], t[3 * j + 2, l] - t[3 * i + 2, l]
        o[l] = math.sqrt(x * x + y * y + z * z)


@njit(inline="always")
def _angle(t, o, n, i, j, k):
    for l in range(n):
        x, y, z = t[3 * j, l], t[3 * j + 1, l], t[3 * j + 2, l]
        ax, ay, az = t[3 * i, l] - x, t[3 * i + 1, l] - y, t[3 * i + 2, l] - z
        bx, by, bz = t[3 * k, l] - x, t[3 * k + 1, l] - y, t[3 * k + 2, l] - z
        cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        # atan2 of cross and dot stays accurate near 0 and pi, where arccos does not.
        o[l] = _atan2(math.sqrt(cx * cx + cy * cy + cz * cz), ax * bx + ay * by + az * bz)


@njit(inline="always")
def _torsion(t, o, n, i, j, k, m):
    for l in range(n):
        x1, y1, z1 = t[3 * j, l], t[3 * j + 1, l], t[3 * j + 2, l]
        x2, y2, z2 = t[3 * k, l], t[3 * k + 1, l], t[3 * k + 2, l]
        ax, ay, az = x1 - t[3 * i, l], y1 - t[3 * i + 1, l], z1 - t[3 * i + 2, l]
        bx, by, bz = x2 - x1, y2 - y1, z2 - z1
        cx, cy, cz = t[3 * m, l] - x2, t[3 * m + 1, l] - y2, t[3 * m + 2, l] - z2
        px, py, pz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        qx, qy, qz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        sine = math.sqrt(bx * bx + by * by + bz * bz) * (ax * qx + ay * qy + az * qz)
        o[l] = _atan2(sine, px * qx + py * qy + pz * qz)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_into(out, x, kinds, atoms):
    """Fill ``out [quantities, frames]`` with distances (nm), angles and torsions (radians) of ``x [frames, atoms, 3]``.

    ``kinds [quantities]`` are the codes above, ``atoms [quantities, 4]`` atom indices (the last ones unused).
    """
    frames, n_atoms = x.shape[0], x.shape[1]
    tile = np.empty((3 * n_atoms, TILE))
    row = np.empty(TILE)
    for start in range(0, frames, TILE):
        n = min(TILE, frames - start)
        for l in range(n):
            for a in range(n_atoms):
                tile[3 * a, l] = x[start + l, a, 0]
                tile[3 * a + 1, l] = x[start + l, a, 1]
                tile[3 * a + 2, l] = x[start + l, a, 2]
        for l in range(n, TILE):
            for c in range(3 * n_atoms):
                tile[c, l] = tile[c, 0]
        for q in range(len(kinds)):
            i, j, k, m = atoms[q, 0], atoms[q, 1], atoms[q, 2], atoms[q, 3]
            # Whole tiles: a fixed number of turns is what the compiler vectorises best.
            if kinds[q] == DISTANCE:
                _distance(tile, row, TILE, i, j)
            elif kinds[q] == ANGLE:
                _angle(tile, row, TILE, i, j, k)
            else:
                _torsion(tile, row, TILE, i, j, k, m)
            for l in range(n):
                out[q, start + l] = row[l]


@njit(cache=True, nogil=True, error_model="numpy")
def cells_into(cell, values, low, scale, bins, circle):
    """Histogram cell of every value [quantities, frames]; returns how many are not finite (they get cell -1).

    A circle of ``bins`` cells is wrapped. On a line, cells 0 and ``bins + 1`` take what lies outside.
    """
    broken = 0
    for q in range(values.shape[0]):
        for f in range(values.shape[1]):
            v = values[q, f]
            if not math.isfinite(v):
                broken += 1
                cell[q, f] = -1
                continue
            position = (v - low[q]) * scale[q]
            if circle[q]:
                c = int(math.floor(position)) % bins[q]
            elif position < 0.0:
                c = 0
            elif position >= bins[q]:
                c = bins[q] + 1
            else:
                c = int(position) + 1
            cell[q, f] = c
    return broken


@njit(cache=True, nogil=True, error_model="numpy")
def count_into(out, cell, label, w):
    """Add weights ``w [frames]`` to ``out [quantities, labels, cells]``; frames of cell or label -1 are left out."""
    for q in range(cell.shape[0]):
        for f in range(cell.shape[1]):
            c, k = cell[q, f], label[f]
            if c >= 0 and k >= 0:
                out[q, k, c] += w[f]
