"""Health of a trained flow: its units, ranks, gradients and curvature, in numbers and in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import getdoc

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding, ranked
from molifold.interfaces import Probe, Record
from molifold.probes import activations as units
from molifold.probes import (
    alignment,
    curvature,
    feature_ranks,
    gradient_noise,
    preserved,
    representations,
    watch_activations,
    watch_curvature,
    watch_gradient_noise,
    watch_layers,
    watch_ranks,
    weight_ranks,
)
from molifold.probes.activations import findings as unit_findings
from molifold.probes.activations import records as unit_records
from molifold.probes.alignment import findings as layer_findings
from molifold.probes.alignment import records as layer_records
from molifold.probes.curvature import findings as curvature_findings
from molifold.probes.curvature import records as curvature_records
from molifold.probes.gradient_noise import findings as noise_findings
from molifold.probes.gradient_noise import records as noise_records
from molifold.probes.ranks import findings as rank_findings
from molifold.probes.ranks import records as rank_records
from molifold.runs import Run
from molifold.training.flow_parts import coupled
from molifold.training.flow_probes import EXAMINATIONS

#: Frames for units and ranks, for the similarity of layers, the gradient noise and the curvature, at most.
UNIT_FRAMES, LAYER_FRAMES, NOISE_FRAMES, CURVATURE_FRAMES = 512, 128, 2048, 128
#: Micro-batches for the gradient noise.
NOISE_PARTS = 16
#: Frames below which nothing can be said.
FEWEST = 32

#: What one examination found: in words, and as records.
Found = tuple[Sequence[Finding], Mapping[str, Record]]
#: A flow and frames in, in random order.
Examination = Callable[[nn.Module, Tensor], Found]


@dataclass(frozen=True)
class Health:
    """What was found: ``findings``, the gravest first, and ``records`` by name (kind, arrays, how to read it)."""

    findings: tuple[Finding, ...] = ()
    records: Mapping[str, tuple[str, dict, str]] = field(default_factory=dict, repr=False)

    def table(self) -> dict[str, ndarray]:
        """The findings as columns of a record."""
        parts = {"name": "subject", "level": "level", "message": "message", "remedy": "remedy"}
        return {key: np.array([getattr(f, part) for f in self.findings]) for key, part in parts.items()}

    def lines(self) -> list[str]:
        """One line per finding."""
        return [("" if f.level == "ok" else f"{f.level}: ") + f.words() for f in self.findings]


def examine(
    flow: nn.Module,
    x: Tensor,
    *,
    batch_size: int | None = None,
    other: tuple[str, nn.Module] | None = None,
    history: Sequence[Finding] = (),
    seed: int = 0,
) -> Health:
    """Examine any flow with ``log_prob``; nothing in it changes.

    Args:
        flow: in any mode.
        x: frames of what it should generate.
        batch_size: of its training, to compare the gradient noise with.
        other: a name and a flow of the same molecule (another checkpoint, another run) to compare the layers with.
        history: findings that are known already.
        seed: of the choice of frames and of random vectors.
    """
    # Neighbours in time are alike: micro-batches of them would be less alike than those of the training.
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)]
    examinations: list[tuple[str, Probe, Examination]] = [
        ("units", watch_activations, _units),
        ("ranks", watch_ranks, _ranks),
        ("gradient noise scale", watch_gradient_noise, lambda f, x: _noise(f, x, batch_size)),
        ("similarity of layers", watch_layers, _layers),
        ("curvature", watch_curvature, lambda f, x: _curvature(f, x, seed)),
        *(EXAMINATIONS if coupled(flow) else ()),
    ]
    if other is not None:
        label, second = other
        examinations.append((f"similarity with {label}", watch_layers, lambda f, x: _both(f, second, x, label)))
    findings = list(history)
    records: dict[str, tuple[str, dict, str]] = {}
    for name, probe, examination in examinations if len(x) >= FEWEST else []:
        with preserved(flow):
            try:
                told, seen = examination(flow, x)
            except (RuntimeError, ValueError) as error:  # a module may lack what one of them needs, not all of them
                told, seen = [Finding("ok", name, f"not looked at ({type(error).__name__}: {error})")], {}
        findings += told
        text = getdoc(probe) or ""
        records |= {record: (kind, arrays, text) for record, (kind, arrays) in seen.items()}
    return Health(ranked(findings), records)


def history_of(run: Run) -> list[Finding]:
    """What the events of a run say about its training: loss spikes and batches that were skipped."""
    events = run.events()[0]
    spikes = [e for e in events if e["kind"] == "loss_spike"]
    skipped = [e for e in events if e["kind"] == "bad_batch"]
    found = []
    if spikes:
        worst = max(spikes, key=lambda e: e["score"])
        told = f"{len(spikes)}, the largest at step {worst['step']} ({worst['score']:.0f} deviations)"
        kept = [e for e in spikes if "ensemble" in e]
        if kept:
            told += f"; batches are kept, the largest as the ensemble {max(kept, key=lambda e: e['score'])['ensemble']}"
        first = Counter(e["frames"][0] for e in spikes if e.get("frames")).most_common(1)
        if first and first[0][1] > 1:
            told += f"; frame {first[0][0]} is the worst of {first[0][1]} of them"
        remedy = "look at its first frames; if nothing is wrong with them, lower the learning rate or clip_norm"
        found.append(Finding("warning", "loss spikes", told, remedy, severity=min(1.0, len(spikes) / 100)))
    if skipped:
        told = f"{len(skipped)} skipped because loss or gradient was not finite, last at step {skipped[-1]['step']}"
        remedy = "look for broken frames (the events name them); otherwise lower learning_rate or clip_norm"
        found.append(Finding("warning", "bad batches", told, remedy, severity=min(1.0, len(skipped) / 100)))
    return found


def _nll(flow: nn.Module, x: Tensor) -> Tensor:
    return -flow.log_prob(x)  # type: ignore[operator]


def _units(flow: nn.Module, x: Tensor) -> Found:
    found = units(flow, x[:UNIT_FRAMES], loss=_nll)
    return unit_findings(found), unit_records(found)


def _ranks(flow: nn.Module, x: Tensor) -> Found:
    weights, read = weight_ranks(flow), feature_ranks(flow, x[:UNIT_FRAMES], loss=_nll)
    return rank_findings(weights, read), rank_records(weights, read)


def _noise(flow: nn.Module, x: Tensor, batch_size: int | None) -> Found:
    found = gradient_noise(flow, _nll, x[:NOISE_FRAMES], parts=NOISE_PARTS)
    return noise_findings(found, batch_size=batch_size), noise_records(found)


def _layers(flow: nn.Module, x: Tensor) -> Found:
    found = alignment(representations(flow, x[:LAYER_FRAMES], loss=_nll))
    return layer_findings(found), layer_records(found)


def _both(flow: nn.Module, other: nn.Module, x: Tensor, name: str) -> Found:
    some = x[:LAYER_FRAMES]
    with preserved(other):
        second = representations(other, some, loss=_nll)
    found = alignment(representations(flow, some, loss=_nll), second)
    return layer_findings(found, what=name), layer_records(found, name=f"similarity of layers - {name}")


def _curvature(flow: nn.Module, x: Tensor, seed: int) -> Found:
    some, others = x[:CURVATURE_FRAMES], x[CURVATURE_FRAMES : 2 * CURVATURE_FRAMES]
    found = curvature(
        flow, _nll, some, held_out=others if len(others) >= FEWEST else None, top=2, vectors=8, tolerance=0.1, seed=seed
    )
    return curvature_findings(found), curvature_records(found)
