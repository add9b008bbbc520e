"""The report: what a generator draws, beside a reference, as one page with verdict, pictures and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molifold.workbench.page import Page, provenance
from molifold.workbench.panels import panels, state_panels
from molifold.workbench.results import ReportParts, Results, analyse
from molifold.workbench.verdict import findings, overall, state_findings

if TYPE_CHECKING:
    from molifold.analysis import EnsembleAnalysis
    from molifold.ensemble import Ensemble
    from molifold.runs import Run


def write_report(parts: ReportParts, path: str | Path, *, results: Results | None = None, seed: int = 0) -> Path:
    """Write one self-contained HTML page and return its path.

    All text of the parts is escaped, and the page forbids itself scripts and every outside request.

    Args:
        parts: what the report is of.
        path: file to write; directories are made.
        results: of ``analyse(parts, thorough=True)``, if they are known already.
        seed: of bootstraps and of random halves.

    Raises:
        ValueError: if the generated ensemble is empty or of another molecule than the reference.

    >>> import tempfile
    >>> from molifold import Ensemble, Molecule
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)), name="butane")
    >>> x = np.random.default_rng(0).normal(size=(100, 4, 3))
    >>> path = write_report(ReportParts(Ensemble(butane, x)), tempfile.mkdtemp() + "/report.html")
    >>> "Not to be trusted" in path.read_text(), "Usable with care" in path.read_text()
    (False, True)
    """
    results = analyse(parts, thorough=True, seed=seed) if results is None else results
    found = findings(results)
    ensembles = {"generated": parts.generated, "reference": parts.reference}
    return Page(
        title=parts.title or f"{parts.generated.molecule.name}: generated conformations",
        subtitle=_subtitle(parts),
        verdict=overall(found),
        findings=found,
        panels=panels(parts, results),
        notes={"Inside the network": parts.diagnosis},
        settings={**parts.settings, **{n: provenance(e) for n, e in ensembles.items() if e is not None}},
    ).write(path)


def write_analysis(found: EnsembleAnalysis, ensemble: Ensemble, path: str | Path) -> Path:
    """Write one self-contained HTML page about one ensemble, in the form of a report, and return its path.

    Args:
        found: of ``analysis.analyze_ensemble(ensemble)``.
        ensemble: what was analysed.
        path: file to write; directories are made.
    """
    judged = state_findings(found)
    molecule, looked = ensemble.molecule, f"{found.frames:,} of {found.total:,} frames looked at"
    kelvin = f" · {found.temperature:g} K" if np.isfinite(found.temperature) else ""
    return Page(
        title=f"{molecule.name}: analysis",
        subtitle=f"{molecule.name} · {molecule.formula} · {molecule.n_atoms} atoms{kelvin} · {looked}",
        verdict=overall(judged, words=("Well sampled", "Sampled with gaps", "Not sampled enough")),
        findings=judged,
        panels=state_panels(found, ensemble),
        settings={"analysed": provenance(ensemble), "not computed": found.skipped},
    ).write(path)


def report_from_run(
    run: str | Path | Run, path: str | Path | None = None, *, reference: Ensemble | None = None, seed: int = 0
) -> Path:
    """Report of a run directory: its ensembles, its scalars and its settings.

    Before samples are drawn into the run, the report is of the last draws of its ``history``.

    Args:
        run: the run, or its directory.
        path: file to write; default ``report.html`` in the run.
        reference: what to compare the draws with, of the same molecule; the default is the run's own simulation (all
            its frames), or else the frames kept as ``reference``.
        seed: of bootstraps and of random halves.

    Raises:
        ValueError: if the run keeps no ensemble ``generated`` or ``history``, or none of the target temperature.
        RunFormatError: if the directory is no run.
    """
    parts = parts_of_run(run, reference=reference)
    if path is None:
        path = Path(run if isinstance(run, str | Path) else run.path) / "report.html"
    return write_report(parts, path, seed=seed)


def parts_of_run(run: str | Path | Run, *, reference: Ensemble | None = None, step: int | None = None) -> ReportParts:
    """What a report of a run is made of (see ``report_from_run``); with ``step``, of the draws of that look only."""
    from molifold.runs import Run

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


def _subtitle(parts: ReportParts) -> str:
    molecule = parts.generated.molecule
    reference = "no reference" if parts.reference is None else f"{len(parts.reference):,} reference frames"
    kelvin = f" · {parts.temperature:g} K" if parts.temperature else ""
    what = f"{molecule.name} · {molecule.formula} · {molecule.n_atoms} atoms{kelvin}"
    return f"{what} · {len(parts.generated):,} draws · {reference}"
