"""molifold compare: what differs between two ensembles, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from molifold.analysis import Divergence, EnsembleComparison, Verdict

COLOURS = {"good": "green", "fair": "yellow", "bad": "red"}
#: Degrees of freedom that are shown; the files have all of them.
SHOWN = 12


def command(
    a: Annotated[str, typer.Argument(help="What to judge: an ensemble store, a run, RUN:ENSEMBLE or a trajectory.")],
    b: Annotated[
        str | None, typer.Argument(help="What it should be.  [default: the reference that the run A keeps]")
    ] = None,
    *,
    top: Annotated[Path | None, typer.Option(help="What the atoms of a trajectory are (pdb, prmtop, psf ...).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Ignore the importance weights of A.")] = False,
    distance: Annotated[
        list[str] | None, typer.Option(help="Also compare the distance of two atoms, as 0-21; may be repeated.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=50, help="Frames a side for optimal transport and RMSD; time grows with the square.")
    ] = 500,
    lag: Annotated[int, typer.Option(min=1, help="Lag of slow coordinates, in frames of B.")] = 10,
    processes: Annotated[int, typer.Option(min=1, help="Processes that count.")] = 1,
    seed: Annotated[int, typer.Option(help="Of random halves and bootstraps.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write all numbers to this file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="The same as Parquet.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same with the verdict, as JSON.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Draw maps, torsions, energies into this folder.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write verdict and pictures as one self-contained page.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if A differs from B.")] = False,
) -> None:
    """Compare two ensembles of one molecule: every degree of freedom, maps, basins, energies, weights, copies.

    Divergences stand beside their noise floor (halves of B against each other), populations have 95 % intervals,
    and the verdict says in words what differs and how sure that is.

    For example:

        molifold compare runs/alanine-dipeptide

        molifold compare runs/alanine-dipeptide long.ens --html differences.html

        molifold compare runs/alanine-dipeptide long.ens --figures figures --csv numbers.csv

        molifold compare runs/new runs/old:generated

        molifold compare draws.xtc md.xtc --top start.pdb --strict
    """
    from molifold.analysis import compare_ensembles, verdict
    from molifold.workbench import write_report
    from molifold.workflows import compare

    endings = {"csv": csv, "parquet": parquet, "json": json}
    for ending, path in {**endings, "html": html}.items():
        if path is not None and path.suffix != f".{ending}":
            raise typer.BadParameter(f"{path} does not end in .{ending}", param_hint=f"--{ending}")
    generated, reference = compare.open_pair(a, b, top=top)
    with compare.processes(processes) as client:
        found = compare_ensembles(
            generated, reference, weighted=not raw, distances=tuple(_pair(d) for d in distance or ()),
            samples=samples, lag=lag, seed=seed, client=client,
        )  # fmt: skip
    judged = verdict(found)
    _show(found, judged)
    written = [compare.write_table(found, path) for path in endings.values() if path is not None]
    if figures is not None or html is not None:
        parts, results = compare.looked_at(found, generated, reference, weighted=not raw)
        written += [] if figures is None else compare.write_figures(parts, results, figures)
        written += [] if html is None else [write_report(parts, html, results=results)]
    for path in written:
        typer.echo(f"wrote {path}")
    if strict and judged.status == "bad":
        raise typer.Exit(1)


def _pair(text: str) -> tuple[int, int]:
    try:
        i, j = map(int, text.split("-"))
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected two atoms such as 0-21", param_hint="--distance") from None
    return i, j


def _show(found: EnsembleComparison, judged: Verdict) -> None:
    console = Console()
    console.print(_sides(found))
    console.print(_freedoms(found))
    for table in (_basins(found), _distances(found)):
        if table.row_count:
            console.print(table)
    for what, why in found.skipped.items():
        console.print(f"[dim]not compared: {what} ({why})[/]")
    console.print(_findings(judged))
    console.print(f"[bold {COLOURS[judged.status]}]{judged.sentence}[/]")


def _table(title: str, *columns: str, right: int = 1) -> Table:
    """Columns after the first ``right`` ones hold numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k < right else "right", overflow="fold")
    return table


def _sides(found: EnsembleComparison) -> Table:
    table = _table("", "", "frames", "kind", "worth", right=1)
    for name, side in (("A", found.generated), ("B", found.reference)):
        kind = "a simulation" if side.simulated else "weighted draws" if side.weighted else "draws"
        worth = "correlated" if side.simulated else f"{side.ess:,.0f}"
        table.add_row(name, f"{side.frames:,}", kind, worth)
    return table


def _freedoms(found: EnsembleComparison) -> Table:
    shown = found.relevant[:SHOWN]
    title = f"Degrees of freedom: {len(shown)} of {len(found.freedoms)}, the most relevant"
    table = _table(title, "name", "why", "difference", "JSD / mbit", "floor", "ratio", right=3)
    for f in shown:
        table.add_row(f.freedom.name, str(f.relevance), f.words, *_numbers(f.divergence, 1000))
    for m in found.maps:
        table.add_row(" x ".join(m.names), "map", "", *_numbers(m.divergence, 1000))
    return table


def _numbers(d: Divergence, scale: float = 1) -> tuple[str, str, str]:
    return f"{scale * d.value:.3g} ± {scale * d.error:.1g}", f"{scale * d.floor:.3g}", f"{d.ratio:.2f}"


def _basins(found: EnsembleComparison) -> Table:
    from molifold.analysis.verdict import interval, percent

    table = _table("Populations", "", "A", "95 %", "B", "95 %")
    rows = [(str(b), b.generated, b.reference) for m in found.maps for b in m.basins]
    rows += [(f"other hand of {name}", mine, known) for name, mine, known in found.hands]
    for name, mine, known in rows:
        table.add_row(name, percent(mine), interval(mine), percent(known), interval(known))
    return table


def _distances(found: EnsembleComparison) -> Table:
    table = _table("Distances between samples", "", "value", "floor", "ratio", "frames")
    for d in found.distances:
        table.add_row(d.measure, *_numbers(d), f"{d.frames:,}")
    return table


def _findings(judged: Verdict) -> Table:
    table = _table("Verdict", "", "", "", right=3)
    table.show_header = False
    for f in judged.findings:
        advice = f"\n[dim]{f.advice}[/]" if f.advice else ""
        table.add_row(f"[{COLOURS[f.status]}]{f.status}[/]", f.title, f"{f.number} {f.text}{advice}")
    return table
