"""molifold export: the views of the workbench as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    paths: Annotated[list[Path], typer.Argument(help="Runs and ensemble stores.")],
    *,
    to: Annotated[Path, typer.Option(help="The page to write.")] = Path("molifold.html"),
    page: Annotated[str, typer.Option(help="Which page is open at first.")] = "overview",
    frames: Annotated[int, typer.Option(min=1, help="Frames kept of every ensemble.")] = 5000,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write TensorBoard event files of the runs into this folder instead.")
    ] = None,
) -> None:
    """Write the views of `molifold watch` into one HTML file that works from disk with no network.

    For example:

        molifold export runs/alanine-dipeptide --to alanine.html --page conformations

        molifold export runs/alanine-dipeptide --tensorboard logs
    """
    if tensorboard is not None:
        from molifold.probes.tensorboard import TensorBoard

        for path in paths:
            with TensorBoard(path, tensorboard / path.resolve().name) as board:
                typer.echo(f"{path}: {board.update()} rows, records and events")
        typer.echo(f"tensorboard --logdir {tensorboard}")
        return
    from molifold.workbench.export import export_view

    path = export_view(list(paths), to, start={"page": page}, frames=frames)
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
