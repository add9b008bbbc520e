"""Probes of flows: their Jacobian, their inverse, what they tell apart, and the graph networks inside.

All look at the conformations of the probe batch [frames, atoms, 3], and are silent about models that are no ``Flow`` of
couplings. For other models build them from ``probes.jacobian``, ``probes.invertibility``, ``probes.similarity`` and the
graph probes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from inspect import cleandoc

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding, ranked
from molifold.interfaces import Moment, Probe, Record, RecordKind
from molifold.probes import attention, invertibility, jacobian, similarity, smoothing, squashing
from molifold.training import spline_bins
from molifold.training.flow_parts import conditioner_views, coordinate_names, coupled, learnt

#: Conformations of the Jacobian and of the input similarity, which cost a backward pass per coordinate or frame.
JACOBIAN_FRAMES, SIMILARITY_FRAMES = 16, 48
#: Frames whose torsions differ by less are the same conformation to the similarity, radians.
APART = math.pi / 3


def flow_jacobian(flow: nn.Module, x: Tensor) -> jacobian.Jacobian:
    """Of the couplings, from standardised coordinates to latents, in float64."""
    chain, u = learnt(flow, x)
    return jacobian.jacobian(_double(chain), u.double())


def flow_invertibility(flow: nn.Module, x: Tensor) -> invertibility.Invertibility:
    """Of the couplings, in units of the standardised coordinates (standard deviations, radians)."""
    chain, u = learnt(flow, x)
    names = coordinate_names(flow)
    return invertibility.invertibility(chain, u, circle=chain.domain.has("circle"), names=names)


def flow_similarity(flow: nn.Module, x: Tensor) -> tuple[similarity.Similarity, list[similarity.Pair]]:
    """Of conformations to log_prob, and the pairs with other torsions that look the same (difference in degrees)."""
    chain, u = learnt(flow, x)
    found = similarity.input_similarity(flow, flow.log_prob, x)  # type: ignore[arg-type]
    angle = u[:, torch.from_numpy(chain.domain.has("circle"))]
    apart = (angle[:, None] - angle[None] + math.pi).remainder(2 * math.pi) - math.pi
    most = apart.abs().amax(2) if angle.shape[1] else apart.new_zeros(len(x), len(x))
    return found, found.pairs(most.rad2deg().cpu().numpy(), least=math.degrees(APART))


def watch_jacobian(moment: Moment) -> dict[str, Record]:
    """Jacobian of the flow's couplings: condition and log-volume at every conformation, largest and smallest stretch.

    Healthy: condition below about a thousand everywhere; log-volumes that differ between conformations, since that is
    how densities differ. Otherwise, a condition of thousands means that float32 loses the digits on the way back: use
    weight decay on the conditioners, more and gentler couplings, or draw in float64.
    """
    if not coupled(moment.model) or moment.batch is None:
        return {}
    return jacobian.records(flow_jacobian(moment.model, moment.batch[:JACOBIAN_FRAMES]))


def watch_invertibility(moment: Moment) -> dict[str, Record]:
    """Invertibility of the flow's couplings: error of the way there and back in float32 and float64.

    By coordinate and by conformation, in standard deviations or radians, with the error of log-densities in float32.
    Healthy: 1e-4 or less in float32, 1e-10 or less in float64, log-densities within 0.01 nats. Otherwise, errors in
    float32 alone mean slopes at their limits: weight decay, more couplings, or draws in float64. Errors in float64 too
    mean that the transform is no bijection: check it with ``testing.check_transform``.
    """
    if not coupled(moment.model) or moment.batch is None:
        return {}
    return invertibility.records(flow_invertibility(moment.model, moment.batch))


def watch_similarity(moment: Moment) -> dict[str, Record]:
    """Input similarity: which conformations the flow cannot tell apart.

    Shows the normalised inner products of the gradients of log_prob for pairs of frames (1: whatever training asks of
    one happens to the other), and the most similar pairs whose torsions differ by more than 60 degrees. Healthy: such
    pairs below 0.99. Otherwise look at the two structures: show the network what differs between them, or widen it.
    """
    if not coupled(moment.model) or moment.batch is None:
        return {}
    found, pairs = flow_similarity(moment.model, moment.batch[:SIMILARITY_FRAMES])
    return similarity.records(found, pairs, difference="degrees")


#: Of the conditioners' graph networks.
watch_smoothing: Probe = smoothing.SmoothingProbe(conditioner_views)
watch_squashing: Probe = squashing.SquashingProbe(partial(conditioner_views, frames=3))
watch_attention: Probe = attention.AttentionProbe(conditioner_views)

#: All probes of flows, the cheapest first.
FLOW: tuple[Probe, ...] = (
    spline_bins.watch_spline_bins, watch_attention, watch_smoothing, watch_invertibility, watch_similarity,
    watch_jacobian, watch_squashing,
)  # fmt: skip


@dataclass(frozen=True)
class FlowFindings:
    """What all probes of a flow have to say, the gravest first, and their records by name."""

    findings: tuple[Finding, ...]
    records: Mapping[str, tuple[RecordKind, dict[str, ndarray], str]]


def examine_flow(flow: nn.Module, x: Float[Tensor, "frames atoms 3"]) -> FlowFindings:
    """Look at a flow with every probe of flows.

    Args:
        flow: a ``Flow`` of couplings, in eval mode; nothing is found in other models.
        x: conformations, some hundreds; expensive probes take the first few.

    >>> examine_flow(nn.Linear(2, 2), torch.zeros(4, 3, 3)).findings
    ()
    """
    if not coupled(flow):
        return FlowFindings((), {})
    told: list[Finding] = []
    kept: dict[str, tuple[RecordKind, dict[str, ndarray], str]] = {}

    def keep(records: dict[str, Record], probe: Probe) -> None:
        text = cleandoc(probe.__doc__ or "")
        kept.update({name: (kind, arrays, text) for name, (kind, arrays) in records.items()})

    stretch = flow_jacobian(flow, x[:JACOBIAN_FRAMES])
    inverse = flow_invertibility(flow, x)
    bins = spline_bins.spline_bins(flow, x)
    alike, pairs = flow_similarity(flow, x[:SIMILARITY_FRAMES])
    told += jacobian.findings(stretch) + invertibility.findings(inverse) + spline_bins.findings(bins)
    told += similarity.findings(alike, pairs, unit=" degrees")
    keep(jacobian.records(stretch), watch_jacobian)
    keep(invertibility.records(inverse), watch_invertibility)
    keep(spline_bins.records(bins), spline_bins.watch_spline_bins)
    keep(similarity.records(alike, pairs, difference="degrees"), watch_similarity)
    moment = Moment(0, flow, batch=x)
    views = conditioner_views(moment)
    smooth = [(v, smoothing.smoothing(v)) for v in views if bool(v.neighbours.any())]
    squashed = [(v, squashing.squashing(v, draws=2)) for v in conditioner_views(moment, frames=3)]
    attended = [(v, layer) for v in views for layer in attention.attention(v)]
    told += smoothing.findings(smooth) + squashing.findings(squashed) + attention.findings(attended)
    keep(smoothing.records(smooth), watch_smoothing)
    keep(squashing.records(squashed), watch_squashing)
    keep(attention.records(attended), watch_attention)
    return FlowFindings(ranked(told), kept)


def _double(chain: nn.Module) -> nn.Module:
    return copy.deepcopy(chain).double()
