"""Free energy of a region: profile along one torsion, and the difference with its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from molifold.analysis.free_energy import FreeEnergyDifference
from molifold.analysis.histograms import Histogram
from molifold.plots.marks import Band, Line, Mark, Points, Span, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import angle, ensemble_colour, kelvin, label, signed, sizes

#: A bin whose relative standard error is larger (fewer than about four frames that count) is left blank.
UNKNOWN = 0.5


def free_energy(
    differences: Mapping[str, FreeEnergyDifference],
    *,
    profiles: Mapping[str, Histogram],
    name: str = "phi",
    region: str = "0° < φ < 150°",
    temperature: float | None = None,
) -> Picture:
    """Profile ``-log p`` along a torsion, and ``F(region) - F(rest)`` of every ensemble with its 95 % interval.

    Bins that too few frames tell about are gaps in the profile (``UNKNOWN``).

    Args:
        differences: by ensemble ("reference", "raw", "reweighted").
        profiles: histograms of the torsion, by ensemble.
        name: of the torsion.
        region: what the difference is of.
        temperature: K, for the label.

    >>> from molifold.analysis import circular_histogram
    >>> h = circular_histogram(np.random.default_rng(0).normal(size=1000))
    >>> len(free_energy({}, profiles={"reference": h}).panels)
    2
    """
    left = tuple(mark for key, h in profiles.items() for mark in _profile(h, key))
    top = max((float(np.nanmax(mark.y, initial=1.0)) for mark in left if isinstance(mark, Line)), default=1.0)
    low, high = _reach(differences)
    panels = (
        Panel(
            marks=left,
            x=Axis(**angle(label(name))),
            y=Axis(label="free energy", unit=kelvin("kT", temperature), limits=(-0.3, 1.42 * top + 0.3)),
            title=f"profile along {label(name)}",
            caption=" · ".join(dict.fromkeys(sizes(h.n, h.ess) for h in list(profiles.values())[-1:])),
            legend="upper right",
        ),
        Panel(
            marks=tuple(_differences(differences, low, high)),
            x=Axis(unit="kT, 95 % interval", limits=(low, high)),
            y=Axis(limits=(-len(differences) + 0.4, 0.75), ticks=(), line=False),
            title=f"F({region}) − F(rest)",
            cell=(0, 1, 1, 1),
        ),
    )
    return Picture(name="free_energy", panels=panels, size=(9.2, 2.9), widths=(1.35, 1.0))


def _profile(h: Histogram, key: str) -> Iterator[Mark]:
    density = np.where((h.density > 0) & (h.error <= UNKNOWN * h.density), h.density, np.nan)
    free = -np.log(density / h.density.max())
    error = h.error / density
    colour = ensemble_colour(key)
    yield Line(x=h.centres, y=free, colour=colour, label=key, width=1.4)
    yield Band(x=h.centres, low=free - 1.96 * error, high=free + 1.96 * error, colour=colour, opacity=0.18)


def _reach(differences: Mapping[str, FreeEnergyDifference]) -> tuple[float, float]:
    finite = [v for d in differences.values() for v in (d.value, d.low, d.high) if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.25 * (high - low) or 1.0
    return low - margin, high + margin


def _differences(differences: Mapping[str, FreeEnergyDifference], low: float, high: float) -> Iterator[Mark]:
    known = differences.get("reference")
    if known is not None and np.isfinite(known.value):
        yield Span(low=max(known.low, low), high=min(known.high, high), colour="reference", opacity=0.1)
    for row, (key, d) in enumerate(differences.items()):
        colour, start = ensemble_colour(key), max(d.low, low)
        at = np.full(2, -float(row))
        yield Line(x=np.array([start, min(d.high, high)]), y=at, colour=colour, width=2)
        seen = np.isfinite(d.value)
        text = f"{signed(d.value, '.2f')} ± {d.error:.2f} kT" if seen else f"no frame inside: above {d.low:.1f} kT"
        text += f", P = {100 * d.population_a.value:.2f} %"
        x = np.array([d.value if seen else start])
        yield Points(x=x, y=at[:1], colour=colour, size=7, symbol="o" if seen else ">")
        yield Text(x=low, y=0.2 - row, text=f"{key}: {text}", colour="ink", size=8.5)
