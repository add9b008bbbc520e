"""What a report or the statistics of a run are made of: its draws, its reference, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from molifold.ensemble import Ensemble
from molifold.runs import Run
from molifold.workbench.results import LOOKED_AT, ReportParts


def parts_of_run(run: str | Path | Run, *, reference: Ensemble | None = None, step: int | None = None) -> ReportParts:
    """What a report of a run is made of (see ``report.report_from_run``).

    With ``step`` it is of the draws of that look only, against at most ``LOOKED_AT`` frames of the reference: somebody
    goes through all steps, and waits for each.

    Raises:
        ValueError: if nothing was drawn (at that step), or there are no frames at the target temperature.
    """
    run = Run.open(run) if isinstance(run, str | Path) else run
    generated, drawn = _drawn(run, step)
    if reference is None:
        kept = [name for name in ("simulation", "reference") if name in run.ensembles]
        reference = run.ensemble(kept[0]) if kept else None
    elif reference.molecule.elements != generated.molecule.elements:
        raise ValueError(f"reference: got {reference.molecule!r}, expected {generated.molecule!r} as in the run")
    else:  # the same atoms, whatever the files call them
        reference = replace(reference, molecule=generated.molecule)
    info = run.info
    temperature = _find_temperature(generated, info, reference)
    if reference is not None:
        reference = _at(reference, temperature)
        reference = reference if step is None else reference.thinned(LOOKED_AT)
    about: dict[str, Any] = {
        key: info[key]
        for key in ("state", "created", "seed", "settings", "recipe", "packages", "attempts")
        if key in info
    }
    name = generated.molecule.name
    return ReportParts(
        generated=generated,
        reference=reference,
        history=run.scalars()[0] if step is None else (),
        settings={"run": run.path.name, **about, "state": run.state},
        temperature=temperature,
        title=f"{name}: {run.path.name}{drawn}",
        diagnosis=str(run.record("diagnosis")[1]["text"]) if "diagnosis" in run.records else "",
        evolution=run.ensemble("history") if "history" in run.ensembles and step is None else None,
    )


def _drawn(run: Run, step: int | None) -> tuple[Ensemble, str]:
    """What the run's flow drew: at the end, or while it learns at ``step`` or the last look; and words for that."""
    if "generated" in run.ensembles and step is None:
        return run.ensemble("generated"), ""
    history = run.ensemble("history") if "history" in run.ensembles else None
    if history is None or not len(history):
        raise ValueError(
            f"run: {run.path} keeps the ensembles {list(run.ensembles)}, expected 'generated' among them; "
            "draw samples into the run first (molifold sample)"
        )
    steps = np.asarray(history.columns["step"])
    at = steps[-1] if step is None else step
    if at not in steps:
        raise ValueError(f"step: got {step}, expected one of {', '.join(map(str, np.unique(steps)))}")
    return history[np.flatnonzero(steps == at)], f", draws at step {at:,}"


def _find_temperature(generated: Ensemble, info: Mapping[str, Any], reference: Ensemble | None) -> float | None:
    """Target temperature: what the draws say, then the run, then the coldest frames of the reference."""
    sources = [generated.meta, info.get("settings") or {}, info.get("recipe") or {}]
    sources += [value for source in sources for value in source.values() if isinstance(value, Mapping)]
    for source in sources:
        if isinstance(source.get("temperature"), int | float):
            return float(source["temperature"])
    for ensemble in (generated, reference):
        if ensemble is not None and "temperature" in ensemble.columns:
            return float(np.min(ensemble.columns["temperature"]))
    return None


def _at(ensemble: Ensemble, temperature: float | None) -> Ensemble:
    """Frames at ``temperature``, where the ensemble has that column (replica exchange keeps all its temperatures)."""
    if temperature is None or "temperature" not in ensemble.columns:
        return ensemble
    chosen = np.isclose(ensemble.columns["temperature"], temperature, rtol=1e-3)
    if chosen.all():
        return ensemble
    if not chosen.any():
        there = sorted({round(float(t), 2) for t in np.unique(ensemble.columns["temperature"])})
        raise ValueError(
            f"reference: has frames at {there} K, expected some at the target temperature {temperature:g} K"
        )
    return ensemble[np.flatnonzero(chosen)]
