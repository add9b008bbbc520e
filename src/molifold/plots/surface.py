"""Free energy over any one or two columns, with contours in kT and with what is not known."""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from molifold.analysis.surfaces import Axis as Column
from molifold.analysis.surfaces import Surface
from molifold.plots.marks import Band, Contours, Heatmap, Line, Mark
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import angle, kelvin, label, sizes

#: Free energies above this (kT) are one colour.
LIMIT = 10.0
#: Contours end where the standard error exceeds this (kT): beyond it they would be drawn from a handful of frames.
UNSURE = 0.5


def surface(found: Surface, *, limit: float = LIMIT) -> Picture:
    """A curve with its 95 % band over one column; over two a map with contours every kT, and beside it its error.

    Args:
        found: free energy surface.
        limit: top of the scale, kT.

    >>> from molifold import Ensemble, Molecule
    >>> from molifold.analysis.surfaces import free_energy_surface
    >>> x = np.random.default_rng(0).normal(size=2000)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((2000, 1, 3)), log_q=np.zeros(2000), columns={"x": x})
    >>> surface(free_energy_surface(e, "x")).panels[0].y.label
    'free energy'
    """
    return _curve(found, limit) if len(found.axes) == 1 else _map(found, limit)


def _about(found: Surface) -> str:
    worth = min(found.ess, found.counts)
    return sizes(found.n, worth) if math.isfinite(worth) else sizes(found.n, found.ess)


def _temperature(found: Surface) -> float | None:
    return found.temperature if math.isfinite(found.temperature) else None


def _axis(column: Column) -> Axis:
    low, high = float(column.edges[0]), float(column.edges[-1])
    if column.periodic and np.allclose((low, high), (-np.pi, np.pi)):
        return Axis(**angle(label(column.name), step=90))
    return Axis(label=label(column.name), limits=(low, high), period=high - low if column.periodic else None)


def _closed(column: Column) -> tuple[ndarray, int]:
    """Points of an axis, and how many bins to repeat at each end: curves of a periodic one reach both edges."""
    beyond = int(column.periodic)
    centres = column.centres
    outside = np.arange(1, beyond + 1) * column.width
    return np.concatenate([centres[0] - outside[::-1], centres, centres[-1] + outside]), beyond


def _curve(found: Surface, limit: float) -> Picture:
    x, beyond = _closed(found.axes[0])
    energy = found.free_energy
    value, low, high = (
        np.pad(np.where(np.isfinite(a), a, np.nan), beyond, mode="wrap")
        for a in (energy.value, energy.low, energy.high)
    )
    top = min(limit, float(np.nanmax(value)) * 1.08 + 0.3)
    panel = Panel(
        marks=(
            Band(x=x, low=low, high=np.where(np.isnan(high), low, high), colour="reweighted"),
            Line(x=x, y=value, colour="reweighted"),
        ),
        x=_axis(found.axes[0]),
        y=Axis(label="free energy", unit=kelvin("kT", _temperature(found)), limits=(-0.03 * top, top)),
        caption=f"{_about(found)} · 95 % band",
    )
    return Picture(name="surface", panels=(panel,), size=(4.2, 3.0))


def _map(found: Surface, limit: float) -> Picture:
    first, second = found.axes
    (x, beyond_x), (y, beyond_y) = _closed(first), _closed(second)
    value = np.where(np.isfinite(found.free_energy.value), found.free_energy.value, np.nan)
    error = np.where(np.isfinite(found.free_energy.error) & np.isfinite(value), found.free_energy.error, np.nan)
    sure = np.where(error < UNSURE, value, np.nan)
    lines = np.pad(sure, ((beyond_x, beyond_x), (beyond_y, beyond_y)), mode="wrap")
    kt = kelvin("kT", _temperature(found))
    energy: tuple[Mark, ...] = (
        Heatmap(x=first.edges, y=second.edges, values=value, limits=(0, limit), bar=f"free energy / {kt}"),
        Contours(x=x, y=y, values=lines, levels=np.arange(1, limit)),
    )
    errors = (
        Heatmap(
            x=first.edges, y=second.edges, values=error, limits=(0, 2 * UNSURE), colormap="error",
            bar="standard error / kT",
        ),
    )  # fmt: skip
    panels = (
        Panel(marks=energy, x=_axis(first), y=_axis(second), title="free energy", caption=_about(found), box=True),
        Panel(
            marks=errors, x=_axis(first), y=_axis(second), title="error", caption="from blocks", cell=(0, 1, 1, 1),
            box=True,
        ),
    )  # fmt: skip
    return Picture(name="surface", panels=panels, size=(7.6, 3.2), widths=(1.0, 1.0))
