"""Panels of the report: a picture, a caption, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from molifold import plots
from molifold.analysis.verdict import interval, percent
from molifold.plots import Picture
from molifold.plots.style import arc, label
from molifold.workbench import guide
from molifold.workbench.guide import Help
from molifold.workbench.results import RamachandranResult, Region, ReportParts, Results


@dataclass(frozen=True)
class Panel:
    """A picture, how to read it, and a table under it whose first row is the head."""

    title: str
    picture: Picture
    help: Help
    rows: tuple[tuple[str, ...], ...] = ()


def panels(parts: ReportParts, results: Results) -> Iterator[Panel]:
    """Every panel for which there are results, in the order of the page."""
    temperature = parts.temperature
    for found in results.ramachandran:
        names = tuple(found.maps.values())[0].names
        yield Panel(
            title=f"Free-energy map of {label(names[0])} and {label(names[1])}",
            picture=plots.ramachandran(found.maps, temperature=temperature),
            help=guide.MAP,
            rows=_map_rows(found),
        )
    for region in results.regions:
        name = label(region.torsion)
        yield Panel(
            title=f"Free energy of {arc(region.torsion)}",
            picture=plots.free_energy(
                region.differences,
                profiles=region.profiles,
                name=region.torsion,
                region=arc(region.torsion),
                temperature=temperature,
            ),
            help=guide.REGION.of(name),
            rows=_region_rows(region),
        )
    if results.torsions:
        yield Panel(
            title="All torsions",
            picture=plots.torsions(results.torsions),
            help=guide.TORSIONS,
            rows=_torsion_rows(results),
        )
        yield Panel(
            title="Torsions, most different first",
            picture=plots.ridge(results.torsions),
            help=guide.RIDGE,
        )
    if results.energies is not None:
        yield Panel(
            title="Energies",
            picture=plots.energies(results.energies, temperature=temperature),
            help=guide.ENERGIES,
        )
    if results.log_w is not None and results.pareto is not None:
        yield Panel(
            title="Importance weights",
            picture=plots.weights(results.log_w),
            help=guide.WEIGHTS,
            rows=_weight_rows(results),
        )
    if any(key not in ("step", "time") for row in parts.history for key in row):
        yield Panel(
            title="Training",
            picture=plots.training(parts.history),
            help=guide.TRAINING,
        )


def _map_rows(found: RamachandranResult) -> tuple[tuple[str, ...], ...]:
    head = (
        "divergence",
        "value",
        "floor (halves)",
        "ratio",
        "floor if independent",
        "all frames",
    )
    rows = tuple(
        (
            f"{key}: {d.measure}", f"{d.value:.4f} ± {d.error:.4f}", f"{d.floor:.4f} ± {d.floor_error:.4f}",
            f"{d.ratio:.2f} ± {d.ratio_error:.2f}", f"{d.ideal_floor:.4f}", f"{d.plain:.4f}",
        )
        for divergences in (found.kl, found.jsd)
        for key, d in divergences.items()
    )  # fmt: skip
    return (head, *rows) if rows else ()


def _region_rows(region: Region) -> tuple[tuple[str, ...], ...]:
    head = ("", "population", "95 % interval", "error from long blocks", "free energy against the rest")
    return (head, *(
        (
            key, percent(d.population_a), interval(d.population_a), f"{100 * d.population_a.block_error:.2f} %",
            f"{d.value:.2f} ± {d.error:.2f} kT",
        )
        for key, d in region.differences.items()
    ))  # fmt: skip


def _torsion_rows(results: Results) -> tuple[tuple[str, ...], ...]:
    head = ("torsion", "raw / mbit", "floor", "ratio", "reweighted / mbit", "floor", "ratio")
    rows = []
    for c in results.torsions:
        cells = [label(c.name)]
        for d in (c.raw_divergence, c.reweighted_divergence):
            cells += ["", "", ""] if d is None else [
                f"{1000 * d.value:.3f} ± {1000 * d.error:.3f}", f"{1000 * d.floor:.3f}",
                f"{d.ratio:.2f} ± {d.ratio_error:.2f}",
            ]  # fmt: skip
        rows.append(tuple(cells))
    return (head, *rows)


def _weight_rows(results: Results) -> tuple[tuple[str, ...], ...]:
    e, k, a, z = results.ess, results.pareto, results.acceptance, results.log_z
    if e is None or k is None or a is None or z is None:
        return ()
    return (
        ("figure", "value", ""),
        (
            "effective sample size, unclipped",
            f"{100 * e.fraction:.2f} ± {100 * e.error:.2f} %",
            f"{e.ess:,.0f} of {e.n:,} draws",
        ),
        (
            f"the same, top {e.clip:g} clipped",
            f"{100 * e.clipped_fraction:.2f} %",
            "biased; for comparison with papers that clip",
        ),
        ("Pareto k-hat", f"{k.k:.3f} ± {k.error:.3f}", f"{k.verdict}; usable below {k.threshold:.2f}"),
        ("heaviest frame", f"{100 * e.max_weight:.3g} %", "of the total weight"),
        (
            "acceptance of a Metropolis chain",
            f"{100 * a.rate:.1f} ± {100 * a.error:.1f} %",
            f"longest wait {a.longest_wait:,}",
        ),
        ("log Z", f"{z.value:.3f} ± {z.error:.3f}", "minus the reduced free energy, in internal coordinates"),
    )
