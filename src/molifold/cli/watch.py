"""molifold watch: runs and conformations in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    serve(Desk(Collection(paths)), port=port, hosts=host or (), tell=tell)
