"""molifold report: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The run directory of a training.")],
    *,
    out: Annotated[Path | None, typer.Option(help="The page to write.  [default: report.html in the run]")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Ensemble store to compare with.  [default: the run's own simulation]")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="With the views of `molifold watch` inside the page.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames of every ensemble that these views keep.")] = 2000,
) -> None:
    """Write one self-contained HTML page about a run: maps, energies, weights, clusters, comparison, training curves.

    Before samples are drawn into the run, it is about the last draws that were taken while it learnt. The page works
    from disk, without a network; it runs no script, unless it is interactive: then those of its own views.

    For example:

        molifold report runs/alanine-dipeptide

        molifold report runs/alanine-dipeptide --reference long.ens --out report.html

        molifold report runs/alanine-dipeptide --interactive
    """
    from molifold.ensemble import Ensemble
    from molifold.workbench import report_from_run

    against = None if reference is None else Ensemble.load(reference)
    typer.echo(str(report_from_run(run, out, reference=against, frames=frames if interactive else 0)))
