"""From weighted frames to unweighted ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from molifold.ensemble import Ensemble


def resample(ensemble: Ensemble, n: int, *, seed: int) -> Ensemble:
    """``n`` frames in which every frame appears in proportion to its importance weight.

    Systematic resampling (Carpenter, Clifford and Fearnhead 1999; Douc and Cappe 2005, arXiv:cs/0507025): frame i
    appears ``floor(n w_i)`` or ``ceil(n w_i)`` times, w normalised. Frames repeat where the weights are uneven, so
    ``n`` frames hold no more than the effective sample size of the original. ``log_q`` is dropped, because the
    result is no longer drawn from the generator; the column ``parent`` says which frame each one was.

    Raises:
        ValueError: if ``n`` is not positive, a density is missing, or no frame has a finite weight.

    >>> from molifold.molecule import Molecule
    >>> point = Molecule(elements=("X",), name="point")
    >>> e = Ensemble(point, np.zeros((3, 1, 3)), log_p=np.log([1.0, 3.0, 0.5]), log_q=np.zeros(3))
    >>> resample(e, 9, seed=0).columns["parent"]
    array([0, 0, 1, 1, 1, 1, 1, 1, 2])
    """
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1")
    log_w = ensemble.log_w
    if not np.isfinite(log_w.max(initial=-np.inf)):
        raise ValueError(
            f"ensemble: got no frame with a finite weight among {len(log_w)}; is its log_p of this molecule?"
        )
    weights = np.exp(log_w - log_w.max())
    edges = np.cumsum(weights) / weights.sum()
    edges[-1] = 1.0
    points = (np.random.default_rng(seed).random() + np.arange(n)) / n
    parent = np.searchsorted(edges, points, side="right")
    meta = {**ensemble.meta, "resampled": {"from": len(ensemble), "seed": seed}}
    return replace(ensemble[parent], log_q=None, meta=meta).assign(parent=parent)
