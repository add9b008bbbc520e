"""Molecular dynamics and replica exchange: from an energy and one structure to an ensemble."""

from molifold.simulation.exchange import temperature_ladder
from molifold.simulation.minimize import Minimum, minimize
from molifold.simulation.replica_exchange import langevin, replica_exchange

__all__ = ["Minimum", "langevin", "minimize", "replica_exchange", "temperature_ladder"]
