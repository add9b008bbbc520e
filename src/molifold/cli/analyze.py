"""molifold analyze: what an ensemble looks like, state by state, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from molifold.cli.compare import _table as table_of

if TYPE_CHECKING:
    from rich.table import Table

    from molifold.analysis import EnsembleAnalysis
    from molifold.analysis.bands import Band
    from molifold.analysis.uncertainty import Estimate

#: Degrees of freedom and clusters that are shown; the files have all of them.
SHOWN = 12


def command(
    ensemble: Annotated[str, typer.Argument(help="A store, a run (its draws), RUN:ENSEMBLE or a trajectory.")],
    *,
    top: Annotated[Path | None, typer.Option(help="What the atoms of a trajectory are (pdb, prmtop, psf ...).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Ignore importance weights.")] = False,
    method: Annotated[
        str, typer.Option(help="Of clustering: density-peaks, hdbscan, k-means or k-centers.")
    ] = "density-peaks",
    clusters: Annotated[int | None, typer.Option(min=2, help="How many, for k-means and k-centers.")] = None,
    lag: Annotated[
        int | None, typer.Option(min=1, help="Of the Markov model, in frames.  [default: where timescales level off]")
    ] = None,
    frames: Annotated[int, typer.Option(min=20, help="Frames to look at; of a larger ensemble every k-th.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of subsamples and bootstraps.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write all numbers to this file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="The same as Parquet.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same as JSON.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Draw the free-energy map and write a structure per cluster into this folder.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write findings and pictures as one self-contained page.")] = None,
) -> None:
    """Analyse one ensemble: degrees of freedom, populations, clusters, free energies, kinetics, what is under-sampled.

    Errors come from blocks of trajectories, or from independent draws. Kinetics is shown where frames have an order
    in time (columns `trajectory` or `time`). What could not be computed is listed with the reason.

    For example:

        molifold analyze runs/alanine-dipeptide

        molifold analyze md.xtc --top start.pdb --html analysis.html

        molifold analyze md.xtc --top start.pdb --figures figures --csv numbers.csv

        molifold analyze runs/alanine-dipeptide:reference --method k-means --clusters 4
    """
    from molifold.analysis import analyze_ensemble
    from molifold.cli.progress import Display
    from molifold.workbench import write_analysis
    from molifold.workflows import analyze
    from molifold.workflows.compare import open_ensemble

    endings = {"csv": csv, "parquet": parquet, "json": json}
    for ending, path in {**endings, "html": html}.items():
        if path is not None and path.suffix != f".{ending}":
            raise typer.BadParameter(f"{path} does not end in .{ending}", param_hint=f"--{ending}")
    chosen = analyze.clustering(method, clusters)
    data = open_ensemble(ensemble, top=top)
    with Display() as display:
        found = analyze_ensemble(
            data, method=chosen, weighted=not raw, lag=lag, limit=frames, seed=seed, progress=display.phase
        )
    _show(found)
    written = [analyze.write_table(found, path) for path in endings.values() if path is not None]
    if figures is not None:
        written += analyze.write_figures(found, data, figures)
    if html is not None:
        written.append(write_analysis(found, data, html))
    for path in written:
        typer.echo(f"wrote {path}")


def _show(found: EnsembleAnalysis) -> None:
    console = Console()
    tables = (_about, _freedoms, _populations, _clusters, _free_energies, _minima, _timescales, _metastable, _landscape)
    for make in tables:
        table = make(found)
        if table.row_count:
            console.print(table)
    for what, why in found.skipped.items():
        console.print(f"[dim]not computed: {what} ({why})[/]")


def _about(found: EnsembleAnalysis) -> Table:
    table = table_of("", "", "frames", "kind", "temperature", right=1)
    kind = "a simulation" if found.simulated else "weighted draws" if found.weighted else "draws"
    worth = f", worth {found.ess:,.0f}" if found.weighted else ""
    looked = f"{found.frames:,} of {found.total:,}" if found.frames < found.total else f"{found.frames:,}"
    kelvin = f"{found.temperature:g} K" if found.temperature == found.temperature else "unknown"
    table.add_row("ensemble", looked, kind + worth, kelvin)
    return table


def _freedoms(found: EnsembleAnalysis) -> Table:
    import math

    shown = found.relevant[:SHOWN]
    title = f"Degrees of freedom: {len(shown)} of {len(found.freedoms)}, the most relevant"
    table = table_of(title, "name", "why", "mean", "std", "modes", "outside main mode", "memory / frames", right=2)
    for f in shown:
        angle = f.freedom.unit == "rad"
        scale, unit = (180 / math.pi, "°") if angle else (1.0, f" {f.freedom.unit}")
        time = "" if f.time is None else _pm(f.time)
        mean = f"{scale * f.mean.value:.3g} ± {scale * f.mean.error:.1g}{unit}"
        row = (mean, f"{scale * f.std:.3g}{unit}", str(f.modes), f"{100 * f.spread:.1f} %", time)
        table.add_row(f.freedom.name, f.relevance.reason, *row)
    return table


def _pm(e: Estimate, scale: float = 1.0) -> str:
    return f"{scale * e.value:.3g} ± {scale * e.error:.1g}"


def _populations(found: EnsembleAnalysis) -> Table:
    from molifold.analysis.verdict import interval, percent

    table = table_of("Populations", "basin", "share", "95 %")
    for name, share in found.basins.items():
        table.add_row(name, percent(share), interval(share))
    return table


def _clusters(found: EnsembleAnalysis) -> Table:
    from molifold.analysis.verdict import interval, percent

    c = found.clusters
    if c is None:
        return table_of("")
    title = f"Clusters by {c.method}; silhouette {_pm(c.silhouette)}"
    table = table_of(title, "", "share", "95 %", "medoid frame", "silhouette", "stability")
    for i, share in enumerate(c.populations[:SHOWN]):
        stable = "" if c.stability is None else f"{c.stability.value[i]:.2f}"
        medoid = str(found.index[c.medoids[i]])
        table.add_row(str(i), percent(share), interval(share), medoid, f"{c.silhouettes[i]:.2f}", stable)
    if c.noise.value > 0:
        table.add_row("noise", percent(c.noise), interval(c.noise), "", "", "")
    return table


def _free_energies(found: EnsembleAnalysis) -> Table:
    from molifold.analysis.ensemble_analysis import estimates_of

    table = table_of("Free-energy differences to cluster 0 / kT", "cluster", "estimator", "value", "95 %", right=2)
    for i, difference in enumerate(found.differences, start=1):
        for name, e in estimates_of(difference):
            table.add_row(str(i), name, f"{e.value:.2f} ± {e.error:.2f}", f"{e.low:.2f} to {e.high:.2f}")
        if not getattr(difference, "agree", True):
            table.add_row("", "[red]the two disagree[/]", "", "")
    return table


def _minima(found: EnsembleAnalysis) -> Table:
    import math

    if found.surface is None:
        return table_of("")
    axes = [f"{a.name} / °" if a.periodic else a.name for a in found.surface.axes]
    table = table_of("Free-energy surface / kT", "", *axes, "free energy")

    def place(x: tuple[float, ...]) -> list[str]:
        degrees = (180 / math.pi if a.periodic else 1.0 for a in found.surface.axes)  # type: ignore[union-attr]
        return [f"{v * d:.3g}" for v, d in zip(x, degrees, strict=True)]

    for m in found.minima[:SHOWN]:
        table.add_row("minimum", *place(m.position), f"{m.free_energy:.2f} ± {m.error:.2f}")
    if found.path is not None:
        table.add_row("saddle between the first two", *place(found.path.saddle), _pm(found.path.barrier))
    return table


def _timescales(found: EnsembleAnalysis) -> Table:
    k = found.kinetics
    if k is None:
        return table_of("")
    unit = k.model.unit
    title = f"Timescales / {unit} of {len(k.model.states)} fine states; the model at lag {k.model.lag_time:g} {unit}"
    table = table_of(title, f"lag / {unit}", "slowest", "95 %", "second")
    for i, lag in enumerate(k.timescales.lag_times):
        t = k.timescales.timescales
        slow = f"{t.value[i, 0]:.4g} ± {t.error[i, 0]:.2g}"
        interval = f"{t.low[i, 0]:.4g} to {t.high[i, 0]:.4g}"
        table.add_row(f"{lag:g}", slow, interval, f"{t.value[i, 1]:.3g}" if t.value.shape[1] > 1 else "")
    verdict = "passes" if k.test.passes else "[red]fails[/]"
    table.caption = f"Chapman-Kolmogorov test {verdict}; {k.model.crossings} crossings of the slowest process were seen"
    table.caption_justify = "left"
    return table


def _metastable(found: EnsembleAnalysis) -> Table:
    from molifold.analysis.verdict import percent

    k = found.kinetics
    if k is None:
        return table_of("")
    columns = [f"to {j} / {k.model.unit}" for j in range(len(k.passage))]
    table = table_of("Metastable states (PCCA+) and mean first-passage times", "", "share", "medoid frame", *columns)
    for i, share in enumerate(k.metastable.populations):
        times = [_entry(k.passage, i, j) for j in range(len(k.passage))]
        table.add_row(str(i), percent(share), str(found.index[k.metastable.medoids[i]]), *times)
    return table


def _entry(passage: Band, i: int, j: int) -> str:
    return "" if i == j else f"{passage.value[i, j]:.3g} ± {passage.error[i, j]:.1g}"


def _landscape(found: EnsembleAnalysis) -> Table:
    table = table_of("Landscape", "", "", right=1)
    table.show_header = False
    if found.dimension is not None:
        scales = ", ".join(f"{d:.1f}" for d in found.dimension.dimension.value)
        table.add_row("intrinsic dimension", f"{_pm(found.dimension.two_nn)} (at growing scales {scales})")
    if found.components is not None and found.components.strength is not None:
        shares = ", ".join(f"{100 * s:.0f} %" for s in found.components.strength.value)
        table.add_row("variance of two principal components", shares)
    if found.undersampling is not None:
        u = found.undersampling
        table.add_row(
            "probability never seen so far", f"{100 * u.unseen.value:.2g} % (at most {100 * u.unseen.high:.2g})"
        )
        table.add_row("in poorly sampled bins", f"{100 * u.poor_mass:.2g} % of the weight, {int(u.poor.sum())} bins")
    return table
