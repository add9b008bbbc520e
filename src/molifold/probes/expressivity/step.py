"""The actual step: new units put into the running network, and what it does to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molifold.probes.expressivity.products import Edit, Product
from molifold.probes.expressivity.score import Proposal
from molifold.probes.expressivity.sites import ACTIVATIONS, UPSTREAM, Sites
from molifold.probes.expressivity.verdict import KEPT, Check

#: Amplitudes of the line search: where it starts, and its limits. At 1 the layer's output moves by its best
#: least-squares update.
START, SMALLEST, LARGEST = 0.1, 1e-6, 10.0


@dataclass(frozen=True)
class Unit:
    """How one hidden unit behaves near zero: ``value`` at 0, ``left`` and ``right`` slopes.

    A unit with a kink at 0 is not linear in small amplitudes; a pair with opposite signs is, with slope ``left`` +
    ``right``.

    >>> Unit.of("relu"), Unit.of("relu").paired
    (Unit(name='relu', value=0.0, left=0.0, right=1.0), True)
    """

    name: str
    value: float
    left: float
    right: float

    @classmethod
    def of(cls, name: str) -> Unit:
        """By its name in ``ACTIVATIONS``."""
        function, step = ACTIVATIONS[name], 1e-6
        low, zero, high = function(torch.tensor([-step, 0.0, step], dtype=torch.float64)).tolist()
        return cls(name, zero, round((zero - low) / step, 5), round((high - zero) / step, 5))

    @property
    def paired(self) -> bool:
        """Whether it takes two units to be linear at small amplitudes."""
        return not math.isclose(self.left, self.right, rel_tol=1e-4)

    def response(self, z: Tensor, amplitude: float) -> Tensor:
        """What the unit(s) add at this amplitude, ``amplitude * z`` to first order; nothing at amplitude 0."""
        function, root = ACTIVATIONS[self.name], math.sqrt(amplitude)
        if self.paired:
            return (function(root * z) - function(-root * z)) * root / (self.left + self.right)
        return (function(root * z) - self.value) * root / self.right


def check_step(
    sites: Sites,
    site: str,
    proposal: Proposal,
    source: str,
    batches: Sequence[Any],
    before: Tensor,
    *,
    slope: float,
) -> Check:
    """Add what was proposed for ``site`` and measure the loss of the held-out examples.

    Units that read the layer before it have that layer's activation function (paired where it has a kink at 0, and
    with its value at 0 taken off); others are linear. Without a source it is the layer's own best update.

    Args:
        sites: of the network.
        site, proposal, source: what to add where.
        batches: held-out micro-batches.
        before: their losses as they are.
        slope: predicted decrease of the mean loss per unit of amplitude, to first order.
    """
    # The curvature of a unit enters with the root of the step; a decrease below the rounding of the loss is none.
    rounding = 1e4 * torch.finfo(torch.float64).eps * float(before.abs().mean())
    small = max(1e-8, rounding / slope if slope > 0 else 0.0) if _double(sites) else 1e-3

    def decrease(amplitude: float) -> Tensor:
        edit = adding(sites, site, proposal, source, amplitude)
        after = torch.cat([sites.losses(part, edit(part)).double() for part in batches])
        return torch.nan_to_num(before - after, nan=-math.inf)

    ratio = float(decrease(small).mean()) / (small * slope) if slope else math.nan
    amplitude, best = _search(decrease, slope)
    error = float(best.std() / math.sqrt(len(best))) if len(best) > 1 else math.inf
    return Check(ratio, amplitude, amplitude * slope, float(best.mean()), error, float(before.std()))


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


def adding(sites: Sites, site: str, proposal: Proposal, source: str, amplitude: float) -> Any:
    """Makes the edit of a micro-batch that adds what was proposed at this amplitude."""
    units = proposal.units.get(source)

    def of(part: Any) -> Edit:
        extra = {} if sites.sources is None else sites.sources(part)

        def edit(i: int, products: Sequence[Product]) -> Tensor | None:
            wire = sites.wires[i]
            if wire.site != site:
                return None
            b, sources = sites.seen(i, products, extra)
            b = b.double()
            if units is None:
                return wire.layout.rows(amplitude * (b @ proposal.weights))
            if source not in sources:
                return None
            unit = Unit.of(wire.activation if source == UPSTREAM and wire.activation else "none")
            new = unit.response(sources[source].double() @ units.alpha, amplitude) @ units.omega
            known = amplitude * (b @ (units.cleared @ units.alpha)) @ units.omega
            return wire.layout.rows(new - known)

        return edit

    return of


def _double(sites: Sites) -> bool:
    return all(p.dtype == torch.float64 for p in sites.model.parameters())
