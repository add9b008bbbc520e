"""Kinetics: implied timescales by lag time, and the Chapman-Kolmogorov test."""

from __future__ import annotations

import numpy as np

from molifold.analysis.markov import ChapmanKolmogorov, ImpliedTimescales
from molifold.plots.marks import Band, Line, Mark, Points, Text
from molifold.plots.picture import Axis, Panel, Picture, grid, without_words
from molifold.plots.style import at, count, series

COLUMNS = 4


def timescales(found: ImpliedTimescales) -> Picture:
    """Every implied timescale with its 95 % band; grey: faster than the lag time, where nothing can be resolved.

    >>> from molifold.analysis.bands import Band as Values
    >>> flat = Values(*(np.full((2, 1), v) for v in (9.0, 1.0, 7.0, 11.0)))
    >>> found = ImpliedTimescales(np.array([1, 2]), np.array([1.0, 2.0]), flat, "ps", 1000, 4, 300.0)
    >>> timescales(found).panels[0].caption
    'n 1,000 · 4 states · 300 K'
    """
    times, values = found.lag_times, found.timescales
    finite = np.concatenate([a[np.isfinite(a) & (a > 0)] for a in (values.value, values.low, values.high, times)])
    limits = (0.7 * float(min(values.value[np.isfinite(values.value)].min(), times.min())), 1.4 * float(finite.max()))
    limits = (limits[0], min(limits[1], 20 * float(np.nanmax(values.value))))
    span = (0.9 * float(times.min()), 1.1 * float(times.max()))
    marks: list[Mark] = [
        Band(
            x=np.array(span),
            low=np.full(2, limits[0]),
            high=np.array(span),
            colour="muted",
        ),
        Text(x=0.98, y=0.04, text="faster than the lag", inside="panel", across="right"),
    ]
    for i in range(values.value.shape[1]):
        low, value, high = (
            np.where(np.isfinite(a[:, i]), a[:, i], np.nan) for a in (values.low, values.value, values.high)
        )
        low, high = np.clip(low, limits[0], limits[1]), np.clip(high, limits[0], limits[1])
        marks.append(Band(x=times, low=low, high=high, colour=series(i)))
        marks.append(Line(x=times, y=value, colour=series(i), size=3.5, label=f"process {i + 1}"))
    panel = Panel(
        marks=tuple(marks),
        x=Axis(label="lag time", unit=found.unit, scale="log", limits=span),
        y=Axis(label="implied timescale", unit=found.unit, scale="log", limits=limits),
        caption=f"n {count(found.n)} · {found.states} states{at(found.temperature)}",
    )
    return Picture(name="timescales", panels=(panel,), size=(5.6, 3.6), legend=True)


def chapman_kolmogorov(found: ChapmanKolmogorov) -> Picture:
    """Probability to be in the same set after so long: line and band by the model, points by models of longer lags."""
    panels = []
    for i in range(found.predicted.value.shape[1]):
        p, e = found.predicted[:, i], found.estimated[:, i]
        y = Axis(label="stays with probability", limits=(0, 1.04))
        panels.append(Panel(
            marks=(
                Band(x=found.lag_times, low=p.low, high=p.high, colour="reweighted"),
                Line(x=found.lag_times, y=p.value, colour="reweighted", label="predicted"),
                Points(x=found.lag_times, y=e.value, low=e.low, high=e.high, size=4, label="estimated"),
            ),
            x=Axis(label="time", unit=found.unit),
            y=without_words(y) if i % COLUMNS else y,
            title=f"state {i + 1}",
            legend="lower left" if i == 0 else "",
        ))  # fmt: skip
    placed, widths, heights = grid(panels, columns=COLUMNS)
    verdict, about = "passes" if found.passes else "fails", f"n {count(found.n)}{at(found.temperature)}"
    return Picture(
        name="chapman_kolmogorov", panels=placed, widths=widths, heights=heights,
        title=f"{verdict}: largest difference {found.worst:.1f} standard errors · {about}",
        size=(2.2 * len(widths) + 0.6, 2.1 * len(heights) + 0.8),
    )  # fmt: skip
