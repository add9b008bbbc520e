"""Records of a run as pictures: one drawing for every kind of ``runs/FORMAT.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy import ndarray

from molifold.plots.marks import Bars, Heatmap, Line, Steps, Table, Text
from molifold.plots.picture import Axis, Panel, Picture, grid
from molifold.plots.style import series
from molifold.runs import Run
from molifold.workbench import verdicts
from molifold.workbench.atoms import attention, formula
from molifold.workbench.inside import shortened
from molifold.workbench.pointed import placed

#: Rows of a table that are drawn.
MOST_ROWS = 200
#: A table with a longer cell is read as sentences.
SENTENCE = 60
#: Things without an order that are drawn, largest first.
RANKED = 16
#: Numbered things beyond so many are drawn as distributions, of so many quantities, in so many bins.
FEW, QUANTITIES, BINS = 40, 4, 40
#: Records with a drawing of their own.
NAMED: Mapping[str, Callable[[dict[str, ndarray]], Picture]] = {
    "expressivity": verdicts.expressivity,
    "what is missing": verdicts.missing,
    "latent dependence": verdicts.dependence,
    "spline bins": verdicts.splines,
}


def picture_of_record(run: Run, name: str, *, step: int | None = None) -> Picture:
    """Draw record ``name`` at ``step`` (default: the last one).

    Raises:
        KeyError: if there is no such record or step.
        ValueError: if the record is of a kind that this version does not know.
    """
    kind, arrays = run.record(name, step=step)
    if name in NAMED:
        return NAMED[name](arrays)
    if name == "attention" and "heads" in arrays and run.molecule is not None:
        return attention(arrays["heads"], run.molecule, names=[str(n) for n in arrays.get("head", ())])
    if name.endswith(" - atoms") and kind == "table" and (molecule := run.molecule) is not None:
        label, values = next((k, v) for k, v in arrays.items() if k != "name")
        if (each := placed(arrays["name"], values, molecule.n_atoms)) is not None:
            return formula(each, molecule, label=label)
    if kind == "table" and len(arrays.get("name", ())) > FEW and all(str(n).isdigit() for n in arrays["name"]):
        return _distributions(name, arrays)
    makers = {
        "scalar": _text, "text": _text, "histogram": _histogram, "map": _map, "table": _table, "series": _series,
    }  # fmt: skip
    if kind not in makers:
        raise ValueError(f"kind: got {kind!r} for record {name!r}, expected one of {', '.join(makers)}")
    panel, size = makers[kind](arrays)
    return Picture(name=name, panels=(panel,), size=size)


def _text(arrays: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    value = arrays.get("text", arrays.get("value"))
    words = Text(x=0.0, y=1.0, text=str(value), inside="panel", up="top", size=10, colour="ink")
    hidden = Axis(ticks=(), line=False, limits=(0, 1))
    return Panel(marks=(words,), x=hidden, y=hidden), (6.0, 1.5)


def _histogram(arrays: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    counts = np.atleast_2d(arrays["counts"]).astype(float)
    names = [str(n) for n in arrays.get("name", [""])]
    marks = tuple(
        Steps(edges=arrays["edges"], values=row / max(row.sum(), 1e-300), colour=series(i), label=shortened(names[i]))
        for i, row in enumerate(counts)
    )
    legend = "upper right" if len(names) > 1 else ""
    return Panel(marks=marks, y=Axis(label="share", limits=None), legend=legend), (6.4, 3.2)  # type: ignore[arg-type]


def _map(arrays: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    values = np.asarray(arrays["values"], dtype=float).T  # marks count x first
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    x, xticks = _edges(arrays.get("x"), values.shape[0], width=420)
    y, yticks = _edges(arrays.get("y"), values.shape[1])
    signed = low < 0 < high
    top = max(-low, high)
    mark = Heatmap(
        x=x, y=y, values=np.where(np.isfinite(values), values, np.nan), colormap="difference" if signed else "density",
        limits=(-top, top) if signed else (low, max(high, low + 1e-12)), bar="value",
    )  # fmt: skip
    return Panel(marks=(mark,), x=Axis(ticks=xticks, line=False), y=Axis(ticks=yticks, line=False)), (6.4, 3.8)


def _edges(
    places: ndarray | None, n: int, *, width: int | None = None
) -> tuple[ndarray, tuple[tuple[float, str], ...] | None]:
    """Edges of cells and their names; along x (``width`` pixels) as many as stand beside each other."""
    if places is None or places.dtype.kind in "US" or n < 2:
        words = [shortened(str(p)) for p in places] if places is not None else []
        fit = 30 if width is None else width // (8 * max(map(len, words), default=1) + 8)
        thin = max(1, -(-len(words) // max(1, fit)))
        ticks = tuple((i + 0.5, w) for i, w in enumerate(words) if i % thin == 0) if words else None
        return np.arange(n + 1.0), ticks
    middle = (places[1:] + places[:-1]) / 2
    return np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]]).astype(float), None


def _table(arrays: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    names = [str(n) for n in arrays.get("name", [])]
    numbers = {k: v for k, v in arrays.items() if k != "name" and v.dtype.kind in "fiub" and v.ndim == 1}
    if len(names) > 12 and numbers:
        return _bars(names, numbers)
    # A value and its standard error stand in one cell.
    head = tuple(k for k in arrays if not (k.endswith("_error") and k.removesuffix("_error") in arrays))
    n = min(MOST_ROWS, len(arrays[head[0]]))
    rows = tuple(tuple(_with_error(arrays, k, i) for k in head) for i in range(n))
    if any(len(cell) > SENTENCE for row in rows for cell in row):
        return _text({"text": np.array("\n".join(": ".join(filter(None, row)) for row in rows))})
    widths = tuple(2.0 + max(len(k), *(len(row[j]) for row in rows)) for j, k in enumerate(head)) if rows else ()
    panel = Panel(marks=(Table(head=head, rows=rows, widths=widths or (1.0,) * len(head)),))
    return panel, (6.4, 0.4 + 0.24 * (len(rows) + 1))


def _bars(names: list[str], numbers: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    """Many rows: the first number as bars, on a log axis when it is positive."""
    key, value = next(iter(numbers.items()))
    value = np.asarray(value, dtype=float)
    if not any("." in name for name in names):
        return _ranked(names, key, value)
    log = bool(np.nanmin(np.where(value > 0, value, np.nan)) > 0) if (value > 0).any() else False
    floor = np.nanmin(value[value > 0]) / 3 if log else 0.0
    shown = np.where(np.isfinite(value) & ((value > 0) | (not log)), value, np.nan)
    bars = Bars(at=np.arange(len(names), dtype=float), low=np.full(len(names), floor), high=shown, colour="blue")
    # Names of parameters are long; what tells places apart is the block they stand in.
    blocks = [_block(n) for n in names]
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    ticks = tuple((float(i), blocks[i]) for i in starts[:: max(1, -(-len(starts) // 10))])
    return Panel(marks=(bars,), x=Axis(ticks=ticks), y=Axis(label=key, scale="log" if log else "linear")), (6.4, 3.0)


def _ranked(names: list[str], key: str, value: ndarray) -> tuple[Panel, tuple[float, float]]:
    """Things without an order of their own, the largest value first."""
    order = np.argsort(-np.nan_to_num(value, nan=-np.inf), kind="stable")[:RANKED]
    at = np.arange(len(order), dtype=float)[::-1]
    bars = Bars(at=at, low=np.zeros(len(order)), high=np.nan_to_num(value[order]), horizontal=True, colour="blue")
    ticks = tuple((float(y), names[i]) for y, i in zip(at, order, strict=True))
    panel = Panel(
        marks=(bars,), x=Axis(label=key), y=Axis(ticks=ticks, line=False), caption=f"{len(order)} of {len(names)}"
    )
    return panel, (6.4, 1.0 + 0.2 * len(order))


def _distributions(name: str, arrays: dict[str, ndarray]) -> Picture:
    """Things that only have a number, such as frames: how every quantity is distributed, and where it is largest."""
    numbers = {k: v.astype(float) for k, v in arrays.items() if k != "name" and v.dtype.kind in "fiub"}
    panels: list[Panel] = []
    for key, all_values in list(numbers.items())[:QUANTITIES]:
        values = all_values[np.isfinite(all_values)]
        if not len(values):
            continue
        wide = bool((values > 0).all() and values.max() > 30 * values.min())
        drawn = np.log10(values) if wide else values
        low, high = float(drawn.min()), float(drawn.max())
        counts, edges = np.histogram(drawn, bins=BINS, range=(low, high if high > low else low + 1))
        worst = int(np.nanargmax(np.where(np.isfinite(all_values), all_values, np.nan)))
        panels.append(Panel(
            marks=(Steps(edges=edges, values=counts.astype(float), colour="blue", filled=True, opacity=0.8),),
            title=f"log10 {key}" if wide else key, caption=f"largest: {arrays['name'][worst]}",
            y=Axis(label="" if panels else "number", whole=True),
        ))  # fmt: skip
    placed_, widths, heights = grid(panels or [_text({"text": np.array("no number")})[0]], columns=2)
    return Picture(
        name=name, panels=placed_, widths=widths, heights=heights, size=(3.1 * len(widths) + 0.2, 2.2 * len(heights))
    )


def _block(name: str) -> str:
    """The part of a parameter's name up to its first number.

    >>> _block("transform.steps.2.conditioner.network.static_in.0.weight"), _block("head.bias")
    ('steps 2', 'head')
    """
    words = name.split(".")
    numbers = [i for i, w in enumerate(words) if w.isdigit()]
    return " ".join(words[max(0, numbers[0] - 1) : numbers[0] + 1]) if numbers else words[0][:12]


def _series(arrays: dict[str, ndarray]) -> tuple[Panel, tuple[float, float]]:
    x = np.asarray(arrays["x"], dtype=float)
    others = {k: np.asarray(v, dtype=float) for k, v in arrays.items() if k != "x" and v.dtype.kind in "fiu"}
    marks = tuple(
        Line(x=x, y=np.where(np.isfinite(y), y, np.nan), colour=series(i), label=k)
        for i, (k, y) in enumerate(others.items())
    )
    return Panel(marks=marks, legend="upper right"), (6.4, 3.2)


def _with_error(arrays: dict[str, ndarray], key: str, row: int) -> str:
    value, error = arrays[key][row], arrays.get(f"{key}_error")
    if error is None:
        return shortened(str(value)) if key == "name" else _cell(value)
    return f"{_cell(value)} ± {float(error[row]):.1g}"


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
