"""Inside a network, from its run alone: the tree of its modules with shapes, and the health of its layers over time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.plots.marks import Heatmap
from molifold.plots.picture import Axis, Panel, Picture, grid, without_words
from molifold.runs import Run
from molifold.workbench import guide

#: Rows of a map of layers over time, steps that it is made of, and maps side by side.
LAYERS, STEPS, COLUMNS = 40, 60, 3
#: Inches of one such map, and of the names of layers at its left.
WIDE, NAMES = 3.7, 1.9
#: Verdicts of a layer, worst first.
VERDICTS = ("under-powered", "under-trained", "doubtful", "sound")
#: Above this ratio of its largest to its smallest value a table is drawn by powers of ten.
POWERS = 30.0


@dataclass(frozen=True)
class Site:
    """What was found at a module.

    ``verdict`` is one of ``VERDICTS``, or "" where nothing was looked at; ``missing`` names the source that it lacks;
    ``gain`` +- ``error`` is the decrease of the loss that a real step measured there (nan: none was made); ``worst`` is
    the frame of the reference that would gain most (-1: not known).
    """

    verdict: str = ""
    missing: str = ""
    gain: float = float("nan")
    error: float = float("nan")
    name: str = ""
    worst: int = -1


@dataclass(frozen=True)
class Module:
    """A module of the tree: ``path`` is its full name, ``label`` the part that its parent does not say.

    ``parameters`` counts numbers in it and below it, ``shapes`` are those of its own tensors; ``gradient`` (root mean
    square) and ``update`` (median over tensors of update / size) are the last that probes recorded.
    """

    path: str
    label: str
    depth: int
    leaf: bool
    parameters: int
    shapes: str
    gradient: float
    update: float
    site: Site


def tree(run: Run) -> tuple[Module, ...]:
    """Every module of the network of a run, parents first; empty if neither checkpoints nor probes tell of it.

    Shapes come from the last checkpoint; a run without one has the names that probes recorded.
    """
    shapes: Mapping[str, tuple[int, ...]] = run.shapes()
    gradient, update = (_last(run, name) for name in ("gradient norms", "update ratios"))
    known, parameters = bool(shapes), [*_last(run, "parameter norms"), *gradient]
    if not shapes:
        shapes = dict.fromkeys(parameters, ())
    elif parameters:  # a checkpoint keeps buffers, too
        shapes = {name: shape for name, shape in shapes.items() if name in set(parameters)}
    sites = _sites(run)
    found: list[Module] = []

    def walk(path: str, label: str, depth: int, names: Sequence[str]) -> None:
        own = [n for n in names if "." not in n[len(path) + 1 :]] if path else [n for n in names if "." not in n]
        below: dict[str, list[str]] = {}
        for name in names:
            if name not in own:
                below.setdefault(name[len(path) + bool(path) :].split(".")[0], []).append(name)
        if path and not own and len(below) == 1:  # a box around one box
            (inner,) = below
            walk(f"{path}.{inner}", f"{label}.{inner}", depth, names)
            return
        if path:
            sizes = np.array([np.prod(shapes[n], dtype=float) for n in names])
            found.append(Module(
                path=path, label=label, depth=depth, leaf=not below,
                parameters=int(sizes.sum()) if known else 0,
                shapes=", ".join(_tensor(n, shapes[n]) for n in own) if known else "",
                gradient=_mean_square([gradient.get(n, np.nan) for n in names], sizes),
                update=_median([update.get(n, np.nan) for n in names]),
                site=_worst(sites[n] for n in names if n in sites),
            ))  # fmt: skip
        for child, members in below.items():
            walk(f"{path}.{child}" if path else child, child, depth + bool(path), members)

    walk("", "", 0, sorted(shapes, key=_natural))
    return tuple(found)


def _tensor(name: str, shape: tuple[int, ...]) -> str:
    """The last part of a tensor's name, and its shape.

    >>> _tensor("steps.0.weight", (64, 3))
    'weight 64×3'
    """
    return f"{name.rsplit('.', 1)[-1]} {'×'.join(map(str, shape)) or '1'}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts 2 before 10, and words as they are."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _last(run: Run, record: str) -> dict[str, float]:
    """The first number of every row of a table, as it was recorded last."""
    if not run.records.get(record):
        return {}
    _, arrays = run.record(record)
    value = _first(arrays)
    return {} if value is None else dict(zip(map(str, arrays["name"]), value.tolist(), strict=True))


def _first(arrays: Mapping[str, ndarray]) -> ndarray | None:
    numbers = [v for k, v in arrays.items() if k != "name" and v.dtype.kind in "fiu" and v.ndim == 1]
    return numbers[0].astype(float) if numbers and len(arrays.get("name", ())) == len(numbers[0]) else None


def _sites(run: Run) -> dict[str, Site]:
    if not run.records.get("expressivity"):
        return {}
    _, a = run.record("expressivity")
    worst: dict[str, int] = {}
    if run.records.get("where it hurts by layer - frames"):
        _, f = run.record("where it hurts by layer - frames")
        worst = {str(y): int(f["x"][v.argmax()]) for y, v in zip(f["y"], f["values"], strict=True)}
    columns = (a[k] for k in ("name", "kind", "missing", "measured", "error"))
    return {
        str(name): Site(str(kind), str(source), float(gain), float(error), str(name), worst.get(str(name), -1))
        for name, kind, source, gain, error in zip(*columns, strict=True)
    }


def verdict(run: Run) -> str:
    """The worst of ``VERDICTS`` that a run's layers got; "" where none was looked at."""
    return _worst(_sites(run).values()).verdict


