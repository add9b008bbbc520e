"""The report: one HTML page with verdict, pictures and provenance; needs no network, runs no script."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from molifold.workbench.panels import Panel, panels
from molifold.workbench.results import ReportParts, Results, analyse
from molifold.workbench.verdict import Finding, findings, overall

if TYPE_CHECKING:
    from molifold.ensemble import Ensemble
    from molifold.runs import Run

_MARKS = {"good": "✓", "fair": "!", "bad": "✗"}
_WORDS = {"good": "good", "fair": "take care", "bad": "bad"}


def write_report(parts: ReportParts, path: str | Path, *, results: Results | None = None, seed: int = 0) -> Path:
    """Write one self-contained HTML page and return its path.

    All text of the parts is escaped, and the page forbids itself scripts and every outside request.

    Args:
        parts: what the report is of.
        path: file to write; directories are made.
        results: of ``analyse(parts)``, if they are known already.
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
    results = analyse(parts, seed=seed) if results is None else results
    found = findings(results)
    verdict = overall(found)
    files = resources.files("molifold.workbench")
    title = parts.title or f"{parts.generated.molecule.name}: generated conformations"
    text = Template(files.joinpath("report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=files.joinpath("report.css").read_text(encoding="utf-8"),
        subtitle=html.escape(_subtitle(parts)),
        status=verdict.status,
        verdict=html.escape(verdict.title),
        summary=html.escape(verdict.text),
        findings="\n".join(map(_finding, found)),
        panels="\n".join([*_sections(parts, results), *_diagnosis(parts), _settings(parts)]),
        footer=html.escape(_footer()),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, so that nobody reads half a page.
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def report_from_run(
    run: str | Path | Run, path: str | Path | None = None, *, reference: Ensemble | None = None, seed: int = 0
) -> Path:
    """Report of a run directory: its ensembles, its scalars and its settings.

    Args:
        run: the run, or its directory.
        path: file to write; default ``report.html`` in the run.
        reference: what to compare the draws with, of the same molecule; the default is the run's own simulation (all
            its frames), or else the frames kept as ``reference``.
        seed: of bootstraps and of random halves.

    Raises:
        ValueError: if the run keeps no ensemble ``generated``, or none of the target temperature.
        RunFormatError: if the directory is no run.
    """
    parts = parts_of_run(run, reference=reference)
    if path is None:
        path = Path(run if isinstance(run, str | Path) else run.path) / "report.html"
    return write_report(parts, path, seed=seed)


def parts_of_run(run: str | Path | Run, *, reference: Ensemble | None = None) -> ReportParts:
    """What a report of a run is made of (see ``report_from_run``)."""
    from molifold.runs import Run

    run = Run.open(run) if isinstance(run, str | Path) else run
    if "generated" not in run.ensembles:
        raise ValueError(
            f"run: {run.path} keeps the ensembles {list(run.ensembles)}, expected 'generated' among them; "
            "draw samples into the run first (molifold sample)"
        )
    generated = run.ensemble("generated")
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
        history=run.scalars()[0],
        settings={"run": run.path.name, **about, "state": run.state},
        temperature=temperature,
        title=f"{name}: {run.path.name}",
        diagnosis=str(run.record("diagnosis")[1]["text"]) if "diagnosis" in run.records else "",
    )


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


def _finding(f: Finding) -> str:
    advice = f'<p class="do">{html.escape(f.advice)}</p>' if f.advice else ""
    return (
        f'<div class="finding {f.status}"><h3><span class="mark" title="{_WORDS[f.status]}">{_MARKS[f.status]}</span>'
        f'{html.escape(f.title)}</h3><p class="number">{html.escape(f.number)}</p>'
        f"<p>{html.escape(f.text)}</p>{advice}</div>"
    )


def _sections(parts: ReportParts, results: Results) -> Iterator[str]:
    explained: set[str] = set()
    for i, panel in enumerate(panels(parts, results)):
        # A chain has a map per residue: how to read them is said once.
        yield _section(panel, key=f"f{i}", explain=panel.help.healthy not in explained)
        explained.add(panel.help.healthy)


def _section(panel: Panel, *, key: str, explain: bool) -> str:
    from molifold.workbench.svg import inline  # matplotlib, which a live page does without

    answers = zip(("Shows", "Healthy", "Otherwise"), panel.help, strict=True)
    terms = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in answers)
    reading = f"<dl>{terms}</dl>\n" if explain else ""
    picture = inline(panel.picture.figure(), key=key, title=panel.title)
    return (
        f"<section>\n<h2>{html.escape(panel.title)}</h2>\n<figure>{picture}</figure>\n"
        f"{_table(panel.rows)}{reading}</section>"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    line = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in body)
    return f'<div class="scroll"><table class="numbers"><tr>{line}</tr>\n{lines}</table></div>\n'


def _diagnosis(parts: ReportParts) -> Iterator[str]:
    lines = "".join(f"<li>{html.escape(line)}</li>\n" for line in parts.diagnosis.splitlines())
    if lines:
        yield f"<section>\n<h2>Inside the network</h2>\n<ul>\n{lines}</ul>\n</section>"


def _settings(parts: ReportParts) -> str:
    rows = dict(_flat(parts.settings))
    for name, ensemble in (("generated", parts.generated), ("reference", parts.reference)):
        if ensemble is not None:
            rows[name] = repr(ensemble)
            rows |= {f"{name}: {key}": value for key, value in _flat(ensemble.meta)}
    lines = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>\n" for k, v in rows.items())
    return f"<section>\n<h2>Settings and provenance</h2>\n<table>\n{lines}</table>\n</section>"


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as dotted names and text."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif tree is not None and tree != []:
        yield prefix, str(tree)


def _subtitle(parts: ReportParts) -> str:
    molecule = parts.generated.molecule
    reference = "no reference" if parts.reference is None else f"{len(parts.reference):,} reference frames"
    kelvin = f" · {parts.temperature:g} K" if parts.temperature else ""
    what = f"{molecule.name} · {molecule.formula} · {molecule.n_atoms} atoms{kelvin}"
    return f"{what} · {len(parts.generated):,} draws · {reference}"


def _footer() -> str:
    from datetime import UTC, datetime

    import molifold

    now = datetime.now(UTC)
    return f"molifold {molifold.__version__} · {now:%Y-%m-%d %H:%M} UTC · this page is one file and loads nothing"
