"""From two ensembles, wherever they lie, to a comparison with its tables and figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molifold.analysis import EnsembleComparison, verdict
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.workflows.tables import plain, save_pictures, write_rows

if TYPE_CHECKING:
    from molifold.workbench import ReportParts, Results

#: Frames of either side that go into pictures: those of larger ensembles are thinned, so that memory is bounded.
DRAWN = 200_000


def open_pair(
    generated: str | Path, reference: str | Path | None = None, *, top: str | Path | None = None
) -> tuple[Ensemble, Ensemble]:
    """Two ensembles by name: a store, a run (its draws), ``RUN:NAME`` (an ensemble that a run keeps), or a trajectory.

    Args:
        generated: what is judged.
        reference: what it should be; None takes the reference of the run ``generated``.
        top: what the atoms of a trajectory are, where its own file does not say so.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if the atoms differ, or a run keeps no such ensemble.
    """
    if reference is None:
        from molifold.workbench.parts import parts_of_run

        if not (Path(generated) / "run.json").is_file():
            raise ValueError(f"B: missing, and {generated} is no run directory that would know its own reference")
        parts = parts_of_run(generated)
        if parts.reference is None:
            raise ValueError(f"B: missing, and the run {generated} keeps no reference")
        return parts.generated, parts.reference
    a, b = open_ensemble(generated, top=top), open_ensemble(reference, top=top)
    if a.molecule.elements != b.molecule.elements:
        raise ValueError(f"B: {reference} is of {b.molecule!r}, expected {a.molecule!r} as in {generated}")
    # The same atoms, whatever the files call them.
    known = max((a.molecule, b.molecule), key=lambda m: len(m.bonds))
    return replace(a, molecule=known), replace(b, molecule=known)


def open_ensemble(what: str | Path, *, top: str | Path | None = None, molecule: Molecule | None = None) -> Ensemble:
    """An ensemble by name: a store, a run (its draws), ``RUN:NAME`` (an ensemble that a run keeps), or a trajectory.

    ``RUN:history@STEP`` are the draws that were taken during training at that step.

    Args:
        what: the name.
        top, molecule: what the atoms of a trajectory are, where its own file does not say so.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if a run keeps no such ensemble, or it has no draws of that step.
    """
    from molifold.data import load
    from molifold.runs import Run

    path, _, name = str(what).rpartition(":")
    if path and (Path(path) / "run.json").is_file():
        run = Run.open(path)
        name, _, step = name.partition("@")
        if name not in run.ensembles:
            raise ValueError(f"{what}: the run keeps the ensembles {', '.join(run.ensembles) or 'none'}")
        return _of_step(run.ensemble(name), step, what=str(what)) if step else run.ensemble(name)
    if (Path(what) / "run.json").is_file():
        return open_ensemble(f"{what}:generated", top=top)
    if not Path(what).exists():
        raise FileNotFoundError(f"{what}: no such store, run, RUN:ENSEMBLE or trajectory")
    if (Path(what) / "header.json").is_file():  # load would number its draws as if they were a trajectory
        return Ensemble.load(what)
    return load(what, top=top, molecule=molecule)


def _of_step(ensemble: Ensemble, step: str, *, what: str) -> Ensemble:
    known = np.asarray(ensemble.columns.get("step", ()))
    if not step.isdigit() or not (known == int(step)).any():
        there = ", ".join(map(str, np.unique(known))) or "none"
        raise ValueError(f"{what}: no frame of step {step!r}; the ensemble has the steps {there}")
    return ensemble[np.flatnonzero(known == int(step))]


@contextmanager
def processes(count: int) -> Iterator[Any]:
    """A Dask client with so many processes on this machine; None for one."""
    if count < 2:
        yield None
        return
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


def as_data(found: EnsembleComparison) -> dict[str, Any]:
    """Everything that was found, as JSON allows it (what is no number is null)."""
    judged = verdict(found)
    return plain({
        "verdict": asdict(judged),
        "generated": asdict(found.generated),
        "reference": asdict(found.reference),
        "rows": [asdict(row) for row in found.rows()],
        "skipped": dict(found.skipped),
    })  # fmt: skip


def write_table(found: EnsembleComparison, path: Path) -> Path:
    """All numbers as a table, one row each: ``.csv``, ``.parquet`` or, with the verdict, ``.json``.

    Raises:
        ValueError: if the ending is another, or Parquet is asked for without pyarrow.
    """
    return write_rows(found.rows(), path, data=as_data(found))


def looked_at(
    found: EnsembleComparison, generated: Ensemble, reference: Ensemble, *, weighted: bool = True
) -> tuple[ReportParts, Results]:
    """What figures and page are made of: at most ``DRAWN`` frames of either side, and what was found."""
    from molifold.analysis.clusters import temperature_of
    from molifold.workbench import ReportParts, analyse

    kelvin = [temperature_of(e) for e in (generated, reference)]
    parts = ReportParts(
        generated.thinned(DRAWN), reference.thinned(DRAWN), weighted=weighted,
        temperature=next((t for t in kelvin if np.isfinite(t)), None),
        title=f"{generated.molecule.name}: two ensembles compared",
    )  # fmt: skip
    return parts, analyse(parts, comparison=found)


def write_figures(parts: ReportParts, results: Results, folder: Path) -> list[Path]:
    """Every picture of the comparison as a PNG file in a folder."""
    from molifold.workbench.panels import panels

    return save_pictures(panels(parts, results), folder)
