"""Histograms of many torsions as a ridge, and beside it how far each is from the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from molifold.analysis.comparison import TorsionComparison
from molifold.analysis.divergence import Divergence
from molifold.plots.marks import Band, Line, Mark, Points, Steps
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import angle, at, label, sizes

#: Of the highest curve, in rows.
HEIGHT = 0.92


def ridge(comparisons: Sequence[TorsionComparison], *, temperature: float | None = None) -> Picture:
    """Every torsion in a row: reference filled, the model drawn over it; at the right its divergence and the floor.

    The model is the reweighted one where there are weights. Rows are ordered by divergence over floor, so the torsion
    to worry about is at the top. Grey bars end at what a perfect model exceeds once in twenty times.

    Args:
        comparisons: one per torsion.
        temperature: K, for the caption.

    Raises:
        ValueError: if there is no comparison.

    >>> ridge([])
    Traceback (most recent call last):
    ...
    ValueError: comparisons: got none, expected at least one torsion
    """
    if not comparisons:
        raise ValueError("comparisons: got none, expected at least one torsion")
    rows = sorted(comparisons, key=lambda c: _divergence(c).ratio, reverse=True)
    model = "raw" if rows[0].reweighted is None else "reweighted"
    names = tuple((float(-i), label(c.name)) for i, c in enumerate(rows))
    limits = (0.75 - len(rows), HEIGHT + 0.1)
    found = [_divergence(c) for c in rows]
    left = 1000 * min(max(min(d.value, d.floor), 1e-6) for d in found) / 2
    right = 1500 * max(max(d.value + 2 * d.error, d.floor_high) for d in found)
    histograms = Panel(
        marks=tuple(mark for i, c in enumerate(rows) for mark in _row(c, -i, model)),
        x=Axis(**angle()),
        y=Axis(limits=limits, ticks=names, line=False),
        caption=at(temperature).removeprefix(" · "),
    )
    distances = Panel(
        marks=tuple(_distances(found, model, left)),
        x=Axis(label="JSD", unit="mbit", scale="log", limits=(left, right), ticks=_ticks(left, right)),
        y=Axis(limits=limits, ticks=(), line=False),
        caption="grey: a perfect model",
        cell=(0, 1, 1, 1),
    )
    size = (6.4, 0.42 * len(rows) + 1.3)
    return Picture(name="ridge", panels=(histograms, distances), size=size, widths=(1.7, 1.0), legend=True)


def _ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Decades, with 2 and 5 between them where there are fewer than three.

    >>> _ticks(0.03, 0.3)
    ((0.05, '0.05'), (0.1, '0.1'), (0.2, '0.2'))
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine, coarse = ([m * 10.0**k for k in powers for m in ms if low < m * 10.0**k < high] for ms in ((1, 2, 5), (1,)))
    return tuple((round(v, 12), f"{v:g}") for v in (coarse if len(coarse) > 2 else fine))


def _divergence(c: TorsionComparison) -> Divergence:
    return c.reweighted_divergence or c.raw_divergence


def _row(c: TorsionComparison, base: float, model: str) -> Iterator[Mark]:
    top = max(h.density.max() for h in (c.reference, c.raw, c.reweighted) if h is not None) / HEIGHT
    known, found = c.reference, c.reweighted or c.raw
    named = base == 0
    said = (f"reference ({sizes(known.n, known.ess)})", f"{model} ({sizes(found.n, found.ess)})") if named else ("", "")
    yield Steps(edges=known.edges, values=known.density / top, base=base, colour="fill", filled=True, label=said[0])
    yield Steps(edges=known.edges, values=known.density / top, base=base, colour="reference", width=0.9)
    yield Steps(edges=found.edges, values=found.density / top, base=base, colour=model, width=1.3, label=said[1])
    low, high = ((found.density + s * found.error) / top + base for s in (-1, 1))
    yield Band(edges=found.edges, low=low, high=high, colour=model, opacity=0.25)


def _distances(divergences: Sequence[Divergence], model: str, left: float) -> Iterator[Mark]:
    for i, d in enumerate(divergences):
        at = np.full(2, 0.3 - i)
        yield Line(x=np.array([left, 1000 * max(d.floor_high, d.floor)]), y=at, colour="fill", width=7)
        low, x, high = (np.array([max(1000 * (d.value + s * 1.96 * d.error), left)]) for s in (-1, 0, 1))
        yield Points(x=x, y=at[:1], low=low, high=high, along="x", colour=model, size=6)
