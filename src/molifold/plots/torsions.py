"""All torsion histograms: reference, raw draws, reweighted draws, with divergences beside their noise floors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from molifold.analysis.comparison import TorsionComparison
from molifold.analysis.histograms import Histogram
from molifold.plots.marks import Band, Mark, Steps, Text
from molifold.plots.picture import Axis, Panel, Picture, grid
from molifold.plots.style import angle, at, label, sizes

COLUMNS = 4


def torsions(comparisons: Sequence[TorsionComparison], *, temperature: float | None = None) -> Picture:
    """Densities of every torsion (per radian); bands are one standard error.

    The number in a panel is the Jensen-Shannon divergence from the reference in thousandths of a bit, and the
    noise floor that halves of the reference show at the same effective size.

    Args:
        comparisons: one per torsion.
        temperature: K, for the captions.

    Raises:
        ValueError: if there is no comparison.

    >>> torsions([])
    Traceback (most recent call last):
    ...
    ValueError: comparisons: got none, expected at least one torsion
    """
    if not comparisons:
        raise ValueError("comparisons: got none, expected at least one torsion")
    panels, widths, heights = grid([_panel(c, temperature) for c in comparisons], columns=COLUMNS)
    size = (max(2.5 * len(widths), 4.6), 2.15 * len(heights) + 0.35)
    return Picture(name="torsions", panels=panels, size=size, widths=widths, heights=heights, legend=True)


def _panel(c: TorsionComparison, temperature: float | None) -> Panel:
    top = max((h.density + np.nan_to_num(h.error)).max() for h in (c.reference, c.raw, c.reweighted) if h is not None)
    said = f"JSD / mbit: raw {milli(c.raw_divergence.value)}"
    floor = c.raw_divergence.floor
    if c.reweighted_divergence is not None:
        said += f", reweighted {milli(c.reweighted_divergence.value)}"
        floor = c.reweighted_divergence.floor
    note = Text(x=0.98, y=1, text=f"{said}\nfloor {milli(floor)}", inside="panel", across="right", up="top")
    return Panel(
        marks=(*_histograms(c), note),
        x=Axis(**angle(step=90)),
        y=Axis(limits=(0, 1.42 * top), ticks=(), line=False),
        title=label(c.name),
        caption=at(temperature).removeprefix(" · "),
    )


def _histograms(c: TorsionComparison) -> Iterator[Mark]:
    yield Steps(edges=c.reference.edges, values=c.reference.density, colour="fill", filled=True)
    for name, h, width in (("reference", c.reference, 1), ("raw", c.raw, 2.4), ("reweighted", c.reweighted, 1.2)):
        if h is not None:
            yield Steps(edges=h.edges, values=h.density, colour=name, width=width, label=_legend(name, h))
            if name != "reference":
                yield Band(edges=h.edges, low=h.density - h.error, high=h.density + h.error, colour=name, opacity=0.25)


def milli(bits: float) -> str:
    """A divergence in thousandths of a bit.

    >>> milli(0.00123), milli(0.5)
    ('1.2', '500')
    """
    return f"{1000 * bits:#.2g}" if bits < 0.00995 else f"{1000 * bits:.0f}"


def _legend(name: str, h: Histogram) -> str:
    return f"{name} ({sizes(h.n, h.ess)})"
