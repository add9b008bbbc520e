"""molifold demo: the whole path on alanine dipeptide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molifold.cli.progress import Display


def command(
    *,
    to: Annotated[
        Path | None, typer.Option(help="The run directory; an unfinished demo is continued.  [default: runs/demo]")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Budget from start to report, on whatever machine this is.")] = 12.0,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or less, to see that everything works.")] = False,
) -> None:
    """Alanine dipeptide from nothing to a report: simulate, train, sample, reweight.

    For example:

        molifold demo

        molifold demo --minutes 30 --to runs/longer

        molifold demo --quick
    """
    from molifold.cli.sample import show
    from molifold.workflows.demo import demo

    with Display() as display:
        made = demo(to, minutes=minutes, quick=quick, phase=display.phase)
    show(made.summary.lines())
    typer.echo(f"{made.seconds / 60:.1f} minutes; run {made.run}; open {made.report} in a browser")
