"""Draw conformations from a generator, with exact densities and importance weights, and say how good they are."""

from molifold.sampling.draw import draw
from molifold.sampling.quality import Quality, quality, with_torsions
from molifold.sampling.resample import resample

__all__ = ["Quality", "draw", "quality", "resample", "with_torsions"]
