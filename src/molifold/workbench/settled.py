"""Pictures with nothing left to choose: limits, ticks, few kinds of marks, so that the page only draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.plots.limits import reach
from molifold.plots.marks import Band, Bars, Hatch, Heatmap, Line, Mark, Points, Span, Steps, Table, Text
from molifold.plots.picture import Axis, Panel, Picture

#: Pixels of the page per inch, of what stands beside the axes of a panel, and between two ticks along x and y.
INCH, BESIDE, APART = 84, (84, 70), (60, 34)
#: Pixels at the edge of a table.
EDGE = 5
#: Powers of ten that are named, at most.
POWERS = 7


def settled(picture: Picture) -> Picture:
    """The same picture; axes without limits reach as far as their marks, and axes without ticks have round ones.

    Histograms are lines and bands, and of equal colour bars in a row the last one stays.

    >>> from molifold.plots.marks import Line
    >>> p = Picture(name="p", panels=(Panel(marks=(Line(x=[0, 9], y=[0, 1]),)),), size=(3, 2))
    >>> settled(p).panels[0].x
    Axis(label='', unit='', limits=(0.0, 9.0), scale='linear', period=None, ticks=((0.0, '0'), (5.0, '5')), whole=False, line=True)
    """  # noqa: E501
    panels = [_settled(picture, panel) for panel in picture.panels]
    return replace(picture, panels=tuple(_without_bars(p, panels[i + 1 :]) for i, p in enumerate(panels)))


def _without_bars(panel: Panel, later: Sequence[Panel]) -> Panel:
    """The panel without the colour bars that a later one in its row has, too."""
    bars = {(m.bar, m.limits, m.colormap) for p in later if p.cell[0] == panel.cell[0] for m in _maps(p)}
    bare = {id(m): replace(m, bar="") for m in _maps(panel) if (m.bar, m.limits, m.colormap) in bars}
    return replace(panel, marks=tuple(bare.get(id(m), m) for m in panel.marks))


def _maps(panel: Panel) -> list[Heatmap]:
    return [m for m in panel.marks if isinstance(m, Heatmap)]


def _settled(picture: Picture, panel: Panel) -> Panel:
    row, column, rows, columns = panel.cell
    width = picture.size[0] * sum(picture.widths[column : column + columns]) / sum(picture.widths)
    height = picture.size[1] * sum(picture.heights[row : row + rows]) / sum(picture.heights)
    for table in panel.marks:
        if isinstance(table, Table):
            return _written(panel, table, INCH * width - 2 * EDGE, INCH * height - 2 * EDGE)
    x, y = _axis("x", panel, INCH * width - BESIDE[0]), _axis("y", panel, INCH * height - BESIDE[1])
    marks = [simple for mark in panel.marks for simple in _simple(mark, x.limits or (0, 1), y.limits or (0, 1))]
    return replace(panel, marks=tuple(marks), x=x, y=y)


def _written(panel: Panel, table: Table, width: float, height: float) -> Panel:
    """A table, which fills its panel, as words, rules and a spot before each row."""
    rows = len(table.rows) + 1
    middle, size = 1 - (np.arange(rows) + 0.5) / rows, min(11.0, 0.62 * height / rows) / 1.25
    starts = np.cumsum([0.0, *table.widths[:-1]]) / sum(table.widths) + (2 * EDGE if table.colours else EDGE) / width
    marks: list[Mark] = [
        Text(x=float(x), y=float(y), text=cell, inside="panel", up="center", size=size, bold=not i, colour=ink)
        for i, (cells, y) in enumerate(zip((table.head, *table.rows), middle, strict=True))
        for x, cell, ink in zip(starts, cells, ["ink" if i else "muted"] * len(cells), strict=True)
    ]
    height_of_rules = 1 - np.arange(1, rows) / rows
    ends = _apart(np.zeros(rows - 1), np.ones(rows - 1)), _apart(height_of_rules, height_of_rules)
    marks.append(Line(x=ends[0], y=ends[1], colour="line", width=0.6))
    if table.colours:
        spots = np.full(rows - 1, EDGE / width)
        marks.append(
            Bars(at=middle[1:], low=0 * spots, high=spots, thickness=0.7 / rows, horizontal=True, colours=table.colours)
        )
    axis = Axis(limits=(0.0, 1.0), ticks=(), line=False)
    return replace(panel, marks=tuple(marks), x=axis, y=axis)


def _simple(mark: Mark, across: tuple[float, float], up: tuple[float, float]) -> Iterator[Mark]:
    """Histograms, stripes, hatches and error bars as lines and bands; points with the limits of their colours."""
    if isinstance(mark, Steps):
        x, y = np.repeat(mark.edges, 2)[1:-1], mark.base + np.repeat(mark.values, 2)
        if mark.filled:
            foot = np.full(len(y), mark.base)
            yield Band(x=x, low=foot, high=y, colour=mark.colour, opacity=mark.opacity, label=mark.label)
        else:
            yield Line(x=x, y=y, width=mark.width, colour=mark.colour, opacity=mark.opacity, label=mark.label)
    elif isinstance(mark, Band) and mark.edges is not None:
        low, high = np.repeat(mark.low, 2), np.repeat(mark.high, 2)
        yield replace(mark, x=np.repeat(mark.edges, 2)[1:-1], edges=None, low=low, high=high)
    elif isinstance(mark, Span):
        yield from _stripe(mark, across, up)
    elif isinstance(mark, Hatch):
        i, j = np.nonzero(mark.mask)
        x, y = _apart(mark.x[i], mark.x[i + 1]), _apart(mark.y[j], mark.y[j + 1])
        yield Line(x=x, y=y, colour=mark.colour, width=0.6, label=mark.label)
    elif isinstance(mark, Points):
        if mark.low is not None and mark.high is not None:
            ends = _apart(mark.low, mark.high)
            x, y = (_apart(mark.x, mark.x), ends) if mark.along == "y" else (ends, _apart(mark.y, mark.y))
            yield Line(x=x, y=y, colour=mark.colour, width=1.0)
        yield replace(mark, low=None, high=None, limits=mark.limits or _reach(mark.values))
    else:
        yield mark


def _stripe(mark: Span, across: tuple[float, float], up: tuple[float, float]) -> Iterator[Mark]:
    """A rule where both ends are equal, else a band from edge to edge of the panel."""
    low, high = mark.low, mark.high
    if low == high:
        x, y = ((low, low), up) if mark.along == "x" else (across, (low, low))
        yield Line(x=np.array(x), y=np.array(y), colour=mark.colour, width=1.0, dash=mark.dash, label=mark.label)
    else:
        x, (below, above) = ((low, high), up) if mark.along == "x" else (across, (low, high))
        edges = np.full(2, below), np.full(2, above)
        yield Band(
            x=np.array(x), low=edges[0], high=edges[1], colour=mark.colour, opacity=mark.opacity, label=mark.label
        )


def _apart(start: Float[ndarray, " n"], end: Float[ndarray, " n"]) -> Float[ndarray, " 3n"]:
    """Ends of pieces with a gap behind each."""
    return np.stack([start, end, np.full(len(start), np.nan)], axis=1).ravel()


def _reach(values: Float[ndarray, " n"] | None) -> tuple[float, float] | None:
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1


def _axis(which: Literal["x", "y"], panel: Panel, pixels: float) -> Axis:
    axis: Axis = getattr(panel, which)
    low, high = limits = _limits(which, panel, axis) if axis.limits is None else axis.limits
    if axis.ticks is not None:
        return replace(axis, limits=limits)
    many = max(1.0, pixels / APART[which == "y"])
    places = _powers(low, high) if axis.scale == "log" else _round(low, high, many)
    return replace(axis, limits=limits, ticks=tuple((float(v), _words(v, axis)) for v in places))


def _limits(which: Literal["x", "y"], panel: Panel, axis: Axis) -> tuple[float, float]:
    seen = np.concatenate([*(reach(which, mark) for mark in panel.marks), np.empty(0)])
    seen = seen[np.isfinite(seen) & ((seen > 0) | (axis.scale == "linear"))]
    if not len(seen):
        return (0.1, 1.0) if axis.scale == "log" else (0.0, 1.0)
    low, high = float(seen.min()), float(seen.max())
    if axis.scale == "log":
        return low / 1.2, high * 1.2
    if low == high:
        return low - 0.5, high + 0.5
    room = 0.05 * (high - low) if which == "y" else 0.0
    return low - (room if low else 0.0), high + room


def _round(low: float, high: float, many: float) -> Iterator[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about ``many`` of them.

    >>> list(_round(0.0, 1.0, 4))
    [0.0, 0.5, 1.0]
    """
    low, high = min(low, high), max(low, high)
    rough = (high - low) / many or 1.0
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next((s for s in (1, 2, 5) if s * power >= rough * (1 - 1e-9)), 10))
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    yield from (float(i) * step + 0.0 for i in np.arange(first, last + 1))


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between two values, not too many; where there are fewer than two, also 2 and 5 times those."""
    low, high = sorted(np.log10((low, high)))
    powers = np.arange(np.ceil(low - 1e-9), np.floor(high + 1e-9) + 1)
    if len(powers) > 1:
        return list(10.0 ** powers[:: -(-len(powers) // POWERS)])
    some = [s * 10.0**p for p in np.arange(np.floor(low), np.ceil(high) + 1) for s in (1, 2, 5)]
    return [v for v in some if low <= np.log10(v) <= high]


def _words(value: float, axis: Axis) -> str:
    """A number as short as on an axis of the page.

    >>> _words(2500.0, Axis(whole=True)), _words(1e-4, Axis()), _words(1e6, Axis(scale="log"))
    ('2.5k', '1e-4', '1e6')
    """
    if axis.whole and value >= 1000:
        return f"{value / 1000:.4g}k"
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.6g}"
