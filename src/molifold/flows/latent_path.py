"""Paths through the latent map: relaxed along the density of z, then decoded to structures that follow each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from molifold import geometry
from molifold.ensemble import Ensemble
from molifold.transforms.angles import wrap
from molifold.transforms.internal import InternalCoordinates

if TYPE_CHECKING:
    from molifold.flows.flow import Flow
    from molifold.flows.latent import LatentMap
    from molifold.interfaces import Energy

#: Iterations of the string, and the longest step of an image (latent units).
ITERATIONS, LONGEST = 200, 0.05
#: Price of turning a torsion between neighbouring images, kT per 1 - cos: about that of a torsional barrier.
TURN = 5.0


#: Price of a structure that is not sound, kT: more than any choice among sound ones.
UNSOUND = 1e6

#: Says of every frame whether it may be part of a path.
Sound = Callable[[Ensemble], Bool[ndarray, " frames"]]


@dataclass(frozen=True)
class LatentPath:
    """A path between two conformations.

    ``z`` [images, latents] are its points and ``log_prior`` [images] the log p(z) there; ``ensemble`` has a structure
    for every image, first and last as given, superposed, with ``log_p = -u`` (given an energy), ``log_q`` (the map's
    log p(x), as in ``LatentMap.sample``) and the columns ``z1``, ..., ``log_prior``.
    """

    z: Float[ndarray, "images latents"]
    log_prior: Float[ndarray, " images"]
    ensemble: Ensemble

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
        return f"LatentPath({len(self.z)} images, barrier {self.barrier:.1f} kT in -log p(z){known})"


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

    Between the places of a and b a string of images is relaxed to a path along which -log p(z) has no gradient across
    it (``relaxed_string``). Every image is decoded to ``candidates`` draws of p(x|z); the sequence is the one, out
    of all combinations, with the least sum of energies and of torsions that turn between neighbours (dynamic
    programming). Without an energy, -log p(x|z) takes its place.

    Args:
        flow: a trained map.
        a, b: conformations, nm; the path begins and ends with them.
        energy: in kT.
        images: number of structures, at least 3.
        candidates: draws per image to choose from.
        sound: which conformations of an ensemble may be chosen [frames]; the others are where an image has no such.
        seed: of the draws.

    Raises:
        ValueError: if a or b belong to another molecule, or ``images`` is below 3.
    """
    if images < 3:
        raise ValueError(f"images: got {images}, expected at least 3")
    ends = Ensemble(flow.molecule, np.stack([np.asarray(a), np.asarray(b)]).astype(np.float32))
    places = flow.encode(ends)
    z = relaxed_string(flow.prior, places.z[0], places.z[1], images=images)
    drawn = flow.decode(z[1:-1], each=candidates, seed=seed, energy=energy)
    cost = -np.asarray(drawn.log_q if drawn.log_p is None else drawn.log_p)
    if sound is not None:
        cost = cost + np.where(sound(drawn), 0.0, UNSOUND)
    torsions = _torsions(flow, drawn.x).reshape(images - 2, candidates, -1)
    chosen = _least_costly(
        np.where(np.isfinite(cost), cost, np.inf).reshape(images - 2, candidates), torsions, _torsions(flow, ends.x)
    )
    inner = drawn.x.reshape(images - 2, candidates, *drawn.x.shape[1:])[np.arange(images - 2), chosen]
    x = geometry.superpose(np.concatenate([ends.x[:1], inner, ends.x[1:]]), ends.x[0])
    return _told(flow, z, x.astype(np.float32), energy)


def relaxed_string(
    prior: Flow, start: Float[ndarray, " latents"], end: Float[ndarray, " latents"], *, images: int
) -> Float[ndarray, "images latents"]:
    """A string of equally spaced points between two fixed ends, relaxed to a minimum free-energy path of -log p(z).

    Circular latents go the shorter way round. In every iteration all images climb log p(z), then are spaced evenly
    along the string again, which undoes what they moved along it.

    Reference: E, Ren, Vanden-Eijnden (2007), doi:10.1063/1.2720838 (simplified string method).
    """
    like = next(prior.parameters())
    circle = torch.from_numpy(prior.base.space.has("circle")).to(like.device)
    first, last = (torch.as_tensor(np.asarray(e)).to(like) for e in (start, end))
    way = torch.where(circle, wrap(last - first), last - first)
    z = first + torch.linspace(0, 1, images).to(like)[:, None] * way
    step = LONGEST
    for i in range(ITERATIONS):
        if way.norm() < 1e-6:
            break
        inner = z[1:-1].clone().requires_grad_()
        gradient = torch.autograd.grad(prior.log_prob(torch.where(circle, wrap(inner), inner)).sum(), inner)[0]
        # Steps shrink to nothing: the spline density has kinks over which images of constant step would hop for ever.
        step = LONGEST * (1 - i / ITERATIONS)
        move = gradient.nan_to_num() * 0.1 * step
        move = move * (step / move.norm(dim=1, keepdim=True).clamp_min(step))
        z = _evenly(torch.cat([z[:1], z[1:-1] + move, z[-1:]]))
    return torch.where(circle, wrap(z), z).detach().cpu().numpy()


def _evenly(z: Float[Tensor, "images latents"]) -> Float[Tensor, "images latents"]:
    """The same polygon with its corners spaced evenly."""
    length = torch.cat([z.new_zeros(1), (z[1:] - z[:-1]).norm(dim=1).cumsum(0)])
    wanted = torch.linspace(0, 1, len(z)).to(z) * length[-1]
    right = torch.searchsorted(length, wanted).clamp(1, len(z) - 1)
    share = ((wanted - length[right - 1]) / (length[right] - length[right - 1]).clamp_min(1e-12))[:, None]
    new = z[right - 1] + share * (z[right] - z[right - 1])
    return torch.cat([z[:1], new[1:-1], z[-1:]])


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
        return TURN * (1 - np.cos(before[:, None] - after[None])).sum(-1)

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
    return LatentPath(z, log_prior, Ensemble(flow.molecule, x, log_p=log_p, log_q=log_q, columns=columns, meta=meta))
