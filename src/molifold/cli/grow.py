"""molifold grow: more units where a trained flow lacks them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The run directory of a training.")],
    *,
    to: Annotated[Path | None, typer.Option(help="The new run.  [default: RUN-grown]")] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="Package outside molifold whose code the run may run; repeat for several.")
    ] = None,
    more: Annotated[float, typer.Option(help="Training to add, as a share of the run's own budget.", min=0.001)] = 0.5,
    places: Annotated[int, typer.Option(help="Layers that grow, at most.", min=1)] = 3,
    frames: Annotated[int, typer.Option(help="Frames of the reference to diagnose on, at most.", min=100)] = 4000,
    anyway: Annotated[bool, typer.Option("--anyway", help="Train on even if no layer grows.")] = False,
) -> None:
    """Add hidden units to the layers that `molifold diagnose` finds too weak, and train the larger flow on.

    The run stays as it is; the new one goes on from its last checkpoint with the same function, optimiser state and
    data. Where the diagnosis raises no alarm nothing grows, and nothing is trained, unless you say --anyway. A grown
    run can be grown again. For example:

        molifold grow runs/alanine-dipeptide

        molifold grow runs/alanine-dipeptide --to runs/larger --more 1
    """
    from molifold.training.growth import grow

    result = grow(
        run, to=to, more=more, places=places, frames=frames, anyway=anyway, tell=typer.echo, trust=trust or ()
    )
    if result is not None:
        typer.echo(f"{result.path}: {result!r}")
