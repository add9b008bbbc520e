"""Any picture over the steps of a training: small multiples, and an animation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from molifold.plots.limits import reach
from molifold.plots.marks import Text
from molifold.plots.picture import Axis, Panel, Picture, grid, without_words
from molifold.plots.style import count

COLUMNS = 4
#: Endings of names, and what Pillow calls their formats.
FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}


def evolution(pictures: Mapping[int, Picture], *, panel: int = 0) -> Picture:
    """One panel of the same picture at several steps, side by side on the same axes, with its caption.

    Args:
        pictures: by step: what one and the same function made of the results at that step.
        panel: number of the panel.

    Raises:
        ValueError: if there is no picture, or they are not of one kind.

    >>> from molifold.analysis import circular_histogram
    >>> from molifold.plots import free_energy
    >>> angles = np.random.default_rng(0).normal(size=(2, 1000))
    >>> made = {s: free_energy({}, profiles={"raw": circular_histogram(angles[s])}) for s in (0, 1)}
    >>> [p.title for p in evolution(made).panels]
    ['step 0', 'step 1']
    """
    same = _on_same_axes(pictures)
    first = next(iter(same.values()))
    if not 0 <= panel < len(first.panels):
        raise ValueError(f"panel: got {panel}, expected 0 to {len(first.panels) - 1} of {first!r}")
    chosen = [_small(p.panels[panel], title=f"step {count(step)}") for step, p in same.items()]
    # Names are said once: those of marks above, those of axes at the left.
    shown = [replace(p, legend="", y=without_words(p.y) if i % COLUMNS else p.y) for i, p in enumerate(chosen)]
    panels, widths, heights = grid(shown, columns=COLUMNS)
    _, _, rows, columns = first.panels[panel].cell
    share = (columns / len(first.widths), rows / len(first.heights))
    width, height = (min(max(side * part, 2.0), 2.5) for side, part in zip(first.size, share, strict=True))
    return Picture(
        name="evolution", panels=panels, widths=widths, heights=heights, legend=first.legend or bool(chosen[0].legend),
        size=(width * len(widths) + 0.7, height * len(heights) + 0.35),
    )  # fmt: skip


def _small(panel: Panel, *, title: str) -> Panel:
    """The panel as fits among many: no words over its marks, but its caption; every second of many ticks."""
    marks = tuple(mark for mark in panel.marks if not (isinstance(mark, Text) and mark.inside == "panel"))
    return replace(panel, title=title, marks=marks, x=_sparse(panel.x), y=_sparse(panel.y))


def _sparse(axis: Axis) -> Axis:
    return replace(axis, ticks=axis.ticks[::2]) if axis.ticks is not None and len(axis.ticks) > 4 else axis


def animate(pictures: Mapping[int, Picture], path: str | Path, *, seconds: float = 0.25, dpi: int = 110) -> Path:
    """Write an animation: the same picture at every step, on the same axes; the last stays for two seconds.

    Args:
        pictures: by step.
        path: a name that ends in .gif, .png (animated PNG: all colours, larger) or .webp.
        seconds: that each is shown.
        dpi: pixels per inch.

    Raises:
        ValueError: if there is no picture, they are not of one kind, or the name ends otherwise.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"path: got {path.name!r}, expected a name that ends in {', '.join(FORMATS)}")
    frames = [_pixels(replace(p, title=f"step {count(step)}"), dpi=dpi) for step, p in _on_same_axes(pictures).items()]
    images = [Image.fromarray(frame) for frame in frames]
    if path.suffix == ".gif":  # one table of colours for all, or they would flicker
        table = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 4)])).quantize(255)
        images = [i.quantize(palette=table, dither=Image.Dither.NONE) for i in images]
    times = [round(1000 * seconds)] * (len(images) - 1) + [2000]
    images[0].save(
        path,
        format=FORMATS[path.suffix],
        save_all=True,
        append_images=images[1:],
        duration=times,
        loop=0,
        lossless=True,
    )
    return path


def _pixels(picture: Picture, *, dpi: int) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = picture.figure()
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _on_same_axes(pictures: Mapping[int, Picture]) -> dict[int, Picture]:
    """The pictures in order of steps, every panel with limits that hold its marks at all steps."""
    if not pictures:
        raise ValueError("pictures: got none, expected one per step")
    ordered = {step: pictures[step] for step in sorted(pictures)}
    kinds = {(p.name, len(p.panels)) for p in ordered.values()}
    if len(kinds) > 1:
        raise ValueError(f"pictures: got kinds {sorted(kinds)}, expected what one function made with as many panels")
    columns = list(zip(*(p.panels for p in ordered.values()), strict=True))
    same = [[replace(p, x=_common("x", ps), y=_common("y", ps)) for p in ps] for ps in columns]
    return {step: replace(p, panels=tuple(c[i] for c in same)) for i, (step, p) in enumerate(ordered.items())}


def _common(which: Literal["x", "y"], panels: Sequence[Panel]) -> Axis:
    axis = getattr(panels[-1], which)
    limits = [getattr(p, which).limits for p in panels]
    if None in limits:
        seen = [reach(which, mark) for p in panels for mark in p.marks]
        values = np.concatenate([s for s in seen if len(s)] or [np.array([0.0, 1.0])])
        values = values[np.isfinite(values) & ((values > 0) | (axis.scale == "linear"))]
        low, high = float(values.min()), float(values.max())
        margin = 0.04 * (high - low) if axis.scale == "linear" else 0.0
        return replace(axis, limits=(low - margin, high + margin))
    return replace(axis, limits=(min(l for l, _ in limits), max(h for _, h in limits)))  # noqa: E741
