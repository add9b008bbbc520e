"""Training curves from the rows of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy import ndarray

from molifold.plots.style import CYCLE, MUTED, note, plain, signed, styled

#: Points that a curve is reduced to: means over equal runs of steps, with the range of the run as a band.
POINTS = 400
#: Keys of a row that are no measurement of their own.
BOOKKEEPING = ("step", "time", "validation_error")
#: What the wide panel shows, as far as it was logged: the likelihood of training and of held-out frames.
LIKELIHOOD = ("loss/nll", "validation_nll")


@styled
def training(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The likelihood in a wide panel, everything else that was logged in small ones, over steps.

    Args:
        rows: as ``Run.scalars`` gives them: ``step`` and numbers by name. ``loss/nll`` and ``validation_nll`` share the
            wide panel; ``loss`` takes the place of the former where it is the only loss.

    Raises:
        ValueError: if no row has a number.

    >>> figure = training([{"step": s, "loss": 1 / s, "learning_rate": 1e-3} for s in range(1, 50)])
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['loss', 'learning rate']
    """
    series = {}
    for name in dict.fromkeys(key for row in rows for key in row if key not in BOOKKEEPING):
        points = np.array([(row["step"], _number(row[name])) for row in rows if name in row])
        if len(points) and np.isfinite(points[:, 1]).any():
            series[name] = points
    if not series:
        raise ValueError(f"rows: got {len(rows)} rows without a finite number, expected step and at least one scalar")
    main = [name for name in (LIKELIHOOD if "loss/nll" in series else ("loss", "validation_nll")) if name in series]
    main = main or [next(iter(series))]
    small = [name for name in series if name not in main]
    rows_of_small = math.ceil(len(small) / 4)
    figure = Figure(figsize=(9.2, 3.0 + 1.75 * rows_of_small))
    columns = min(4, max(1, len(small)))
    grid = figure.add_gridspec(1 + rows_of_small, columns, height_ratios=[3.0] + [1.75] * rows_of_small)
    wide = figure.add_subplot(grid[0, :])
    for i, name in enumerate(main):
        _curve(wide, series[name], colour=CYCLE[i % len(CYCLE)], name=name)
    wide.set_title(plain(main[0]) if len(main) == 1 else "negative log-likelihood")
    wide.set_xlabel("step")
    if len(main) > 1:
        wide.legend(loc="upper right", ncols=min(len(main), 4))
    _frame(wide, [series[name] for name in main])
    for i, name in enumerate(small):
        axes = figure.add_subplot(grid[1 + i // columns, i % columns])
        _curve(axes, series[name], colour=MUTED, name=name)
        axes.set_title(plain(name.replace("_", " ")))
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        positive = series[name][:, 1] > 0
        # The rate ends at nearly zero; its course is better seen on a linear axis.
        if name != "learning_rate" and positive.all() and series[name][:, 1].max() > 100 * series[name][:, 1].min():
            axes.set_yscale("log")
    for axes in figure.axes:
        axes.xaxis.set_major_locator(_few_ticks(4 if axes is not wide else 8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}"))
    return figure


def _few_ticks(n: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n, integer=True)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _curve(axes: Axes, points: Float[ndarray, "rows 2"], *, colour: str, name: str) -> None:
    x, low, middle, high = reduce(points)
    axes.plot(x, middle, color=colour, label=plain(name), marker="o" if len(x) < 30 else "", markersize=3)
    if len(points) > len(x):
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)


def reduce(points: Float[ndarray, "rows 2"]) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Step, minimum, mean and maximum of at most 400 equal runs of rows; rows that are not finite are left out.

    >>> [v.tolist() for v in reduce(np.array([[1, 5.0], [2, np.nan], [3, 6.0]]))]
    [[1.0, 3.0], [5.0, 6.0], [5.0, 6.0], [5.0, 6.0]]
    """
    points = points[np.isfinite(points[:, 1])]
    parts = np.array_split(points, min(POINTS, len(points)))
    x, y = [p[:, 0].mean() for p in parts], [p[:, 1] for p in parts]
    return np.array(x), np.array([v.min() for v in y]), np.array([v.mean() for v in y]), np.array([v.max() for v in y])


def _frame(axes: Axes, series: Sequence[Float[ndarray, "rows 2"]]) -> None:
    """Leave the first 5 % of the steps out of the vertical range: they would flatten all the rest."""
    points = np.concatenate(series)
    points = points[np.isfinite(points[:, 1])]
    late = points[points[:, 0] >= 0.05 * points[:, 0].max(), 1]
    low, high = np.quantile(late, [0.001, 0.999])
    margin = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    if points[:, 1].max() > high + 2 * margin:
        note(axes, f"first steps are outside: up to {signed(points[:, 1].max())}", y=0.84)
