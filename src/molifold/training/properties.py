"""fit_property: learn energies with forces, or any number of a molecule, from labelled conformations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from molifold.networks import Graph, Property
from molifold.training.average import Average
from molifold.training.schedule import Schedule, cosine


@dataclass(frozen=True)
class MeanError:
    """Mean absolute error over frames, with its standard error (frames taken as independent).

    Args:
        value: of the property, in its unit; nan without frames.
        value_error: its standard error.
        forces: of the components of the forces, per nm; nan without forces.
        forces_error: its standard error, over frames.
    """

    value: float
    value_error: float
    forces: float = float("nan")
    forces_error: float = float("nan")


@dataclass(frozen=True)
class PropertyFit:
    """A trained ``Property`` and how it got there.

    Args:
        model: the module that was passed in, with the moving average of the weights, in eval mode.
        validation: errors on the frames held out.
        history: rows of ``step``, ``loss`` (of the last batch) and the fields of the validation's ``MeanError``.
        steps: optimiser steps done.
        seconds: wall time.
    """

    model: Property
    validation: MeanError
    history: Sequence[Mapping[str, float]]
    steps: int
    seconds: float


def fit_property(
    model: Property,
    x: Float[Tensor, "frames atoms 3"],
    y: Float[Tensor, " frames"],
    *,
    graph: Graph,
    forces: Float[Tensor, "frames atoms 3"] | None = None,
    steps: int,
    max_seconds: float | None = None,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    schedule: Schedule | None = None,
    weight_decay: float = 0.0,
    ema: float = 0.99,
    energy_weight: float = 1.0,
    validation: float = 0.1,
    validate_every: int = 500,
    standardize: bool = True,
    seed: int = 0,
    progress: Callable[[Mapping[str, float]], None] | None = None,
) -> PropertyFit:
    """Train ``model`` by AdamW on squared errors: energy_weight (y - y')^2 + mean over atoms of |F - F'|^2.

    The mean of the property, of which forces know nothing, is not left to the optimiser: the reference is shifted so
    that predictions are right on average over the training frames.

    Args:
        model: trained in place, on its device and in its precision.
        x: nm, padded where molecules differ.
        y: the property, in the model's unit; best in float64.
        graph: one molecule, or ``Graph.stack`` of one per frame.
        forces: the model's unit per nm.
        steps, max_seconds: end; the learning rate follows whichever comes first.
        batch_size, learning_rate, weight_decay: of AdamW; ``schedule`` maps the spent share of the budget to a factor
            on the rate (default ``cosine()``).
        ema: decay of the moving average of the weights, which validation and the result use.
        energy_weight: 1/nm^2, of the property beside forces; the default is that of SchNet (0.01 per square Angstrom).
        validation: share of frames held out, drawn at random; judged every ``validate_every`` steps and at the end.
        standardize: take reference and scale from the training frames first; False to go on with a trained model.
        seed: of the split and the batches.
        progress: called with every row of the history.

    Raises:
        ValueError: if there are no steps, shapes disagree, nothing is left to train on, or ``x``, ``y`` or ``forces``
            are not finite.
        FloatingPointError: if the loss is no longer finite.

    >>> from molifold import Molecule
    >>> from molifold.networks import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "H"), bonds=((0, 1),)))
    >>> model = Property("SchNet", options={"channels": 8, "layers": 1, "reach": 0.3}, embedding=8)
    >>> x = 0.05 * torch.randn(40, 2, 3)
    >>> fit_property(model, x, (x[:, 0] - x[:, 1]).norm(dim=-1), graph=graph, steps=10).steps
    10
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps!r}, expected at least 1")
    _check(x, y, graph, forces, validation)
    data = _Frames(model, x, y, graph, forces)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    held, kept = order.split([round(validation * len(x)), len(x) - round(validation * len(x))])
    if standardize:
        model.standardize(y[kept], graph.members(kept))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    average = Average(model, decay=ema)
    averaged = cast(Property, average.module)
    loss = model.scale.new_zeros(())
    factor, history, start = schedule or cosine(), [], time.monotonic()
    unit = float(model.scale) ** 2
    step, waiting = 0, kept[:0]
    while True:
        seconds = time.monotonic() - start
        spent = max(step / steps, 0.0 if max_seconds is None else seconds / max_seconds)
        if step and (step % validate_every == 0 or spent >= 1):
            data.centre(averaged, kept)
            found = data.errors(averaged, held)
            history.append({"step": step, "seconds": seconds, "loss": float(loss.detach()), **vars(found)})
            if progress is not None:
                progress(history[-1])
        if spent >= 1:
            break
        if len(waiting) < min(batch_size, len(kept)):
            waiting = torch.cat([waiting, kept[torch.randperm(len(kept), generator=generator)]])
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor(spent)
        loss = data.loss(model.train(), batch, energy_weight=energy_weight) / unit
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss: got {float(loss.detach())} at step {step}; lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        average.follow(step=step)
    model.load_state_dict(average.module.state_dict())
    return PropertyFit(model.eval(), found, history, step, time.monotonic() - start)


