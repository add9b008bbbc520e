"""The views of a run or an ensemble as one HTML file that works from disk, without a server and without a network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.measured import offered
from molifold.workbench.overview import tables
from molifold.workbench.packing import pack, unpack
from molifold.workbench.statistics import drawn_by

#: Frames kept of every ensemble, and bytes of coordinates at most.
FRAMES, BYTES = 5000, 4_000_000
#: Kinds of columns whose values go into the file; all others are in the histograms of a selection.
KINDS = ("torsion", "collective", "energy", "weight", "kept", "coordinate")
#: The page may run what it carries and ask nobody.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main data-molifold data-start="{start}"></main>
<script type="application/json" data-blocks>{blocks}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def export_view(
    paths: list[str | Path], to: str | Path, *, start: Mapping[str, Any] | None = None, frames: int = FRAMES
) -> Path:
    """Write the workbench over ``paths`` into one file, and return its path; see ``view_page``.

    Args:
        paths: runs and ensemble stores.
        to: file to write (.html).
        start: what is open at first, as in the address of the page.
        frames: at most so many frames of an ensemble.
    """
    to = Path(to)
    to.write_text(view_page(paths, start=start, frames=frames), encoding="utf-8")
    return to


def view_page(paths: Sequence[str | Path], *, start: Mapping[str, Any] | None = None, frames: int = FRAMES) -> str:
    """The workbench over ``paths`` as one page of HTML that asks nobody.

    Of every ensemble ``frames`` frames are kept, evenly over it, fewer of a large molecule; the page says so.

    Args:
        paths: runs and ensemble stores.
        start: what is open at first, as in the address of the page.
        frames: at most so many frames of an ensemble.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if nothing was found under ``paths``.
    """
    collection = Collection(paths)
    desk = Desk(collection)
    blocks: dict[str, bytes] = {}

    def keep(question: str, **arguments: Any) -> bytes:
        block = desk.answer(question, arguments)
        blocks[key(question, arguments)] = block
        return block

    items = unpack(desk.items())
    if not items["runs"] and not items["ensembles"]:
        raise ValueError(f"paths: found no run and no ensemble under {', '.join(map(str, paths))}")
    keep("guide")
    for run in items["runs"]:
        if run["state"] == "unreadable":
            continue
        keep("tail", name=run["name"])
        for record in unpack(keep("run", name=run["name"]))["records"]:
            keep("record", name=run["name"], record=record["name"], step=record["steps"][-1])
        if unpack(keep("inside", name=run["name"]))["histories"]:
            keep("health", name=run["name"])
    first: dict[tuple[str, ...], ndarray] = {}
    for found in items["ensembles"]:
        if found.get("frames"):
            found["frames"] = _ensemble(desk, found["name"], blocks, frames, first)
    filled = [e["name"] for e in items["ensembles"] if e.get("frames")]
    for run in [r["name"] for r in items["runs"]] or [""]:
        own = [name for name in filled if not run or name.startswith(f"{run}/")]
        for ensemble in [""] if drawn_by(collection, run) in own else own:
            for picture in unpack(keep("statistics", run=run, ensemble=ensemble))["pictures"]:
                keep("statistic", run=run, ensemble=ensemble, key=picture["key"])
    blocks[key("items", {})] = pack({**items, "tables": tables(items["runs"], items["ensembles"])})
    return _page(blocks, start or {}, title=", ".join(Path(p).name for p in paths))


def key(question: str, arguments: Mapping[str, Any]) -> str:
    """Under which a block stands in the file; ``source.js`` makes the same.

    >>> key("record", {"step": 3, "name": "run"})
    'record {"name":"run","step":3}'
    """
    return f"{question} {json.dumps(dict(sorted(arguments.items())), separators=(',', ':'), ensure_ascii=False)}"


def _ensemble(
    desk: Desk, name: str, blocks: dict[str, bytes], frames: int, first: dict[tuple[str, ...], ndarray]
) -> int:
    """Keep an ensemble; ``first`` has a structure of every molecule so far, on which others of it are superposed."""
    whole = desk.measured(name)
    ensemble = whole.ensemble
    size = max(1, min(frames, len(ensemble), BYTES // (12 * ensemble.molecule.n_atoms)))
    rows = np.linspace(0, len(ensemble) - 1, size).astype(np.int64)
    m = whole.some(rows)
    everything = np.arange(size)
    kept = [c for c in m.known.values() if c.kind in KINDS]
    about = {**unpack(desk.ensemble(name)), "frames": size}
    about |= offered([c for c in m.known.values() if c.kind in KINDS or not m.flat])
    blocks[key("ensemble", {"name": name})] = pack({**about, "whole": len(ensemble)})
    for column in kept:
        blocks[key("column", {"name": name, "column": column.name})] = pack({"values": m.column(column.name)})
    x = m.frames(everything, onto=first.get(ensemble.molecule.elements))
    first.setdefault(ensemble.molecule.elements, x[0])
    blocks[key("all frames", {"name": name})] = pack({"x": x})
    blocks[key("all rows", {"name": name})] = pack(
        {"values": m.rows(everything), "names": [f.name for f in m.freedoms]}
    )
    return size


def _page(blocks: Mapping[str, bytes], start: Mapping[str, Any], *, title: str) -> str:
    static = files("molifold.workbench").joinpath("static")
    # What closes a script element must not occur inside one.
    script = static.joinpath("views.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
    text = json.dumps({k: base64.b64encode(v).decode() for k, v in blocks.items()}).replace("</", "<\\/")
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(f"molifold: {title}"), style=static.joinpath("views.css").read_text(encoding="utf-8"),
        start=html.escape(json.dumps(dict(start))), blocks=text, script=script,
    )  # fmt: skip
