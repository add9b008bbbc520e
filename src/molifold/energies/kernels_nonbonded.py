"""Lennard-Jones, Coulomb and generalised Born of one block of conformations (see ``kernels`` for the layout)."""

# Numba functions: every vector argument is a simd.Vector, one lane per conformation; numba, not mypy, types them.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
from __future__ import annotations

from numba import njit

from molifold.energies.kernels_bonded import add, at_least, dot
from molifold.energies.simd import exp, load, log, rsqrt, splat, store, tanh, where_less


@njit(forceinline=True)
def closest(x):
    """Squared distances (nm^2) are kept above this, so that r^-14 is finite in the precision of ``x``."""
    return 1e-5 if x.itemsize == 4 else 1e-40


@njit(forceinline=True)
def lennard_jones_coulomb(p, n, r2, inverse):
    """Energy and (dE/dr)/r of pair ``n``."""
    inverse2 = inverse * inverse
    r6 = inverse2 * inverse2 * inverse2
    repulsion, attraction, coulomb = p.pair_a[n] * r6 * r6, p.pair_b[n] * r6, p.pair_charge[n] * inverse
    lj = repulsion - attraction
    slope = (6.0 * attraction - 12.0 * repulsion) * inverse2
    if p.cutoff[0] == 0.0 or p.pair_plain[n] != 0.0:
        return lj + coulomb, slope - coulomb * inverse2
    cutoff, field, shift, switch = p.cutoff[0], p.cutoff[1], p.cutoff[2], p.cutoff[3]
    r = r2 * inverse
    if switch > 0.0:
        t = at_least((r - switch) / (cutoff - switch), 0.0)
        s = 1.0 + t * t * t * (-10.0 + t * (15.0 - t * 6.0))
        s_slope = t * t * (-30.0 + t * (60.0 - t * 30.0)) / (cutoff - switch)
        slope = slope * s + lj * s_slope * inverse
        lj = lj * s
    energy = lj + coulomb + p.pair_charge[n] * (field * r2 - shift)
    slope = slope - coulomb * inverse2 + 2.0 * p.pair_charge[n] * field
    return where_less(r, cutoff, energy, 0.0), where_less(r, cutoff, slope, 0.0)


@njit(forceinline=True)
def descreen(inner, scaled, engulfed, r, inverse):
    """Born integral, and its slope, of an atom of radius ``inner`` over a sphere of radius ``scaled`` at ``r``."""
    upper = r + scaled
    gap = r - scaled
    distance = where_less(gap, 0.0, -gap, gap)
    lower = at_least(distance, inner)
    both = 1.0 / (upper * lower)
    u, v = lower * both, upper * both
    squares = u * u - v * v
    logarithm = 0.5 * inverse * log(lower * u)
    s2 = scaled * scaled * inverse
    value = v - u + 0.25 * (r - s2) * squares + logarithm
    slope = 0.25 * (1.0 + s2 * inverse) * squares - logarithm * inverse
    # An atom wholly inside the sphere: GBSAOBCForce adds a correction, the custom forms do not (but then their slope
    # has a term from the lower limit).
    if engulfed != 0.0:
        value = value + where_less(gap, -inner, 2.0 / inner - 2.0 * v, 0.0)
    else:
        slope = slope + where_less(gap, -inner, 2.0 * v * v, 0.0)
    return where_less(inner, upper, 0.5 * value, 0.0), where_less(inner, upper, 0.5 * slope, 0.0)


@njit(forceinline=True)
def neck(height, position, reach, r):
    """Neck correction to the Born integral, and its slope."""
    d = r - position
    d2 = d * d
    d4 = d2 * d2
    value = 1.0 / (1.0 + 100.0 * d2 + 3e5 * d4 * d2)
    slope = -value * value * d * (200.0 + 18e5 * d4)
    return where_less(r, reach, height * value, 0.0), where_less(r, reach, height * slope, 0.0)


@njit
def pairs_vacuum(x, p, f):
    """Lennard-Jones and Coulomb of all pairs."""
    u = splat(0.0, load(x, 0))
    atoms, limit = x.shape[0], closest(x)
    n = 0
    for i in range(atoms):
        xi, yi, zi = load(x, 3 * i), load(x, 3 * i + 1), load(x, 3 * i + 2)
        fx = fy = fz = splat(0.0, u)
        for j in range(i + 1, atoms):
            d = (load(x, 3 * j) - xi, load(x, 3 * j + 1) - yi, load(x, 3 * j + 2) - zi)
            r2 = at_least(dot(d, d), limit)
            energy, slope = lennard_jones_coulomb(p, n, r2, rsqrt(r2))
            u = u + energy
            fx, fy, fz = fx + slope * d[0], fy + slope * d[1], fz + slope * d[2]
            add(f, j, -slope, d)
            n += 1
        add(f, i, 1.0, (fx, fy, fz))
    return u


