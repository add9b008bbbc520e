"""From a recipe's name to a trained flow, with a budget and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molifold.recipes import find

if TYPE_CHECKING:
    from molifold.training import FitResult, Recipe

#: ``phase(name)`` starts a new stage and returns what is called with (done, total, **figures) as it goes on.
Phase = Callable[[str], Callable[..., None]]


def silent(name: str) -> Callable[..., None]:
    """A ``Phase`` that shows nothing."""
    return lambda done, total, **figures: None


def train(
    recipe: str | Path | Recipe,
    *,
    to: str | Path | None = None,
    minutes: float | None = None,
    phase: Phase = silent,
) -> FitResult:
    """Do what a recipe says, with the code that it names; an unfinished run in ``to`` is resumed.

    Args:
        recipe: a recipe, its file, or the name of one that ships.
        to: the run directory; default ``runs/`` and the name of the recipe.
        minutes: stretch the recipe's time budgets to this long together.
        phase: receives progress.

    Raises:
        FileNotFoundError: if there is no such recipe.
        RecipeError: if the recipe cannot be run, or ``to`` holds a run of another one.
        ValueError: if ``minutes`` is given for a recipe without time budgets.
    """
    from molifold.training import Recipe, read_recipe, train_recipe

    checked = recipe if isinstance(recipe, Recipe) else read_recipe(find(recipe))
    if minutes is not None:
        checked = replace(checked, raw=stretched(checked.raw, seconds=60 * minutes))
    checked = replace(checked, raw=anchored(checked.raw, base=checked.base))
    path = Path("runs", Path(checked.source).stem) if to is None else Path(to)
    return train_recipe(checked, to=path, simulation_progress=_simulating(phase), progress=_training(phase))


def anchored(raw: Mapping[str, Any], *, base: Path) -> dict[str, Any]:
    """The tables of a recipe with the files it names as absolute paths: a run is sampled from any directory.

    >>> anchored({"system": {"structure": "/tmp/a.pdb", "force_field": ["amber14-all.xml"]}}, base=Path("recipes"))
    {'system': {'structure': '/tmp/a.pdb', 'force_field': ['amber14-all.xml']}}
    """

    def absolute(name: Any) -> Any:
        if isinstance(name, list):
            return [absolute(each) for each in name]
        # What is not a file beside the recipe is left alone: OpenMM's own force fields have names only.
        return str((base / name).resolve()) if (base / name).exists() else name

    files = {"system": ("structure", "prmtop", "openmm_xml", "force_field"), "data": ("source",)}
    return {
        section: {key: absolute(value) if key in files.get(section, ()) else value for key, value in table.items()}
        for section, table in raw.items()
    }


def stretched(raw: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """The tables of a recipe with the time budgets of its simulation and its training scaled to ``seconds`` together.

    Raises:
        ValueError: if the recipe has no time budget, or ``seconds`` is too short.

    >>> raw = {"data": {"max_seconds": 100.0}, "training": {"max_seconds": 300.0}}
    >>> stretched(raw, seconds=40.0)
    {'data': {'max_seconds': 10.0}, 'training': {'max_seconds': 30.0}}
    """
    timed = [name for name in ("data", "training") if "max_seconds" in raw.get(name, {})]
    if not timed:
        raise ValueError("minutes: the recipe has no max_seconds to stretch; it says how many steps to do instead")
    if seconds < 5:
        raise ValueError(f"minutes: only {max(seconds, 0):.0f} s are left to simulate and train; allow more time")
    factor = seconds / sum(raw[name]["max_seconds"] for name in timed)
    changed = {name: {**raw[name], "max_seconds": round(factor * raw[name]["max_seconds"], 1)} for name in timed}
    return {**raw, **changed}


def _simulating(phase: Phase) -> Callable[[float, float, str], None]:
    stage = _lazy(phase, "simulate")

    def progress(done: float, speed: float, doing: str) -> None:
        stage()(done, 1.0, **{"ns/day": speed}, doing=doing)

    return progress


def _training(phase: Phase) -> Callable[[Mapping[str, float]], None]:
    stage = _lazy(phase, "train")
    known: dict[str, float] = {}

    def progress(row: Mapping[str, float]) -> None:
        names = {"step": "step", "loss": "loss", "validation_nll": "held out", "validation_ess": "ESS"}
        known.update({shown: row[name] for name, shown in names.items() if name in row})
        stage()(row["progress"], 1.0, **known)

    return progress


def _lazy(phase: Phase, name: str) -> Callable[[], Callable[..., None]]:
    """Start a phase when it first has something to say."""
    started: list[Callable[..., None]] = []

    def stage() -> Callable[..., None]:
        if not started:
            started.append(phase(name))
        return started[0]

    return stage