def mean_error(
    model: Property,
    x: Float[Tensor, "frames atoms 3"],
    y: Float[Tensor, " frames"],
    *,
    graph: Graph,
    forces: Float[Tensor, "frames atoms 3"] | None = None,
) -> MeanError:
    """Mean absolute errors of ``model`` on labelled frames; arguments as in ``fit_property``."""
    _check(x, y, graph, forces, 0.0)
    return _Frames(model, x, y, graph, forces).errors(model, torch.arange(len(x)))


class _Frames:
    """Labelled frames: what a model makes of some of them."""

    def __init__(self, model: Property, x: Tensor, y: Tensor, graph: Graph, forces: Tensor | None) -> None:
        like = model.scale
        self.x, self.y = x.to(like), y.to(like.device, torch.float64)
        self.graph = graph.to(like.dtype).to(like.device)
        self.forces = None if forces is None else forces.to(like)
        self.sizes = torch.full((len(x),), x.shape[1]) if graph.mask is None else graph.mask.sum(-1).expand(len(x))

    def differences(self, model: Property, rows: Tensor, *, learn: bool) -> tuple[Tensor, Tensor | None]:
        """Of the property [rows], and of the forces [rows, atoms, 3], padding at zero."""
        graph = self.graph.members(rows)
        # The labels less the reference, in double precision; then small enough for single.
        labels = (self.y[rows] - model.reference(graph)).to(self.x)
        if self.forces is None:
            return model(self.x[rows], graph) - labels, None
        y, forces = model.with_forces(self.x[rows], graph, create_graph=learn)
        wrong = forces - self.forces[rows]
        return y - labels, wrong if graph.mask is None else wrong * graph.mask[..., None]

    def loss(self, model: Property, rows: Tensor, *, energy_weight: float) -> Tensor:
        wrong, wrong_forces = self.differences(model, rows, learn=True)
        if wrong_forces is None:
            return wrong.square().mean()
        sizes = self.sizes[rows].to(wrong)
        return energy_weight * wrong.square().mean() + (wrong_forces.square().sum((1, 2)) / sizes).mean()

    @torch.no_grad()
    def centre(self, model: Property, rows: Tensor) -> None:
        """Shift the reference of ``model`` so that its mean error on these rows vanishes."""
        wrong = [
            model(self.x[part], graph).double() + model.reference(graph) - self.y[part]
            for part, graph in ((part, self.graph.members(part)) for part in rows.split(256))
        ]
        model.offset -= torch.cat(wrong).mean()

    @torch.no_grad()
    def errors(self, model: Property, rows: Tensor) -> MeanError:
        training = model.training
        model.eval()
        parts = [self.differences(model, part, learn=False) for part in rows.split(256) if len(part)]
        model.train(training)
        if not parts:
            return MeanError(float("nan"), float("nan"))
        found = _mean(torch.cat([value.abs() for value, _ in parts]))
        if self.forces is None:
            return MeanError(*found)
        forces = torch.cat([f.abs().sum((1, 2)) for _, f in parts if f is not None])
        return MeanError(*found, *_mean(forces / (3 * self.sizes[rows].to(forces))))


def _mean(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    numbers = values.double().cpu().numpy()
    return float(numbers.mean()), float(np.std(numbers) / max(1, len(numbers) - 1) ** 0.5)


def _check(x: Tensor, y: Tensor, graph: Graph, forces: Tensor | None, validation: float) -> None:
    atoms, frames = graph.nodes.shape[-2], len(x) if graph.nodes.ndim == 2 else len(graph.nodes)
    if x.shape != (frames, atoms, 3):
        raise ValueError(f"x: got shape {list(x.shape)}, expected [{frames}, {atoms}, 3] as the graph has it")
    if y.shape != (frames,):
        raise ValueError(f"y: got shape {list(y.shape)}, expected [{frames}], one number for every frame of x")
    if forces is not None and forces.shape != x.shape:
        raise ValueError(f"forces: got shape {list(forces.shape)}, expected that of x, {list(x.shape)}")
    for name, values in (("x", x), ("y", y), ("forces", forces)):
        if values is not None and not torch.isfinite(values).all():
            raise ValueError(f"{name}: got values that are not finite; leave those frames out")
    if not 0 <= validation < 1 or round(validation * frames) >= frames:
        raise ValueError(f"validation: got {validation!r} of {frames} frames, expected a share that leaves some over")
