"""molifold map: what a trained latent map is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

RunDirectory = Annotated[Path, typer.Argument(help="The run directory of a latent map.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Encode, decode and walk through a trained latent map.

    A map is trained like any flow, by a recipe with `use = "molifold.flows:latent_map"` and a `lag`.

    For example:

        molifold train alanine-dipeptide-map --to runs/map

        molifold map encode runs/map runs/map:reference --to places.ens

        molifold map path runs/map places.ens@120 places.ens@7431 --out path.xtc

        molifold map doctor runs/map
    """,
)


@app.command("encode")
def encode(
    run: RunDirectory,
    source: Annotated[str, typer.Argument(help="A trajectory, a store, a run (its draws) or RUN:ENSEMBLE.")],
    *,
    to: Annotated[Path, typer.Option(help="The ensemble store to write, with columns z1, sigma_z1, ...")],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the free energy of the map (png, svg, pdf or json).")
    ] = None,
) -> None:
    """Say where conformations lie on the map, and where its basins are.

    For example:

        molifold map encode runs/map runs/map:reference --to places.ens --picture map.png
    """
    from molifold import plots
    from molifold.cli.sample import show
    from molifold.workflows.latent import encode_store

    found = encode_store(run, source, to=to)
    show(found.lines())
    typer.echo(f"wrote {to}")
    if picture is not None:
        if found.surface is None:
            raise ValueError(f"picture: not drawn, {source} has too few frames for a free energy")
        plots.surface(found.surface).save(picture)
        typer.echo(f"wrote {picture}")


@app.command("decode")
def decode(
    run: RunDirectory,
    *,
    at: Annotated[str, typer.Option(help="Coordinates on the map: z1,z2,...")],
    out: Annotated[Path, typer.Option(help="Trajectory to write (xtc, dcd, pdb, ...), weights beside it.")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many draws.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Draw conformations at a point of the map, with energies and weights.

    For example:

        molifold map decode runs/map --at 0.3,-1.2 --out here.xtc
    """
    import numpy as np

    from molifold.data.export import check_writable
    from molifold.workflows.latent import decode_points
    from molifold.workflows.sample import export

    check_writable(out)  # before the work, not after it
    try:
        point = np.array([[float(number) for number in at.split(",")]])
    except ValueError:
        raise ValueError(f"at: got {at!r}, expected numbers separated by commas: 0.3,-1.2") from None
    for path in export(decode_points(run, point, each=number, seed=seed), out):
        typer.echo(f"wrote {path}")


@app.command("path")
def path(
    run: RunDirectory,
    start: Annotated[str, typer.Argument(help="A structure file, or NAME@FRAME of a trajectory, store or run.")],
    end: Annotated[str, typer.Argument(help="The same, of the end.")],
    *,
    out: Annotated[Path, typer.Option(help="Trajectory to write (xtc, dcd, pdb, ...), its figures beside it as npz.")],
    images: Annotated[int, typer.Option(min=3, help="How many structures.")] = 24,
    candidates: Annotated[int, typer.Option(min=1, help="Draws to choose each structure from.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Find a path through the map between two conformations, as structures with energies, checked for soundness.

    For example:

        molifold map path runs/map folded.pdb unfolded.pdb --out path.xtc

        molifold map path runs/map places.ens@120 places.ens@7431 --out path.xtc
    """
    from molifold.cli.sample import show
    from molifold.data.export import check_writable
    from molifold.workflows.latent import find_path, write_path

    check_writable(out)
    checked = find_path(run, start, end, images=images, candidates=candidates, seed=seed)
    show(checked.lines())
    for written in write_path(checked, out):
        typer.echo(f"wrote {written}")


@app.command("doctor")
def doctor(
    run: RunDirectory,
    *,
    source: Annotated[
        str | None, typer.Option(help="Trajectory, store or RUN:ENSEMBLE to judge by.  [default: the run's own frames]")
    ] = None,
) -> None:
    """Say what is wrong with a map: idle or equal latents, disconnected trajectories, an unsuitable lag.

    For example:

        molifold map doctor runs/map --source data.ens
    """
    from molifold.cli.check import COLOURS
    from molifold.workflows.latent import examine

    found = examine(run, source=source)
    console = Console()
    for finding in found.findings:
        remedy = f"\n    [dim]{finding.remedy}[/]" if finding.remedy else ""
        console.print(f"[{COLOURS[finding.level]}]{finding.level}[/] {finding.subject}: {finding.message}{remedy}")
    if any(finding.level == "error" for finding in found.findings):
        raise typer.Exit(1)


@app.command("export")
def export_command(
    run: RunDirectory,
    *,
    out: Annotated[Path, typer.Option(help="TorchScript file to write (.pt); PLUMED input beside it.")],
    first: Annotated[int, typer.Option(min=1, help="Number of the molecule's first atom in the simulation.")] = 1,
) -> None:
    """Write the encoder as a collective variable for PLUMED (PYTORCH_MODEL) and any program with LibTorch.

    For example:

        molifold map export runs/map --out map.pt
    """
    from molifold.simulation import export_torchscript, plumed_input
    from molifold.workflows.latent import load_map

    flow = load_map(run)
    typer.echo(f"wrote {export_torchscript(flow, out)}")
    beside = out.with_suffix(".plumed.dat")
    beside.write_text(plumed_input(flow, out, first=first), encoding="utf-8")
    typer.echo(f"wrote {beside}")
