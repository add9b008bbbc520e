"""All torsion histograms: reference, raw draws, reweighted draws, with divergences beside their noise floors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from molifold.analysis.comparison import TorsionComparison
from molifold.analysis.histograms import Histogram
from molifold.plots.style import COLOURS, FILL, angle_axis, count, label, note, styled

COLUMNS = 4


@styled
def torsions(comparisons: Sequence[TorsionComparison]) -> Figure:
    """Densities of every torsion (per radian); bands are one standard error.

    The number in a panel is the Jensen-Shannon divergence from the reference in thousandths of a bit, and the
    noise floor that halves of the reference show at the same effective size.

    Raises:
        ValueError: if there is no comparison.

    >>> torsions([])
    Traceback (most recent call last):
    ...
    ValueError: comparisons: got none, expected at least one torsion
    """
    if not comparisons:
        raise ValueError("comparisons: got none, expected at least one torsion")
    columns = min(COLUMNS, len(comparisons))
    rows = math.ceil(len(comparisons) / columns)
    figure = Figure(figsize=(max(2.5 * columns, 4.6), 2.15 * rows + 0.35))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, c in zip(panels, comparisons, strict=False):
        _panel(axes, c)
    for axes in panels[len(comparisons) :]:
        axes.remove()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=len(names), borderaxespad=0.2)
    return figure


def _panel(axes: Axes, c: TorsionComparison) -> None:
    axes.fill_between(c.reference.edges, *_steps(c.reference), step="post", color=FILL, lw=0)
    axes.stairs(
        c.reference.density,
        c.reference.edges,
        color=COLOURS["reference"],
        lw=1,
        label=_legend("reference", c.reference),
    )
    for name, h, width in (("raw", c.raw, 2.4), ("reweighted", c.reweighted, 1.2)):
        if h is None:
            continue
        axes.stairs(h.density, h.edges, color=COLOURS[name], lw=width, label=_legend(name, h))
        low, high = (np.append(v, v[-1]) for v in (h.density - h.error, h.density + h.error))
        axes.fill_between(h.edges, low, high, step="post", color=COLOURS[name], alpha=0.25, lw=0)
    top = max(h.density.max() for h in (c.reference, c.raw, c.reweighted) if h is not None)
    angle_axis(axes)
    axes.set(ylim=(0, 1.42 * top), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_title(label(c.name))
    lines = [f"raw {_milli(c.raw_divergence.value)}"]
    floor = c.raw_divergence.floor
    if c.reweighted_divergence is not None:
        lines.append(f"reweighted {_milli(c.reweighted_divergence.value)}")
        floor = c.reweighted_divergence.floor
    note(axes, "JSD / mbit: " + ", ".join(lines) + f"\nfloor {_milli(floor)}", y=1.0)


def _steps(h: Histogram) -> tuple[np.ndarray, float]:
    return np.append(h.density, h.density[-1]), 0.0


def _milli(bits: float) -> str:
    return f"{1000 * bits:#.2g}" if bits < 0.1 else f"{1000 * bits:.0f}"


def _legend(name: str, h: Histogram) -> str:
    weighted = f", ESS {count(h.ess)}" if h.ess < 0.999 * h.n else ""
    return f"{name} (n {count(h.n)}{weighted})"
