"""Bonds, angles, torsions and CMAP of one block of conformations (see ``kernels`` for the layout)."""

# Numba functions: every vector argument is a simd.Vector, one lane per conformation; numba, not mypy, types them.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
from __future__ import annotations

import math

from numba import njit

from molifold.energies.simd import angle, load, rsqrt, splat, sqrt, store, where_less

#: Squared lengths (nm^2) and areas (nm^4) are kept above this, so that coinciding atoms give finite energies and
#: forces.
TINY = 1e-20


@njit(forceinline=True)
def difference(x, i, j):
    """x_j - x_i."""
    return (
        load(x, 3 * j) - load(x, 3 * i),
        load(x, 3 * j + 1) - load(x, 3 * i + 1),
        load(x, 3 * j + 2) - load(x, 3 * i + 2),
    )


@njit(forceinline=True)
def dot(a, b):
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(forceinline=True)
def cross(a, b):
    """Vector product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(forceinline=True)
def at_least(a, limit):
    """Elementwise maximum; NaN becomes ``a``."""
    return where_less(a, limit, limit, a)


@njit(forceinline=True)
def add(f, i, scale, a):
    """f_i += scale * a."""
    store(f, 3 * i, load(f, 3 * i) + scale * a[0])
    store(f, 3 * i + 1, load(f, 3 * i + 1) + scale * a[1])
    store(f, 3 * i + 2, load(f, 3 * i + 2) + scale * a[2])


@njit
def bonds(x, p, f):
    """Harmonic bonds: k (r - r0)^2 / 2."""
    u = splat(0.0, load(x, 0))
    for b in range(len(p.bond_k)):
        i, j = p.bond_atoms[b, 0], p.bond_atoms[b, 1]
        d = difference(x, i, j)
        r2 = at_least(dot(d, d), TINY)
        inverse = rsqrt(r2)
        stretch = r2 * inverse - p.bond_length[b]
        slope = p.bond_k[b] * stretch
        u = u + 0.5 * slope * stretch
        add(f, i, slope * inverse, d)
        add(f, j, -slope * inverse, d)
    return u


@njit
def angles(x, p, f):
    """Harmonic angles: k (theta - theta0)^2 / 2, theta from atan2, which is exact near 0 and pi too."""
    u = splat(0.0, load(x, 0))
    for n in range(len(p.angle_k)):
        i, j, k = p.angle_atoms[n, 0], p.angle_atoms[n, 1], p.angle_atoms[n, 2]
        a, b = difference(x, j, i), difference(x, j, k)
        c = cross(a, b)
        c2 = at_least(dot(c, c), TINY)
        inverse = rsqrt(c2)
        bend = angle(c2 * inverse, dot(a, b)) - p.angle_theta[n]
        slope = p.angle_k[n] * bend
        u = u + 0.5 * slope * bend
        scale_a = -slope * inverse / at_least(dot(a, a), TINY)
        scale_b = -slope * inverse / at_least(dot(b, b), TINY)
        e, g = cross(a, c), cross(c, b)
        add(f, i, scale_a, e)
        add(f, k, scale_b, g)
        add(f, j, -scale_a, e)
        add(f, j, -scale_b, g)
    return u


@njit(forceinline=True)
def torsion(x, i, j, k, m):
    """Cosine and sine of a torsion (IUPAC sign) and what ``pull`` needs for its gradient."""
    b1, b2, b3 = difference(x, i, j), difference(x, j, k), difference(x, k, m)
    c1, c2 = cross(b1, b2), cross(b2, b3)
    inverse1 = rsqrt(at_least(dot(c1, c1), TINY))
    inverse2 = rsqrt(at_least(dot(c2, c2), TINY))
    axis2 = at_least(dot(b2, b2), TINY)
    axis = sqrt(axis2)
    scale = inverse1 * inverse2
    cosine, sine = dot(c1, c2) * scale, axis * dot(b1, c2) * scale
    s, t = dot(b1, b2) / axis2, dot(b3, b2) / axis2
    return cosine, sine, c1, c2, axis * inverse1 * inverse1, axis * inverse2 * inverse2, s, t


@njit(forceinline=True)
def pull(f, i, j, k, m, slope, c1, c2, scale1, scale2, s, t):
    """Forces of a torsion whose energy rises by ``slope`` per radian (Blondel, Karplus 1996)."""
    first, last = slope * scale1, -slope * scale2
    add(f, i, first, c1)
    add(f, m, last, c2)
    add(f, j, -(1.0 + s) * first, c1)
    add(f, j, t * last, c2)
    add(f, k, s * first, c1)
    add(f, k, -(1.0 + t) * last, c2)


@njit
def torsions(x, p, f):
    """Fourier series of every torsion; cos(n phi) and sin(n phi) by rotation, without calling cos."""
    u = splat(0.0, load(x, 0))
    for n in range(len(p.torsion_atoms)):
        i, j, k, m = p.torsion_atoms[n, 0], p.torsion_atoms[n, 1], p.torsion_atoms[n, 2], p.torsion_atoms[n, 3]
        cosine, sine, c1, c2, scale1, scale2, s, t = torsion(x, i, j, k, m)
        u = u + p.torsion_cos[n, 0]
        slope = splat(0.0, u)
        c, d = cosine, sine
        for order in range(1, p.torsion_cos.shape[1]):
            a, b = p.torsion_cos[n, order], p.torsion_sin[n, order]
            u = u + (a * c + b * d)
            slope = slope + order * (b * c - a * d)
            c, d = c * cosine - d * sine, d * cosine + c * sine
        pull(f, i, j, k, m, slope, c1, c2, scale1, scale2, s, t)
    return u


@njit
def bicubic(p, n, scratch):
    """Replace the positions (radians) in rows 0 and 1 of scratch by the slopes, and row 2 by the energies."""
    size = p.cmap_size[n]
    per_radian = size / (2.0 * math.pi)
    for lane in range(scratch.shape[1]):
        s, t = scratch[0, lane] * per_radian, scratch[1, lane] * per_radian
        row, column = math.floor(s), math.floor(t)
        s, t = s - row, t - column
        c = p.cmap_patch[p.cmap_start[n] + (int(row) % size) * size + int(column) % size]
        energy = slope_s = slope_t = 0.0 * s
        for a in range(3, -1, -1):
            along = ((c[4 * a + 3] * t + c[4 * a + 2]) * t + c[4 * a + 1]) * t + c[4 * a]
            slope_t = slope_t * s + (3.0 * c[4 * a + 3] * t + 2.0 * c[4 * a + 2]) * t + c[4 * a + 1]
            slope_s = slope_s * s + energy
            energy = energy * s + along
        scratch[0, lane], scratch[1, lane], scratch[2, lane] = slope_s * per_radian, slope_t * per_radian, energy


@njit
def cmaps(x, p, f, scratch):
    """Correction maps on pairs of torsions."""
    u = splat(0.0, load(x, 0))
    for n in range(len(p.cmap_atoms)):
        i, j, k, m = p.cmap_atoms[n, 0], p.cmap_atoms[n, 1], p.cmap_atoms[n, 2], p.cmap_atoms[n, 3]
        i_, j_, k_, m_ = p.cmap_atoms[n, 4], p.cmap_atoms[n, 5], p.cmap_atoms[n, 6], p.cmap_atoms[n, 7]
        cosine, sine, c1, c2, scale1, scale2, s, t = torsion(x, i, j, k, m)
        cosine_, sine_, c1_, c2_, scale1_, scale2_, s_, t_ = torsion(x, i_, j_, k_, m_)
        phi, psi = (
            angle(where_less(sine, 0.0, -sine, sine), cosine),
            angle(where_less(sine_, 0.0, -sine_, sine_), cosine_),
        )
        store(scratch, 0, where_less(sine, 0.0, -phi, phi))
        store(scratch, 1, where_less(sine_, 0.0, -psi, psi))
        bicubic(p, n, scratch)
        pull(f, i, j, k, m, load(scratch, 0), c1, c2, scale1, scale2, s, t)
        pull(f, i_, j_, k_, m_, load(scratch, 1), c1_, c2_, scale1_, scale2_, s_, t_)
        u = u + load(scratch, 2)
    return u
