"""What is wrong with an installation, a recipe, a run or an ensemble store, in words that say what to do."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from molifold.finding import Finding

#: Frames of a store that are read at a time.
CHUNK = 65_536


def check(what: str | Path | None = None, *, trust: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Look at the installation (None), a recipe (``.toml`` or a shipped name), a run directory or an ensemble store.

    Nothing is changed. An "error" is something that will fail or give wrong numbers; a "warning" is worth knowing. Code
    that a recipe or a run names is not imported, except from molifold and the packages in ``trust``.

    Raises:
        FileNotFoundError: if nothing of that name exists.
        ValueError: if it is none of these kinds.

    >>> import tempfile
    >>> from molifold import Ensemble, Molecule
    >>> folder = tempfile.mkdtemp() + "/water"
    >>> _ = Ensemble(Molecule(elements=("O",), name="oxygen"), np.zeros((4, 1, 3))).save(folder)
    >>> [finding.level for finding in check(folder)]
    ['ok', 'ok']
    """
    if what is None:
        return tuple(_installation())
    path = Path(what)
    if path.is_dir() and (path / "header.json").is_file():
        return tuple(_store(path))
    if path.is_dir() and (path / "run.json").is_file():
        return tuple(_run(path))
    if path.suffix == ".toml" or not path.exists():
        return tuple(_recipe(what, trust))
    raise ValueError(
        f"what: {path} is no recipe (.toml), run directory (run.json) or ensemble store (header.json); for a "
        "trajectory, `molifold.data.load` says what is wrong with it"
    )


def _installation() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.machine()}")
    for package in ("molifold", "numpy", "torch", "numba", "openmm", "mdtraj", "rdkit", "lightning-fabric"):
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("error", package, "is not installed", "pip install molifold")
    for subject, probe in {"device": _device, "openmm platforms": _platforms, "energies": _energies}.items():
        try:
            yield probe()
        except Exception as error:  # whatever an installation can come up with is a finding
            yield Finding("error", subject, f"{type(error).__name__}: {error}", "reinstall: make clean install")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", "device", torch.cuda.get_device_name(0))
    return Finding("ok", "device", f"CPU, {torch.get_num_threads()} threads")


def _platforms() -> Finding:
    from openmm import Platform

    names = [Platform.getPlatform(i).getName() for i in range(Platform.getNumPlatforms())]
    return Finding("ok", "openmm platforms", ", ".join(names))


def _energies() -> Finding:
    """The batched engine against OpenMM itself, on the molecule of the demo."""
    from molifold.data import example
    from molifold.energies import MolecularMechanics, OpenMMEnergy

    system = example("alanine-dipeptide")
    model = system.openmm_system()
    ours, _ = MolecularMechanics.from_system(model, temperature=300.0, precision="float64").potential_and_forces(
        system.x
    )
    theirs, _ = OpenMMEnergy(model, temperature=300.0).potential_and_forces(system.x)
    difference = abs(float(ours[0] - theirs[0]) / float(theirs[0]))
    text = f"batched molecular mechanics agrees with OpenMM to {difference:.0e}"
    if difference < 1e-6:
        return Finding("ok", "energies", text)
    return Finding("error", "energies", text + ", expected 1e-6", "report it with the output of this command")


def _store(path: Path) -> Iterator[Finding]:
    from molifold.store import DTYPES, load

    try:
        ensemble = load(path)
    except ValueError as error:
        yield Finding("error", "header", str(error))
        return
    yield Finding("ok", "store", repr(ensemble))
    layout = json.loads((path / "header.json").read_text(encoding="utf-8"))["arrays"]
    for name, about in layout.items():
        row = np.dtype(DTYPES[about["dtype"]]).itemsize * int(np.prod(about["shape"]))
        extra = (path / f"{name}.{about['dtype']}").stat().st_size - row * len(ensemble)
        if extra:
            yield Finding(
                "warning", name, f"{extra / row:.4g} frames more than other arrays have; they are ignored",
                "a writer is at work or was killed; resuming it puts this right",
            )  # fmt: skip
    if len(ensemble) == 0:
        yield Finding("warning", "frames", "there are none")
        return
    arrays = {"x": ensemble.x, "log_p": ensemble.log_p, "log_q": ensemble.log_q, **ensemble.columns}
    broken = {
        name: _not_finite(array) for name, array in arrays.items() if array is not None and array.dtype.kind == "f"
    }
    for name, count in broken.items():
        if count:
            level: Literal["warning", "error"] = "warning" if name.startswith("log_") else "error"
            yield Finding(level, name, f"{count} of {len(ensemble)} frames are not finite", "look at them before use")
    if not any(broken.values()):
        yield Finding("ok", "values", f"all {len(ensemble)} frames are finite")


def _not_finite(array: np.ndarray) -> int:
    axes = tuple(range(1, array.ndim))
    parts = (array[start : start + CHUNK] for start in range(0, len(array), CHUNK))
    return sum(int((~np.isfinite(part).all(axis=axes)).sum()) for part in parts)


def _run(path: Path) -> Iterator[Finding]:
    from molifold.runs import Run

    try:
        run = Run.open(path)
    except ValueError as error:
        yield Finding("error", "run.json", str(error))
        return
    hint = {
        "crashed": "its process is gone; the same `molifold train` command goes on from the last checkpoint",
        "failed": "see the last event; the same `molifold train` command goes on from the last checkpoint",
    }
    yield Finding("warning" if run.state in hint else "ok", "state", repr(run), hint.get(run.state, ""))
    events, _ = run.events()
    for event in [e for e in events if e["kind"] in ("failed", "non_finite", "probe_failed")][-3:]:
        yield Finding("warning", f"event at step {event['step']}", event["message"])
    rows, _ = run.scalars()
    broken = sorted({name for row in rows for name, value in row.items() if not np.isfinite(value)})
    if broken:
        yield Finding("warning", "scalars", f"not finite at some step: {', '.join(broken)}", "lower the learning rate")
    if not run.checkpoints:
        yield Finding("warning", "checkpoints", "there are none, so that it can be neither sampled nor resumed")
    for name in run.ensembles:
        for finding in _store(path / "ensembles" / name):
            yield Finding(finding.level, f"{name}: {finding.subject}", finding.message, finding.remedy)


def _recipe(what: str | Path, trust: Sequence[str]) -> Iterator[Finding]:
    from molifold.recipes import find
    from molifold.training import RecipeError, read_recipe

    path = find(what)
    try:
        read_recipe(path, trust=("molifold", *trust))
    except RecipeError as error:
        for problem in error.problems:
            yield Finding("error", path.name, problem)
        return
    except PermissionError as error:
        yield Finding("warning", path.name, f"{error}; `molifold train` would run it")
        return
    yield Finding("ok", path.name, "can be run: molifold train " + str(what))
