"""Conditioner or depth: what better parameters of its couplings would save for one coordinate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molifold.training.flow_parts import learnt
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Chain, Transform

#: Random waves of what a conditioner sees, and their wave numbers per standard deviation.
WAVES, NUMBERS = 96, (0.5, 1.0, 2.0, 4.0)
#: Wave numbers of the one coordinate that matters: per standard deviation, or whole turns of an angle.
ONE = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
#: Amplitudes of the step that are tried; 1 is a whole step of natural gradient.
AMPLITUDES = (0.1, 0.3, 0.6, 1.0)
#: Steps at most.
ROUNDS = 6
#: Conditioners are at fault if they alone would save the larger part of what one more layer would.
SHARE = 0.5


@dataclass(frozen=True)
class Gain:
    """Measured saving, nats per conformation, with its standard error over conformations.

    Attributes:
        nats: decrease of the mean loss of held-out conformations by real steps of the parameters; 0 if none was lower.
        error: its standard error (paired).
        couplings: how many move one of the two coordinates and see the other.
    """

    nats: float
    error: float
    couplings: int

    def explains(self, saving: float) -> bool:
        """Whether better conditioners would save a good part of what one more layer would."""
        return self.nats > max(2 * self.error, SHARE * saving)


def conditioner_gain(
    flow: nn.Module, x: Float[Tensor, "frames atoms 3"], target: int, source: int, *, seed: int = 0
) -> Gain:
    """Let spline parameters be any smooth function of what the conditioners see, and take some steps.

    In every coupling that moves one of the two coordinates and is given the other, half of the conformations propose:
    their gradients of the loss with respect to the parameters, regressed on random waves of all known coordinates,
    over the Fisher matrix of the parameters (the natural gradient). A quarter chooses the amplitudes and the last
    quarter measures. What the conditioners can express, they have been trained to; what is saved here they cannot.

    Args:
        flow: of couplings, in eval mode.
        x: conformations.
        target, source: coordinates that couplings move.
        seed: of the waves.

    Raises:
        TypeError: if the flow has no couplings.

    Reference: Rahimi and Recht (2007), Random features for large-scale kernel machines.
    """
    chain, u = learnt(flow, x)
    base = flow.base
    generator = torch.Generator().manual_seed(seed)
    steps: list[Transform] = []
    offsets: list[_Offset] = []
    for step in chain.steps:
        pair = _shown(step, target, source) if isinstance(step, Coupling) else None
        if pair is not None:
            assert isinstance(step, Coupling)
            offsets.append(_Offset(step.conditioner, _row(step, pair[0]), _Waves(step, pair[1], generator)))
            step = _like(step, offsets[-1])
        assert isinstance(step, Transform)
        steps.append(step)
    if not offsets:
        return Gain(0.0, 0.0, 0)
    altered = Chain(steps)

    def loss(rows: Tensor) -> Float[Tensor, " rows"]:
        z, log_det = altered(u[rows])
        return -(base.log_prob(z) + log_det).double()  # type: ignore[union-attr,operator]

    def tried(rows: Tensor, amplitude: float) -> Float[Tensor, " rows"]:
        with torch.no_grad(), _moving(offsets, amplitude):
            return loss(rows)

    index = torch.arange(len(u), device=u.device)
    propose, choose, measure = index[::2], index[1::4], index[3::4]
    before, lowest = tried(measure, 0.0), float(tried(choose, 0.0).mean())
    for _ in range(ROUNDS):
        for offset in offsets:
            offset.recording = True
        with torch.enable_grad():
            total = loss(propose).sum()
        for offset in offsets:
            offset.propose(total)
        means = {a: float(tried(choose, a).nan_to_num(torch.inf).mean()) for a in AMPLITUDES}
        best = min(means, key=lambda a: means[a])
        if means[best] >= lowest:
            break
        lowest = means[best]
        for offset in offsets:
            offset.take(best)
    saved = before - tried(measure, 0.0)
    return Gain(max(float(saved.mean()), 0.0), float(saved.std() / len(saved) ** 0.5), len(offsets))


@contextmanager
def _moving(offsets: Sequence[_Offset], amplitude: float) -> Iterator[None]:
    for offset in offsets:
        offset.amplitude = amplitude
    yield
    for offset in offsets:
        offset.amplitude = 0.0


def _shown(step: Coupling, target: int, source: int) -> tuple[int, int] | None:
    """Which of two coordinates a coupling moves while it sees the other, and that other."""
    return next(((i, j) for i, j in ((target, source), (source, target)) if step.mask[i] and step.given[j]), None)


def _like(step: Coupling, conditioner: nn.Module) -> Transform:
    return Coupling(
        step.domain, torch.from_numpy(step.mask), given=torch.from_numpy(step.given), conditioner=conditioner
    )


def _row(step: Coupling, target: int) -> tuple[str, int]:
    """Support of a coordinate, and its place among those of that support that the coupling moves."""
    support = step.domain.supports[target]
    return support, int((step.mask & step.domain.has(support))[:target].sum())


class _Offset(nn.Module):
    """A conditioner whose parameters of one coordinate are moved by random waves of what it sees."""

    def __init__(self, inner: nn.Module, place: tuple[str, int], waves: _Waves) -> None:
        super().__init__()
        self.inner, self.place, self.amplitude, self.recording = inner, place, 0.0, False
        self._waves = waves
        self._weight: Tensor | None = None
        self._step: Tensor | None = None
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, known: Float[Tensor, "known batch"]) -> dict[str, Float[Tensor, "n parameters batch"]]:
        support, row = self.place
        raw = dict(self.inner(known))
        values = raw[support].detach().clone()
        if self._step is not None:
            weight = self.amplitude * self._step + (0.0 if self._weight is None else self._weight)
            values[row] += (weight.T @ self._waves(known)).to(values)
        if self.recording:
            self._seen = known.detach(), values.requires_grad_()
        raw[support] = values
        return raw

    def propose(self, total: Tensor) -> None:
        """The next step: a ridge regression of what the loss asks for on the waves, over the Fisher matrix."""
        assert self._seen is not None
        known, values = self._seen
        self.recording, self._seen = False, None
        (slope,) = torch.autograd.grad(total, values, retain_graph=True)
        v = -slope[self.place[1]].double()
        f = self._waves(known)
        weight = torch.linalg.solve(_ridged(f @ f.T, 1e-3), f @ v.T)  # [waves, parameters]
        self._step = torch.linalg.solve(_ridged(v @ v.T / v.shape[1], 1e-2), weight.T).T

    def take(self, amplitude: float) -> None:
        """Keep the step that was proposed."""
        assert self._step is not None
        self._weight = amplitude * self._step + (0.0 if self._weight is None else self._weight)


def _ridged(matrix: Float[Tensor, "n n"], share: float) -> Float[Tensor, "n n"]:
    size = matrix.diagonal().mean().clamp(min=1e-300)
    return matrix + share * size * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


class _Waves:
    """Functions of what a coupling sees: waves of one coordinate, and random waves of a few, in float64."""

    def __init__(self, step: Coupling, one: int, generator: torch.Generator) -> None:
        self._circle = torch.from_numpy(step.domain.has("circle")[step.given])[:, None]
        self._one = int(step.given[:one].sum())
        size, number = int(step.given.sum()), torch.arange(WAVES)
        # Along directions of many coordinates at once, waves could not tell them apart.
        few = (torch.rand(WAVES, size, generator=generator) < min(1.0, 2.0 / size)).double()
        few[number, number % size] = 1.0
        direction = torch.randn(WAVES, size, generator=generator).double() * few / few.sum(1, keepdim=True).sqrt()
        length = torch.tensor(NUMBERS).double()[number // size % len(NUMBERS)]
        self._direction = length[:, None] * direction
        self._phase = 2 * math.pi * torch.rand(WAVES, 1, generator=generator).double()
        self._scale: tuple[Tensor, Tensor] | None = None

    def __call__(self, known: Float[Tensor, "known batch"]) -> Float[Tensor, "waves batch"]:
        known, circle = known.double(), self._circle.to(known.device)
        if self._scale is None:  # of the first conformations that are seen
            self._scale = known.mean(1, keepdim=True), known.std(1, keepdim=True).clamp(min=1e-6)
        x = torch.where(circle, known, (known - self._scale[0]) / self._scale[1])
        numbers = torch.arange(1, len(ONE) + 1) if bool(circle[self._one]) else torch.tensor(ONE)
        one = numbers.to(x)[:, None] * x[self._one]
        random = torch.sin(self._direction.to(x) @ x + self._phase.to(x))
        return torch.cat([torch.ones_like(x[:1]), x, one.sin(), one.cos(), random])
