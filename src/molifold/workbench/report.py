"""The report: what a generator draws, beside a reference, as one page with verdict, pictures and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molifold.workbench.export import view_page
from molifold.workbench.page import Page, provenance
from molifold.workbench.panels import panels, state_panels
from molifold.workbench.parts import parts_of_run
from molifold.workbench.results import ReportParts, Results, analyse
from molifold.workbench.verdict import findings, overall, state_findings

if TYPE_CHECKING:
    from molifold.analysis import EnsembleAnalysis
    from molifold.ensemble import Ensemble
    from molifold.runs import Run


def write_report(
    parts: ReportParts, path: str | Path, *, results: Results | None = None, seed: int = 0, views: str = ""
) -> Path:
    """Write one self-contained HTML page and return its path.

    All text of the parts is escaped, and the page forbids itself every outside request; without ``views`` also scripts.

    Args:
        parts: what the report is of.
        path: file to write; directories are made.
        results: of ``analyse(parts, thorough=True)``, if they are known already.
        seed: of bootstraps and of random halves.
        views: a page of ``export.view_page`` that stands inside the report.

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
        views=views,
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
    run: str | Path | Run,
    path: str | Path | None = None,
    *,
    reference: Ensemble | None = None,
    seed: int = 0,
    frames: int = 0,
) -> Path:
    """Report of a run directory: its ensembles, its scalars and its settings.

    Before samples are drawn into the run, the report is of the last draws of its ``history``.

    Args:
        run: the run, or its directory.
        path: file to write; default ``report.html`` in the run.
        reference: what to compare the draws with, of the same molecule; the default is the run's own simulation (all
            its frames), or else the frames kept as ``reference``.
        seed: of bootstraps and of random halves.
        frames: with the views of the workbench inside the page, of so many frames of every ensemble; 0 without them.

    Raises:
        ValueError: if the run keeps no ensemble ``generated`` or ``history``, or none of the target temperature.
        RunFormatError: if the directory is no run.
    """
    parts = parts_of_run(run, reference=reference)
    folder = Path(run if isinstance(run, str | Path) else run.path)
    views = view_page([folder], start={"page": "conformations"}, frames=frames) if frames else ""
    return write_report(parts, folder / "report.html" if path is None else path, seed=seed, views=views)


def _subtitle(parts: ReportParts) -> str:
    molecule = parts.generated.molecule
    reference = "no reference" if parts.reference is None else f"{len(parts.reference):,} reference frames"
    kelvin = f" · {parts.temperature:g} K" if parts.temperature else ""
    what = f"{molecule.name} · {molecule.formula} · {molecule.n_atoms} atoms{kelvin}"
    return f"{what} · {len(parts.generated):,} draws · {reference}"
