"""Input similarity: which inputs a network cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import Record

#: Inputs of at least this similarity move together, whatever the training asks of either.
SAME = 0.99
#: Pairs that are kept, the most similar first.
PAIRS = 20


@dataclass(frozen=True)
class Pair:
    """Two inputs, how similar they are to the network, and how different they are in truth."""

    first: int
    second: int
    similarity: float
    difference: float


@dataclass(frozen=True)
class Similarity:
    """Similarity of all pairs of inputs, as the network sees them.

    Attributes:
        kernel: [inputs, inputs] in [-1, 1]; 1: a step of training that moves the output of one moves that of the other
            just as much.
    """

    kernel: Float[ndarray, "inputs inputs"]

    @property
    def neighbours(self) -> Float[ndarray, " inputs"]:
        """How many inputs look like each one, itself included: near 1 alone, near all of them not told apart at all."""
        return self.kernel.sum(1)

    def pairs(self, difference: Float[ndarray, "inputs inputs"], *, least: float) -> list[Pair]:
        """Pairs whose true ``difference`` is at least ``least``, the most similar to the network first."""
        i, j = np.triu_indices(len(self.kernel), 1)
        far = difference[i, j] >= least
        i, j = i[far], j[far]
        order = np.argsort(-self.kernel[i, j], kind="stable")[:PAIRS]
        return [Pair(int(a), int(b), float(self.kernel[a, b]), float(difference[a, b])) for a, b in
                zip(i[order], j[order], strict=True)]  # fmt: skip

    def __repr__(self) -> str:
        n = len(self.kernel)
        return f"Similarity({n} inputs, on average like {self.neighbours.mean():.3g} of {n})"


def input_similarity(
    model: nn.Module, output: Callable[[Tensor], Tensor], x: Float[Tensor, "inputs *event"]
) -> Similarity:
    """Normalised inner products of the gradients of the output with respect to the parameters.

    For one output k(x, x') = g(x).g(x') / |g(x)| |g(x')| with g the gradient; for d outputs, with K(x, x') the d x d
    matrix of inner products, tr(K(x, x)^-1/2 K(x, x') K(x', x')^-1/2) / d.

    Args:
        model: whose parameters count; pass a part of the network to see what that part tells apart.
        output: function of a batch of inputs, [batch] or [batch, d]; one backward pass per input and d.
        x: inputs; some dozens are plenty.

    Raises:
        ValueError: if no parameter takes part.

    Reference: Charpiat, Girard, Felardos and Tarabalka (2019), Input similarity from the neural network perspective,
    arXiv 2102.05262.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> found = input_similarity(model, model, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> found.kernel.round(4).tolist()
    [[1.0, 0.0, 0.7071], [0.0, 1.0, 0.7071], [0.7071, 0.7071, 1.0]]
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for one in x.split(1):
        with torch.enable_grad():
            out = output(one).reshape(-1)
        rows.append(torch.stack([_flat(value, parameters) for value in out]))
    g = torch.stack(rows).double()  # [inputs, outputs, parameters]
    kernel = torch.einsum("iap,jbp->ijab", g, g)
    if not bool(kernel.any()):
        raise ValueError("output: got one that depends on no parameter of the model")
    own = torch.stack([_inverse_root(kernel[i, i]) for i in range(len(g))])
    whole = torch.einsum("iab,ijbc,jca->ij", own, kernel, own) / g.shape[1]
    return Similarity(whole.clamp(-1, 1).cpu().numpy())


def _flat(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    slopes = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if s is None else s.flatten() for s, p in zip(slopes, parameters, strict=True)]
    )


def _inverse_root(k: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """k^-1/2 on the directions that the outputs span."""
    values, vectors = torch.linalg.eigh(k)
    keep = values > 1e-10 * values[-1].clamp(min=1e-300)
    return (vectors * torch.where(keep, values.clamp(min=1e-300).rsqrt(), 0.0)) @ vectors.T


def findings(found: Similarity, pairs: list[Pair], *, unit: str = "") -> list[Finding]:
    """A warning for pairs that are different in truth and the same to the network."""
    n, same = len(found.kernel), [p for p in pairs if p.similarity >= SAME]
    if not same:
        most = f"; different ones are {pairs[0].similarity:.2f} alike at most" if pairs else ""
        message = f"a conformation looks like {found.neighbours.mean():.2g} of {n} on average{most}"
        return [Finding("ok", "similarity", message)]
    worst = max(same, key=lambda p: p.difference)
    message = (
        f"cannot tell apart {len(same)} pair{'s' * (len(same) > 1)} of different conformations, such as frames "
        f"{worst.first} and {worst.second}: {worst.similarity:.3f} alike, {worst.difference:.3g}{unit} apart"
    )
    remedy = "show it what differs between the two, or widen it"
    return [Finding("warning", "similarity", message, remedy, severity=len(same) / PAIRS)]


def records(found: Similarity, pairs: list[Pair], *, difference: str = "difference") -> dict[str, Record]:
    """All similarities, and the pairs that are most alike although they differ."""
    ticks = np.arange(len(found.kernel))
    table = {
        "name": np.array([f"{p.first} and {p.second}" for p in pairs], dtype=np.str_),
        "similarity": np.array([p.similarity for p in pairs]),
        difference: np.array([p.difference for p in pairs]),
    }
    out: dict[str, Record] = {"input similarity": ("map", {"values": found.kernel, "x": ticks, "y": ticks})}
    return {**out, "indistinguishable frames": ("table", table)} if pairs else out
