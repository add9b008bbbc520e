"""The closed set of marks that every picture is made of: frozen, checked, easy to draw anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold.plots.style import COLORMAPS, PALETTE


class Mark:
    """Something drawn in a panel. Arrays are checked when it is made, so that a mark that exists can be drawn.

    NaN is a gap (a bin without data); infinity is refused. Colours are names of ``style.PALETTE``.
    """

    #: Axes of every array, as words; "n+1" is one more than "n".
    SHAPES: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, axes in self.SHAPES.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, self._array(name, value, axes.split(), sizes))
        for name in ("colour", "colours", "colormap"):
            for colour in _each(getattr(self, name, None)):
                known = COLORMAPS if name == "colormap" else PALETTE
                if colour not in known:
                    raise ValueError(f"{name}: got {colour!r}, expected one of {', '.join(known)}")

    def _array(self, name: str, value: Any, axes: list[str], sizes: dict[str, int]) -> ndarray:
        array = np.asarray(value)
        kind = {"b": "|b1", "i": "<i8", "u": "<i8"}.get(array.dtype.kind, "<f8")
        array = np.array(array, dtype=kind, order="C")  # a copy: it is frozen below
        what = f"{type(self).__name__}.{name}"
        if array.ndim != len(axes):
            raise ValueError(f"{what}: got shape {array.shape}, expected [{', '.join(axes)}]")
        for axis, size in zip(axes, array.shape, strict=True):
            word, _, more = axis.partition("+")
            expected = sizes.setdefault(word, size - int(more or 0)) if not word.isdigit() else int(word)
            if size != expected + int(more or 0):
                raise ValueError(f"{what}: got {size} along {axis}, expected {expected + int(more or 0)}")
        if np.isinf(array).any():
            raise ValueError(
                f"{what}: got {int(np.isinf(array).sum())} infinite values, expected numbers or NaN (gaps)"
            )
        array.flags.writeable = False
        return array


def _each(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if not value else (value,) if isinstance(value, str) else value


@dataclass(frozen=True, eq=False, kw_only=True)
class Line(Mark):
    """A curve; ``size`` > 0 marks its points too."""

    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    colour: str = "ink"
    width: float = 1.5
    dash: bool = False
    size: float = 0.0
    opacity: float = 1.0
    label: str = ""
    SHAPES = {"x": "n", "y": "n"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Band(Mark):
    """The region between two curves; between ``edges`` of bins it has steps."""

    x: Float[ndarray, " n"] | None = None
    edges: Float[ndarray, " n+1"] | None = None
    low: Float[ndarray, " n"]
    high: Float[ndarray, " n"]
    colour: str = "ink"
    opacity: float = 0.2
    label: str = ""
    SHAPES = {"low": "n", "high": "n", "x": "n", "edges": "n+1"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.x is None) == (self.edges is None):
            raise ValueError("Band: got both or neither of x and edges, expected one of them")


@dataclass(frozen=True, eq=False, kw_only=True)
class Steps(Mark):
    """The outline of a histogram, or the filled area between it and ``base``."""

    edges: Float[ndarray, " n+1"]
    values: Float[ndarray, " n"]
    base: float = 0.0
    colour: str = "ink"
    width: float = 1.2
    filled: bool = False
    opacity: float = 1.0
    label: str = ""
    SHAPES = {"values": "n", "edges": "n+1"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Bars(Mark):
    """Bars from ``low`` to ``high`` at places ``at`` of the other axis; horizontal ones stretch along x."""

    at: Float[ndarray, " n"]
    low: Float[ndarray, " n"]
    high: Float[ndarray, " n"]
    thickness: float = 0.8
    horizontal: bool = False
    colour: str = "ink"
    colours: tuple[str, ...] = ()
    opacity: float = 1.0
    label: str = ""
    SHAPES = {"at": "n", "low": "n", "high": "n"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Points(Mark):
    """Points of one colour, or coloured by ``values``; error bars from ``low`` to ``high`` along x or y."""

    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    values: Float[ndarray, " n"] | None = None
    low: Float[ndarray, " n"] | None = None
    high: Float[ndarray, " n"] | None = None
    along: Literal["x", "y"] = "y"
    colour: str = "ink"
    colormap: str = "density"
    limits: tuple[float, float] | None = None
    bar: str = ""
    size: float = 6.0
    symbol: Literal["o", ">", "<", "x", "*"] = "o"
    opacity: float = 1.0
    label: str = ""
    SHAPES = {"x": "n", "y": "n", "values": "n", "low": "n", "high": "n"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Heatmap(Mark):
    """Cells ``values[i, j]`` between edges of x (i) and y (j); panels with the same ``bar`` share one colour bar."""

    x: Float[ndarray, " n+1"]
    y: Float[ndarray, " m+1"]
    values: Float[ndarray, "n m"]
    limits: tuple[float, float]
    colormap: str = "free_energy"
    bar: str = ""
    SHAPES = {"values": "n m", "x": "n+1", "y": "m+1"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Contours(Mark):
    """Lines where ``values[i, j]``, at points x (i) and y (j), pass the levels."""

    x: Float[ndarray, " n"]
    y: Float[ndarray, " m"]
    values: Float[ndarray, "n m"]
    levels: Float[ndarray, " levels"]
    colour: str = "ink"
    width: float = 0.6
    opacity: float = 0.75
    SHAPES = {"values": "n m", "x": "n", "y": "m", "levels": "levels"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Hatch(Mark):
    """Cells to be hatched: little is known there."""

    x: Float[ndarray, " n+1"]
    y: Float[ndarray, " m+1"]
    mask: Bool[ndarray, "n m"]
    colour: str = "muted"
    label: str = ""
    SHAPES = {"mask": "n m", "x": "n+1", "y": "m+1"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Span(Mark):
    """A stripe across the panel between two values of x or y; a rule where they are equal."""

    low: float
    high: float
    along: Literal["x", "y"] = "x"
    colour: str = "muted"
    opacity: float = 0.15
    dash: bool = False
    label: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Text(Mark):
    """Words at a place: in units of the axes, or as a fraction of the panel."""

    x: float
    y: float
    text: str
    inside: Literal["data", "panel"] = "data"
    across: Literal["left", "center", "right"] = "left"
    up: Literal["top", "center", "bottom"] = "bottom"
    colour: str = "muted"
    size: float = 7.5
    bold: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Table(Mark):
    """Text in rows under a head; it fills its panel. ``colours`` mark the rows."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...]
    colours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if {len(row) for row in (*self.rows, self.widths)} - {len(self.head)}:
            raise ValueError(f"rows, widths: expected {len(self.head)} entries each, as the head has")


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(Mark):
    """States as discs whose area is a share, and arrows between them whose width is a share of the strongest."""

    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    share: Float[ndarray, " n"]
    edges: Int[ndarray, "e 2"]
    strength: Float[ndarray, " e"]
    labels: tuple[str, ...]
    edge_labels: tuple[str, ...]
    colours: tuple[str, ...]
    SHAPES = {"x": "n", "y": "n", "share": "n", "edges": "e 2", "strength": "e"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure(Mark):
    """Conformations seen along z, x and y in nm: the first as balls and sticks, the others as thin sticks behind it.

    Carbon takes ``colour``; every other element its own (Corey, Pauling and Koltun's). ``atoms`` and ``bonds`` are
    what is shown.
    """

    xyz: Float[ndarray, "conformations atoms 3"]
    bonds: Int[ndarray, "bonds 2"]
    elements: tuple[str, ...]
    colour: str = "muted"
    SHAPES = {"xyz": "conformations atoms 3", "bonds": "bonds 2"}


#: Every kind of mark by its name in a file.
KINDS: Mapping[str, type[Mark]] = {
    cls.__name__.lower(): cls
    for cls in (Line, Band, Steps, Bars, Points, Heatmap, Contours, Hatch, Span, Text, Table, Network, Structure)
}


def arrays(mark: Mark) -> dict[str, ndarray]:
    """The arrays of a mark by name.

    >>> sorted(arrays(Line(x=[0, 1], y=[2, 3])))
    ['x', 'y']
    """
    values = {f.name: getattr(mark, f.name) for f in fields(mark)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if isinstance(value, ndarray)}
