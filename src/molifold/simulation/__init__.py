"""Molecular dynamics and replica exchange: from an energy and one structure to an ensemble."""

from molifold.simulation.collective import CollectiveVariables, export_torchscript, latent_force, plumed_input
from molifold.simulation.dynamics import langevin, replica_exchange
from molifold.simulation.exchange import temperature_ladder
from molifold.simulation.minimization import Minimum, minimize
from molifold.simulation.with_openmm import openmm_run

__all__ = [
    "CollectiveVariables", "Minimum", "export_torchscript", "langevin", "latent_force", "minimize", "openmm_run",
    "plumed_input", "replica_exchange", "temperature_ladder",
]  # fmt: skip
