"""Where an ensemble has seen too little: mass that was never seen, and bins whose weight is hardly known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.surfaces import Axis, free_energy_surface
from molifold.analysis.uncertainty import Estimate, jackknife
from molifold.ensemble import Ensemble

#: A bin is under-sampled if its 95 % interval spans more than this factor.
FACTOR = 4.0
#: Blocks that must have seen a bin: the frames of one trajectory say little about its weight.
ENOUGH = 3
#: Bins per axis: coarse, so that a bin is a region and not a detail.
COARSE = 24


@dataclass(frozen=True)
class Undersampling:
    """What a map of one or two columns does not know.

    ``unseen`` is the probability that a new, independent stretch of sampling falls where nothing was seen so far:
    the share of every block (a piece of trajectory, a group of draws) in bins that no other block visited. ``density``
    is the posterior of the weight of every bin with ``counts`` effective counts and a Jeffreys prior; ``visits`` how
    many blocks saw a bin. ``poor`` bins were seen, but
    by fewer than three blocks, or their weight is not known within a factor of four; ``edge`` bins
    were not seen and touch one that was: where to look next. ``poor_mass`` is the weight of the poor ones. No map can
    tell of regions far from everything seen.
    """

    axes: tuple[Axis, ...]
    unseen: Estimate
    density: Band
    visits: Int[ndarray, "*bins"]
    poor: Bool[ndarray, "*bins"]
    edge: Bool[ndarray, "*bins"]
    poor_mass: float
    counts: float
    n: int
    ess: float
    temperature: float

    @property
    def seen(self) -> float:
        """Share of the bins that any frame visited."""
        return float((self.visits > 0).mean())

    def worst(self, count: int = 5) -> list[dict[str, float]]:
        """The poor bins with the largest upper bound: position, weight, bounds, blocks that saw it."""
        flat = np.where(self.poor, self.density.high, -1.0).ravel()
        rows = []
        for i in np.argsort(-flat)[:count]:
            if flat[i] < 0:
                break
            index = np.unravel_index(i, self.poor.shape)
            place = {axis.name: float(axis.centres[j]) for axis, j in zip(self.axes, index, strict=True)}
            weight = {kind: float(getattr(self.density, kind)[index]) for kind in ("value", "low", "high")}
            rows.append({**place, **weight, "blocks": int(self.visits[index])})
        return rows

    def __repr__(self) -> str:
        names = " x ".join(axis.name for axis in self.axes)
        return (
            f"Undersampling({names}: unseen mass {self.unseen!r}; {100 * self.seen:.0f} % of bins seen, "
            f"{int(self.poor.sum())} poorly, holding {self.poor_mass:.3g} of the weight)"
        )


def undersampling(
    ensemble: Ensemble,
    names: str | Sequence[str],
    *,
    log_w: Float[ndarray, " frames"] | None = None,
    bins: int = COARSE,
    periodic: Sequence[str] | None = None,
) -> Undersampling:
    """Which regions of one or two columns are under-sampled, and how sure that is.

    Args:
        ensemble: conformations.
        names: one or two columns or torsions.
        log_w: log importance weights.
        bins: per axis.
        periodic: which columns are angles in radians; None takes the torsions of the molecule.

    Raises:
        KeyError: if a column is missing.
        ValueError: as ``free_energy_surface``.

    Reference: I. Good, Biometrika 40, 237 (1953): the unseen mass is the share of what was seen once; here "once" is
    by one block, because frames of a trajectory are not independent.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=2000)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((2000, 1, 3)), log_q=np.zeros(2000), columns={"x": x})
    >>> undersampling(e, "x").unseen.value < 0.01
    True
    """
    from scipy.stats import beta

    surface = free_energy_surface(ensemble, names, log_w=log_w, bins=bins, periodic=periodic)
    sums = surface.sums.reshape(len(surface.sums), -1)
    visits = (sums > 0).sum(0)
    total, weight = sums.sum(0), float(sums.sum())
    # Jeffreys prior of a multinomial: half a count in every bin
    successes = total / weight * surface.counts + 0.5
    failures = surface.counts + 0.5 * len(total) - successes
    low, high = beta.ppf(0.025, successes, failures), beta.ppf(0.975, successes, failures)
    mean = successes / (successes + failures)
    deviation = np.sqrt(mean * (1 - mean) / (successes + failures + 1))
    shape = surface.free_energy.value.shape
    seen = (visits > 0).reshape(shape)
    poor = seen & ((high > FACTOR * low) | (visits < ENOUGH)).reshape(shape)
    density = Band(*(a.reshape(shape) for a in (mean, deviation, low, high)))
    return Undersampling(
        axes=surface.axes,
        unseen=_unseen(sums, visits, surface.n),
        density=density,
        visits=visits.reshape(shape),
        poor=poor,
        edge=_around(seen, surface.axes) & ~seen,
        poor_mass=float((total / weight).reshape(shape)[poor].sum()),
        counts=surface.counts,
        n=surface.n,
        ess=surface.ess,
        temperature=surface.temperature,
    )


def _unseen(sums: ndarray, visits: ndarray, n: int) -> Estimate:
    """Share of the weight in bins that one block alone visited, block by block, with the jackknife over blocks."""
    alone = sums[:, visits == 1].sum(1)
    parts = np.stack([alone, sums.sum(1)], axis=1)
    value = float(alone.sum() / sums.sum())
    error = jackknife(parts, lambda s: s[..., 0] / s[..., 1])
    # nothing alone in B blocks: at most 3 / B, the 95 % bound
    high = value + 1.96 * error if value > 0 else min(1.0, 3.0 / len(sums))
    return Estimate(value, error, max(value - 1.96 * error, 0.0), min(high, 1.0), error, n)


def _around(seen: ndarray, axes: Sequence[Axis]) -> ndarray:
    """Bins that are, or touch along an axis, a bin that was seen."""
    out = seen.copy()
    for d, axis in enumerate(axes):
        for step in (-1, 1):
            moved = np.roll(seen, step, axis=d)
            if not axis.periodic:
                edge = [slice(None)] * seen.ndim
                edge[d] = slice(0, 1) if step == 1 else slice(-1, None)
                moved[tuple(edge)] = False
            out |= moved
    return out
