"""Any picture drawn by matplotlib: one function per mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from molifold.plots import marks as m
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import COLORMAPS, INK, LINE, MUTED, PALETTE, PAPER, RC


def paint(picture: Picture) -> Figure:
    """The picture as a matplotlib figure, in the style of the package."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=picture.size)
        cells = figure.add_gridspec(
            len(picture.heights), len(picture.widths), width_ratios=picture.widths, height_ratios=picture.heights
        )
        bars: dict[tuple[Any, ...], tuple[Any, list[Axes]]] = {}
        for panel in picture.panels:
            row, column, rows, columns = panel.cell
            axes = figure.add_subplot(cells[row : row + rows, column : column + columns])
            _panel(axes, panel, bars, inches=picture.size[0] * columns / len(picture.widths))
        for (label, *_), (image, on) in bars.items():
            bar = figure.colorbar(image, ax=on, label=_plain(label), shrink=0.82, pad=0.015, extend=_extend(image))
            bar.outline.set_visible(False)
        if picture.legend and figure.axes:
            handles, names = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper left", ncols=max(len(names), 1), borderaxespad=0.2)
        if picture.title:
            figure.suptitle(_plain(picture.title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def write(picture: Picture, to: str | Path | IO[bytes], *, format: str, dpi: int) -> None:
    """Save without dates, so that the same picture gives the same bytes."""
    dates: dict[str, dict[str, Any]] = {
        "png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None},
    }  # fmt: skip
    figure = paint(picture)
    with mpl.rc_context(RC):
        figure.savefig(to, format=format, dpi=dpi, metadata=dates[format])


def _panel(axes: Axes, panel: Panel, bars: dict[tuple[Any, ...], tuple[Any, list[Axes]]], *, inches: float) -> None:
    axes.set(xscale=panel.x.scale, yscale=panel.y.scale)
    for i, mark in enumerate(panel.marks):
        drawn = PAINT[type(mark)](axes, mark, i + 2)
        if isinstance(mark, m.Heatmap | m.Points) and mark.bar:
            bars.setdefault((mark.bar, mark.colormap, mark.limits), (drawn, []))[1].append(axes)
    _axis(axes, "x", panel.x, inches)
    _axis(axes, "y", panel.y, inches)
    axes.set_title(_plain(panel.title))
    if panel.caption:
        axes.text(
            1, 1.02, _plain(panel.caption), transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5, color=MUTED
        )
    axes.spines[["top", "right"]].set_visible(panel.box)
    if panel.legend:
        axes.legend(loc=panel.legend, ncols=3 if inches > 4 else 1, borderaxespad=0.1)
    if panel.equal:
        axes.set_aspect("equal")


def _axis(axes: Axes, which: Literal["x", "y"], axis: Axis, inches: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    there = axes.xaxis if which == "x" else axes.yaxis
    label = f"{axis.label} / {axis.unit}" if axis.label and axis.unit else axis.label or axis.unit
    axes.set(**{f"{which}label": _plain(label)})
    if axis.limits is not None:
        axes.set(**{f"{which}lim": axis.limits})
    if axis.ticks is not None:
        there.set_ticks([t for t, _ in axis.ticks], [_plain(text) for _, text in axis.ticks])
        there.set_ticks([], minor=True)
    elif axis.whole:
        there.set_major_locator(MaxNLocator(max(3, round(inches)), integer=True))
        there.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))
    elif axis.scale == "linear":
        axes.ticklabel_format(axis=which, scilimits=(-3, 4))
    if not axis.line:
        axes.spines["bottom" if which == "x" else "left"].set_visible(False)
        there.set_tick_params(length=0)


def _plain(text: str) -> str:
    r"""Text as it is to be drawn: a dollar sign in it begins no formula.

    >>> _plain("a$b")
    'a\\$b'
    """
    return text.replace("$", r"\$")


def _named(mark: Any) -> dict[str, Any]:
    return {"label": _plain(mark.label)} if mark.label else {}


def _dashed(dash: bool) -> Any:  # noqa: FBT001
    return (0, (4, 3)) if dash else "solid"


def _line(axes: Axes, k: m.Line, z: int) -> None:
    axes.plot(
        k.x, k.y, color=PALETTE[k.colour], lw=k.width, ls=_dashed(k.dash), marker="o" if k.size else "",
        markersize=k.size, alpha=k.opacity, zorder=z, **_named(k),
    )  # fmt: skip


def _band(axes: Axes, k: m.Band, z: int) -> None:
    x, low, high, step = k.x, k.low, k.high, None
    if k.edges is not None:
        x, low, high, step = k.edges, np.append(k.low, k.low[-1:]), np.append(k.high, k.high[-1:]), "post"
    axes.fill_between(x, low, high, step=step, color=PALETTE[k.colour], alpha=k.opacity, lw=0, zorder=z, **_named(k))  # type: ignore[arg-type]


def _steps(axes: Axes, k: m.Steps, z: int) -> None:
    axes.stairs(
        k.base + k.values, k.edges, baseline=k.base if k.filled else None, fill=k.filled, color=PALETTE[k.colour],
        alpha=k.opacity, lw=0 if k.filled else k.width, zorder=z, **_named(k),
    )  # fmt: skip


def _bars(axes: Axes, k: m.Bars, z: int) -> None:
    colours = [PALETTE[c] for c in k.colours] or PALETTE[k.colour]
    common: dict[str, Any] = {"color": colours, "alpha": k.opacity, "lw": 0, "zorder": z, **_named(k)}
    if k.horizontal:
        axes.barh(k.at, k.high - k.low, left=k.low, height=k.thickness, **common)
    else:
        axes.bar(k.at, k.high - k.low, bottom=k.low, width=k.thickness, **common)


def _points(axes: Axes, k: m.Points, z: int) -> Any:
    if k.low is not None and k.high is not None:
        middle = k.x if k.along == "x" else k.y
        reach = np.maximum(np.stack([middle - k.low, k.high - middle]), 0)
        axes.errorbar(
            k.x, k.y, color=PALETTE[k.colour], fmt="none", lw=1.6, capsize=3, zorder=z, **{f"{k.along}err": reach}
        )
    if k.values is None:
        return axes.plot(
            k.x, k.y, k.symbol, color=PALETTE[k.colour], ms=k.size, alpha=k.opacity, mew=0 if k.symbol != "x" else 1.4,
            zorder=z, **_named(k),
        )  # fmt: skip
    low, high = k.limits or (None, None)
    return axes.scatter(
        k.x, k.y, c=k.values, cmap=COLORMAPS[k.colormap], vmin=low, vmax=high, s=k.size**2, alpha=k.opacity, lw=0,
        zorder=z, rasterized=len(k.x) > 2000, **_named(k),
    )  # fmt: skip


def _heatmap(axes: Axes, k: m.Heatmap, z: int) -> Any:
    steps = [np.diff(e) for e in (k.x, k.y)]
    common: dict[str, Any] = {"cmap": COLORMAPS[k.colormap], "vmin": k.limits[0], "vmax": k.limits[1]}
    if all(np.allclose(s, s[0]) for s in steps):
        return axes.imshow(
            k.values.T, origin="lower", extent=(k.x[0], k.x[-1], k.y[0], k.y[-1]), interpolation="nearest",
            aspect="auto", zorder=z - 2, **common,
        )  # fmt: skip
    return axes.pcolormesh(k.x, k.y, k.values.T, zorder=z - 2, rasterized=True, **common)


def _extend(image: Any) -> str:
    values = np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)
    if not np.isfinite(values).any():
        return "neither"
    above, below = np.nanmax(values) > image.norm.vmax, np.nanmin(values) < image.norm.vmin
    return {(True, True): "both", (True, False): "max", (False, True): "min"}.get((bool(above), bool(below)), "neither")


