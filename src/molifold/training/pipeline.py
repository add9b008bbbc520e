"""From a recipe to a trained flow: system, energy, frames, flow, fit, all in one run directory."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molifold.data import System, example, from_force_field, from_prmtop, from_xml, load, structure
from molifold.ensemble import Ensemble
from molifold.interfaces import Energy, Probe
from molifold.probes import DEFAULT, preserved_randomness
from molifold.runs import Run, Writer
from molifold.training.arguments import RecipeError, checked, imported
from molifold.training.crew import automatic_threads
from molifold.training.evaluation import FRAMES
from molifold.training.fit import fit
from molifold.training.recipe import SIMULATION_PROVIDED, Recipe
from molifold.training.result import FitResult
from molifold.training.session import REFERENCE_FRAMES

#: Frames per call when energies of loaded frames are computed.
ENERGY_BATCH = 4096
#: Training on generated conformations sees energies this far above the data's only logarithmically, kT.
CLASH_MARGIN = 100.0


def train_recipe(
    recipe: Recipe,
    *,
    to: str | Path,
    progress: Callable[[Mapping[str, float]], None] | None = None,
    simulation_progress: Callable[[float, float, str], None] | None = None,
    probes: tuple[Probe, ...] = DEFAULT,
) -> FitResult:
    """Do what a recipe says, in the run directory ``to``; an unfinished run there is resumed, simulation included.

    Args:
        recipe: what to do, see ``read_recipe``.
        to: the run directory.
        progress: of the training, see ``fit``.
        simulation_progress: called with (share done, ns per day, what is going on) while frames are simulated.
        probes: what to watch.

    Raises:
        RecipeError: if ``to`` holds a run of another recipe, or the data do not fit the system.
        RunBusyError: if another process writes ``to``.
    """
    system = make_system(recipe)
    energy = make_energy(recipe, system)
    path = Path(to)
    # With several processes, fit lets the first one open the run.
    writer = _writer(recipe, system, path) if int(os.environ.get("WORLD_SIZE", "1")) == 1 else None
    try:
        if writer is not None:
            writer.event(0, "stage", "data")
        ensemble = make_ensemble(
            recipe, system, energy, to=path / "ensembles" / "simulation", progress=simulation_progress
        )
        reference = ensemble.thinned(REFERENCE_FRAMES)
        with preserved_randomness():
            torch.manual_seed(recipe.seed)
            flow = recipe.flow(system.molecule, reference)
        if writer is not None:
            writer.event(0, "stage", "training")
        return fit(
            flow, ensemble, energy=_for_training(energy, ensemble), losses=recipe.losses(),
            to=path if writer is None else writer, recipe=recipe.to_dict(), reference=reference,
            probes=(*probes, *recipe.probes()),
            progress=progress, **{"evaluate": FRAMES, **_with_threads(recipe.training())},
        )  # fmt: skip
    except BaseException as error:
        if writer is not None:
            writer.__exit__(type(error), error, error.__traceback__)
        raise


def make_system(recipe: Recipe) -> System:
    """Molecule, start structure and force field of a recipe."""
    section = recipe.system
    if section.example is not None:
        return example(section.example)
    path = None if section.structure is None else recipe.base / section.structure
    molecule, x = structure(
        path, smiles=section.smiles, sequence=section.sequence, caps=section.caps, alternate=section.alternate
    )
    if section.force_field is not None:
        return from_force_field(molecule, x, files=[_beside(recipe.base, f) for f in section.force_field])
    if section.prmtop is not None:
        return from_prmtop(recipe.base / section.prmtop, x)
    assert section.openmm_xml is not None
    return from_xml(recipe.base / section.openmm_xml, molecule, x=x)


def make_energy(recipe: Recipe, system: System) -> Energy:
    """The target's energy at the recipe's temperature, as it is used for reweighting."""
    from molifold import energies

    section = recipe.system
    if system.build is None:
        return getattr(energies, system.kind)()
    if section.engine == "openmm":
        return energies.OpenMMEnergy(system.openmm_system(), temperature=section.temperature)
    return energies.MolecularMechanics.from_system(
        system.openmm_system(), temperature=section.temperature, threads=section.threads
    )


def make_ensemble(
    recipe: Recipe,
    system: System,
    energy: Energy,
    *,
    to: Path,
    progress: Callable[[float, float, str], None] | None = None,
) -> Ensemble:
    """Frames at the recipe's temperature, with ``log_p``: simulated into the store ``to`` or loaded.

    Raises:
        RecipeError: if no frame has the right temperature.
    """
    section, temperature = dict(recipe.raw["data"]), recipe.system.temperature
    stride = section.pop("stride", 1)
    if "source" in section:
        source = section["source"]
        names = [source] if isinstance(source, str) else source
        paths = [recipe.base / name for name in names]
        ensemble = load(paths[0] if len(paths) == 1 else paths, molecule=system.molecule, stride=stride)
    else:
        ensemble = _simulated(recipe, section, system, energy, to=to, progress=progress)[::stride]
    if not len(ensemble):
        raise RecipeError(["data: no frames; a simulation needs more time to save one (max_seconds, or --minutes)"])
    if "temperature" in ensemble.columns:
        right = np.isclose(ensemble.columns["temperature"], temperature, rtol=1e-4)
        if not right.any():
            found = ", ".join(f"{t:g}" for t in np.unique(ensemble.columns["temperature"])[:8])
            raise RecipeError([f"data: no frame at system.temperature = {temperature:g} K, only {found} K"])
        ensemble = ensemble if right.all() else ensemble[np.flatnonzero(right)]
    return ensemble if ensemble.log_p is not None else replace(ensemble, log_p=_log_p(energy, ensemble))


def _simulated(
    recipe: Recipe,
    section: dict[str, Any],
    system: System,
    energy: Energy,
    *,
    to: Path,
    progress: Callable[[float, float, str], None] | None,
) -> Ensemble:
    from molifold.simulation import minimize

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(["data.use: simulate first with one process, then train with several from data.source"])
    function = imported(section.pop("use"), where="data.use")
    known = inspect.signature(function).parameters
    options = checked(function, {"seed": recipe.seed, **section}, where="data", provided=SIMULATION_PROVIDED)
    if "temperature" in known:
        options["temperature"] = recipe.system.temperature
    if "save_temperatures" in known:
        options.setdefault("save_temperatures", (recipe.system.temperature,))
    if "threads" in known:
        options.setdefault("threads", os.cpu_count() or 1)
    to.parent.mkdir(parents=True, exist_ok=True)
    start = minimize(energy, system.x).x
    return function(
        energy, start, molecule=system.molecule, to=to, resume=True, progress=progress, **options
    )  # fmt: skip


def _with_threads(training: dict[str, Any]) -> dict[str, Any]:
    """All cores, where the training runs in one process on a CPU and the recipe does not say otherwise."""
    on_cpu = training.get("accelerator", "auto") == "cpu" or not torch.cuda.is_available()
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if "threads" in training or not (on_cpu and alone) or training.get("precision", "32-true") == "bf16-mixed":
        return training
    batch_size = training.get("batch_size", inspect.signature(fit).parameters["batch_size"].default)
    return {**training, "threads": automatic_threads(batch_size, cores=os.cpu_count() or 1)}


def _log_p(energy: Energy, ensemble: Ensemble) -> np.ndarray:
    out = np.empty(len(ensemble))
    with torch.no_grad():
        for start in range(0, len(ensemble), ENERGY_BATCH):
            part = slice(start, start + ENERGY_BATCH)
            out[part] = -energy(torch.from_numpy(np.array(ensemble.x[part]))).double().numpy()
    return out


def _for_training(energy: Energy, ensemble: Ensemble) -> Energy:
    from molifold.energies import Regularized

    assert ensemble.log_p is not None
    return Regularized(energy, cut=float(-np.min(ensemble.log_p)) + CLASH_MARGIN)


def _writer(recipe: Recipe, system: System, path: Path) -> Writer | None:
    if not (path / "run.json").exists():
        return Run.create(path, molecule=system.molecule, recipe=recipe.to_dict(), seed=recipe.seed)
    run = Run.open(path)
    if run.recipe != recipe.to_dict():
        changed = [k for k in {**(run.recipe or {}), **recipe.raw} if (run.recipe or {}).get(k) != recipe.raw.get(k)]
        raise RecipeError(
            [f"{path} holds a run of another recipe ([{'], ['.join(changed)}] differ); choose another directory"]
        )
    # A finished run is only read.
    return None if run.state == "finished" else Run.resume(path, step=max(run.checkpoints, default=0))


def _beside(base: Path, name: str) -> str:
    """A file beside the recipe, or else one of OpenMM's own."""
    return str(base / name) if (base / name).exists() else name
