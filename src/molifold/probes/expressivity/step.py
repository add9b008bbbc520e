"""New units put into the running network, at an actual step or trained for a moment, and what it does to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.probes.expressivity.products import Edit, Product
from molifold.probes.expressivity.score import MAX_UNITS, Proposal
from molifold.probes.expressivity.sites import UPSTREAM, Sites, take
from molifold.probes.expressivity.units import Added
from molifold.probes.expressivity.verdict import KEPT, Check

#: Amplitudes of the line search: where it starts, and its limits. At 1 the layer's output moves by its best
#: least-squares update.
START, SMALLEST, LARGEST = 0.1, 1e-6, 10.0
#: Where units are trained: examples of a step, Adam's learning rate for inputs and outputs of the size 1, and the
#: length of their fan-in.
BATCH, RATE, LENGTH = 256, 0.03, 1.5


@dataclass(frozen=True)
class Trials:
    """New units tried in the running network, on examples that did not propose them.

    Units that read the layer before a site have that layer's activation function; others are linear.

    Attributes:
        sites: of the network.
        proposing: one fold, in micro-batches, each with the indices of its examples.
        verifying: the other.
        before: losses of the verifying examples as they are.
        steps: of a training.
        seed: of a training.
    """

    sites: Sites
    proposing: Sequence[tuple[Sized, Any]]
    verifying: Sequence[Any]
    before: Tensor
    steps: int
    seed: int = 0

    def step(self, site: str, source: str, proposal: Proposal, *, slope: float) -> tuple[Check, Added]:
        """What was proposed for ``site``, at the amplitude that saves most.

        Units come paired where they have a kink at 0. Without a source it is the layer's own best update. ``slope`` is
        the predicted decrease of the mean loss per unit of amplitude, to first order.
        """
        # The curvature of a unit enters with the root of the step; a decrease below the rounding of the loss is none.
        rounding = 1e4 * torch.finfo(torch.float64).eps * float(self.before.abs().mean())
        small = max(1e-8, rounding / slope if slope > 0 else 0.0) if _double(self.sites) else 1e-3
        activation = _activation(self.sites, site, source)

        def decrease(amplitude: float) -> Tensor:
            added = Added.step(proposal, source, activation, amplitude)
            return torch.nan_to_num(self.before - self._losses(site, source, added, self.verifying), nan=-math.inf)

        ratio = float(decrease(small).mean()) / (small * slope) if slope else math.nan
        amplitude, best = _search(decrease, slope)
        check = Check(ratio, amplitude, amplitude * slope, float(best.mean()), _error(best), float(self.before.std()))
        return check, Added.step(proposal, source, activation, amplitude)

    def trains(self, site: str, source: str) -> bool:
        """Whether units are trained there; not at masked layers, whose outputs must not see everything."""
        return self.steps > 0 and source != "" and self.sites.masks(site) is None

    def train(self, site: str, source: str) -> tuple[Check, Added]:
        """New units at ``site``, trained for a few steps on the proposing fold.

        Where a few examples ask for much more than the rest, no straight step lowers the loss although units would
        help. What the same training of the layer alone saves does not count: that is no lack of power.
        """
        units = self._trained(site, source)
        with_units = self._losses(site, source, units, self.verifying)
        check = _compared(self.before, with_units, promised=0.0, steps=self.steps)
        if not check.holds:
            return check, units
        alone = self._trained(site, "")
        layer = self._losses(site, "", alone, self.verifying)
        before = layer if float(layer.mean()) < float(self.before.mean()) else self.before
        known = [part for _, part in self.proposing]
        promised = self._losses(site, "", alone, known).mean() - self._losses(site, source, units, known).mean()
        return _compared(before, with_units, promised=float(promised), steps=self.steps), units

    def _trained(self, site: str, source: str) -> Added:
        """New units that read ``source`` and the layer's own update, trained together; without source that alone."""
        generator = torch.Generator().manual_seed(self.seed)
        b, c, out = self._example(site, source)
        size = float(out.std()) or 1.0
        inputs = (b.square().mean(0).sqrt() * math.sqrt(b.shape[1])).clamp(min=1e-30)
        shift = torch.zeros(b.shape[1], out.shape[1], dtype=b.dtype, device=b.device, requires_grad=True)
        parameters = [shift]
        if c is not None:
            standard = _standard(c) * LENGTH / math.sqrt(c.shape[1])
            draw = torch.Generator().manual_seed(self.seed)
            fan_in = torch.randn(c.shape[1], MAX_UNITS, generator=draw).to(c).requires_grad_()
            fan_out = torch.zeros(MAX_UNITS, out.shape[1], dtype=b.dtype, device=b.device, requires_grad=True)
            parameters += [fan_in, fan_out]

        def added() -> Added:
            own = size * shift / inputs[:, None]
            if c is None:
                return Added("none", None, None, own)
            activation = _activation(self.sites, site, source)
            return Added(activation, standard @ fan_in, size / math.sqrt(MAX_UNITS) * fan_out, own)

        sizes: list[float] = []  # of gradients: no step counts for more than the median one so far
        optimizer = torch.optim.Adam(parameters, RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=self.steps + 1)
        for _ in range(self.steps):
            now = added()
            parts = [(part, _adding(self.sites, site, source, now, part)) for part in self._drawn(generator)]
            loss = torch.cat([self.sites.losses(part, edit) for part, edit in parts]).mean()
            gradients = [torch.nan_to_num(g) for g in torch.autograd.grad(loss, parameters)]
            sizes.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
            usual = sorted(sizes)[len(sizes) // 2]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient * min(1.0, usual / max(sizes[-1], 1e-300))
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            return added()

    def _drawn(self, generator: torch.Generator) -> list[Any]:
        """Some examples of one of the proposing micro-batches, or two whole ones if they are small."""
        drawn: list[Any] = []
        examples = 0
        while examples < BATCH and len(drawn) < 2:
            index, part = self.proposing[int(torch.randint(len(self.proposing), (), generator=generator))]
            n = len(index)
            drawn.append(take(part, torch.randperm(n, generator=generator)[:BATCH], n) if n > BATCH else part)
            examples += n
        return drawn

    def _losses(self, site: str, source: str, added: Added, parts: Sequence[Any]) -> Tensor:
        """Losses of all examples with something added to a layer."""
        edits = [_adding(self.sites, site, source, added, part) for part in parts]
        return torch.cat(
            [self.sites.losses(part, edit).detach().double() for part, edit in zip(parts, edits, strict=True)]
        )

    def _example(self, site: str, source: str) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows of what a layer sees, of the source (None without) and of its output, of one micro-batch."""
        found: list[tuple[Tensor, Tensor | None, Tensor]] = []
        _, part = self.proposing[0]
        extra = {} if self.sites.sources is None else self.sites.sources(part)

        def look(i: int, products: Sequence[Product]) -> Tensor | None:
            if self.sites.wires[i].site == site:
                b, sources = self.sites.seen(i, products, extra)
                if not source or source in sources:
                    c = sources[source].flatten(0, 1).double() if source else None
                    found.append((b.flatten(0, 1).double(), c, products[i].rows(products[i].out.detach()).double()))
            return None

        self.sites.losses(part, look)
        return found[0]


def _compared(before: Tensor, after: Tensor, *, promised: float, steps: int) -> Check:
    saved = torch.nan_to_num(before - after, nan=-math.inf)
    return Check(math.nan, 1.0, promised, float(saved.mean()), _error(saved), float(before.std()), steps)


def _standard(c: Float[Tensor, "rows c"]) -> Float[Tensor, "c c"]:
    """A matrix after which the columns have the size 1, and are centred if one of them is constant."""
    mean, spread = c.mean(0), c.std(0, correction=0)
    matrix = torch.eye(c.shape[1], dtype=c.dtype, device=c.device)
    fixed = spread <= 1e-9 * mean.abs()
    ones = (fixed & (mean != 0)).nonzero().flatten()
    if not len(ones):
        size = c.square().mean(0).sqrt()
        return matrix * torch.where(size > 0, 1 / size, 0.0)
    matrix[ones[0]] -= torch.where(fixed, 0.0, mean / mean[ones[0]])
    scale = torch.where(fixed, 0.0, 1 / spread)
    scale[ones[0]] = 1 / mean[ones[0]]
    return matrix * scale


def _search(decrease: Callable[[float], Tensor], slope: float) -> tuple[float, Tensor]:
    """The amplitude that saves most of those that keep the promise, and what it saves of every example's loss.

    A parabola through each step says where to go next; steps that break the promise are followed by smaller ones.
    """
    amplitude = START
    saved = decrease(amplitude)
    while float(saved.mean()) < KEPT * amplitude * slope and amplitude > 10 * SMALLEST:
        amplitude /= 10
        saved = decrease(amplitude)
    while (kept := float(saved.mean()) / (amplitude * slope) if slope > 0 else 0.0) >= KEPT:
        ahead = min(0.5 / max(1 - kept, 0.05), 10.0)
        if 0.7 < ahead < 1.4 or not SMALLEST <= amplitude * ahead <= LARGEST:
            break
        further = decrease(amplitude * ahead)
        if float(further.mean()) < max(float(saved.mean()), KEPT * amplitude * ahead * slope):
            break
        amplitude, saved = amplitude * ahead, further
    return amplitude, saved


def _activation(sites: Sites, site: str, source: str) -> str:
    """The function of new units: that of the layer before, if they stand beside it."""
    wire = next(wire for wire in sites.wires if wire.site == site)
    return wire.activation if source == UPSTREAM and wire.activation else "none"


def _adding(sites: Sites, site: str, source: str, added: Added, part: Any) -> Edit:
    extra = {} if sites.sources is None else sites.sources(part)

    def edit(i: int, products: Sequence[Product]) -> Tensor | None:
        wire = sites.wires[i]
        if wire.site != site:
            return None
        b, sources = sites.seen(i, products, extra)
        if source in sources or not added.reads:
            return wire.layout.rows(added.rows(b, sources.get(source)))
        return None  # one use of a layer may lack what another has

    return edit


def _error(saved: Tensor) -> float:
    return float(saved.std() / math.sqrt(len(saved))) if len(saved) > 1 else math.inf


def _double(sites: Sites) -> bool:
    return all(p.dtype == torch.float64 for p in sites.model.parameters())
