"""Picture: a figure as plain data. Panels with axes and marks; drawn here by matplotlib, and by a web view from a file.

The picture itself is the backend "none": everything that will be drawn is in it, as arrays and words.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from molifold.plots.marks import Mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

M = TypeVar("M", bound=Mark)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a panel.

    Args:
        label: what is measured.
        unit: of it, drawn after a slash.
        limits: first and last value; None fits the marks.
        scale: linear or log.
        period: after which values repeat (2 pi for a torsion), or None.
        ticks: value and text of each; None chooses some, () draws none.
        whole: values are counts of things, such as steps: no fractions, thousands as "k".
        line: whether the axis itself is drawn.
    """

    label: str = ""
    unit: str = ""
    limits: tuple[float, float] | None = None
    scale: Literal["linear", "log"] = "linear"
    period: float | None = None
    ticks: tuple[tuple[float, str], ...] | None = None
    whole: bool = False
    line: bool = True


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Marks between two axes.

    ``cell`` is its row, column, and how many of each it takes; ``caption`` stands small at the right of the title;
    ``legend`` is where the names of marks stand, "" for nowhere.
    """

    marks: tuple[Mark, ...]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    caption: str = ""
    legend: Literal["", "upper left", "upper right", "lower left", "lower right"] = ""
    cell: tuple[int, int, int, int] = (0, 0, 1, 1)
    box: bool = False
    equal: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A figure: panels on a grid.

    Args:
        name: of the function that made it.
        panels: what is drawn.
        size: width and height, inches.
        widths, heights: of columns and rows of the grid, relative to each other.
        legend: whether the names of the first panel's marks stand above all panels.
        title: of the whole; mostly "".

    >>> from molifold.plots.marks import Line
    >>> p = Picture(name="mine", panels=(Panel(marks=(Line(x=[0, 1], y=[1, 2]),)),), size=(3, 2))
    >>> p, p == Picture.decode(*p.encode())
    (Picture('mine': 1 panel, 1 mark, 3 x 2 in), True)
    """

    name: str
    panels: tuple[Panel, ...]
    size: tuple[float, float]
    widths: tuple[float, ...] = (1.0,)
    heights: tuple[float, ...] = (1.0,)
    legend: bool = False
    title: str = ""

    def __post_init__(self) -> None:
        for panel in self.panels:
            row, column, rows, columns = panel.cell
            if row + rows > len(self.heights) or column + columns > len(self.widths):
                raise ValueError(f"cell: got {panel.cell}, expected inside {len(self.heights)} x {len(self.widths)}")

    def marks(self, kind: type[M]) -> Iterator[M]:
        """Marks of one kind, panel by panel."""
        return (mark for panel in self.panels for mark in panel.marks if isinstance(mark, kind))

    def figure(self) -> Figure:
        """The picture as a matplotlib ``Figure``; no pyplot state, and matplotlib's settings stay as they were."""
        from molifold.plots.painter import paint

        return paint(self)

    def save(self, path: str | Path, *, dpi: int = 300) -> Path:
        """Write PNG, SVG, PDF, or the picture as data (``.json``, and ``.bin`` beside it); by the ending of the name.

        The same picture gives the same bytes.

        Args:
            path: file to write.
            dpi: of PNG, and of what has pixels in SVG and PDF.

        Raises:
            ValueError: if the ending is another.
        """
        from molifold.plots.painter import write

        path = Path(path)
        if path.suffix == ".json":
            text, data = self.encode()
            path.with_suffix(".bin").write_bytes(data)
            path.write_text(text, encoding="utf-8")
            return path
        if path.suffix not in (".png", ".svg", ".pdf"):
            raise ValueError(f"path: got {path.name!r}, expected a name that ends in .png, .svg, .pdf or .json")
        write(self, path, format=path.suffix[1:], dpi=dpi)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Picture:
        """The picture that ``save`` wrote to ``path`` (.json).

        Raises:
            ValueError: if it is of another version, or damaged.
        """
        path = Path(path)
        return cls.decode(path.read_text(encoding="utf-8"), path.with_suffix(".bin").read_bytes())

    def encode(self) -> tuple[str, bytes]:
        """JSON text and the arrays that it points into (``plots/FORMAT.md``)."""
        from molifold.plots.encoding import encode

        return encode(self)

    @classmethod
    def decode(cls, text: str, data: bytes) -> Picture:
        """Inverse of ``encode``."""
        from molifold.plots.encoding import decode

        return decode(text, data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        marks = sum(len(p.marks) for p in self.panels)
        return (
            f"Picture({self.name!r}: {_plural(len(self.panels), 'panel')}, {_plural(marks, 'mark')}, "
            f"{self.size[0]:g} x {self.size[1]:g} in)"
        )

    def _repr_png_(self) -> bytes:
        from molifold.plots.painter import write

        buffer = io.BytesIO()
        write(self, buffer, format="png", dpi=110)
        return buffer.getvalue()


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def without_words(axis: Axis) -> Axis:
    """The axis of a panel whose neighbour says already what it shows.

    >>> without_words(Axis(label="x", ticks=((0.0, "zero"),)))
    Axis(label='', unit='', limits=None, scale='linear', period=None, ticks=((0.0, ''),), whole=False, line=True)
    """
    from dataclasses import replace

    ticks = None if axis.ticks is None else tuple((value, "") for value, _ in axis.ticks)
    return replace(axis, label="", unit="", ticks=ticks)


def grid(panels: list[Panel], *, columns: int) -> tuple[tuple[Panel, ...], tuple[float, ...], tuple[float, ...]]:
    """Panels in reading order on a grid: with their cells, the widths and the heights.

    >>> placed, widths, heights = grid([Panel(marks=())] * 3, columns=2)
    >>> [p.cell[:2] for p in placed], widths, heights
    ([(0, 0), (0, 1), (1, 0)], (1.0, 1.0), (1.0, 1.0))
    """
    from dataclasses import replace

    columns = max(1, min(columns, len(panels)))
    placed = tuple(replace(p, cell=(*divmod(i, columns), 1, 1)) for i, p in enumerate(panels))
    return placed, (1.0,) * columns, (1.0,) * int(np.ceil(len(panels) / columns))
