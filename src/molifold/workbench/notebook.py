"""The workbench as a widget of Jupyter and marimo: the same views, fed by the kernel instead of a server."""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.runs import Run
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk

if TYPE_CHECKING:
    import anywidget


def view(shown: Ensemble | Run | str | Path, *, page: str = "") -> anywidget.AnyWidget:
    """A widget that shows an ensemble or a run: map, structures, histograms, curves.

    ``widget.state`` is what is open, as a dictionary that can be read and set: axes ``x`` and ``y``, ``row`` (the
    picked frame), ``polygons`` by name and the ``selected`` one; ``widget.selection()`` gives the frames inside it.

    Args:
        shown: an ensemble, a run, or the path of either.
        page: overview, training, conformations, statistics, network or compare; the default fits what is shown.

    Raises:
        ImportError: if anywidget is not installed (``pip install molifold[notebook]``).
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("view needs anywidget; install it with: pip install 'molifold[notebook]'") from error

    path = _on_disk(shown)
    desk = Desk(Collection([path]))
    static = files("molifold.workbench").joinpath("static")

    class Workbench(anywidget.AnyWidget):
        _esm = static.joinpath("views.js").read_text(encoding="utf-8")
        _css = static.joinpath("views.css").read_text(encoding="utf-8")
        start = traitlets.Dict().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

        def selection(self) -> Int[ndarray, " n"]:
            """Frames inside the selected region, by the same rule as the page."""
            return selected_frames(desk, self.state)

    opened = page or ("conformations" if isinstance(shown, Ensemble) or (path / "header.json").exists() else "training")
    widget = Workbench(start={"page": opened})

    def answer(asked: anywidget.AnyWidget, message: dict[str, Any], _buffers: Any) -> None:
        try:
            block = desk.answer(message["question"], message["args"])
        except (KeyError, ValueError, TypeError, OSError) as error:
            asked.send({"id": message["id"], "error": str(error.args[0] if error.args else error)})
        else:
            asked.send({"id": message["id"]}, buffers=[block])

    widget.on_msg(answer)
    return widget


def selected_frames(desk: Desk, state: dict[str, Any]) -> Int[ndarray, " n"]:
    """Frames of ``state["ensemble"]`` inside its selected polygon (even-odd rule, periodic axes unwrapped at it)."""
    from matplotlib.path import Path as Polygon

    region = state.get("polygons", {}).get(state.get("selected", ""))
    if region is None:
        return np.empty(0, dtype=np.int64)
    m = desk.measured(state["ensemble"])
    points = np.array(region["points"], dtype=float)
    places = np.stack([m.column(region["x"]), m.column(region["y"])], axis=1).astype(float)
    for axis, name in enumerate((region["x"], region["y"])):
        period, low = m.known[name].period, points[:, axis].min()
        if period is not None:
            places[:, axis] = (places[:, axis] - low) % period + low
    return np.flatnonzero(Polygon(points).contains_points(places))


def _on_disk(shown: Ensemble | Run | str | Path) -> Path:
    if isinstance(shown, Ensemble):
        return shown.save(Path(tempfile.mkdtemp(prefix="molifold-view-")) / "ensemble")
    return Path(shown.path if isinstance(shown, Run) else shown)
