"""The page Overview as tables: what stands in every cell, so that the page only draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from molifold.workbench.pages import HELP

#: Order of runs; all others are finished.
STATES = ("running", "paused", "crashed", "failed", "stopped", "unreadable")
#: Scalars that have a column, their words, and whether they are shares.
FIGURES = (
    ("loss", "loss", False), ("validation_nll", "validation", False), ("ess", "ESS", True),
    ("pareto_k", "k-hat", False), ("distance", "distance / floor", False),
)  # fmt: skip
NO_RUN = "No run yet. Start one with `molifold train alanine-dipeptide`: it appears here by itself."
NO_ENSEMBLE = "No ensemble yet. A training keeps its own; `molifold simulate` makes one without a network."


def tables(runs: Sequence[Mapping[str, Any]], ensembles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables of runs (see ``headlines.headline``) and of ensembles, JSON-able.

    A cell is text, or a mapping with some of ``text``, ``open`` (what a click opens: a run or an ensemble), ``small``,
    ``state``, ``progress`` (0 to 1), ``curve`` (numbers), ``error``, and ``lines`` (kind, title, message).
    """
    return [
        {
            "title": "Runs", "help": list(filter(None, HELP["runs"])), "head": _head(runs), "empty": NO_RUN,
            "rows": [_run(r, [key for key, *_ in _shown(runs)]) for r in sorted(runs, key=_place)],
            "figures": [3, *range(4, 4 + len(_shown(runs)))],
        },
        {
            "title": "Ensembles", "help": list(filter(None, HELP["ensembles"])), "empty": NO_ENSEMBLE,
            "head": ["ensemble", "molecule", "frames", "atoms"], "rows": [_ensemble(e) for e in ensembles],
            "figures": [2, 3],
        },
    ]  # fmt: skip


def _shown(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    return [figure for figure in FIGURES if any(figure[0] in r.get("values", {}) for r in runs)]


def _head(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    figures = [words for _, words, _ in _shown(runs)]
    return ["run", "state", "progress", "step", *figures, "network", "loss, lately", "what happened"]


def _place(run: Mapping[str, Any]) -> tuple[int, float]:
    """Running ones first, then those that need somebody; the newest of each first."""
    state = STATES.index(run["state"]) if run["state"] in STATES else len(STATES)
    return state, -run.get("started", 0.0)


def _run(run: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    name, values, share = run["name"], run.get("values", {}), run.get("progress")
    left = f", {duration(run['left'])} left" if run.get("left") else ""
    progress = run.get("stage", "") if share is None else {"progress": share, "small": f"{100 * share:.0f} %{left}"}
    unreadable = "error" in run
    return [
        name if unreadable else {"text": name, "open": {"run": name}, "small": run["molecule"]},
        {"state": run["state"]}, progress, "" if unreadable else count(run["step"]),
        *(_figure(key, values.get(key)) for key in keys), {"state": run.get("verdict", "")},
        {"curve": run.get("curve", [])},
        {"error": run.get("error", ""), "text": run.get("advice", ""), "lines": run.get("events", [])},
    ]  # fmt: skip


def _figure(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "" if value is None else str(value)
    share = next(share for name, _, share in FIGURES if name == key)
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"


def _ensemble(ensemble: Mapping[str, Any]) -> list[Any]:
    name = ensemble["name"]
    if "error" in ensemble:
        return [name, {"error": ensemble["error"]}, "", ""]
    return [
        {"text": name, "open": {"ensemble": name}}, ensemble["molecule"], count(ensemble["frames"]),
        str(ensemble["atoms"]),
    ]  # fmt: skip


def count(n: int) -> str:
    """Thousands apart by thin spaces, as on the whole page."""
    return f"{n:,}".replace(",", "\u2009")


def duration(seconds: float) -> str:
    """Seconds as words.

    >>> duration(45), duration(720), duration(12000)
    ('45 s', '12 min', '3 h 20 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
