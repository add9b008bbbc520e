"""Paths through the latent map: relaxed along the density of z, then decoded to structures that follow each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Generator, Tensor

from molifold import geometry
from molifold.ensemble import Ensemble
from molifold.transforms.angles import wrap
from molifold.transforms.internal import InternalCoordinates

if TYPE_CHECKING:
    from molifold.flows.flow import Flow
    from molifold.flows.latent import LatentMap
    from molifold.interfaces import Energy

#: Corners of the string, iterations, and the longest step of a corner (latent units).
CORNERS, ITERATIONS, LONGEST = 48, 200, 0.05
#: Points of the string per image of the path: where one way is decoded to see where it turns, and all ways.
DENSE, FINE = 32, 8
#: Price of turning a torsion between neighbouring points, kT per 1 - cos: about that of a torsional barrier.
TURN = 5.0
#: A torsion that turns further than this between neighbouring points jumps, at a price of its own, kT per radian^2.
JUMP, STEEP = math.radians(20), 1e3
#: Price of a structure that is not sound, kT: more than any choice among sound ones.
UNSOUND = 1e6
#: Conformations that are decoded at once.
CHUNK = 512

#: Says of every frame whether it may be part of a path.
Sound = Callable[[Ensemble], Bool[ndarray, " frames"]]


@dataclass(frozen=True)
class LatentPath:
    """A path between two conformations.

    ``z`` [images, latents] are its points and ``log_prior`` [images] the log p(z) there; ``ensemble`` has a structure
    for every image, first and last as given, superposed, with ``log_p = -u`` (given an energy), ``log_q`` (the map's
    log p(x), as in ``LatentMap.sample``) and the columns ``z1``, ..., ``log_prior``. ``turns`` [images - 1] says how
    far the torsion that turns most does so between an image and the next (radians): a large one is a jump.
    """

    z: Float[ndarray, "images latents"]
    log_prior: Float[ndarray, " images"]
    ensemble: Ensemble
    turns: Float[ndarray, " intervals"]

    @property
    def barrier(self) -> float:
        """Height of the path in -log p(z) above its lower end (kT)."""
        return float(max(self.log_prior[0], self.log_prior[-1]) - self.log_prior.min())

    @property
    def energy(self) -> Float[ndarray, " images"]:
        """U of every structure above the lower end (kT).

        Raises:
            ValueError: if the path was made without an energy.
        """
        if self.ensemble.log_p is None:
            raise ValueError("energy: this path was made without one; pass energy= to path")
        u = -np.asarray(self.ensemble.log_p)
        return u - min(u[0], u[-1])

    def __repr__(self) -> str:
        known = "" if self.ensemble.log_p is None else f", energies up to {self.energy.max():.1f} kT above the ends"
        turn = f"torsions turn by up to {np.degrees(self.turns.max()):.0f} degrees between them"
        return f"LatentPath({len(self.z)} images, {turn}, barrier {self.barrier:.1f} kT in -log p(z){known})"


def find_path(
    flow: LatentMap,
    a: Float[ndarray, "atoms 3"],
    b: Float[ndarray, "atoms 3"],
    *,
    energy: Energy | None = None,
    images: int = 24,
    candidates: int = 64,
    sound: Sound | None = None,
    seed: int = 0,
) -> LatentPath:
    """The most probable path between two conformations on the map, as a sequence of structures.

    Between the places of a and b a string of points is relaxed to a path along which -log p(z) has no gradient across
    it (``relaxed_string``). Every point is decoded from the same ``candidates`` noises, each bent so that it is the
    noise of a where the string begins and that of b where it ends: any of them by itself decodes to a continuous way
    from a to b. The path follows one, and changes to another where both have nearly the same torsions: of all such
    ways the one with the least sum of energies (dynamic programming). Without an energy, -log p(x|z) takes its place.
    Of its points ``images`` are told, spaced so that neighbours differ about equally.

    Args:
        flow: a trained map.
        a, b: conformations, nm; the path begins and ends with them.
        energy: in kT.
        images: number of structures, at least 3.
        candidates: noises to choose from.
        sound: which conformations of an ensemble may be chosen [frames]; the others are where a point has no such.
        seed: of the noises.

    Raises:
        ValueError: if a or b belong to another molecule, or ``images`` is below 3.
    """
    if images < 3:
        raise ValueError(f"images: got {images}, expected at least 3")
    ends = Ensemble(flow.molecule, np.stack([np.asarray(a), np.asarray(b)]).astype(np.float32))
    places = flow.encode(ends)
    z = relaxed_string(flow.prior, places.z[0], places.z[1], images=DENSE * (images - 1) + 1)
    t, at_ends = np.linspace(0, 1, len(z)), _torsions(flow, ends.x)
    direct, _ = _candidates(flow, ends, z, t, energy=None, count=1, sound=None, seed=seed)
    torsions = np.concatenate([at_ends[:1], _torsions(flow, direct), at_ends[1:]])
    fine = _spaced(t, torsions, images=FINE * (images - 1) + 1)

    x, cost = _candidates(flow, ends, z[fine], t[fine], energy=energy, count=candidates, sound=sound, seed=seed)
    torsions = _torsions(flow, x).reshape(*cost.shape, -1)
    inside, chosen = np.arange(len(cost)), _least_costly(cost, torsions, at_ends)
    told = _spaced(t[fine], np.concatenate([at_ends[:1], torsions[inside, chosen], at_ends[1:]]), images=images)
    way = np.concatenate([ends.x[:1], x.reshape(*cost.shape, *x.shape[1:])[inside, chosen], ends.x[1:]])
    return _told(flow, z[fine][told], geometry.superpose(way[told], ends.x[0]).astype(np.float32), energy)


def relaxed_string(
    prior: Flow, start: Float[ndarray, " latents"], end: Float[ndarray, " latents"], *, images: int
) -> Float[ndarray, "images latents"]:
    """A string of equally spaced points between two fixed ends, relaxed to a minimum free-energy path of -log p(z).

    Circular latents go the shorter way round. In every iteration all corners climb log p(z), then are spaced evenly
    along the string again, which undoes what they moved along it.

    Reference: E, Ren, Vanden-Eijnden (2007), doi:10.1063/1.2720838 (simplified string method).
    """
    like = next(prior.parameters())
    circle = torch.from_numpy(prior.base.space.has("circle")).to(like.device)
    first, last = (torch.as_tensor(np.asarray(e)).to(like) for e in (start, end))
    way = torch.where(circle, wrap(last - first), last - first)
    z = first + torch.linspace(0, 1, CORNERS).to(like)[:, None] * way
    step = LONGEST
    for i in range(ITERATIONS):
        if way.norm() < 1e-6:
            break
        inner = z[1:-1].clone().requires_grad_()
        gradient = torch.autograd.grad(prior.log_prob(torch.where(circle, wrap(inner), inner)).sum(), inner)[0]
        # Steps shrink to nothing: the spline density has kinks over which corners of constant step would hop for ever.
        step = LONGEST * (1 - i / ITERATIONS)
        move = gradient.nan_to_num() * 0.1 * step
        move = move * (step / move.norm(dim=1, keepdim=True).clamp_min(step))
        z = _evenly(torch.cat([z[:1], z[1:-1] + move, z[-1:]]), CORNERS)
    z = _evenly(z, images)
    return torch.where(circle, wrap(z), z).detach().cpu().numpy()


def _evenly(z: Float[Tensor, "corners latents"], count: int) -> Float[Tensor, "count latents"]:
    """Evenly spaced points of a polygon."""
    length = torch.cat([z.new_zeros(1), (z[1:] - z[:-1]).norm(dim=1).cumsum(0)])
    wanted = torch.linspace(0, 1, count).to(z) * length[-1]
    right = torch.searchsorted(length, wanted).clamp(1, len(z) - 1)
    share = ((wanted - length[right - 1]) / (length[right] - length[right - 1]).clamp_min(1e-12))[:, None]
    new = z[right - 1] + share * (z[right] - z[right - 1])
    return torch.cat([z[:1], new[1:-1], z[-1:]])


@torch.no_grad()
def _candidates(
    flow: LatentMap,
    ends: Ensemble,
    z: Float[ndarray, "points latents"],
    t: Float[ndarray, " points"],
    *,
    energy: Energy | None,
    count: int,
    sound: Sound | None,
    seed: int,
) -> tuple[Float[ndarray, "decoded atoms 3"], Float[ndarray, "inner count"]]:
    """Structures of all points but the ends, ``count`` of each, and their costs (kT)."""
    like = next(flow.parameters())
    places, share = torch.from_numpy(z).to(like), torch.from_numpy(t).to(like)
    first, last = flow.generator(torch.from_numpy(ends.x).to(like), places[[0, -1]])[0]
    spread = flow.generator.base.sample(count, generator=Generator(device=like.device).manual_seed(seed))
    circle = torch.from_numpy(flow.generator.own.has("circle")).to(like.device)
    noises = _bent(first, last, spread, t=share[1:-1], circle=circle)
    structures, costs = [], []
    rows = places[1:-1].repeat_interleave(count, dim=0)
    for noise, row in zip(noises.flatten(0, 1).split(CHUNK), rows.split(CHUNK), strict=True):
        x, log_det = flow.generator.inverse(noise, row)
        cost = (log_det - flow.generator.base.log_prob(noise)) if energy is None else energy(x)
        drawn = Ensemble(flow.molecule, x.cpu().numpy())
        unsound = 0.0 if sound is None else np.where(sound(drawn), 0.0, UNSOUND)
        structures.append(drawn.x)
        costs.append(cost.double().cpu().numpy() + unsound)
    total = np.concatenate(costs)
    return np.concatenate(structures), np.where(np.isfinite(total), total, np.inf).reshape(-1, count)


def _bent(
    first: Float[Tensor, " own"],
    last: Float[Tensor, " own"],
    spread: Float[Tensor, "count own"],
    *,
    t: Float[Tensor, " points"],
    circle: Tensor,
) -> Float[Tensor, "points count own"]:
    """Ways from ``first`` (t = 0) to ``last`` (1), each on a detour to a draw of the base, of the base's variance.

    Real noise is the sum of the three with weights 1 - t, t and (2 t (1 - t))^1/2, whose squares add up to one; angles
    go the shorter way round, and the same share of the detour. The detour of the first way is none.
    """
    t = t[:, None, None]
    away = (2 * t * (1 - t)).sqrt() * spread
    away[:, 0] = 0
    real = (1 - t) * first + t * last + away
    return torch.where(circle, wrap(first + t * wrap(last - first) + away), real)


def _spaced(t: Float[ndarray, " points"], torsions: Float[ndarray, "points torsions"], *, images: int) -> ndarray:
    """Indices of ``images`` points, the ends among them, with equal shares of all turns and of the string."""
    steps = np.diff(t), np.linalg.norm(_turned(torsions[:-1], torsions[1:]), axis=1)
    length = np.concatenate([[0.0], np.cumsum(sum(s / max(s.sum(), 1e-12) for s in steps))])
    # Every image is a point of its own, so that at least as many are left before and after as are still to come.
    nearest = np.abs(length[:, None] - np.linspace(0, length[-1], images)).argmin(axis=0)
    nearest[-1], order = len(t) - 1, np.arange(images)
    return np.minimum(np.maximum.accumulate(nearest - order) + order, len(t) - images + order)


def _turned(a: ndarray, b: ndarray) -> ndarray:
    """Angles between two sets of torsions, in [-pi, pi]."""
    return (b - a + np.pi) % (2 * np.pi) - np.pi


def _torsions(flow: LatentMap, x: Float[ndarray, "frames atoms 3"]) -> Float[ndarray, "frames torsions"]:
    """Angles about rotatable bonds (none for the smallest molecules)."""
    like = next(flow.parameters())
    internal: InternalCoordinates = flow.encoder.frame.steps[0]  # type: ignore[union-attr,index,assignment]
    y = internal(torch.from_numpy(np.asarray(x)).to(like))[0].cpu().numpy()
    blocks = {block.name for block in internal.codomain.blocks}
    return y[:, internal.codomain.slice("rotations")] if "rotations" in blocks else np.zeros((len(y), 0))


def _least_costly(
    cost: Float[ndarray, "images candidates"],
    torsions: Float[ndarray, "images candidates torsions"],
    ends: Float[ndarray, "2 torsions"],
) -> ndarray:
    """One candidate per image so that the sum of costs and turns is least (Viterbi)."""

    def turns(before: ndarray, after: ndarray) -> ndarray:
        angle = _turned(before[:, None], after[None])
        return (TURN * (1 - np.cos(angle)) + STEEP * np.maximum(np.abs(angle) - JUMP, 0) ** 2).sum(-1)

    total, best = cost[0] + turns(ends[:1], torsions[0])[0], []
    for i in range(1, len(cost)):
        step = total[:, None] + turns(torsions[i - 1], torsions[i])
        best.append(step.argmin(axis=0))
        total = step.min(axis=0) + cost[i]
    chosen = [int((total + turns(torsions[-1], ends[1:])[:, 0]).argmin())]
    for row in reversed(best):
        chosen.append(int(row[chosen[-1]]))
    return np.array(chosen[::-1])


@torch.no_grad()
def _told(flow: LatentMap, z: ndarray, x: Float[ndarray, "images atoms 3"], energy: Energy | None) -> LatentPath:
    like = next(flow.parameters())
    structures, places = torch.from_numpy(x).to(like), torch.from_numpy(z).to(like)
    log_prior = flow.prior.log_prob(places).double().cpu().numpy()
    log_q = flow.log_ratio(structures, flow.encoder(structures), places).double().cpu().numpy()
    log_p = None if energy is None else -energy(structures).double().cpu().numpy()
    columns = {f"z{i + 1}": c for i, c in enumerate(z.T)} | {"log_prior": log_prior}
    meta = {"source": "molifold.flows.LatentMap.path"}
    told = Ensemble(flow.molecule, x, log_p=log_p, log_q=log_q, columns=columns, meta=meta)
    torsions = _torsions(flow, x)
    return LatentPath(z, log_prior, told, np.abs(_turned(torsions[:-1], torsions[1:])).max(axis=1, initial=0.0))
