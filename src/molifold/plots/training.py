"""Training curves from the rows of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.plots.marks import Band, Line, Mark, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import series as colour_of
from molifold.plots.style import signed

#: Points that a curve is reduced to: means over equal runs of steps, with the range of the run as a band.
POINTS = 400
#: Keys of a row that are no measurement of their own.
BOOKKEEPING = ("step", "time", "seconds", "progress", "validation_error")
#: Titles of what has a name that is not plain.
TITLES = {
    "ess": "ESS of draws", "pareto_k": "Pareto k-hat of draws", "distance": "distance / noise floor",
    "validation_ess": "ESS from held-out frames",
}  # fmt: skip
#: What the wide panel shows, as far as it was logged: the likelihood of training and of held-out frames.
LIKELIHOOD = ("loss/nll", "validation_nll")
#: Small panels in a row.
COLUMNS = 4


def training(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """The likelihood in a wide panel, everything else that was logged in small ones, over steps.

    Args:
        rows: as ``Run.scalars`` gives them: ``step`` and numbers by name. ``loss/nll`` and ``validation_nll`` share the
            wide panel; ``loss`` takes the place of the former where it is the only loss.

    Raises:
        ValueError: if no row has a number.

    >>> picture = training([{"step": s, "loss": 1 / s, "learning_rate": 1e-3} for s in range(1, 50)])
    >>> [panel.title for panel in picture.panels]
    ['loss', 'learning rate']
    """
    series = _series(rows)
    main = [name for name in (LIKELIHOOD if "loss/nll" in series else ("loss", "validation_nll")) if name in series]
    main = main or [next(iter(series))]
    small = [name for name in series if name not in main]
    rows_of_small = math.ceil(len(small) / COLUMNS)
    columns = min(COLUMNS, max(1, len(small)))
    return Picture(
        name="training",
        panels=(
            _wide({name: series[name] for name in main}, columns),
            *(_small(name, series[name], (1 + i // columns, i % columns, 1, 1)) for i, name in enumerate(small)),
        ),
        size=(9.2, 3.0 + 1.75 * rows_of_small),
        widths=(1.0,) * columns,
        heights=(3.0,) + (1.75,) * rows_of_small,
    )


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Float[ndarray, "rows 2"]]:
    series = {}
    for name in dict.fromkeys(key for row in rows for key in row if key not in BOOKKEEPING):
        points = np.array([(row["step"], _number(row[name])) for row in rows if name in row])
        if len(points) and np.isfinite(points[:, 1]).any():
            series[name] = points
    if not series:
        raise ValueError(f"rows: got {len(rows)} rows without a finite number, expected step and at least one scalar")
    return series


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _wide(series: Mapping[str, Float[ndarray, "rows 2"]], columns: int) -> Panel:
    names = list(series)
    curves = [mark for i, name in enumerate(names) for mark in _curve(series[name], colour_of(i), name)]
    limits, note = _range(list(series.values()))
    return Panel(
        marks=(*curves, *note),
        x=Axis(label="step", whole=True),
        y=Axis(limits=limits),
        title=names[0] if len(names) == 1 else "negative log-likelihood",
        legend="upper right" if len(names) > 1 else "",
        cell=(0, 0, 1, columns),
    )


def _small(name: str, points: Float[ndarray, "rows 2"], cell: tuple[int, int, int, int]) -> Panel:
    y = points[np.isfinite(points[:, 1]), 1]
    # The rate ends at nearly zero; its course is better seen on a linear axis.
    far = name != "learning_rate" and y.min() > 0 and y.max() > 100 * y.min()
    return Panel(
        marks=tuple(_curve(points, "muted", name)),
        x=Axis(whole=True),
        y=Axis(scale="log" if far else "linear"),
        title=TITLES.get(name, name.replace("_", " ")),
        cell=cell,
    )


def _curve(points: Float[ndarray, "rows 2"], colour: str, name: str) -> Iterator[Mark]:
    x, low, middle, high = reduce(points)
    yield Line(x=x, y=middle, colour=colour, label=name, size=3 if len(x) < 30 else 0)
    if len(points) > len(x):
        yield Band(x=x, low=low, high=high, colour=colour)


def reduce(points: Float[ndarray, "rows 2"]) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Step, minimum, mean and maximum of at most 400 equal runs of rows; rows that are not finite are left out.

    >>> [v.tolist() for v in reduce(np.array([[1, 5.0], [2, np.nan], [3, 6.0]]))]
    [[1.0, 3.0], [5.0, 6.0], [5.0, 6.0], [5.0, 6.0]]
    """
    points = points[np.isfinite(points[:, 1])]
    parts = np.array_split(points, min(POINTS, len(points)))
    x, y = [p[:, 0].mean() for p in parts], [p[:, 1] for p in parts]
    return np.array(x), np.array([v.min() for v in y]), np.array([v.mean() for v in y]), np.array([v.max() for v in y])


def _range(series: Sequence[Float[ndarray, "rows 2"]]) -> tuple[tuple[float, float], list[Text]]:
    """Leave the first 5 % of the steps out of the vertical range: they would flatten all the rest."""
    points = np.concatenate(series)
    points = points[np.isfinite(points[:, 1])]
    late = points[points[:, 0] >= 0.05 * points[:, 0].max(), 1]
    low, high = np.quantile(late, [0.001, 0.999])
    margin = 0.06 * (high - low) or 1.0
    top = float(points[:, 1].max())
    text = f"first steps are outside: up to {signed(top)}"
    note = Text(x=0.98, y=0.84, text=text, inside="panel", across="right", up="top")
    return (low - margin, high + margin), [note] if top > high + 2 * margin else []
