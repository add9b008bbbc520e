"""Read an OpenMM System into ``Parameters``, force by force. Whatever is not understood exactly is an error."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.energies.parameters import COULOMB, Parameters, UnsupportedForceError, empty
from molifold.energies.reading_solvent import read_custom_gb, read_obc


def read_system(system: Any) -> Parameters:
    """Parameters (float64) of every force of an ``openmm.System``.

    Raises:
        UnsupportedForceError: for a force, form or option outside the supported set.
    """
    atoms = system.getNumParticles()
    virtual = [i for i in range(atoms) if system.isVirtualSite(i)]
    if virtual:
        raise UnsupportedForceError("virtual sites", f"(particles {virtual[:5]})")
    found: dict[str, list[Any]] = defaultdict(list)
    for force in system.getForces():
        found[type(force).__name__ if type(force).__name__ in _READERS else force.getName()].append(force)
    fields: dict[str, ndarray] = {}
    for name, forces in found.items():
        if name not in _READERS:
            raise UnsupportedForceError(name, f"({type(forces[0]).__name__}) is not in the supported set")
        if any(_periodic(force) for force in forces):
            raise UnsupportedForceError(name, "uses periodic boundary conditions")
    solvents = [f for name in ("GBSAOBCForce", "CustomGBForce") for f in found.get(name, [])]
    for name in ("NonbondedForce", "CMAPTorsionForce"):
        if len(found.get(name, [])) > 1:
            raise UnsupportedForceError(name, f"occurs {len(found[name])} times")
    if len(solvents) > 1:
        raise UnsupportedForceError("implicit solvent", f"occurs {len(solvents)} times")
    fields |= _bonds(found.get("HarmonicBondForce", [])) | _angles(found.get("HarmonicAngleForce", []))
    fields |= _torsions(found.get("PeriodicTorsionForce", []), found.get("RBTorsionForce", []))
    for name in ("CMAPTorsionForce", "NonbondedForce", "GBSAOBCForce", "CustomGBForce"):
        for force in found.get(name, []):
            fields |= _READERS[name](force, atoms)
    return empty(atoms)._replace(**fields)


def _periodic(force: Any) -> bool:
    # Bonded forces can be told to wrap, nonbonded ones have periodic methods; both answer this call.
    return bool(force.usesPeriodicBoundaryConditions())


def _bonds(forces: list[Any]) -> dict[str, ndarray]:
    rows = [f.getBondParameters(k) for f in forces for k in range(f.getNumBonds())]
    return {
        "bond_atoms": np.array([r[:2] for r in rows], np.int32).reshape(-1, 2),
        "bond_length": np.array([r[2]._value for r in rows], float),
        "bond_k": np.array([r[3]._value for r in rows], float),
    }


def _angles(forces: list[Any]) -> dict[str, ndarray]:
    rows = [f.getAngleParameters(k) for f in forces for k in range(f.getNumAngles())]
    return {
        "angle_atoms": np.array([r[:3] for r in rows], np.int32).reshape(-1, 3),
        "angle_theta": np.array([r[3]._value for r in rows], float),
        "angle_k": np.array([r[4]._value for r in rows], float),
    }


def _torsions(periodic: list[Any], ryckaert_bellemans: list[Any]) -> dict[str, ndarray]:
    """All torsion terms, merged into one Fourier series per quadruple of atoms."""
    series: dict[tuple[int, ...], dict[int, complex]] = defaultdict(lambda: defaultdict(complex))
    for force in periodic:
        for index in range(force.getNumTorsions()):
            *quad, n, phase, k = force.getTorsionParameters(index)
            terms = series[_canonical(quad)]
            terms[0] += k._value
            terms[n] += k._value * np.exp(1j * phase._value)
    for force in ryckaert_bellemans:
        for index in range(force.getNumTorsions()):
            *quad, c0, c1, c2, c3, c4, c5 = force.getTorsionParameters(index)
            # sum_n c_n cos(psi)^n with psi = phi - 180 degrees: powers to Chebyshev polynomials, odd ones change sign.
            powers = [c._value * (-1) ** n for n, c in enumerate((c0, c1, c2, c3, c4, c5))]
            for n, value in enumerate(np.polynomial.chebyshev.poly2cheb(powers)):
                series[_canonical(quad)][n] += value
    orders = 1 + max((n for terms in series.values() for n in terms), default=0)
    table = np.zeros((len(series), orders), complex)
    for row, terms in zip(table, series.values(), strict=True):
        for n, value in terms.items():
            row[n] = value
    # k cos(n phi - phase) = k cos(phase) cos(n phi) + k sin(phase) sin(n phi)
    return {
        "torsion_atoms": np.array(list(series), np.int32).reshape(-1, 4),
        "torsion_cos": table.real,
        "torsion_sin": table.imag,
    }


def _canonical(quad: list[int]) -> tuple[int, ...]:
    """A torsion read from either end is the same angle."""
    return tuple(quad) if quad[0] <= quad[3] else tuple(reversed(quad))


def _cmaps(force: Any, atoms: int) -> dict[str, ndarray]:
    patches, sizes, starts = [], [], [0]
    for index in range(force.getNumMaps()):
        size, energy = force.getMapParameters(index)
        patches.append(_patches(np.array(energy._value, float).reshape(size, size).T))
        sizes.append(size)
        starts.append(starts[-1] + size * size)
    rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    return {
        "cmap_atoms": np.array([r[1:] for r in rows], np.int32).reshape(-1, 8),
        "cmap_start": np.array([starts[r[0]] for r in rows], np.int32),
        "cmap_size": np.array([sizes[r[0]] for r in rows], np.int32),
        "cmap_patch": np.concatenate(patches) if patches else np.zeros((0, 16)),
    }


def _patches(grid: ndarray) -> ndarray:
    """Bicubic coefficients of every cell of a periodic map, [cells, 16], derivatives from periodic cubic splines."""
    from scipy.interpolate import CubicSpline

    size = len(grid)

    def derivative(values: ndarray) -> ndarray:
        """Along the first axis, in units of one cell."""
        closed = np.concatenate([values, values[:1]])
        return CubicSpline(np.arange(size + 1.0), closed, bc_type="periodic")(np.arange(float(size)), 1)

    d_s, d_t = derivative(grid), derivative(grid.T).T
    d_st = derivative(d_t)
    corners = np.array(
        [[[np.roll(v, (-a, -b), (0, 1)) for b in (0, 1)] for a in (0, 1)] for v in (grid, d_s, d_t, d_st)]
    )
    hermite = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]], float)
    value_s, value_t, slope_s, slope_t = hermite[:, :2], hermite[:, :2], hermite[:, 2:], hermite[:, 2:]
    c = (
        np.einsum("pa,qb,abij->ijpq", value_s, value_t, corners[0])
        + np.einsum("pa,qb,abij->ijpq", slope_s, value_t, corners[1])
        + np.einsum("pa,qb,abij->ijpq", value_s, slope_t, corners[2])
        + np.einsum("pa,qb,abij->ijpq", slope_s, slope_t, corners[3])
    )
    return c.reshape(size * size, 16)


def _nonbonded(force: Any, atoms: int) -> dict[str, ndarray]:
    for what in ("ParticleParameterOffsets", "ExceptionParameterOffsets"):
        if getattr(force, f"getNum{what}")():
            raise UnsupportedForceError("NonbondedForce", f"has {what}")
    particles = [force.getParticleParameters(i) for i in range(atoms)]
    charge, sigma, epsilon = (np.array([p[k]._value for p in particles]) for k in range(3))
    i, j = np.triu_indices(atoms, 1)
    pair_charge = COULOMB * charge[i] * charge[j]
    s6 = ((sigma[i] + sigma[j]) / 2) ** 6
    four_epsilon = 4 * np.sqrt(epsilon[i] * epsilon[j])
    plain = np.zeros(len(i))
    index = np.zeros((atoms, atoms), int)
    index[i, j] = index[j, i] = np.arange(len(i))
    for k in range(force.getNumExceptions()):
        a, b, product, s, e = force.getExceptionParameters(k)
        pair = index[a, b]
        pair_charge[pair], s6[pair], four_epsilon[pair] = COULOMB * product._value, s._value**6, 4 * e._value
        plain[pair] = 1
    cutoff = np.zeros(4)
    if force.getNonbondedMethod() == force.CutoffNonPeriodic:
        distance, dielectric = force.getCutoffDistance()._value, force.getReactionFieldDielectric()
        field = (dielectric - 1) / (2 * dielectric + 1)
        cutoff[:3] = distance, field / distance**3, 3 * dielectric / (2 * dielectric + 1) / distance
        cutoff[3] = force.getSwitchingDistance()._value if force.getUseSwitchingFunction() else 0.0
    return {
        "pair_charge": pair_charge,
        "pair_a": four_epsilon * s6 * s6,
        "pair_b": four_epsilon * s6,
        "pair_plain": plain,
        "cutoff": cutoff,
    }


def _nothing(force: Any, atoms: int) -> dict[str, ndarray]:
    """A force without energy."""
    return {}


_READERS = {
    "HarmonicBondForce": _nothing,
    "HarmonicAngleForce": _nothing,
    "PeriodicTorsionForce": _nothing,
    "RBTorsionForce": _nothing,
    "CMMotionRemover": _nothing,
    "CMAPTorsionForce": _cmaps,
    "NonbondedForce": _nonbonded,
    "GBSAOBCForce": read_obc,
    "CustomGBForce": read_custom_gb,
}
