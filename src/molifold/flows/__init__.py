"""Flows: exact densities of conformations."""

from molifold.flows import recipes
from molifold.flows.flow import Base, Flow

__all__ = ["Base", "Flow", "recipes"]
