"""One line about a run: where it stands, how long it will take, and the numbers one looks at first."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from molifold.runs import Run
from molifold.workbench.inside import verdict
from molifold.workbench.words import advice, plain

#: Events that a user should see on the first page.
TOLD = ("failed", "bad_batch", "probe_failed", "request_rejected", "stopped", "ended", "resumed")


def headline(name: str, path: Path) -> dict[str, Any]:
    """State, progress (0 to 1 or None), seconds to the end (or None), last numbers and warnings of a run.

    A run that cannot be read is told as ``error`` and hides no other.
    """
    try:
        run = Run.open(path)
        info, state = run.info, run.state
        rows = run.recent()
        row = last_values(rows)
        progress, left = progress_of(row, state=state)
        events, _ = run.events()
    except (ValueError, OSError, KeyError, TypeError) as error:
        return {"name": name, "state": "unreadable", "error": str(error)}
    told = [plain(e) for e in events if e.get("kind") in TOLD][-3:]
    kept = list(run.checkpoints)
    return {
        "name": name, "state": state, "step": int(row.get("step", 0)), "progress": progress, "left": left,
        "started": datetime.fromisoformat(info["created"]).timestamp(), "molecule": molecule_name(info),
        "values": row, "events": told, "curve": curve_of(rows),
        "stage": next((plain(e)["message"] for e in reversed(events) if e.get("kind") == "stage"), ""),
        "verdict": verdict(run),
        "advice": advice(state, checkpoint=kept[-1] if kept else None, recipe=bool(info.get("recipe"))),
        "ensembles": list(run.ensembles), "records": list(run.records),
    }  # fmt: skip


def last_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The last value of every scalar (those of the last 64 kB of the log: rare ones may lie before)."""
    found: dict[str, float] = {}
    for row in rows:
        found |= {k: v for k, v in row.items() if isinstance(v, int | float)}
    return found


def curve_of(rows: Iterable[Mapping[str, Any]], *, points: int = 60) -> list[float]:
    """The loss of the same rows, evenly thinned.

    >>> curve_of([{"loss": 3.0}, {"ess": 0.1}, {"loss": 2.0}, {"loss": float("nan")}])
    [3.0, 2.0]
    """
    found = [row["loss"] for row in rows if isinstance(row.get("loss"), float) and math.isfinite(row["loss"])]
    return found[:: max(1, -(-len(found) // points))]


def progress_of(row: dict[str, float], *, state: str) -> tuple[float | None, float | None]:
    """Share done and seconds left, from the scalars ``progress`` and ``seconds`` that a training writes.

    >>> progress_of({"progress": 0.25, "seconds": 10.0}, state="running")
    (0.25, 30.0)
    >>> progress_of({}, state="running")
    (None, None)
    """
    share, seconds = row.get("progress"), row.get("seconds")
    if state == "finished":
        return 1.0, 0.0
    if not share or seconds is None:
        return share, None
    return share, seconds * (1 - share) / share if state == "running" else None


def molecule_name(info: dict[str, Any]) -> str:
    """Name of the molecule of a run without making the molecule."""
    try:
        return str(json.loads(info["molecule"]).get("name", "")) if info.get("molecule") else ""
    except (ValueError, AttributeError, TypeError):
        return ""
