"""The numbers of a force field as flat arrays: what every evaluation path (numba kernel, torch) reads.

A term that a System lacks is an empty array. Units: nm, kJ/mol, radians, elementary charges. "pairs" counts all pairs
of atoms i < j in row-major order: (0, 1), (0, 2), ..., (1, 2), ...
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

#: 1 / (4 pi epsilon_0) in kJ/mol nm / e^2, as in OpenMM (its SimTKOpenMMRealType.h).
COULOMB = 138.93545764438198


class UnsupportedForceError(ValueError):
    """A System holds something that the batched molecular mechanics does not evaluate; ``OpenMMEnergy`` does."""

    def __init__(self, force: str, reason: str) -> None:
        super().__init__(
            f"openmm_system: {force} {reason}; MolecularMechanics cannot evaluate it. "
            "Use energies.OpenMMEnergy(openmm_system, temperature=...), which knows every force of OpenMM."
        )


class Parameters(NamedTuple):
    """Parameters of a molecular mechanics energy; a NamedTuple of arrays, so that numba functions accept it.

    Bonds and angles are harmonic, ``k (r - r0)^2 / 2``. All torsion potentials are Fourier series in one form,
    ``sum_n cos_n cos(n phi) + sin_n sin(n phi)``, one per quadruple of atoms. CMAP patches are bicubic,
    ``sum_ab c[4 a + b] s^a t^b`` with s and t the positions inside a cell of the map. Lennard-Jones is
    ``a / r^12 - b / r^6``. Generalised Born follows Hawkins, Cramer, Truhlar (1996) with the effective radii of
    Onufriev, Bashford, Case (2004, doi:10.1002/prot.20033) and the neck correction of Mongan et al. (2007,
    doi:10.1021/ct600085e).
    """

    bond_atoms: Int[ndarray, "bonds 2"]
    bond_length: Float[ndarray, " bonds"]
    bond_k: Float[ndarray, " bonds"]
    angle_atoms: Int[ndarray, "angles 3"]
    angle_theta: Float[ndarray, " angles"]
    angle_k: Float[ndarray, " angles"]
    torsion_atoms: Int[ndarray, "torsions 4"]
    torsion_cos: Float[ndarray, "torsions orders"]  #: coefficient of cos(n phi), n from 0
    torsion_sin: Float[ndarray, "torsions orders"]
    cmap_atoms: Int[ndarray, "cmaps 8"]  #: first torsion, second torsion
    cmap_start: Int[ndarray, " cmaps"]  #: first patch of the map
    cmap_size: Int[ndarray, " cmaps"]  #: cells per angle
    cmap_patch: Float[ndarray, "patches 16"]
    pair_charge: Float[ndarray, " pairs"]  #: Coulomb constant times both charges (kJ/mol nm); exceptions applied
    pair_a: Float[ndarray, " pairs"]
    pair_b: Float[ndarray, " pairs"]
    pair_plain: Float[ndarray, " pairs"]  #: 1 for exceptions, which ignore cutoff, switch and reaction field; else 0
    cutoff: Float[ndarray, "4"]  #: distance (0: none), reaction field k and c, switching distance (0: none)
    gb_charge: Float[ndarray, " atoms"]  #: e; empty without implicit solvent
    gb_inner: Float[ndarray, " atoms"]  #: radius minus offset
    gb_scaled: Float[ndarray, " atoms"]  #: inner radius times descreening factor
    gb_radius: Float[ndarray, " atoms"]
    gb_shape: Float[ndarray, "atoms 3"]  #: a, b, c of tanh(a psi - b psi^2 + c psi^3); empty: no tanh (HCT)
    gb_surface: Float[ndarray, " atoms"]  #: surface energy is this / (Born radius)^6
    gb_neck: Float[ndarray, "pairs 5"]  #: height and position of j's effect on i, of i's on j, reach; empty: none
    gb_solvent: Float[ndarray, "5"]  #: k/solute, k/solvent dielectric, kappa (1/nm), cutoff (0: none), 1 if engulfed


#: Fields that hold indices or sizes.
INTEGER = frozenset({"bond_atoms", "angle_atoms", "torsion_atoms", "cmap_atoms", "cmap_start", "cmap_size"})


def cast(parameters: Parameters, dtype: str) -> Parameters:
    """The same parameters with real numbers as ``dtype`` and indices as int32, C-contiguous."""
    return Parameters(
        *(
            np.ascontiguousarray(value, dtype=np.int32 if name in INTEGER else dtype)
            for name, value in zip(Parameters._fields, parameters, strict=True)
        )
    )


def empty(atoms: int) -> Parameters:
    """No terms at all: ``atoms`` free particles.

    >>> empty(3).pair_a
    array([0., 0., 0.])
    """
    pairs = np.zeros(atoms * (atoms - 1) // 2)
    none = np.zeros(0)
    return Parameters(
        bond_atoms=np.zeros((0, 2), np.int32),
        bond_length=none,
        bond_k=none,
        angle_atoms=np.zeros((0, 3), np.int32),
        angle_theta=none,
        angle_k=none,
        torsion_atoms=np.zeros((0, 4), np.int32),
        torsion_cos=np.zeros((0, 1)),
        torsion_sin=np.zeros((0, 1)),
        cmap_atoms=np.zeros((0, 8), np.int32),
        cmap_start=np.zeros(0, np.int32),
        cmap_size=np.zeros(0, np.int32),
        cmap_patch=np.zeros((0, 16)),
        pair_charge=pairs,
        pair_a=pairs,
        pair_b=pairs,
        pair_plain=pairs,
        cutoff=np.zeros(4),
        gb_charge=none,
        gb_inner=none,
        gb_scaled=none,
        gb_radius=none,
        gb_shape=np.zeros((0, 3)),
        gb_surface=none,
        gb_neck=np.zeros((0, 5)),
        gb_solvent=np.zeros(5),
    )