def _contours(axes: Axes, k: m.Contours, z: int) -> None:
    finite = k.values[np.isfinite(k.values)]
    levels = k.levels[(k.levels > finite.min()) & (k.levels < finite.max())] if len(finite) else []
    if len(levels):  # matplotlib warns about levels that no line has
        axes.contour(
            k.x, k.y, k.values.T, levels=levels, colors=PALETTE[k.colour], linewidths=k.width, alpha=k.opacity, zorder=z
        )


def _hatch(axes: Axes, k: m.Hatch, z: int) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    # One path for all cells, row by row merged: a patch per cell would make the hatching start anew in each.
    vertices, codes = [], []
    square = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    for i, column in enumerate(k.mask):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], column, [False]])))
        for low, high in turns.reshape(-1, 2):
            left, right, bottom, top = k.x[i], k.x[i + 1], k.y[low], k.y[high]
            vertices += [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
            codes += square
    if vertices:
        axes.add_patch(PathPatch(
            Outline(vertices, codes), fill=False, lw=0, edgecolor=PALETTE[k.colour], hatch="////", zorder=z, **_named(k)
        ))  # fmt: skip


def _span(axes: Axes, k: m.Span, z: int) -> None:
    colour = PALETTE[k.colour]
    if k.low == k.high:
        draw = axes.axvline if k.along == "x" else axes.axhline
        draw(k.low, color=colour, lw=1, ls=_dashed(k.dash), zorder=z, **_named(k))
    else:
        shade = axes.axvspan if k.along == "x" else axes.axhspan
        shade(k.low, k.high, color=colour, alpha=k.opacity, lw=0, zorder=z, **_named(k))


def _text(axes: Axes, k: m.Text, z: int) -> None:
    axes.text(
        k.x, k.y, _plain(k.text), transform=axes.transData if k.inside == "data" else axes.transAxes, ha=k.across,
        va=k.up, color=PALETTE[k.colour], fontsize=k.size, fontweight="bold" if k.bold else "normal", linespacing=1.35,
        zorder=z,
    )  # fmt: skip


def _table(axes: Axes, k: m.Table, z: int) -> None:
    """Rows of text between thin rules, with a spot of colour before each."""
    axes.set(xlim=(0, 1), ylim=(-len(k.rows) - 0.15, 1), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    place = np.concatenate([[0], np.cumsum(k.widths)[:-1]]) / sum(k.widths) * 0.97 + 0.03
    for i, row in enumerate((k.head, *k.rows)):
        if i:
            axes.axhline(1 - i, color=LINE, lw=0.8 if i == 1 else 0.4, zorder=z)
        for x, cell in zip(place, row, strict=True):
            axes.text(
                x, 0.5 - i, _plain(cell), va="center", color=INK if i else MUTED, fontsize=8.5 if i else 8, zorder=z,
                fontweight="bold" if i and x == place[0] else "normal",
            )  # fmt: skip
    for i, colour in enumerate(k.colours):
        axes.plot(0.012, -0.5 - i, "o", color=PALETTE[colour], ms=6, clip_on=False, zorder=z)


def _network(axes: Axes, k: m.Network, z: int) -> None:
    from matplotlib.patches import Circle, FancyArrowPatch

    low, high = float(k.y.min()) - 0.8, float(k.y.max()) + 0.8
    axes.set(xlim=(-1.75, 1.75), ylim=(low, high), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    radius = 0.34 * np.sqrt(np.maximum(k.share, 0.01) / max(float(k.share.max()), 0.01))
    xy = np.stack([k.x, k.y], axis=1)
    for (i, j), strength, text in zip(k.edges, k.strength, k.edge_labels, strict=True):
        way = xy[j] - xy[i]
        length = max(float(np.hypot(*way)), 1e-9)
        along, aside = way / length, np.array([way[1], -way[0]]) / length
        start, end = xy[i] + along * (radius[i] + 0.03), xy[j] - along * (radius[j] + 0.04)
        axes.add_patch(FancyArrowPatch(
            tuple(start), tuple(end), connectionstyle="arc3,rad=0.18", arrowstyle="-|>", mutation_scale=9,
            lw=0.6 + 3.2 * strength, color=MUTED, alpha=0.35 + 0.5 * strength, shrinkA=0, shrinkB=0, zorder=z,
        ))  # fmt: skip
        # Nearer to its start: the words of neighbouring arrows would meet at their middles.
        at = start + 0.36 * (end - start) + aside * (0.083 * float(np.hypot(*(end - start))) + 0.055)
        axes.text(
            at[0], at[1], _plain(text), fontsize=7, color=INK, zorder=z + 2, ha=_side(aside[0], "left", "right"),
            va="center" if abs(aside[0]) > 0.3 else _side(aside[1], "bottom", "top"),
        )  # fmt: skip
    for (x, y), r, colour, text in zip(xy, radius, k.colours, k.labels, strict=True):
        axes.add_patch(Circle((x, y), r, facecolor=PALETTE[colour], edgecolor=PAPER, lw=1.2, zorder=z + 1))
        outward = np.array([x, y]) / max(float(np.hypot(x, y)), 1e-9)
        at = np.array([x, y]) + outward * (r + 0.07)
        axes.text(
            at[0], at[1], _plain(text), fontsize=8.5, color=INK, zorder=z + 2, linespacing=1.25,
            ha=_side(outward[0], "left", "right"),
            va="center" if abs(outward[0]) > 0.3 else _side(outward[1], "bottom", "top"),
        )  # fmt: skip


def _side(outward: float, beyond: str, before: str) -> Any:
    """How words are aligned that stand at this side of something."""
    return beyond if outward > 0.3 else before if outward < -0.3 else "center"


def _structure(axes: Axes, k: m.Structure, z: int) -> None:
    from molifold.plots.molecules import image

    pixels, extent = image(k)
    axes.imshow(pixels, extent=extent, interpolation="antialiased", aspect="equal", zorder=z)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


PAINT: Mapping[type, Callable[[Axes, Any, int], Any]] = {
    m.Line: _line, m.Band: _band, m.Steps: _steps, m.Bars: _bars, m.Points: _points, m.Heatmap: _heatmap,
    m.Contours: _contours, m.Hatch: _hatch, m.Span: _span, m.Text: _text, m.Table: _table, m.Network: _network,
    m.Structure: _structure,
}  # fmt: skip
