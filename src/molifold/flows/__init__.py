"""Flows: exact densities of conformations."""

from molifold.flows import recipes
from molifold.flows.environments import Environments
from molifold.flows.family import Family, share_weights
from molifold.flows.flow import Base, Flow
from molifold.flows.latent import Encoding, LatentMap
from molifold.flows.latent_recipe import latent_map
from molifold.flows.placed import Placed

__all__ = [
    "Base",
    "Encoding",
    "Environments",
    "Family",
    "Flow",
    "LatentMap",
    "Placed",
    "latent_map",
    "recipes",
    "share_weights",
]
