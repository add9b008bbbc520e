"""Populations of regions and free-energy differences between them, with errors that admit what was never seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold.analysis.histograms import frame_weights
from molifold.analysis.uncertainty import Estimate, estimate, estimate_of_sums, trajectory_blocks
from molifold.analysis.weights import reweighted_mean
from molifold.ensemble import Ensemble

#: The arc of phi, degrees, that the literature calls "phi > 0"; what lies beyond it belongs to the extended basin.
POSITIVE_PHI = (0, 150)


def between(angle: Float[ndarray, " frames"], low: float, *, high: float) -> Bool[ndarray, " frames"]:
    """Whether an angle (radians) lies in the arc from ``low`` up to ``high`` (**degrees**, ends excluded).

    >>> between(np.radians([10.0, 160.0, -170.0]), 150, high=-150)
    array([False,  True,  True])
    """
    width = (high - low) % 360
    offset = (np.degrees(np.asarray(angle, dtype=np.float64)) - low) % 360
    return (offset > 0) & (offset < width)


def alanine_basins(
    phi: Float[ndarray, " frames"], psi: Float[ndarray, " frames"]
) -> dict[str, Bool[ndarray, " frames"]]:
    """Where the frames are in the Ramachandran plane of alanine dipeptide: four regions that cover all of it.

    The first is ``POSITIVE_PHI``; of the rest, ``alphaR`` is -120 < psi <= 30, ``C5`` is phi < -110 or phi >= 150 and
    ``PII`` what remains.

    >>> {name: bool(m[0]) for name, m in alanine_basins(np.radians([55.0]), np.radians([40.0])).items()}
    {'0 < phi < 150 degrees': True, 'alphaR': False, 'C5': False, 'PII': False}
    """
    low, high = POSITIVE_PHI
    positive = between(phi, low, high=high)
    helix = ~positive & between(psi, -120, high=30.000001)
    extended = ~positive & ~helix & between(phi, high - 1e-6, high=-110)
    return {
        f"{low} < phi < {high} degrees": positive,
        "alphaR": helix,
        "C5": extended,
        "PII": ~positive & ~helix & ~extended,
    }


def population(
    inside: Bool[ndarray, " frames"],
    log_w: Float[ndarray, " frames"] | None = None,
    *,
    trajectory: Int[ndarray, " frames"] | None = None,
    correlated: bool = False,
    repeats: int = 400,
    seed: int = 0,
) -> Estimate:
    """Probability of a region, with a 95 % interval inside [0, 1] that is not empty when no frame was seen there.

    The interval is Wilson's with the number of trials that gives the bootstrap error. With no frame inside (or
    outside), the number of trials is Kish's effective sample size of independent draws, and the number of blocks of
    molecular dynamics, where successive frames tell the same thing again. It covers sampling error: a region that a
    generator cannot reach, or a simulation never reached, is outside of what any interval can say.

    Args:
        inside: whether each frame is in the region.
        log_w: log importance weights; None counts every frame once.
        trajectory: for molecular dynamics, the trajectory of every frame: whole blocks are resampled.
        correlated: frames are one time series without a ``trajectory`` column.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if lengths differ, or ``log_w`` has NaN or +inf.

    Reference: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927).

    >>> population(np.zeros(1000, dtype=bool))
    0.0000 +- 0.0000 (95 %: 0.0000 to 0.0038)
    """
    inside = np.asarray(inside, dtype=bool)
    mean = reweighted_mean(inside, log_w, trajectory=trajectory, correlated=correlated, repeats=repeats, seed=seed)
    w = frame_weights(log_w, len(inside))
    if correlated or trajectory is not None:
        trials = float(len(np.unique(trajectory_blocks(len(w), trajectory=trajectory))))
    else:
        trials = float(w.sum() ** 2 / (w * w).sum())
    return _bounded(mean, trials)


def population_of(
    inside: Float[ndarray, " blocks"], total: Float[ndarray, " blocks"], *, frames: int, trials: float, seed: int = 0
) -> Estimate:
    """``population``, from weights that were counted block by block.

    Args:
        inside, total: weight in the region, and in all, of every block.
        frames: how many were counted.
        trials: how many independent ones no frame inside would be worth: blocks, or the effective sample size.
        seed: of the bootstrap.

    >>> population_of(np.zeros(20), np.ones(20), frames=1000, trials=1000)
    0.0000 +- 0.0000 (95 %: 0.0000 to 0.0038)
    """
    sums = np.stack([inside, total], axis=1)
    mean = estimate_of_sums(sums, lambda s: s[..., 0] / s[..., 1], frames=frames, seed=seed)
    return _bounded(mean, trials)


def _bounded(mean: Estimate, trials: float) -> Estimate:
    """Wilson's interval with the trials that give the error, or with ``trials`` where there is none."""
    p = min(max(mean.value, 0.0), 1.0)
    spread = p * (1 - p)  # zero up to rounding where every frame is inside, or none
    low, high = _wilson(p, spread / mean.error**2 if spread > 1e-12 and mean.error > 0 else trials)
    return replace(mean, value=p, low=low, high=high)


