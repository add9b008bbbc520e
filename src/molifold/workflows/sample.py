"""From a trained run to weighted conformations, and what their weights say."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molifold.analysis import (
    POSITIVE_PHI,
    Acceptance,
    EffectiveSampleSize,
    Estimate,
    ParetoK,
    alanine_basins,
    between,
    effective_sample_size,
    independence_acceptance,
    measure,
    named_torsions,
    pareto_k,
    population,
)
from molifold.analysis.weights import normalised_weights
from molifold.ensemble import Ensemble
from molifold.runs import Run

#: Where the draws of a run lie, under ``ensembles``.
SAMPLES = "generated"


def sample(
    run: str | Path,
    n: int,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    device: str = "cpu",
    to: str | Path | None = None,
    trust: Sequence[str] = (),
    progress: Callable[..., None] | None = None,
) -> Ensemble:
    """Draw ``n`` conformations from the flow of a run, with energies and both densities, into a store.

    Args:
        run: a run directory that ``training.train_recipe`` wrote.
        seed, batch_size, device, progress: see ``sampling.draw``.
        trust: packages outside molifold from which the run's recipe may take code, see ``training.load_flow``.
        to: the store; the default is the run's own ensemble "generated", which is replaced.

    Raises:
        RunFormatError: if ``run`` is no run.
        ValueError: if the run does not say what its flow or its system is, or there is no such device.
        FileExistsError: if ``to`` exists.
        PermissionError: if the run names code outside molifold and ``trust``.
    """
    import torch

    from molifold.sampling import draw
    from molifold.training import Recipe, load_flow, make_energy, make_system

    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device: got {device!r}, but torch finds no GPU here; use cpu")
    opened = Run.open(run)
    if opened.recipe is None or opened.molecule is None:
        raise ValueError(f"run: {run} keeps no recipe, so its energy is unknown; call sampling.draw with yours")
    recipe = Recipe(opened.recipe, source=str(run), trust=("molifold", *trust))
    flow = load_flow(run, trust=trust).to(device)
    energy = make_energy(recipe, make_system(recipe))
    own = opened.path / "ensembles" / SAMPLES
    target = own.with_name(f".{SAMPLES}.part") if to is None else Path(to)
    if to is None:
        own.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
    drawn = draw(
        flow, n, molecule=opened.molecule, energy=energy, seed=seed, batch_size=batch_size, device=device, to=target,
        progress=progress,
    )  # fmt: skip
    if to is not None:
        return drawn
    shutil.rmtree(own, ignore_errors=True)
    target.rename(own)
    return Ensemble.load(own)


def export(samples: Ensemble, path: str | Path, *, resampled: int | None = None, seed: int = 0) -> list[Path]:
    """Write draws as a trajectory that other programs read; returns the files.

    Draws that are not finite cannot be written and are left out. No trajectory format carries weights: a file of the
    same name ending in ``.npz`` holds ``log_p``, ``log_q``, normalised ``weight`` and the columns of every frame.

    Args:
        samples: with weights.
        path: its extension names the format, see ``data.write``.
        resampled: write this many frames instead, each in proportion to its weight; all have equal weight then, so
            that there is no second file.
        seed: of the resampling.

    Raises:
        ValueError: as ``data.write`` and ``sampling.resample``.
    """
    from molifold.data import write
    from molifold.sampling import resample

    if resampled is not None:
        return [write(resample(samples, resampled, seed=seed), path)]
    finite = np.isfinite(samples.x).all(axis=(1, 2))
    kept = samples if finite.all() else samples[finite]
    trajectory = write(kept, path)
    beside = trajectory.with_suffix(".npz")
    weight = normalised_weights(kept.log_w)
    arrays: dict[str, Any] = {"log_p": kept.log_p, "log_q": kept.log_q, "weight": weight, **kept.columns}
    np.savez(beside, **arrays)
    return [trajectory, beside]


@dataclass(frozen=True)
class Summary:
    """What the weights of independent draws say: how many, how good, and which populations follow.

    ``invalid`` draws were not finite and have weight zero. Every figure is unclipped; ``ess`` holds the clipped one
    beside it.
    """

    n: int
    invalid: int
    ess: EffectiveSampleSize
    tail: ParetoK
    acceptance: Acceptance
    populations: Mapping[str, Estimate]

    def lines(self) -> dict[str, str]:
        """One line of text per figure, by name."""
        broken = f", {self.invalid} not finite (weight zero)" if self.invalid else ""
        return {
            "draws": f"{self.n}{broken}",
            "effective": f"{self.ess!r}, heaviest {100 * self.ess.max_weight:.2g} % of all weight",
            "tail": repr(self.tail),
            "chain": repr(self.acceptance),
            **{f"P({name})": repr(estimate) for name, estimate in self.populations.items()},
        }


def summarize(samples: Ensemble) -> Summary:
    """Effective sample size, tail, acceptance, and populations of the basins of every phi.

    Raises:
        ValueError: if the ensemble has no weights, or fewer than 25 frames.
    """
    log_w = samples.log_w
    return Summary(
        n=len(samples),
        invalid=int(samples.meta.get("invalid", np.isneginf(log_w).sum())),
        ess=effective_sample_size(log_w),
        tail=pareto_k(log_w),
        acceptance=independence_acceptance(log_w),
        populations={name: population(inside, log_w) for name, inside in _basins(samples).items()},
    )


def _basins(samples: Ensemble) -> dict[str, np.ndarray]:
    angles = [name for name in named_torsions(samples.molecule) if name.split("_")[0] in ("phi", "psi")]
    columns = measure(samples, names=angles).columns
    if set(angles) == {"phi", "psi"}:
        return alanine_basins(columns["phi"], columns["psi"])
    low, high = POSITIVE_PHI
    phis = [name for name in angles if name.startswith("phi")]
    return {f"{low} < {name} < {high} degrees": between(columns[name], low, high=high) for name in phis}
