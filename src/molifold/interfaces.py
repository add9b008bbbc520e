"""Every protocol of the torch half on one page. Start reading here.

Signs and shapes, once and for all: ``log_p = -u`` (unnormalised target, u in kT), ``log_q`` is the normalised
density of a generator, ``log_w = log_p - log_q``, and ``log_det = log|d output / d input|`` of the direction
called. All have shape ``[batch]``. Lengths are in nm, angles in radians.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Generator, Tensor, nn

if TYPE_CHECKING:
    from molifold.ensemble import Ensemble

RecordKind = Literal["scalar", "histogram", "map", "table", "series", "text"]

#: What every example of a batch contributes to a loss: ``loss(model, batch) -> [examples]``.
ExampleLoss = Callable[[nn.Module, Any], Float[Tensor, " examples"]]


@runtime_checkable
class Energy(Protocol):
    """Reduced potential u(x) = U(x) / kT of batches of conformations, differentiable by autograd."""

    @property
    def temperature(self) -> float:
        """K; 1 for analytic systems, whose u is in kT already."""
        ...

    def __call__(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """Reduced potential of every conformation; ``x`` in nm."""
        ...

    def at(self, temperature: float) -> Energy:
        """The same potential U in units of another kT."""
        ...


@runtime_checkable
class Density(Protocol):
    """A distribution that can be evaluated and sampled (a Flow is one)."""

    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Normalised log-density."""
        ...

    def sample(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
        """``n`` independent draws and their ``log_q``."""
        ...


class Sampler(Protocol):
    """Anything that makes conformations: MD, a flow, an annealed sampler."""

    def __call__(self, n: int, *, seed: int) -> Ensemble:
        """``n`` conformations with whatever is known of them (``log_p``, ``log_q``, weights)."""
        ...


class Network(Protocol):
    """A network on a molecular graph: features of every atom in, features of every atom out.

    Everything it knows of the molecule comes from ``graph`` (see ``networks.graph``), so that one set of weights
    serves any molecule.
    """

    def __call__(self, features: Float[Tensor, "batch atoms channels"], graph: Any) -> Float[Tensor, "batch atoms out"]:
        """One message-passing evaluation."""
        ...


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    ``x`` [batch, atoms, 3] nm; ``log_p`` [batch] or None (= -u at the target temperature); ``weights`` [batch] or
    None (importance of every frame); ``step`` counts optimiser steps; ``lagged`` [batch, atoms, 3] or None: the frames
    that follow ``x`` after the lag of the training, each in its own trajectory.
    """

    x: Tensor
    log_p: Tensor | None = None
    weights: Tensor | None = None
    step: int = 0
    lagged: Tensor | None = None


class Loss(Protocol):
    """A training objective. Losses are plain callables; the sum of several is weighted by ``fit``."""

    def __call__(self, flow: Density, batch: Batch, energy: Energy | None, generator: Generator) -> Tensor:
        """Scalar to minimise. ``generator`` is the only source of randomness it may use."""
        ...


@dataclass(frozen=True)
class Moment:
    """What a probe may look at: one instant of a training.

    ``scalars`` are numbers the step computed anyway. ``batch`` is the small fixed probe batch. ``model`` is the raw
    module, in eval mode, with the gradients of the last step in ``.grad``. ``before`` holds the parameters as they were
    before the last step, by name; empty where nobody kept them. ``loss(model, batch)`` is the loss of every example of
    the batch; None where nobody told.
    """

    step: int
    model: nn.Module
    scalars: Mapping[str, float] = field(default_factory=dict)
    batch: Any = None
    before: Mapping[str, Tensor] = field(default_factory=dict)
    loss: ExampleLoss | None = None


Record = tuple[RecordKind, dict[str, np.ndarray]]


class Probe(Protocol):
    """Looks at a moment and returns named records; never changes training.

    The docstring says what it shows, what healthy looks like, and what to do otherwise.
    """

    def __call__(self, moment: Moment) -> dict[str, Record]:
        """Records by name: a kind and its arrays."""
        ...
