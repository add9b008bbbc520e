"""How the distribution grew: the pictures of the report at several steps of the training, as small multiples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from molifold import analysis, plots
from molifold.analysis.sides import log_weights, missing_energy
from molifold.ensemble import Ensemble
from molifold.plots import Picture
from molifold.plots.style import label
from molifold.workbench import guide
from molifold.workbench.guide import Panel

#: Steps that are shown, and draws that a step must have to be.
STEPS, FEW = 8, 64
#: Bins and colours of a map of a thousand draws: one frame in the densest of such bins is about 5 kT.
BINS, LIMIT = 32, 6.0


def evolution_panels(
    history: Ensemble, reference: Ensemble | None, *, temperature: float | None = None
) -> Iterator[Panel]:
    """Map, profile, energies and weights of the raw draws at up to eight steps; nothing of fewer than two steps.

    Args:
        history: draws during training, with the column ``step``.
        reference: what they should be, of the same molecule, or None.
        temperature: K, for labels.
    """
    at = {step: analysis.measure(part) for step, part in _parts(history).items()}
    if len(at) < 2:
        return
    known = None if reference is None else analysis.measure(reference)
    last = at[max(at)]

    def over_steps(make: Callable[[Ensemble], Picture]) -> Picture:
        return plots.evolution({step: make(part) for step, part in at.items()})

    pairs = analysis.ramachandran_pairs(last if known is None else known)
    if pairs:
        pair = pairs[0]
        pair_names = f"{label(pair[0])} and {label(pair[1])}"
        maps = over_steps(lambda e: _map(e, pair, temperature))
        yield Panel("evolution_map", f"During training: map of {pair_names}", maps, guide.EVOLUTION)
    names = tuple(analysis.named_torsions(last.molecule))
    if names:
        profiles = over_steps(lambda e: _profile(e, known, names[0], temperature))
        yield Panel("evolution_profile", f"During training: profile along {label(names[0])}", profiles, guide.EVOLUTION)
    if known is not None and not missing_energy(known) and last.log_p is not None:
        energies = over_steps(
            lambda e: plots.energies(analysis.energy_comparison(e, known), temperature=temperature)  # type: ignore[arg-type]
        )
        yield Panel("evolution_energies", "During training: energies", energies, guide.EVOLUTION)
    if last.log_q is not None and all(_weighs(part) for part in at.values()):
        weights = over_steps(lambda e: plots.weights(log_weights(e), temperature=temperature))
        yield Panel("evolution_weights", "During training: importance weights", weights, guide.EVOLUTION)


def _parts(history: Ensemble) -> dict[int, Ensemble]:
    """Draws that are finite, by step: the first, the last, and evenly between."""
    column = np.asarray(history.columns["step"])
    steps, counts = np.unique(column, return_counts=True)
    steps = steps[counts >= FEW]
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, min(STEPS, len(steps))).astype(int))]
    parts = {int(step): history[np.flatnonzero(column == step)] for step in chosen}
    whole = {step: np.isfinite(np.asarray(part.x)).all((1, 2)) for step, part in parts.items()}
    return {step: part[whole[step]] for step, part in parts.items() if whole[step].sum() >= FEW}


def _weighs(drawn: Ensemble) -> bool:
    """Whether enough draws have a weight: at the start all may clash."""
    return drawn.log_p is not None and int(np.isfinite(log_weights(drawn)).sum()) >= FEW


def _map(drawn: Ensemble, pair: tuple[str, str], temperature: float | None) -> Picture:
    found = {"raw": analysis.ramachandran(drawn, pair, bins=BINS)}
    return plots.ramachandran(found, temperature=temperature, limit=LIMIT)


def _profile(drawn: Ensemble, known: Ensemble | None, name: str, temperature: float | None) -> Picture:
    profiles = {}
    if known is not None:
        trajectory = known.columns.get("trajectory", np.zeros(len(known), dtype=np.int64))
        profiles["reference"] = analysis.circular_histogram(known.columns[name], trajectory=trajectory)
    profiles["raw"] = analysis.circular_histogram(drawn.columns[name])
    return plots.free_energy({}, profiles=profiles, name=name, temperature=temperature)
