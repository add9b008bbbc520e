"""Energies of drawn, reweighted and reference conformations side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.divergence import Divergence, compare
from molifold.analysis.free_energy import blocks_of
from molifold.analysis.histograms import frame_weights, total_variation
from molifold.analysis.uncertainty import Estimate
from molifold.analysis.weights import reweighted_mean
from molifold.ensemble import Ensemble
from molifold.units import kT

#: The energy of frames that clash beyond any number (kT).
CLASH = 1e30


@dataclass(frozen=True)
class EnergyComparison:
    """Histograms of the reduced energy u = U / kT: densities per kT between ``edges`` (kT).

    ``raw_variation`` and ``reweighted_variation`` are total variations (1 - overlap) beside their noise floors.
    ``outside`` is the share of raw draws above the last edge: strained or clashing conformations, which weigh nothing.
    """

    edges: Float[ndarray, " edges"]
    reference: Float[ndarray, " bins"]
    raw: Float[ndarray, " bins"]
    reweighted: Float[ndarray, " bins"] | None
    raw_variation: Divergence
    reweighted_variation: Divergence | None
    reference_mean: Estimate
    reweighted_mean: Estimate | None
    outside: float


def reduced_energy(ensemble: Ensemble) -> Float[ndarray, " frames"]:
    """Reduced energy U / kT of every frame: ``-log_p``, or columns ``energy`` (kJ/mol) over ``temperature`` (K).

    Raises:
        ValueError: if the ensemble has neither.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((1, 1, 3)), log_p=np.array([-3.0]))
    >>> reduced_energy(e)
    array([3.])
    """
    if ensemble.log_p is not None:
        return -np.asarray(ensemble.log_p, dtype=np.float64)
    if "energy" in ensemble.columns and "temperature" in ensemble.columns:
        temperature = np.asarray(ensemble.columns["temperature"], dtype=np.float64)
        return np.asarray(ensemble.columns["energy"], dtype=np.float64) / (kT(1.0) * temperature)
    raise ValueError(
        f"ensemble: {ensemble!r} has neither log_p nor columns energy and temperature; compute energies first"
    )


def energy_of(ensemble: Ensemble) -> Float[ndarray, " frames"]:
    """``reduced_energy`` with +inf cut to a large number, because such a frame clashes and is not broken.

    >>> from molifold import Molecule
    >>> energy_of(Ensemble(Molecule(elements=("X",)), np.zeros((1, 1, 3)), log_p=np.array([-np.inf])))
    array([1.e+30])
    """
    return np.minimum(reduced_energy(ensemble), CLASH)


def energy_comparison(
    generated: Ensemble,
    reference: Ensemble,
    *,
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = 80,
    splits: int = 16,
    seed: int = 0,
) -> EnergyComparison:
    """Histograms of u, their total variation from the reference with its noise floor, and mean energies.

    Args:
        generated: independent draws with ``log_p``.
        reference: molecular dynamics with ``log_p``, or with columns ``energy`` and ``temperature``.
        log_w: log importance weights of ``generated``.
        bins: between the reference's extremes, widened by a tenth below and by half above.
        splits: random halvings of the reference.
        seed: of the halvings.

    Raises:
        ValueError: if an ensemble has no energies, or those of the reference are not finite.

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> atom = Molecule(elements=("X",))
    >>> a, b = (Ensemble(atom, np.zeros((n, 1, 3)), log_p=-rng.gamma(30, size=n)) for n in (4000, 9000))
    >>> energy_comparison(a, b).raw_variation
    total variation 0.0... +- ..., floor 0.0... +- ... (ratio ... +- ...; 4000 frames, ESS 4000)
    """
    u, v = reduced_energy(generated), reduced_energy(reference)
    if not np.isfinite(v).all():
        raise ValueError(
            f"reference: got {int((~np.isfinite(v)).sum())} NaN or infinite energies, expected finite ones"
        )
    low, high = np.quantile(v, [1e-4, 1 - 1e-4])
    edges = np.linspace(low - 0.1 * (high - low), high + 0.5 * (high - low), bins + 1)
    # Two more cells take what lies below and above (NaN counts as above: a broken frame).
    a, b = (np.searchsorted(edges, np.nan_to_num(e, nan=np.inf)) for e in (u, v))
    width = edges[1] - edges[0]

    def density(cell: ndarray, w: ndarray) -> ndarray:
        return np.bincount(cell, weights=w, minlength=bins + 2)[1:-1] / w.sum() / width

    versus = partial(
        compare, a, b, n_cells=bins + 2, measure=total_variation, name="total variation", splits=splits, seed=seed,
        trajectory=reference.columns.get("trajectory"),
    )  # fmt: skip
    return EnergyComparison(
        edges=edges,
        reference=density(b, np.ones(len(b))),
        raw=density(a, np.ones(len(a))),
        reweighted=None if log_w is None else density(a, frame_weights(log_w, len(a))),
        raw_variation=versus(),
        reweighted_variation=None if log_w is None else versus(log_w=log_w),
        reference_mean=reweighted_mean(v, None, **blocks_of(reference)),
        reweighted_mean=None if log_w is None else reweighted_mean(u, log_w),
        outside=float((a == bins + 1).mean()),
    )
