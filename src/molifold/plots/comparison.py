"""Comparison of two ensembles as a table to look at: every number beside what a perfect model would have."""

from __future__ import annotations

import math
from collections.abc import Iterator

from molifold.analysis.divergence import Divergence
from molifold.analysis.ensemble_comparison import EnsembleComparison, standard_errors, stands_out
from molifold.analysis.freedom import DegreeOfFreedom
from molifold.analysis.sides import About
from molifold.analysis.uncertainty import Estimate
from molifold.analysis.verdict import verdict
from molifold.plots.marks import Table
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import at, label, signed, sizes

#: Degrees of freedom, and basins of each map, that are shown.
FREEDOMS, BASINS = 8, 4
#: Estimates this many standard errors apart are worth a look, and these many are different.
LOOK, APART = 2.0, 4.0
HEAD = ("quantity", "measure", "model", "reference or floor", "ratio or z")

_Row = tuple[tuple[str, ...], str]


def comparison(found: EnsembleComparison, *, temperature: float | None = None) -> Picture:
    """What was compared, one row each, with a spot: green within noise, orange at its edge, red different.

    A divergence stands beside its noise floor and how many times the floor it is, a share or a mean beside the
    reference and how many standard errors apart they are. Degrees of freedom come most relevant first.

    Args:
        found: what was compared.
        temperature: K, for the caption.
    """
    rows = list(_rows(found))
    table = Table(
        head=HEAD, rows=tuple(cells for cells, _ in rows), widths=(3.3, 3.0, 1.6, 1.7, 0.9),
        colours=tuple(colour for _, colour in rows),
    )  # fmt: skip
    panel = Panel(
        marks=(table,), x=Axis(ticks=(), line=False), y=Axis(ticks=(), line=False),
        caption=f"model {_about(found.generated)}   reference {_about(found.reference)}{at(temperature)}",
    )  # fmt: skip
    size = (10.0, 0.24 * (len(rows) + 1) + 0.8)
    return Picture(name="comparison", panels=(panel,), size=size, title=_wrapped(verdict(found).sentence))


def _wrapped(sentence: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(sentence, 88))


def _about(side: About) -> str:
    return sizes(side.frames, side.ess)


def _rows(found: EnsembleComparison) -> Iterator[_Row]:
    for f in (found.relevant or found.freedoms)[:FREEDOMS]:
        yield _divergence(_called(f.freedom), f.divergence)
    for m in found.maps:
        names = ", ".join(label(n) for n in m.names)
        yield _divergence(names, m.divergence)
        for b in m.basins[:BASINS]:
            at = ", ".join(f"{signed(math.degrees(c), '.0f')}°" for c in b.centre)
            yield _pair(f"basin at {at}", "share / %", b.generated, b.reference, scale=100)
    for d in found.distances:
        yield _divergence("whole ensemble", d)
    if found.energies is not None:
        e = found.energies
        yield _pair("energy", "mean / kT", e.generated_mean, e.reference_mean)
        yield _pair("energy", "deviation / kT", e.generated_std, e.reference_std)
    if found.ess is not None:
        s = found.ess
        yield (("weights", "ESS / %", f"{100 * s.fraction:.1f} ± {100 * s.error:.1f}", "", ""), "muted")


def _called(freedom: DegreeOfFreedom) -> str:
    return label(freedom.name) if freedom.kind == "torsion" else freedom.name.replace("_", " ")


def _divergence(name: str, d: Divergence) -> _Row:
    scale = 1000 if "(bits)" in d.measure else 1
    value, floor = (f"{scale * v:.3g} ± {scale * e:.2g}" for v, e in ((d.value, d.error), (d.floor, d.floor_error)))
    colour = "bad" if stands_out(d) else "fair" if d.value > d.floor_high else "good"
    return (name, d.measure.replace("(bits)", "(mbit)"), value, floor, f"{d.ratio:.2f} ×"), colour


def _pair(name: str, measure: str, a: Estimate, b: Estimate, *, scale: float = 1) -> _Row:
    z = standard_errors(a, b)
    mine, known = (f"{scale * v.value:.2f} ± {scale * v.error:.2f}".replace("-", "−") for v in (a, b))
    colour = "bad" if z > APART else "fair" if z > LOOK else "good"
    return (name, measure, mine, known, f"{z:.1f} σ"), colour
