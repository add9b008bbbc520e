"""Conditioner or depth: what better parameters of its couplings would save for one coordinate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molifold.training.flow_parts import learnt
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Chain, Transform

#: Random waves of what a conditioner sees, and their wave numbers per standard deviation.
WAVES, NUMBERS = 96, (0.5, 1.0, 2.0, 4.0)
#: Amplitudes of the step that are tried; 1 is a whole step of natural gradient.
AMPLITUDES = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
#: Conditioners are at fault if they could save this share of what one more layer would.
SHARE = 0.3


@dataclass(frozen=True)
class Gain:
    """Measured saving, nats per conformation, with its standard error over conformations.

    Attributes:
        nats: decrease of the mean loss of held-out conformations by a real step of the parameters; 0 if none was lower.
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
    """Let spline parameters be any smooth function of what the conditioners see, and take a step.

    In every coupling that moves one of the two coordinates and is given the other, half of the conformations propose:
    their gradients of the loss with respect to the parameters, regressed on random waves of all known coordinates,
    over the Fisher matrix of the parameters (the natural gradient). A quarter chooses the amplitude and the last
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
    steps: list[Transform] = []
    offsets: list[_Offset] = []
    for step in chain.steps:
        moved = _moved(step, target, source) if isinstance(step, Coupling) else None
        if moved is not None:
            assert isinstance(step, Coupling)
            offsets.append(_Offset(step.conditioner, _row(step, moved)))
            step = _like(step, offsets[-1])
        assert isinstance(step, Transform)
        steps.append(step)
    if not offsets:
        return Gain(0.0, 0.0, 0)
    altered = Chain(steps)

    def loss(rows: Tensor) -> Float[Tensor, " rows"]:
        z, log_det = altered(u[rows])
        return -(base.log_prob(z) + log_det)  # type: ignore[union-attr,operator]

    index = torch.arange(len(u), device=u.device)
    propose, choose, measure = index[::2], index[1::4], index[3::4]
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        total = loss(propose).sum()
    for offset in offsets:
        offset.propose(total, generator)

    def decrease(amplitude: float, rows: Tensor) -> Float[Tensor, " rows"]:
        losses = []
        for factor in (0.0, amplitude):
            for offset in offsets:
                offset.amplitude = factor
            with torch.no_grad():
                losses.append(loss(rows))
        return (losses[0] - losses[1]).double()

    best = max(AMPLITUDES, key=lambda a: float(decrease(a, choose).nan_to_num(-torch.inf).mean()))
    saved = decrease(best, measure)
    return Gain(max(float(saved.mean()), 0.0), float(saved.std() / len(saved) ** 0.5), len(offsets))


def _moved(step: Coupling, target: int, source: int) -> int | None:
    """Which of two coordinates a coupling moves while it sees the other."""
    return next((i for i, j in ((target, source), (source, target)) if step.mask[i] and step.given[j]), None)


def _like(step: Coupling, conditioner: nn.Module) -> Transform:
    return Coupling(
        step.domain, torch.from_numpy(step.mask), given=torch.from_numpy(step.given), conditioner=conditioner
    )


def _row(step: Coupling, target: int) -> tuple[str, int]:
    """Support of a coordinate, and its place among those of that support that the coupling moves."""
    support = step.domain.supports[target]
    return support, int((step.mask & step.domain.has(support))[:target].sum())


class _Offset(nn.Module):
    """A conditioner whose parameters of one coordinate can be moved by a function of what it sees."""

    def __init__(self, inner: nn.Module, place: tuple[str, int]) -> None:
        super().__init__()
        self.inner, self.place, self.amplitude = inner, place, 0.0
        self._function: _Waves | None = None
        self._seen: tuple[Tensor, Mapping[str, Tensor]] | None = None

    def forward(self, known: Float[Tensor, "known batch"]) -> dict[str, Float[Tensor, "n parameters batch"]]:
        raw = dict(self.inner(known))
        if self._function is None:  # the first time: to be differentiated
            raw = {support: r.detach().requires_grad_() for support, r in raw.items()}
            self._seen = known.detach(), raw
        elif self.amplitude:
            support, row = self.place
            moved = raw[support].clone()
            moved[row] += self.amplitude * self._function(known).to(moved)
            raw[support] = moved
        return raw

    def propose(self, total: Tensor, generator: torch.Generator) -> None:
        """Regress the gradient of the loss on waves of what was seen."""
        assert self._seen is not None
        known, raw = self._seen
        support, row = self.place
        (slope,) = torch.autograd.grad(total, raw[support], retain_graph=True)
        self._function, self._seen = _Waves(known, -slope[row], generator), None


class _Waves:
    """Ridge regression of ``asked`` [parameters, batch] on random waves of ``known`` [known, batch]."""

    def __init__(self, known: Tensor, asked: Float[Tensor, "parameters batch"], generator: torch.Generator) -> None:
        self._centre, self._scale = known.mean(1, keepdim=True), known.std(1, keepdim=True).clamp(min=1e-6)
        size = len(known)
        # Every wave sees a few coordinates: along random directions of many, waves could not tell them apart.
        few = (torch.rand(WAVES, size, generator=generator) < min(1.0, 2.0 / size)).double()
        few[torch.arange(WAVES), torch.arange(WAVES) % size] = 1.0
        numbers = torch.tensor(NUMBERS).double()[torch.arange(WAVES) // size % len(NUMBERS)]
        direction = torch.randn(WAVES, size, generator=generator).double() * few
        self._direction = (numbers[:, None] * direction / few.sum(1, keepdim=True).sqrt()).to(known)
        self._phase = (2 * math.pi * torch.rand(WAVES, 1, generator=generator)).to(known)
        f, v = self._features(known).double(), asked.double()
        gram = f @ f.T
        ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        fisher = v @ v.T / v.shape[1]
        fisher += 1e-2 * fisher.diagonal().mean().clamp(min=1e-300) * torch.eye(len(v), dtype=v.dtype, device=v.device)
        weight = torch.linalg.solve(gram + ridge, f @ v.T)  # [features, parameters]
        self._weight = torch.linalg.solve(fisher, weight.T).T.to(known)

    def __call__(self, known: Tensor) -> Float[Tensor, "parameters batch"]:
        return self._weight.T @ self._features(known)

    def _features(self, known: Tensor) -> Float[Tensor, "features batch"]:
        x = (known - self._centre) / self._scale
        return torch.cat([torch.ones_like(x[:1]), x, torch.sin(self._direction @ x + self._phase)])
