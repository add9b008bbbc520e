"""Flows: exact densities of conformations."""

from molifold.flows import recipes
from molifold.flows.environments import Environments
from molifold.flows.family import Family, share_weights
from molifold.flows.flow import Base, Flow
from molifold.flows.placed import Placed

__all__ = ["Base", "Environments", "Family", "Flow", "Placed", "recipes", "share_weights"]