def _wilson(p: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class FreeEnergyDifference:
    """``F(A) - F(B) = -log P(A) / P(B)`` in kT, with the two populations that it is made of.

    ``low`` to ``high`` is the 95 % interval; infinite where a region has no frame, with the finite bound on the
    other side.
    """

    value: float
    error: float
    low: float
    high: float
    block_error: float
    population_a: Estimate
    population_b: Estimate

    def __repr__(self) -> str:
        return f"F(A) - F(B) = {self.value:.2f} +- {self.error:.2f} kT (95 %: {self.low:.2f} to {self.high:.2f})"


def free_energy_difference(
    ensemble: Ensemble,
    in_a: Bool[ndarray, " frames"],
    *,
    in_b: Bool[ndarray, " frames"] | None = None,
    log_w: Float[ndarray, " frames"] | None = None,
    repeats: int = 400,
    seed: int = 0,
) -> FreeEnergyDifference:
    """Free energy of region A relative to B (the default is all the rest), in kT.

    Errors come from blocks of the column ``trajectory`` where the ensemble has one, from one time series where it
    has neither that nor ``log_q``, and from independent draws where it has ``log_q``.

    Args:
        ensemble: conformations.
        in_a: frames in A.
        in_b: frames in B; None is every frame outside A.
        log_w: log importance weights; None counts every frame once.
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if lengths differ, A and B overlap, both are empty, or ``log_w`` has NaN or +inf.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((1000, 1, 3)))
    >>> free_energy_difference(e, np.arange(1000) % 10 == 0).value.__round__(3)      # log 9
    2.197
    """
    in_a = np.asarray(in_a, dtype=bool)
    in_b = ~in_a if in_b is None else np.asarray(in_b, dtype=bool)
    for name, mask in (("in_a", in_a), ("in_b", in_b)):
        if mask.shape != (len(ensemble),):
            raise ValueError(f"{name}: got shape {mask.shape}, expected one entry per frame ({len(ensemble)})")
    if (in_a & in_b).any() or not (in_a | in_b).any():
        raise ValueError(
            "in_a, in_b: got overlapping or empty regions, expected disjoint ones with frames in one at least"
        )
    options = {**blocks_of(ensemble), "repeats": repeats, "seed": seed}
    a, b = (population(mask, log_w, **options) for mask in (in_a, in_b))
    if not (in_a.any() and in_b.any()):
        value = -math.inf if in_a.any() else math.inf
        bounds = (-math.log(a.high / b.low), math.inf) if value > 0 else (-math.inf, -math.log(a.low / b.high))
        return FreeEnergyDifference(value, math.inf, *bounds, math.inf, a, b)
    w = frame_weights(log_w, len(ensemble))
    # A replicate without any frame of a region would be infinite: half of the lightest frame stands in for it.
    least = 0.5 * float(w[(in_a | in_b) & (w > 0)].min())
    ratio = estimate(
        np.stack([w * in_a, w * in_b], axis=1),
        lambda s: np.log(np.maximum(s[..., 1], least)) - np.log(np.maximum(s[..., 0], least)),
        **options,
    )
    return FreeEnergyDifference(ratio.value, ratio.error, ratio.low, ratio.high, ratio.block_error, a, b)


def blocks_of(ensemble: Ensemble) -> dict:
    """How frames of an ensemble depend on each other, as arguments for the estimators of this package.

    >>> from molifold import Molecule
    >>> blocks_of(Ensemble(Molecule(elements=("X",)), np.zeros((4, 1, 3))))
    {'trajectory': None, 'correlated': True}
    """
    return {"trajectory": ensemble.columns.get("trajectory"), "correlated": ensemble.log_q is None}
