"""What a layer could follow, what new units could follow, and a test of both on rows that did not propose them.

Notation: B rows of a layer's input, V the desired update of its output, C rows of a candidate source of new units; see
``Moments``. A layer can follow B D with D = (B'B)^+ B'V. What is left, V - B D, is followed by new units that read C
with fan-in alpha and fan-out omega, once both sides are cleared of what the layer explains (Frisch and Waugh).

References: Verbockhaven, Rudkiewicz, Chevallier, Charpiat (2024), arXiv 2405.19816 (desired update, best new neurons);
Chernozhukov et al. (2018), arXiv 1608.00060 (the orthogonal score: errors of D enter in second order only).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from molifold.probes.expressivity.statistics import NEWS, Moments, inverse_root, pseudo_inverse

#: More new units than this are not proposed at once.
MAX_UNITS = 8


@dataclass(frozen=True)
class Units:
    """New units for one site that read one source.

    A = B W becomes A + gamma (C ``alpha`` - B ``known``) ``omega``: ``alpha`` [c, units] fan-in, ``omega`` [units, out]
    fan-out, ``known`` [d, units] what the layer itself knows of the units. ``strengths`` are the singular values: the
    sum of their squares over the rows of the proposing fold, per example, is the decrease that it promises.
    """

    alpha: Float[Tensor, "c units"]
    omega: Float[Tensor, "units out"]
    known: Float[Tensor, "d units"]
    strengths: Float[Tensor, " all"]

    def direction(self, b: Float[Tensor, "*rows d"], c: Float[Tensor, "*rows c"]) -> Float[Tensor, "*rows out"]:
        """What the units add to the output at unit amplitude, cleared of what the layer can do itself."""
        return (c @ self.alpha - b @ self.known) @ self.omega


@dataclass(frozen=True)
class Proposal:
    """What fold a proposes for one site: ``weights`` [d, out], the layer's own best update, and new units by source."""

    weights: Float[Tensor, "d out"]
    units: dict[str, Units]


def bottleneck(moments: Moments) -> float:
    """Squared norm of what the layer cannot follow, per example: (|V|^2 - tr M' S^+ M) / n.

    A detail, not an alarm: it is all of |V|^2 at every stationary point of every network, wide or narrow.
    """
    followed = torch.sum(moments.bv * (pseudo_inverse(moments.bb) @ moments.bv))
    return (moments.vv - float(followed)) / moments.examples


