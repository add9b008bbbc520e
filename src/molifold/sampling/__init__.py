"""Draw conformations from a generator, with exact densities and importance weights."""

from molifold.sampling.draw import draw
from molifold.sampling.resample import resample

__all__ = ["draw", "resample"]
