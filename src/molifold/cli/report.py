"""molifold report: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The run directory of a training.")],
    *,
    out: Annotated[Path | None, typer.Option(help="The page to write.  [default: report.html in the run]")] = None,
) -> None:
    """Write one self-contained HTML page about a run: maps, torsions, energies, weights, training curves.

    For example:

        molifold report runs/alanine-dipeptide

        molifold report runs/alanine-dipeptide --out report.html
    """
    from molifold.workbench import report_from_run

    typer.echo(str(report_from_run(run, out)))
