"""Plots: a result of ``molifold.analysis`` in, a matplotlib ``Figure`` out. One file per picture; no pyplot state."""

from molifold.plots.energies import energies
from molifold.plots.free_energy import free_energy
from molifold.plots.ramachandran import ramachandran
from molifold.plots.torsions import torsions
from molifold.plots.training import training
from molifold.plots.weights import weights

__all__ = ["energies", "free_energy", "ramachandran", "torsions", "training", "weights"]