# Generalised Born needs three passes over the pairs (integrals; energy and its slope in the Born radii; forces). Rows
# of scratch: 0 to 3 are free; then per atom the integral (later K = dE/dI), Born radius, 1/radius, dB/dI, W = dE/dB;
# then per pair the radial slope over r, and the slopes over r of the integrals of i and of j.
PER_ATOM, PER_PAIR, FREE = 5, 3, 4


@njit
def born_integrals(x, p, scratch):
    """First pass: Lennard-Jones and Coulomb energies; Born integrals and all radial slopes into scratch."""
    u = splat(0.0, load(x, 0))
    atoms, limit, row = x.shape[0], closest(x), FREE + PER_ATOM * x.shape[0]
    cutoff, engulfed, with_neck = p.gb_solvent[3], p.gb_solvent[4], len(p.gb_neck) > 0
    n = 0
    for i in range(atoms):
        store(scratch, FREE + i, splat(0.0, u))
    for i in range(atoms):
        xi, yi, zi = load(x, 3 * i), load(x, 3 * i + 1), load(x, 3 * i + 2)
        integral = load(scratch, FREE + i)
        for j in range(i + 1, atoms):
            d = (load(x, 3 * j) - xi, load(x, 3 * j + 1) - yi, load(x, 3 * j + 2) - zi)
            r2 = at_least(dot(d, d), limit)
            inverse = rsqrt(r2)
            r = r2 * inverse
            energy, slope = lennard_jones_coulomb(p, n, r2, inverse)
            u = u + energy
            of_i, slope_i = descreen(p.gb_inner[i], p.gb_scaled[j], engulfed, r, inverse)
            of_j, slope_j = descreen(p.gb_inner[j], p.gb_scaled[i], engulfed, r, inverse)
            if with_neck:
                extra, extra_slope = neck(p.gb_neck[n, 0], p.gb_neck[n, 1], p.gb_neck[n, 4], r)
                of_i, slope_i = of_i + extra, slope_i + extra_slope
                extra, extra_slope = neck(p.gb_neck[n, 2], p.gb_neck[n, 3], p.gb_neck[n, 4], r)
                of_j, slope_j = of_j + extra, slope_j + extra_slope
            if cutoff > 0.0:
                of_i, slope_i = where_less(r, cutoff, of_i, 0.0), where_less(r, cutoff, slope_i, 0.0)
                of_j, slope_j = where_less(r, cutoff, of_j, 0.0), where_less(r, cutoff, slope_j, 0.0)
            integral = integral + of_i
            store(scratch, FREE + j, load(scratch, FREE + j) + of_j)
            store(scratch, row, slope)
            store(scratch, row + 1, slope_i * inverse)
            store(scratch, row + 2, slope_j * inverse)
            row += PER_PAIR
            n += 1
        store(scratch, FREE + i, integral)
    return u


@njit
def born_radii(p, scratch):
    """Born radii from the integrals; self and surface energies."""
    u = splat(0.0, load(scratch, FREE))
    atoms = len(p.gb_charge)
    solute, solvent, kappa = p.gb_solvent[0], p.gb_solvent[1], p.gb_solvent[2]
    for i in range(atoms):
        integral = load(scratch, FREE + i)
        if len(p.gb_shape) == 0:
            reciprocal, bend = 1.0 / p.gb_inner[i] - integral, splat(1.0, u)
        else:
            a, b, c = p.gb_shape[i, 0], p.gb_shape[i, 1], p.gb_shape[i, 2]
            psi = integral * p.gb_inner[i]
            t = tanh(psi * (a + psi * (psi * c - b)))
            reciprocal = 1.0 / p.gb_inner[i] - t / p.gb_radius[i]
            bend = (1.0 - t * t) * (a + psi * (3.0 * c * psi - 2.0 * b)) * (p.gb_inner[i] / p.gb_radius[i])
        radius = 1.0 / reciprocal
        charge2 = 0.5 * p.gb_charge[i] * p.gb_charge[i]
        screening, screening_slope = splat(solute - solvent, u), splat(0.0, u)
        if kappa > 0.0:
            salt = solvent * exp(-kappa * radius)
            screening, screening_slope = solute - salt, kappa * salt
        surface = reciprocal * reciprocal * reciprocal
        surface = p.gb_surface[i] * surface * surface
        u = u + surface - charge2 * screening * reciprocal
        slope = charge2 * (screening * reciprocal - screening_slope) * reciprocal - 6.0 * surface * reciprocal
        store(scratch, FREE + atoms + i, radius)
        store(scratch, FREE + 2 * atoms + i, reciprocal)
        store(scratch, FREE + 3 * atoms + i, radius * radius * bend)
        store(scratch, FREE + 4 * atoms + i, slope)
    return u


