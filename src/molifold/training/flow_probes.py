"""Probes of flows: their Jacobian, their inverse, what they tell apart, and the graph networks inside.

All look at the conformations of the probe batch [frames, atoms, 3], and are silent about models that are no ``Flow`` of
couplings. For other models build them from ``probes.jacobian``, ``probes.invertibility``, ``probes.similarity`` and the
graph probes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import Moment, Probe, Record
from molifold.probes import attention, invertibility, jacobian, similarity, smoothing, squashing
from molifold.training import spline_bins
from molifold.training.flow_parts import conditioner_views, coordinate_names, coupled, learnt

#: Conformations of the Jacobian and of the input similarity, which cost a backward pass per coordinate or frame.
JACOBIAN_FRAMES, SIMILARITY_FRAMES = 16, 48
#: Conformations of the sensitivity by distance, which costs some backward passes per atom of every network.
SQUASHING_FRAMES = 3
#: Frames whose torsions differ by less are the same conformation to the similarity, radians.
APART = math.pi / 3


def flow_jacobian(flow: nn.Module, x: Tensor) -> jacobian.Jacobian:
    """Of the couplings, from standardised coordinates to latents, in float64."""
    chain, u = learnt(flow, x)
    return jacobian.jacobian(copy.deepcopy(chain).double(), u.double())


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
watch_squashing: Probe = squashing.SquashingProbe(partial(conditioner_views, frames=SQUASHING_FRAMES))
watch_attention: Probe = attention.AttentionProbe(conditioner_views)

#: All probes of flows, the cheapest first.
FLOW: tuple[Probe, ...] = (
    spline_bins.watch_spline_bins, watch_attention, watch_smoothing, watch_invertibility, watch_similarity,
    watch_jacobian, watch_squashing,
)  # fmt: skip

#: What one examination found: in words, and as records.
Found = tuple[Sequence[Finding], Mapping[str, Record]]


def _jacobian(flow: nn.Module, x: Tensor) -> Found:
    found = flow_jacobian(flow, x[:JACOBIAN_FRAMES])
    return jacobian.findings(found), jacobian.records(found)


def _invertibility(flow: nn.Module, x: Tensor) -> Found:
    found = flow_invertibility(flow, x)
    return invertibility.findings(found), invertibility.records(found)


def _bins(flow: nn.Module, x: Tensor) -> Found:
    found = spline_bins.spline_bins(flow, x)
    return spline_bins.findings(found), spline_bins.records(found)


def _similarity(flow: nn.Module, x: Tensor) -> Found:
    found, pairs = flow_similarity(flow, x[:SIMILARITY_FRAMES])
    return similarity.findings(found, pairs, unit=" degrees"), similarity.records(found, pairs, difference="degrees")


def _smoothing(flow: nn.Module, x: Tensor) -> Found:
    views = conditioner_views(Moment(0, flow, batch=x))
    found = [(v, smoothing.smoothing(v)) for v in views if bool(v.neighbours.any())]
    return smoothing.findings(found), smoothing.records(found)


def _squashing(flow: nn.Module, x: Tensor) -> Found:
    views = conditioner_views(Moment(0, flow, batch=x), frames=SQUASHING_FRAMES)
    found = [(v, squashing.squashing(v, draws=2)) for v in views]
    return squashing.findings(found), squashing.records(found)


def _attention(flow: nn.Module, x: Tensor) -> Found:
    found = [(v, layer) for v in conditioner_views(Moment(0, flow, batch=x)) for layer in attention.attention(v)]
    return attention.findings(found), attention.records(found)


#: What ``diagnose`` looks at in a flow of couplings: what it is called, the probe that explains it, and the examination
#: of the flow (in eval mode) with conformations.
EXAMINATIONS: tuple[tuple[str, Probe, Callable[[nn.Module, Tensor], Found]], ...] = (
    ("volume and stretching", watch_jacobian, _jacobian),
    ("inverse", watch_invertibility, _invertibility),
    ("splines", spline_bins.watch_spline_bins, _bins),
    ("input similarity", watch_similarity, _similarity),
    ("oversmoothing", watch_smoothing, _smoothing),
    ("oversquashing", watch_squashing, _squashing),
    ("attention", watch_attention, _attention),
)
