"""Everything the report shows, computed once: parts in, results out, no HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold import analysis
from molifold.ensemble import Ensemble

Found = TypeVar("Found")
#: Frames a side that are compared in every degree of freedom, and that clusters are looked for in.
LOOKED_AT = 20_000
#: Frames a side for optimal transport and RMSD: a quarter of what a comparison of its own takes, a tenth of the time.
SAMPLES = 200


@dataclass(frozen=True)
class ReportParts:
    """What a report is made of.

    Args:
        generated: independent draws; with ``log_p`` and ``log_q`` they are reweighted.
        reference: simulation of the same molecule at the same temperature, or None.
        history: rows of training scalars, as ``Run.scalars`` gives them.
        settings: anything worth knowing later: force field, seeds, versions, timings; may be nested.
        temperature: K, for labels.
        title: of the page.
        diagnosis: what ``molifold diagnose`` said about the network, a line per finding.
        evolution: draws taken during training, with their ``step``, or None.
        weighted: False ignores importance weights.
    """

    generated: Ensemble
    reference: Ensemble | None = None
    history: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    temperature: float | None = None
    title: str = ""
    diagnosis: str = ""
    evolution: Ensemble | None = None
    weighted: bool = True


@dataclass(frozen=True)
class Region:
    """The arc ``POSITIVE_PHI``, 0 to 150 degrees, of one torsion: free energy against the rest, by ensemble."""

    torsion: str
    differences: Mapping[str, analysis.FreeEnergyDifference]
    profiles: Mapping[str, analysis.Histogram]


@dataclass(frozen=True)
class RamachandranResult:
    """Maps of one pair of torsions by ensemble, and their divergences from the reference (empty without one)."""

    maps: Mapping[str, analysis.Map]
    kl: Mapping[str, analysis.Divergence]
    jsd: Mapping[str, analysis.Divergence]


@dataclass(frozen=True)
class Results:
    """Results of a report; None or empty where the parts did not allow it.

    ``dropped`` counts drawn frames whose weight was NaN or +inf and was set to zero. ``comparison`` and ``states``
    are of at most ``LOOKED_AT`` frames a side.
    """

    log_w: Float[ndarray, " frames"] | None
    dropped: int
    ess: analysis.EffectiveSampleSize | None
    pareto: analysis.ParetoK | None
    acceptance: analysis.Acceptance | None
    log_z: analysis.Estimate | None
    forward: analysis.Estimate | None
    ramachandran: Sequence[RamachandranResult]
    torsions: Sequence[analysis.TorsionComparison]
    energies: analysis.EnergyComparison | None
    regions: Sequence[Region]
    comparison: analysis.EnsembleComparison | None = None
    states: analysis.EnsembleAnalysis | None = None


def analyse(
    parts: ReportParts,
    *,
    thorough: bool = False,
    comparison: analysis.EnsembleComparison | None = None,
    seed: int = 0,
) -> Results:
    """Compute everything that a report of ``parts`` shows.

    Args:
        parts: what the report is of.
        thorough: also compare every degree of freedom, and look for states, which takes several times as long.
        comparison: of the draws with the reference, if it is known already.
        seed: of bootstraps and random halves.

    Raises:
        ValueError: if the generated ensemble is empty or of another molecule than the reference.

    >>> import numpy as np
    >>> from molifold import Molecule
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> x = np.random.default_rng(0).normal(size=(100, 4, 3))
    >>> analyse(ReportParts(Ensemble(butane, x))).regions[0].torsion
    'C2_C3'
    """
    generated, reference = parts.generated, parts.reference
    if len(generated) == 0:
        raise ValueError("generated: got no frames, expected at least one; draw samples first")
    if reference is not None and reference.molecule != generated.molecule:
        raise ValueError(
            f"reference: got {reference.molecule!r}, expected the molecule of the draws, {generated.molecule!r}"
        )
    states = None
    if thorough:
        comparison = _compared(parts, seed)
        states = _tried(
            lambda: analysis.analyze_ensemble(parts.generated, weighted=parts.weighted, limit=LOOKED_AT, seed=seed)
        )
    generated = analysis.measure(generated)
    reference = None if reference is None else analysis.measure(reference)
    log_w, dropped = _weights(generated) if parts.weighted else (None, 0)
    pairs = analysis.ramachandran_pairs(generated if reference is None else reference)
    names = tuple(analysis.named_torsions(generated.molecule))
    first = tuple(dict.fromkeys(pair[0] for pair in pairs)) or names[:1]
    return Results(
        log_w=log_w,
        dropped=dropped,
        ess=None if log_w is None else analysis.effective_sample_size(log_w, seed=seed),
        pareto=None if log_w is None or len(log_w) < 25 else analysis.pareto_k(log_w),
        acceptance=None if log_w is None or len(log_w) < 2 else analysis.independence_acceptance(log_w, seed=seed),
        log_z=None if log_w is None else analysis.log_z(log_w, seed=seed),
        forward=_forward(reference, seed),
        ramachandran=[_ramachandran(generated, reference, pair, log_w, seed) for pair in pairs],
        torsions=()
        if reference is None or not names
        else analysis.torsion_comparison(generated, reference, names=names, log_w=log_w, seed=seed),
        energies=_energies(generated, reference, log_w, seed),
        regions=[_region(generated, reference, name, log_w, seed) for name in first],
        comparison=comparison,
        states=states,
    )


def _tried(work: Callable[[], Found]) -> Found | None:
    """What ``work`` gives; None where the ensembles are too small or too broken for it."""
    try:
        return work()
    except ValueError:
        return None


def _compared(parts: ReportParts, seed: int) -> analysis.EnsembleComparison | None:
    if parts.reference is None:
        return None
    pair = [e.thinned(LOOKED_AT) for e in (parts.generated, parts.reference)]
    return _tried(lambda: analysis.compare_ensembles(*pair, weighted=parts.weighted, samples=SAMPLES, seed=seed))


def _weights(generated: Ensemble) -> tuple[ndarray | None, int]:
    if generated.log_p is None or generated.log_q is None:
        return None, 0
    log_w = generated.log_w
    bad = np.isnan(log_w) | np.isposinf(log_w)
    log_w = np.where(bad, -np.inf, log_w)
    return (log_w if np.isfinite(log_w).any() else None), int(bad.sum())


def _forward(reference: Ensemble | None, seed: int) -> analysis.Estimate | None:
    if reference is None or reference.log_p is None or reference.log_q is None:
        return None
    log_w = reference.log_w
    if not np.isfinite(log_w).all():
        return None
    return analysis.forward_effective_sample_size(log_w, trajectory=reference.columns.get("trajectory"), seed=seed)


def _ramachandran(
    generated: Ensemble, reference: Ensemble | None, pair: tuple[str, str], log_w: ndarray | None, seed: int
) -> RamachandranResult:
    maps = {} if reference is None else {"reference": analysis.ramachandran(reference, pair)}
    maps["raw"] = analysis.ramachandran(generated, pair)
    if log_w is not None:
        maps["reweighted"] = analysis.ramachandran(generated, pair, log_w=log_w)
    found: dict[str, dict[str, analysis.Divergence]] = {"kl": {}, "jsd": {}}
    if reference is not None and len(reference) >= 4:
        for measure in ("kl", "jsd"):
            for key, w in (("raw", None), ("reweighted", log_w)):
                if key in maps:
                    found[measure][key] = analysis.map_divergence(
                        generated, reference, names=pair, log_w=w, measure=measure, seed=seed
                    )
    return RamachandranResult(maps=maps, kl=found["kl"], jsd=found["jsd"])


def _energies(
    generated: Ensemble, reference: Ensemble | None, log_w: ndarray | None, seed: int
) -> analysis.EnergyComparison | None:
    if reference is None or generated.log_p is None:
        return None
    if reference.log_p is None and not {"energy", "temperature"} <= reference.columns.keys():
        return None
    return analysis.energy_comparison(generated, reference, log_w=log_w, seed=seed)


def _region(generated: Ensemble, reference: Ensemble | None, name: str, log_w: ndarray | None, seed: int) -> Region:
    differences, profiles = {}, {}
    low, high = analysis.POSITIVE_PHI
    if reference is not None:
        angle = reference.columns[name]
        differences["reference"] = analysis.free_energy_difference(reference, analysis.between(angle, low, high=high))
        trajectory = reference.columns.get("trajectory", np.zeros(len(reference), dtype=np.int64))
        profiles["reference"] = analysis.circular_histogram(angle, trajectory=trajectory)
    for key, w in (("raw", None), ("reweighted", log_w)):
        if key == "reweighted" and w is None:
            continue
        angle = generated.columns[name]
        # Draws of a generator are independent, whether or not their density was kept.
        draws = generated if generated.log_q is not None else _independent(generated)
        inside = analysis.between(angle, low, high=high)
        differences[key] = analysis.free_energy_difference(draws, inside, log_w=w, seed=seed)
        profiles[key] = analysis.circular_histogram(angle, log_w=w)
    return Region(torsion=name, differences=differences, profiles=profiles)


def _independent(generated: Ensemble) -> Ensemble:
    return Ensemble(generated.molecule, generated.x, log_q=np.zeros(len(generated)))
