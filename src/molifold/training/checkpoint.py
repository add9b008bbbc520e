"""Checkpoints: tensors in safetensors, the rest in JSON, whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molifold.runs import RunFormatError
from molifold.runs.files import read_json, write_json


def write_checkpoint(
    path: Path,
    *,
    weights: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write everything beside ``path``, then rename: a reader sees a whole checkpoint or none.

    Args:
        path: the directory to be.
        weights: state dicts by file name, for example ``{"model": ..., "average": ...}``.
        optimizer: its tensors and groups are kept.
        state: numbers, JSON-able.
    """
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, tensors in weights.items():
        _save(tensors, draft / f"{name}.safetensors")
    tensors, groups = _flattened(optimizer)
    _save(tensors, draft / "optimizer.safetensors")
    write_json(draft / "state.json", {**state, "optimizer": groups})
    os.replace(draft, path)


def read_state(path: Path) -> dict[str, Any]:
    """The numbers of a checkpoint."""
    return read_json(path / "state.json")


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """One state dict of a checkpoint, on the CPU.

    Raises:
        FileNotFoundError: if the checkpoint has no such weights.
        RunFormatError: if they are damaged.
    """
    file = path / f"{name}.safetensors"
    if not file.exists():
        kept = ", ".join(sorted(p.stem for p in path.glob("*.safetensors") if p.stem != "optimizer"))
        raise FileNotFoundError(f"weights: got {name!r}, but {path} holds only {kept}")
    return _load(file)


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put the tensors and groups of a checkpoint back into ``optimizer``."""
    groups = read_state(path)["optimizer"]
    state: dict[int, dict[str, Any]] = {}
    for key, value in _load(path / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    for key, value in groups["numbers"].items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    # JSON has no tuples; optimisers compare betas by position only, but keep what they had.
    restored = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in groups["param_groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": restored})


def pad_checkpoint(
    source: Path, target: Path, *, weights: Mapping[str, Mapping[str, Tensor]], parameters: Sequence[str]
) -> None:
    """Write the checkpoint of a grown module: its ``weights``, and the optimiser's tensors padded to their shapes.

    New entries begin with no momentum and the mean second moment of their tensor, so that their first steps are as long
    as those of the others.

    Args:
        source: the checkpoint before.
        target: the one to write.
        weights: state dicts by file name; ``"model"`` gives the shapes.
        parameters: names, in the optimiser's order.
    """
    target.mkdir(parents=True)
    for name, tensors in weights.items():
        _save(tensors, target / f"{name}.safetensors")
    padded = {}
    for key, value in _load(source / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        shape = weights["model"][parameters[int(index)]].shape
        if value.ndim and value.shape != shape:
            larger = value.new_full(shape, float(value.mean()) if name == "exp_avg_sq" else 0.0)
            larger[tuple(slice(0, n) for n in value.shape)] = value
            value = larger
        padded[key] = value
    _save(padded, target / "optimizer.safetensors")
    shutil.copy2(source / "state.json", target / "state.json")


def load_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights strictly.

    Raises:
        ValueError: if names or shapes do not fit.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"flow: the weights on disk do not fit this {type(module).__name__}; was it built with other options? "
            f"{error}"
        ) from None


def prune(checkpoints: Mapping[int, Path], *, keep: int) -> None:
    """Remove all but the last ``keep`` checkpoints."""
    for step in sorted(checkpoints)[:-keep]:
        shutil.rmtree(checkpoints[step], ignore_errors=True)


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise RunFormatError(
            f"{file}: cut short or damaged ({error}); copy it again, or use another checkpoint of the run"
        ) from None


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if wrong:
        raise TypeError(f"{wrong[0]}: the module's state holds something that is no tensor; keep it as a buffer")
    # Clones, since safetensors refuses tensors that share memory (tied weights).
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flattened(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    raw = optimizer.state_dict()
    entries = {f"{i}.{name}": value for i, state in raw["state"].items() for name, value in state.items()}
    tensors = {k: v for k, v in entries.items() if isinstance(v, Tensor)}
    numbers = {k: v for k, v in entries.items() if not isinstance(v, Tensor)}
    return tensors, {"param_groups": raw["param_groups"], "numbers": numbers}
