"""molifold check: what is wrong, in words."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(
    what: Annotated[
        str | None, typer.Argument(help="A recipe, a run directory or an ensemble store; default: this installation.")
    ] = None,
    *,
    trust: Annotated[
        list[str] | None,
        typer.Option(help="Package outside molifold whose code the recipe may run; repeat for several."),
    ] = None,
) -> None:
    """Say what is wrong with an installation, a recipe, a run or an ensemble store.

    For example:

        molifold check

        molifold check my-recipe.toml

        molifold check runs/ala2

        molifold check data.ens
    """
    from molifold.workflows.check import check

    findings = check(what, trust=trust or ())
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        colour = COLOURS[finding.level]
        text = finding.message + (f"\n[dim]{finding.remedy}[/]" if finding.remedy else "")
        table.add_row(f"[{colour}]{finding.level}[/]", finding.subject, text)
    Console().print(table)
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        typer.echo(f"error: {errors} found", err=True)
        raise typer.Exit(1)