@njit
def born_energy(x, p, scratch):
    """Second pass: screened Coulomb energies; adds to the slopes in r and in the Born radii."""
    u = splat(0.0, load(x, 0))
    atoms, limit, row = x.shape[0], closest(x), FREE + PER_ATOM * x.shape[0]
    solute, solvent, kappa, cutoff = p.gb_solvent[0], p.gb_solvent[1], p.gb_solvent[2], p.gb_solvent[3]
    shift = 1.0 / cutoff if cutoff > 0.0 else 0.0 * cutoff
    radii, reciprocals, slopes = FREE + atoms, FREE + 2 * atoms, FREE + 4 * atoms
    for i in range(atoms):
        xi, yi, zi = load(x, 3 * i), load(x, 3 * i + 1), load(x, 3 * i + 2)
        radius_i, quarter_i = load(scratch, radii + i), 0.25 * load(scratch, reciprocals + i)
        slope_i = load(scratch, slopes + i)
        for j in range(i + 1, atoms):
            d = (load(x, 3 * j) - xi, load(x, 3 * j + 1) - yi, load(x, 3 * j + 2) - zi)
            r2 = at_least(dot(d, d), limit)
            radius_j = load(scratch, radii + j)
            product = radius_i * radius_j
            exponent = r2 * quarter_i * load(scratch, reciprocals + j)
            overlap = exp(-exponent)
            f2 = r2 + product * overlap
            inverse = rsqrt(f2)
            charges = p.gb_charge[i] * p.gb_charge[j]
            screening, screening_slope = splat(solute - solvent, u), splat(0.0, u)
            if kappa > 0.0:
                salt = solvent * exp(-kappa * f2 * inverse)
                screening, screening_slope = solute - salt, kappa * salt
            energy = -charges * screening * (inverse - shift)
            slope = 0.5 * charges * inverse * (screening * inverse * inverse - screening_slope * (inverse - shift))
            if cutoff > 0.0:
                energy = where_less(r2, cutoff * cutoff, energy, 0.0)
                slope = where_less(r2, cutoff * cutoff, slope, 0.0)
            u = u + energy
            in_radii = slope * overlap * (1.0 + exponent)
            slope_i = slope_i + in_radii * radius_j
            store(scratch, slopes + j, load(scratch, slopes + j) + in_radii * radius_i)
            store(scratch, row, load(scratch, row) + slope * (2.0 - 0.5 * overlap))
            row += PER_PAIR
        store(scratch, slopes + i, slope_i)
    return u


@njit
def born_forces(x, p, f, scratch):
    """Third pass: forces from all slopes."""
    atoms, row = x.shape[0], FREE + PER_ATOM * x.shape[0]
    for i in range(atoms):
        store(scratch, FREE + i, load(scratch, FREE + 3 * atoms + i) * load(scratch, FREE + 4 * atoms + i))
    for i in range(atoms):
        xi, yi, zi = load(x, 3 * i), load(x, 3 * i + 1), load(x, 3 * i + 2)
        chain_i = load(scratch, FREE + i)
        fx = fy = fz = splat(0.0, xi)
        for j in range(i + 1, atoms):
            d = (load(x, 3 * j) - xi, load(x, 3 * j + 1) - yi, load(x, 3 * j + 2) - zi)
            slope = load(scratch, row) + chain_i * load(scratch, row + 1)
            slope = slope + load(scratch, FREE + j) * load(scratch, row + 2)
            fx, fy, fz = fx + slope * d[0], fy + slope * d[1], fz + slope * d[2]
            add(f, j, -slope, d)
            row += PER_PAIR
        add(f, i, 1.0, (fx, fy, fz))


@njit
def nonbonded(x, p, f, scratch):
    """All pair terms and implicit solvent."""
    if len(p.gb_charge) == 0:
        return pairs_vacuum(x, p, f)
    u = born_integrals(x, p, scratch)
    u = u + born_radii(p, scratch)
    u = u + born_energy(x, p, scratch)
    born_forces(x, p, f, scratch)
    return u
