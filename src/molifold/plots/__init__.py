"""Plots: a result of ``molifold.analysis`` in, a ``Picture`` out: plain data, drawn, saved or sent. One file each."""

from molifold.plots.clusters import clusters
from molifold.plots.comparison import comparison
from molifold.plots.energies import energies
from molifold.plots.evolution import animate, evolution
from molifold.plots.free_energy import free_energy
from molifold.plots.network import network
from molifold.plots.picture import Picture
from molifold.plots.ramachandran import ramachandran
from molifold.plots.ridge import ridge
from molifold.plots.surface import surface
from molifold.plots.timescales import chapman_kolmogorov, timescales
from molifold.plots.torsions import torsions
from molifold.plots.training import training
from molifold.plots.weights import weights

__all__ = [
    "Picture", "animate", "chapman_kolmogorov", "clusters", "comparison", "energies", "evolution", "free_energy",
    "network", "ramachandran", "ridge", "surface", "timescales", "torsions", "training", "weights",
]  # fmt: skip
