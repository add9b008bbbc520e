"""The whole path on alanine dipeptide within a time budget: simulate, train, sample, reweight, report."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molifold.recipes import find
from molifold.workflows.sample import Summary, sample, summarize
from molifold.workflows.train import Phase, silent, stretched, train

if TYPE_CHECKING:
    from molifold.training import Recipe

RECIPE = "alanine-dipeptide"
#: Share of the budget kept for drawing, reweighting and the report.
RESERVE = 0.1
#: However slow the machine: what simulation and training get at the least, s.
LEAST = 20.0
#: What ``quick`` changes in the recipe (None removes a key). Steps, not seconds: it must do its work on any machine.
QUICK: Mapping[str, Mapping[str, Any]] = {
    "data": {"max_seconds": None, "steps": 20_000, "equilibration": 2_000},
    "flow": {"couplings": 2, "rotation_couplings": 2, "channels": 16, "layers": 1},
    "training": {"max_seconds": None, "steps": 100, "batch_size": 128},
    "sampling": {"n": 2_000},
}


@dataclass(frozen=True)
class Demo:
    """What the demo made: a run directory, a report page, the figures of its samples; and how long it took (s)."""

    run: Path
    report: Path
    summary: Summary
    seconds: float


def demo(to: str | Path | None = None, *, minutes: float = 12.0, quick: bool = False, phase: Phase = silent) -> Demo:
    """Alanine dipeptide from nothing to a report, in ``minutes`` on whatever machine this is.

    The budget is wall time from call to report. Simulation and training share it as in the shipped recipe; a slower
    machine trains on fewer frames for fewer steps, and so reaches a smaller effective sample size, but takes no longer.

    Args:
        to: the run directory, where an unfinished demo is continued; the default is ``runs/demo``, or ``runs/demo-2``
            and so on where finished ones are.
        minutes: the budget; the least that makes sense is about one.
        quick: a small network, few steps and draws, to see that everything works.
        phase: receives progress.

    Raises:
        FileExistsError: if ``to`` holds a finished run.
    """
    from molifold.workbench import report_from_run

    began = time.monotonic()
    path = _unused() if to is None else Path(to)
    phase("prepare")
    recipe = _resumed(path) or _planned(minutes, quick=quick, began=began)
    train(recipe, to=path, phase=phase)
    wanted = recipe.sampling()
    samples = sample(path, wanted["n"], seed=wanted["seed"], progress=phase("sample"))
    phase("report")
    page = report_from_run(path)
    return Demo(run=path, report=Path(page), summary=summarize(samples), seconds=time.monotonic() - began)


def _unused() -> Path:
    names = (Path("runs", "demo" if i == 1 else f"demo-{i}") for i in itertools.count(1))
    return next(path for path in names if _state(path) != "finished")


def _state(path: Path) -> str | None:
    from molifold.runs import Run

    return Run.open(path).state if (path / "run.json").exists() else None


def _resumed(path: Path) -> Recipe | None:
    """The recipe of the demo that was begun in ``path``, so that it goes on with the plan it had."""
    from molifold.runs import Run
    from molifold.training import Recipe

    state = _state(path)
    if state is None:
        return None
    if state == "finished":
        raise FileExistsError(f"to: {path} holds a finished run; choose another directory, or `molifold report {path}`")
    recipe = Run.open(path).recipe
    return None if recipe is None else Recipe(recipe, source=RECIPE, trust=("molifold",))


def _planned(minutes: float, *, quick: bool, began: float) -> Recipe:
    """The shipped recipe with its budgets stretched to what is left of ``minutes`` once everything is compiled."""
    import torch

    from molifold.training import Recipe, make_energy, make_system, read_recipe

    shipped = read_recipe(find(RECIPE))
    raw = copy.deepcopy(dict(shipped.raw))
    if quick:
        for section, changes in QUICK.items():
            merged = {**raw[section], **changes}
            raw[section] = {key: value for key, value in merged.items() if value is not None}
        return Recipe(raw, source=f"{RECIPE}, quick")
    system = make_system(shipped)
    make_energy(shipped, system)(torch.from_numpy(system.x))  # compiles the kernel
    left = 60 * minutes * (1 - RESERVE) - (time.monotonic() - began)
    return Recipe(stretched(raw, seconds=max(left, LEAST)), source=RECIPE)
