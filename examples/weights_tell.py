"""Importance weights know what a generator gets wrong: a too narrow one shows it in the tail, not in the energies."""

import numpy as np

from molifold import Ensemble, Molecule
from molifold.analysis import effective_sample_size, pareto_k, reweighted_mean

rng = np.random.default_rng(0)
point = Molecule(elements=("X",), name="particle")


def normal(x, sigma):
    """Log-density of independent normal coordinates."""
    return (-0.5 * (x / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))).sum((1, 2))


for sigma in (0.7, 0.9, 1.0, 1.2):  # of the generator; the target has 1
    x = sigma * rng.normal(size=(20_000, 1, 3))
    draws = Ensemble(point, x, log_p=normal(x, 1.0), log_q=normal(x, sigma))
    spread = reweighted_mean((draws.x**2).sum((1, 2)), draws.log_w)
    print(f"generator {sigma}: {effective_sample_size(draws.log_w)}")
    print(f"               {pareto_k(draws.log_w)}; <r^2> = {spread}, exactly 3")
