"""Panels of the report and of an analysis, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator

from molifold import plots
from molifold.analysis import EnsembleAnalysis
from molifold.analysis.ensemble_analysis import estimates_of
from molifold.analysis.verdict import interval, percent
from molifold.ensemble import Ensemble
from molifold.plots.style import arc, label
from molifold.workbench import guide
from molifold.workbench.evolving import evolution_panels
from molifold.workbench.guide import Panel
from molifold.workbench.results import RamachandranResult, Region, ReportParts, Results


def panels(parts: ReportParts, results: Results) -> Iterator[Panel]:
    """Every panel for which there are results, in the order of the page."""
    temperature = parts.temperature
    for found in results.ramachandran:
        names = tuple(found.maps.values())[0].names
        yield Panel(
            key=f"map_{'_'.join(names)}",
            title=f"Free-energy map of {label(names[0])} and {label(names[1])}",
            picture=plots.ramachandran(found.maps, temperature=temperature),
            help=guide.MAP,
            rows=_map_rows(found),
        )
    for region in results.regions:
        yield Panel(
            key=f"free_energy_{region.torsion}",
            title=f"Free energy of {arc(region.torsion)}",
            picture=plots.free_energy(
                region.differences,
                profiles=region.profiles,
                name=region.torsion,
                region=arc(region.torsion),
                temperature=temperature,
            ),
            help=guide.REGION.of(label(region.torsion)),
            rows=_region_rows(region),
        )
    if parts.evolution is not None:
        yield from evolution_panels(parts.evolution, parts.reference, temperature=temperature)
    if results.torsions:
        picture = plots.torsions(results.torsions, temperature=temperature)
        yield Panel("torsions", "All torsions", picture, guide.TORSIONS, _torsion_rows(results))
        picture = plots.ridge(results.torsions, temperature=temperature)
        yield Panel("ridge", "Torsions, most different first", picture, guide.RIDGE)
    if results.energies is not None:
        yield Panel("energies", "Energies", plots.energies(results.energies, temperature=temperature), guide.ENERGIES)
    if results.log_w is not None and results.pareto is not None:
        picture = plots.weights(results.log_w, temperature=temperature)
        yield Panel("weights", "Importance weights", picture, guide.WEIGHTS, _weight_rows(results))
    if results.comparison is not None:
        picture = plots.comparison(results.comparison, temperature=temperature)
        yield Panel("comparison", "Everything that was compared", picture, guide.COMPARISON)
    if results.states is not None:
        yield from state_panels(results.states, parts.generated)
    if any(key not in ("step", "time") for row in parts.history for key in row):
        yield Panel("training", "Training", plots.training(parts.history), guide.TRAINING)


def state_panels(found: EnsembleAnalysis, ensemble: Ensemble) -> Iterator[Panel]:
    """Surface, clusters and kinetics of one ensemble, as far as they were found."""
    part = ensemble[found.index]
    if found.surface is not None:
        names = " and ".join(label(a.name) for a in found.surface.axes)
        yield Panel("surface", f"Free-energy surface of {names}", plots.surface(found.surface), guide.SURFACE)
    if found.clusters is not None and len(found.clusters):
        picture = plots.clusters(found.clusters, part)
        yield Panel("clusters", "Clusters", picture, guide.CLUSTERS, _cluster_rows(found))
    if (kinetics := found.kinetics) is not None:
        yield Panel("timescales", "Implied timescales", plots.timescales(kinetics.timescales), guide.TIMESCALES)
        test = plots.chapman_kolmogorov(kinetics.test)
        yield Panel("chapman_kolmogorov", "Chapman-Kolmogorov test", test, guide.CHAPMAN_KOLMOGOROV)
        yield Panel("states", "Metastable states", plots.clusters(kinetics.metastable, part), guide.STATES)
        network = plots.network(kinetics.model, kinetics.passage, sets=kinetics.sets)
        yield Panel("network", "Network of states", network, guide.NETWORK)


def _cluster_rows(found: EnsembleAnalysis) -> tuple[tuple[str, ...], ...]:
    c = found.clusters
    if c is None:
        return ()
    head = ("cluster", "population", "95 % interval", "medoid frame", "free energy against the first / kT")
    rows = []
    for i, share in enumerate(c.populations):
        differences = estimates_of(found.differences[i - 1]) if 0 < i <= len(found.differences) else ()
        said = "; ".join(f"{name} {e.value:.2f} ± {e.error:.2f}" for name, e in differences)
        rows.append((str(i + 1), percent(share), interval(share), str(found.index[c.medoids[i]]), said))
    return (head, *rows)


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
