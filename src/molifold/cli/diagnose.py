"""molifold diagnose: what holds a trained flow back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="A run directory, or one of its checkpoints.")],
    *,
    frames: Annotated[int, typer.Option(help="Frames of the reference to look at, at most.", min=100)] = 4000,
    samples: Annotated[
        Path | None, typer.Option(help="Look at the frames of this ensemble store instead (after comparing it).")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another run or checkpoint, whose layers are compared with this one's.")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="Package outside molifold whose code the run may run; repeat for several.")
    ] = None,
    level: Annotated[float, typer.Option(help="Chance of any false alarm.", min=1e-6, max=0.5)] = 0.01,
) -> None:
    """Say in plain words which parts of a trained flow lack power, what they miss, and what to do about it.

    Also looked at: idle units, ranks, gradient noise, curvature, layers that do the same, spikes of the loss.

    The findings are kept in the run, where the report shows them. For example:

        molifold diagnose runs/alanine-dipeptide

        molifold diagnose runs/alanine-dipeptide/checkpoints/step-00002000 --frames 10000
    """
    from molifold.ensemble import Ensemble
    from molifold.training.diagnosis import diagnose

    given = None if samples is None else Ensemble.load(samples)
    found = diagnose(run, frames=frames, samples=given, against=against, level=level, trust=trust or ())
    for line in found.lines():
        typer.echo(line)
