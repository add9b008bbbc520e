"""Flows: exact densities of conformations."""

from molifold.flows import recipes
from molifold.flows.flow import Base, Flow
from molifold.flows.placed import Placed

__all__ = ["Base", "Flow", "Placed", "recipes"]
