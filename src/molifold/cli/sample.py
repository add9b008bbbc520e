"""molifold sample: draws with weights from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from molifold.cli.progress import Display


def command(
    run: Annotated[Path, typer.Argument(help="The run directory of a training.")],
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=25, help="How many draws.")] = 10_000,
    out: Annotated[
        Path | None, typer.Option(help="Also write a trajectory (xtc, dcd, nc, h5, pdb, ...), weights beside it.")
    ] = None,
    resample: Annotated[
        int | None, typer.Option(help="Write this many unweighted frames instead, chosen by their weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Draws at a time; memory grows with it.")] = 1024,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    trust: Annotated[
        list[str] | None, typer.Option(help="Package outside molifold whose code the run may run; repeat for several.")
    ] = None,
) -> None:
    """Draw conformations with energies and importance weights, and say what the weights are worth.

    The draws are kept in the run, as its ensemble "generated", with log_p, log_q and energies.

    For example:

        molifold sample runs/alanine-dipeptide -n 100000

        molifold sample runs/alanine-dipeptide -n 100000 --out draws.xtc

        molifold sample runs/alanine-dipeptide -n 100000 --out boltzmann.xtc --resample 5000
    """
    from molifold.data.export import check_writable
    from molifold.workflows.sample import export, sample, summarize

    if out is not None:
        check_writable(out)  # before the work, not after it
    with Display() as display:
        draws = sample(
            run, number, seed=seed, batch_size=batch_size, device=device, trust=trust or (),
            progress=display.phase("sample"),
        )  # fmt: skip
    written = [] if out is None else export(draws, out, resampled=resample, seed=seed)
    show(summarize(draws).lines())
    for path in written:
        typer.echo(f"wrote {path}")


def show(lines: dict[str, str]) -> None:
    """Print figures by name, as an aligned list."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines.items():
        table.add_row(name, text)
    Console().print(table)