@dataclass(frozen=True)
class Masks:
    """What every output of a masked layer may depend on: what the layer sees, and columns of every source."""

    inputs: Bool[Tensor, "out d"]
    reads: Mapping[str, Bool[Tensor, "out c"]]

    def shared(self, other: Masks) -> Masks:
        """What both allow."""
        reads = {name: mask & other.reads[name] for name, mask in self.reads.items() if name in other.reads}
        return Masks(self.inputs & other.inputs, reads)

    def groups(self) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Indices of outputs that may depend on the same: (inputs, outputs, columns of every source)."""
        both = torch.cat([self.inputs, *self.reads.values()], 1)
        kinds, kind = torch.unique(both, dim=0, return_inverse=True)
        found = []
        for k in range(len(kinds)):
            outputs = (kind == k).nonzero()[:, 0]
            reads = {name: mask[outputs[0]].nonzero()[:, 0] for name, mask in self.reads.items()}
            found.append((self.inputs[outputs[0]].nonzero()[:, 0], outputs, reads))
        return found


def propose(moments: Moments, *, max_units: int = MAX_UNITS, masks: Masks | None = None) -> Proposal:
    """Best update of the layer, and best new units for every source, both in the joint metric.

    The number of units is that of singular values above the edge of pure noise of the same size, at least one. Of a
    masked layer neither shows an output what it may not depend on.

    >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> moments = Moments()
    >>> moments.add(x[:, :1], x[:, 1:2], {"all": x}, examples=50)
    >>> units = propose(moments).units["all"]
    >>> torch.allclose(units.direction(x[:, :1], x), x[:, 1:2] - x[:, :1] @ propose(moments).weights)
    True
    """
    if masks is not None:
        return _masked(moments, masks, max_units=max_units)
    inverse = pseudo_inverse(moments.bb)
    weights = inverse @ moments.bv
    left = moments.vv - float(torch.sum(weights * moments.bv))
    units = {}
    for name, sums in moments.sources.items():
        cleared = inverse @ sums.cb.T
        rest = sums.cc - sums.cb @ cleared
        root, rank = inverse_root(rest, torch.diagonal(sums.cc), relative=NEWS)
        left_vectors, strengths, right = torch.linalg.svd(root.T @ (sums.cv - sums.cb @ weights), full_matrices=False)
        if rank == 0:
            continue
        outputs = moments.bv.shape[1]
        noise = math.sqrt(max(left, 0.0) / (moments.rows * outputs)) * (math.sqrt(rank) + math.sqrt(outputs))
        count = min(max(1, int((strengths > noise).sum())), max_units)
        amplitude = strengths[:count].sqrt()
        alpha = root @ left_vectors[:, :count] * amplitude
        units[name] = Units(alpha, amplitude[:, None] * right[:count], cleared @ alpha, strengths)
    return Proposal(weights, units)


def _masked(moments: Moments, masks: Masks, *, max_units: int) -> Proposal:
    """Proposals for every group of outputs, as one; of their units the strongest."""
    weights = torch.zeros_like(moments.bv)
    found: dict[str, list[Units]] = {}
    for inputs, outputs, reads in masks.groups():
        part = propose(moments.part(inputs, outputs, reads), max_units=max_units)
        weights[inputs[:, None], outputs] = part.weights
        for name, units in part.units.items():
            count, columns = len(units.omega), moments.sources[name].cc.shape[0]
            alpha, known, omega = (
                weights.new_zeros(shape)
                for shape in ((columns, count), (len(weights), count), (count, weights.shape[1]))
            )
            alpha[reads[name]], known[inputs], omega[:, outputs] = units.alpha, units.known, units.omega
            found.setdefault(name, []).append(Units(alpha, omega, known, units.strengths))
    joined = {}
    for name, parts in found.items():
        strongest = torch.cat([u.strengths[: len(u.omega)] for u in parts]).argsort(descending=True)[:max_units]
        alpha, known = (torch.cat([getattr(u, key) for u in parts], 1)[:, strongest] for key in ("alpha", "known"))
        strengths = torch.cat([u.strengths for u in parts]).sort(descending=True).values
        joined[name] = Units(alpha, torch.cat([u.omega for u in parts])[strongest], known, strengths)
    return Proposal(weights, joined)


@dataclass
class Tally:
    """One direction on the rows of fold b: score per group, and squared norms.

    ``scores``, ``bounded`` (the same, limited to what a group may ask for) and ``sizes`` (examples) by group; ``norm``
    of the direction, ``left`` of what it should follow, ``slope`` its product with all of the desired update: the
    first-order decrease, times the examples.
    """

    scores: list[Tensor] = field(default_factory=list)
    bounded: list[Tensor] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)
    positions: list[Tensor] = field(default_factory=list)
    norm: float = 0.0
    left: float = 0.0
    slope: float = 0.0
    batch: int = -1

    @property
    def groups(self) -> int:
        """Number of independent groups."""
        return sum(len(part) for part in self.scores)

    def add(
        self,
        wanted: Tensor,
        left: Tensor,
        direction: Tensor,
        sizes: Tensor,
        *,
        batch: int,
        bounds: Tensor | float = 1.0,
    ) -> None:
        """Add rows [groups, positions, out]: the desired update, what is left of it, and the direction.

        Rows of the same ``batch`` come from several uses of a layer and belong to the same groups.
        """
        rows = (left * direction).sum(-1)
        self.positions.append(rows.sum(0))
        if batch == self.batch:
            self.scores[-1] = self.scores[-1] + rows.sum(1)
            self.bounded[-1] = self.bounded[-1] + bounds * rows.sum(1)
        else:
            self.scores.append(rows.sum(1))
            self.bounded.append(bounds * rows.sum(1))
            self.sizes.append(sizes)
            self.batch = batch
        self.slope += float((wanted * direction).sum())
        self.norm += float(direction.square().sum())
        self.left += float(left.square().sum())


@dataclass(frozen=True)
class Score:
    """A direction tested on rows that did not propose it.

    Attributes:
        gain: decrease of the mean loss per unit of amplitude, to first order, with standard error ``error`` over
            ``groups`` independent groups (molecules, frames).
        share: squared norm of what was left that the direction explains at its best amplitude, as a fraction; negative
            where that amplitude is.
        slope: as ``gain``, but of the mean loss itself on these rows: what a small step is compared with.
        t: ``gain / error``; standard normal where there is nothing to find.
        bounded: the same with what every example asks for bounded. Where a few examples ask for much more than the rest
            it suspects what t cannot see; but what is cut of skewed updates is not zero in the mean, so that it proves
            nothing.
    """

    gain: float
    error: float
    share: float
    groups: int
    slope: float = 0.0
    bounded: float = 0.0

    @property
    def t(self) -> float:
        """Gain in units of its error."""
        return self.gain / self.error if self.error > 0 else 0.0

    def p_value(self, t: float | None = None) -> float:
        """Probability of such a t (or of another) or a larger one, where nothing is to gain (Student, groups - 1)."""
        from scipy.stats import t as student

        return float(student.sf(self.t if t is None else t, max(self.groups - 1, 1)))

    def __repr__(self) -> str:
        return f"Score(gain {self.gain:.3g} +- {self.error:.2g}, share {self.share:.1%}, t {self.t:.1f})"


def score(tally: Tally) -> Score:
    """Mean over examples and its error over groups (ratio estimator, as groups may differ in size)."""
    q, n = torch.cat(tally.scores).double(), torch.cat(tally.sizes).double()
    gain = float(q.sum() / n.sum())
    groups = len(q)
    spread = float((q - gain * n).square().sum())
    # One group alone says nothing about its error.
    error = math.sqrt(groups / (groups - 1) * spread) / float(n.sum()) if groups > 1 else math.inf
    # At the amplitude that suits these rows: a direction that was fitted to noise as well is too long, not wrong.
    size = tally.norm * tally.left
    share = float(q.sum()) * abs(float(q.sum())) / size if size > 0 else 0.0
    limited = torch.cat(tally.bounded).double()
    spread = float((limited - limited.sum() / n.sum() * n).square().sum())
    bounded = float(limited.sum()) / math.sqrt(groups / (groups - 1) * spread) if groups > 1 and spread > 0 else 0.0
    return Score(gain, error, share, groups, tally.slope / float(n.sum()), bounded)


@dataclass
class Verification:
    """Fold b of one site: accumulates the scores of a proposal."""

    proposal: Proposal
    layer: Tally
    units: dict[str, Tally]
    batch: int = 0

    @classmethod
    def of(cls, proposal: Proposal) -> Verification:
        """An empty one."""
        return cls(proposal, Tally(), {name: Tally() for name in proposal.units})

    def add(
        self,
        b: Float[Tensor, "groups positions d"],
        v: Float[Tensor, "groups positions out"],
        sources: Mapping[str, Float[Tensor, "groups positions c"]],
        *,
        sizes: Float[Tensor, " groups"],
        bounds: Float[Tensor, " groups"] | float = 1.0,
        again: bool = False,
    ) -> None:
        """Add rows; ``sizes`` are the numbers of examples of the groups; ``again``: of the last call's groups."""
        self.batch += not again
        b, v = b.double(), v.double()
        followed = b @ self.proposal.weights
        self.layer.add(v, v, followed, sizes, batch=self.batch)
        for name in self.proposal.units.keys() & sources.keys():  # one use of a layer may lack what another has
            units = self.proposal.units[name]
            direction = units.direction(b, sources[name].double())
            self.units[name].add(v, v - followed, direction, sizes, batch=self.batch, bounds=bounds)
