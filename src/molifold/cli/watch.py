"""molifold watch: runs and conformations in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from numpy import ndarray

    from molifold.ensemble import Ensemble
    from molifold.flows import LatentMap
    from molifold.workbench.desk import Decode


def command(
    paths: Annotated[list[Path], typer.Argument(help="Runs, ensemble stores, or folders of them.")],
    *,
    port: Annotated[int, typer.Option(help="On 127.0.0.1; the next free one is taken if this one is not.")] = 6060,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser of this machine.")] = True,
    host: Annotated[
        list[str] | None, typer.Option(help="A further name under which a reverse proxy serves the page; repeatable.")
    ] = None,
) -> None:
    """Open a page that shows trainings as they run, and conformations as a map with structures.

    The page only reads (requests such as pause go through the run's inbox); it may be closed and opened at any time.
    A click on an empty place of a latent map lets the network of that run draw a structure there: only its weights are
    read (safetensors), and nothing of the run is executed.
    From another machine: `ssh -L 6060:localhost:6060 HOST`, and open the printed address.

    For example:

        molifold watch runs

        molifold watch runs/alanine-dipeptide long.ens --no-browser
    """
    from molifold.workbench.collection import Collection
    from molifold.workbench.desk import Desk
    from molifold.workbench.server import serve

    def tell(address: str) -> None:
        typer.echo(f"{address}\nCtrl-C ends it.")
        if browser:
            import webbrowser

            webbrowser.open(address)

    serve(Desk(Collection(paths), decode=decoder()), port=port, hosts=host or (), tell=tell)


def decoder() -> Decode:
    """What draws a structure at a point of the latent map of a run: torch is imported at the first call only.

    The last map is kept; a run that has gone on training is read anew.
    """
    kept: dict[tuple[Path, int], LatentMap] = {}

    def decode(path: Path, z: ndarray) -> Ensemble:
        from molifold.runs import Run

        try:
            from molifold.workflows.latent import load_map

            key = path, max(Run.open(path).checkpoints, default=0)
            if key not in kept:
                found = load_map(path)
                kept.clear()
                kept[key] = found
        except ImportError as error:
            raise ValueError(f"decode: {error}; drawing structures needs the full installation of molifold") from error
        return kept[key].decode(z[None])

    return decode
