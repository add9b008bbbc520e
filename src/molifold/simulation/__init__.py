"""Molecular dynamics and replica exchange: from an energy and one structure to an ensemble."""

from molifold.simulation.dynamics import langevin, replica_exchange
from molifold.simulation.exchange import temperature_ladder
from molifold.simulation.minimization import Minimum, minimize
from molifold.simulation.with_openmm import openmm_run

__all__ = ["Minimum", "langevin", "minimize", "openmm_run", "replica_exchange", "temperature_ladder"]
