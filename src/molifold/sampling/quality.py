"""Quality: how good independent draws are, from their weights and beside a reference, in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from molifold.analysis import (
    Divergence,
    EffectiveSampleSize,
    ParetoK,
    effective_sample_size,
    map_divergence,
    measure,
    named_torsions,
    pareto_k,
    ramachandran_pairs,
    torsion_comparison,
)
from molifold.analysis.sides import log_weights
from molifold.ensemble import Ensemble

#: Fewer frames than this on either side are not compared, and fewer weights have no tail to fit.
FEW = 25
#: Bins of a map, per axis: a thousand draws in 64 x 64 bins are nearly all noise.
MAP_BINS = 24


@dataclass(frozen=True)
class Quality:
    """What ``frames`` draws, ``invalid`` of them not finite, say about their generator.

    ``ess`` and ``pareto`` come from the weights (None without both densities). ``divergences`` are Jensen-Shannon
    divergences (bits) of the raw draws from the reference, each beside its noise floor: of every rotatable torsion and,
    named "A x B", of every pair worth a map.
    """

    frames: int
    invalid: int
    ess: EffectiveSampleSize | None
    pareto: ParetoK | None
    divergences: Mapping[str, Divergence]

    @property
    def distance(self) -> float:
        """Divergence over noise floor of all torsions together, 1 for a perfect generator; NaN without torsions."""
        torsions = [d for name, d in self.divergences.items() if " x " not in name]
        floor = sum(d.floor for d in torsions)
        return sum(d.value for d in torsions) / floor if floor > 0 else float("nan")

    def scalars(self) -> dict[str, float]:
        """The numbers that a curve over steps shows: ``ess`` (share of draws), ``pareto_k``, ``distance``."""
        found = {} if self.ess is None else {"ess": self.ess.fraction}
        found |= {} if self.pareto is None else {"pareto_k": self.pareto.k}
        return found | ({"distance": self.distance} if self.divergences else {})

    def rows(self) -> Iterator[tuple[str, float, float, float, float]]:
        """Name, value, standard error, noise floor, value over floor; NaN where there is no floor."""
        nan = float("nan")
        if self.ess is not None:
            yield "ESS (share of draws)", self.ess.fraction, self.ess.error, nan, nan
        if self.pareto is not None:
            yield "Pareto k-hat", self.pareto.k, self.pareto.error, nan, nan
        for name, d in self.divergences.items():
            yield f"{name}, {d.measure}", d.value, d.error, d.floor, d.ratio


def quality(drawn: Ensemble, reference: Ensemble | None = None, *, seed: int = 0) -> Quality:
    """Judge independent draws by their weights and by their torsions.

    Raw draws are compared, since weights can hide what is never drawn. Draws that are not finite have weight zero and
    are left out of the comparison.

    Args:
        drawn: with ``log_p`` and ``log_q`` there are weights.
        reference: of the same molecule at the same temperature; torsions that are columns already are not measured
            again. A molecule without torsions, or fewer than 25 frames on either side, have no divergences.
        seed: of random halves and bootstraps.

    >>> from molifold import Molecule
    >>> rng = np.random.default_rng(0)
    >>> def butane(n):
    ...     molecule = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    ...     return Ensemble(molecule, rng.normal(size=(n, 4, 3)), log_p=np.zeros(n), log_q=np.zeros(n))
    >>> found = quality(butane(1000), butane(4000))
    >>> found.ess.fraction, bool(0.5 < found.distance < 2)
    (1.0, True)
    """
    log_w = log_weights(drawn) if drawn.log_p is not None and drawn.log_q is not None else None
    whole = np.isfinite(np.asarray(drawn.x)).all((1, 2))
    weighted = log_w is not None and bool(np.isfinite(log_w).any())
    return Quality(
        frames=len(drawn),
        invalid=int((~whole if log_w is None else ~np.isfinite(log_w)).sum()),
        ess=effective_sample_size(log_w, seed=seed) if weighted and log_w is not None else None,
        pareto=pareto_k(log_w) if weighted and log_w is not None and len(log_w) >= FEW else None,
        divergences=_divergences(drawn if whole.all() else drawn[np.flatnonzero(whole)], reference, seed),
    )


def _divergences(drawn: Ensemble, reference: Ensemble | None, seed: int) -> dict[str, Divergence]:
    if reference is None or min(len(drawn), len(reference)) < FEW or drawn.molecule.dimensions != 3:
        return {}
    drawn, reference = with_torsions(drawn), with_torsions(reference)
    found = {
        " x ".join(pair): map_divergence(drawn, reference, names=pair, measure="jsd", bins=MAP_BINS, seed=seed)
        for pair in ramachandran_pairs(reference)
    }
    names = tuple(named_torsions(drawn.molecule))
    compared = torsion_comparison(drawn, reference, names=names, seed=seed) if names else ()
    return found | {c.name: c.raw_divergence for c in compared}


def with_torsions(ensemble: Ensemble) -> Ensemble:
    """The ensemble with every rotatable torsion as a column, if it is of molecules in space."""
    return measure(ensemble) if ensemble.molecule.dimensions == 3 else ensemble
