"""molifold train: from a recipe to a trained flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molifold.cli.progress import Display


def command(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped recipe.")],
    *,
    to: Annotated[Path | None, typer.Option(help="The run directory.  [default: runs/NAME-OF-RECIPE]")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stretch the recipe's time budgets to this long, simulation included.")
    ] = None,
) -> None:
    """Train a flow as a recipe says, simulating first if it says so. The same command resumes a killed training.

    For example:

        molifold train alanine-dipeptide

        molifold train alanine-dipeptide --minutes 120 --to runs/two-hours

        molifold train my-recipe.toml --to runs/mine
    """
    from molifold.workflows.train import train

    with Display() as display:
        result = train(recipe, to=to, minutes=minutes, phase=display.phase)
    typer.echo(f"{result.path}: {result!r}")