def _worst(sites: Iterable[Site]) -> Site:
    order = {v: i for i, v in enumerate(VERDICTS)}
    return min(sites, key=lambda s: (order.get(s.verdict, len(order)), -np.nan_to_num(s.gain)), default=Site())


def _mean_square(rms: Sequence[float], sizes: ndarray) -> float:
    values, weights = np.array(rms), np.maximum(sizes, 1)
    known = np.isfinite(values)
    return float(np.sqrt((weights * values**2)[known].sum() / weights[known].sum())) if known.any() else float("nan")


def _median(values: Sequence[float]) -> float:
    known = np.array(values)[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def health(run: Run, *, record: str = "") -> Picture:
    """Layers (rows) over steps (columns) in every table that probes recorded more than once, or in one of them.

    Rows are groups of parameters, as deep in the tree as at most ``LAYERS`` of them allow; a group has the median of
    its members. Values that span more than a factor of ``POWERS`` are drawn by powers of ten; a zero has the lowest
    colour.

    Raises:
        KeyError: if there is no such record, or none with two steps.
    """
    tables = {name: steps for name, steps in _tables(run).items() if name == record or not record}
    histories = {name: found for name, steps in tables.items() if (found := _history(run, name, steps)) is not None}
    if not histories:
        raise KeyError(f"record: got {record or 'none'!r}, expected a table that was recorded at two steps or more")
    groups = _groups([n for names, *_ in histories.values() for n in names])
    shown = sorted(set(groups.values()), key=_natural)
    panels = [_over_time(name, *history, groups, shown) for name, history in histories.items()]
    panels = [p if i % COLUMNS == 0 else _without_names(p) for i, p in enumerate(panels)]
    placed, widths, heights = grid(panels, columns=COLUMNS)
    tall = 0.9 + 0.16 * len(shown)
    return Picture(
        name="health", panels=placed, size=(NAMES + WIDE * len(widths), max(1.7, tall) * len(heights)), heights=heights,
        widths=widths,
    )  # fmt: skip


def _tables(run: Run) -> dict[str, tuple[int, ...]]:
    """Tables of layers that were recorded at two steps or more, and when."""
    several = {name: steps for name, steps in run.records.items() if len(steps) > 1}
    return {name: steps for name, steps in several.items() if _layers(*run.record(name))}


def _layers(kind: str, arrays: Mapping[str, ndarray]) -> bool:
    """Whether rows are layers (dotted names without spaces), with a number for each."""
    if kind != "table" or _first(arrays) is None:
        return False
    return bool(len(arrays["name"])) and all(re.fullmatch(r"\w+(\.\w+)+", str(n)) for n in arrays["name"])


def _history(run: Run, name: str, steps: tuple[int, ...]) -> tuple[tuple[str, ...], ndarray, ndarray] | None:
    """Rows, steps and values [rows, steps]; None for a table without a number in every row."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, STEPS).astype(int))
    at = [steps[i] for i in chosen]
    columns: list[dict[str, float]] = []
    for step in at:
        _, arrays = run.record(name, step=step)
        value = _first(arrays)
        if value is None:
            return None
        columns.append(dict(zip(map(str, arrays["name"]), value.tolist(), strict=True)))
    rows = tuple(dict.fromkeys(n for column in columns for n in column))
    values = np.array([[column.get(n, np.nan) for column in columns] for n in rows])
    return rows, np.array(at, dtype=float), values


def _groups(names: Sequence[str]) -> dict[str, str]:
    """The group of every name: its first parts, as many as keep the groups few enough.

    >>> _groups(["a.0.weight", "a.0.bias", "a.1.weight"])
    {'a.0.weight': 'a.0', 'a.0.bias': 'a.0', 'a.1.weight': 'a.1'}
    """
    parts = {n: n.split(".") for n in dict.fromkeys(names)}
    # A tensor's own name (weight, bias) tells no layer apart.
    deepest = max((len(p) - 1 for p in parts.values()), default=0)
    for depth in range(max(deepest, 1), 0, -1):
        found = {n: ".".join(p[: min(depth, max(len(p) - 1, 1))]) for n, p in parts.items()}
        if len(set(found.values())) <= LAYERS:
            return found
    return found


def _over_time(
    title: str,
    rows: tuple[str, ...],
    steps: Float[ndarray, " steps"],
    values: Float[ndarray, "rows steps"],
    groups: Mapping[str, str],
    shown: Sequence[str],
) -> Panel:
    lowest = values[values > 0].min() if (values > 0).any() else 1.0
    powers = bool((np.nan_to_num(values) >= 0).all() and np.nanmax(values, initial=0.0) / lowest > POWERS)
    drawn = np.log10(np.maximum(values, lowest)) if powers else values
    member = np.array([shown.index(groups[r]) for r in rows])
    grouped = np.full((len(shown), len(steps)), np.nan)
    for i in set(member):
        part = drawn[member == i]
        there = ~np.isnan(part).all(0)
        grouped[i, there] = np.nanmedian(part[:, there], axis=0)
    finite = grouped[np.isfinite(grouped)]
    grouped = np.clip(grouped, *((finite.min(), finite.max()) if len(finite) else (0.0, 1.0)))  # infinite ones as well
    low, high = np.percentile(finite, [1, 99]) if len(finite) else (0.0, 1.0)
    middle = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate([[1.5 * steps[0] - 0.5 * steps[1]], middle, [1.5 * steps[-1] - 0.5 * steps[-2]]])
    mark = Heatmap(
        x=edges, y=np.arange(len(shown) + 1.0), values=grouped[::-1].T, colormap="time",
        limits=(float(low), float(max(high, low + 1e-9))), bar=f"log10 {title}" if powers else title,
    )  # fmt: skip
    ticks = tuple((len(shown) - i - 0.5, shortened(name)) for i, name in enumerate(shown))
    return Panel(
        marks=(mark,),
        title=title,
        x=Axis(label="step", whole=True, limits=(float(edges[0]), float(edges[-1]))),
        y=Axis(ticks=ticks, line=False, limits=(0.0, float(len(shown)))),
    )


def _without_names(panel: Panel) -> Panel:
    return Panel(marks=panel.marks, title=panel.title, x=panel.x, y=without_words(panel.y))


def shortened(name: str, most: int = 26) -> str:
    """A dotted name without its dull beginning; what is too long loses its middle, as places and ends tell most.

    >>> shortened("transform.steps.12.conditioner.network.blocks.3.linear.weight")
    'steps.12…blocks.3.linear'
    >>> shortened("head.0.bias")
    'head.0.bias'
    """
    words = name.removesuffix(".weight").removeprefix("transform.").split(".")
    first = next((i for i, word in enumerate(words) if word.isdigit()), 0) + 1
    head, tail = ".".join(words[:first]), words[first:]
    if len(".".join(words)) <= most or not tail:
        return ".".join(words)
    while len(head) + 1 + len(".".join(tail)) > most and len(tail) > 1:
        tail = tail[1:]
    return f"{head}…{'.'.join(tail)}"


def told(run: Run) -> dict[str, Any]:
    """What is inside, JSON-able: the tree, which tables have a history, and how to read both."""
    rows = [{**vars(module), "site": vars(module.site)} for module in tree(run)]
    return {
        "modules": rows, "histories": list(_tables(run)),
        "help": {"modules": list(guide.MODULES), "health": list(guide.HEALTH)},
    }  # fmt: skip
