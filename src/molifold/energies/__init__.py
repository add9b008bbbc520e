"""Energies u(x) = U(x) / kT of batches of conformations, differentiable: the targets of a Boltzmann generator.

``MolecularMechanics`` for force fields (fast), ``OpenMMEnergy`` for everything else that OpenMM can do,
``Regularized`` around either for training, and the analytic systems. Force fields are read by ``molifold.data``.
"""

from molifold.energies.analytic import DW4, LJ13, DoubleWell, MuellerBrown, ParticleDimer
from molifold.energies.mechanics import MolecularMechanics
from molifold.energies.openmm_energy import OpenMMEnergy
from molifold.energies.parameters import UnsupportedForceError
from molifold.energies.regularized import Regularized

__all__ = [
    "DW4",
    "LJ13",
    "DoubleWell",
    "MolecularMechanics",
    "MuellerBrown",
    "OpenMMEnergy",
    "ParticleDimer",
    "Regularized",
    "UnsupportedForceError",
]
