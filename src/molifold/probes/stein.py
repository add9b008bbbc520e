"""What a flow's latents still hold: the loss that one more layer would save, coordinate by coordinate, pair by pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

#: Frequencies of the functions of a coordinate: of a real one (in standard deviations), of an angle.
REAL, CIRCLE = (0.5, 1.0, 2.0), (1.0, 2.0, 3.0)
#: Waves by which a coordinate is moved given another one, and given only itself (its modes may lie close together).
PAIR_WAVES, OWN_WAVES = 1, 5
#: Rows from which the curvature of the loss is estimated, which only sets the direction of a proposal.
CURVATURE_ROWS = 250
#: A saving below this is not worth a layer, nats per conformation.
WORTH = 0.002


@dataclass(frozen=True)
class Stein:
    """Savings [target, source] of a layer that moves ``target`` by a function of itself and ``source``.

    On the diagonal: the shape of one latent (the transform family); off it: two latents that depend on each other.

    Attributes:
        nats: decrease of the mean loss by such a layer at its best amplitude, to second order, on held-out rows.
        t: of its first-order slope; standard normal where there is nothing to save.
        slope: decrease of the loss per unit of amplitude of the proposed layers.
        limit: |t| beyond which a saving is certain, all pairs tested together.
        weights: [target, source, functions of target, functions of source], the proposed layers; 0 on the diagonal.
        own: [target, functions of target], the proposed layers that see the target alone.
        centre: [size, functions of source] what is subtracted from the functions of a source, so that they do not see
            the shape of the target by itself.
    """

    nats: Float[ndarray, "size size"]
    t: Float[ndarray, "size size"]
    slope: Float[ndarray, "size size"]
    limit: float
    weights: Float[Tensor, "size size b c"]
    own: Float[Tensor, "size bends"]
    circle: Bool[Tensor, " size"]
    centre: Float[Tensor, "size c"]

    @property
    def found(self) -> list[tuple[int, int]]:
        """(target, source) of every certain and worthwhile saving, the largest first; each pair once."""
        certain = np.where((self.t > self.limit) & (self.nats > WORTH), self.nats, 0.0)
        order = np.argsort(-certain, axis=None)
        pairs = [divmod(int(k), len(self.t)) for k in order[: int((certain > 0).sum())]]
        once: dict[tuple[int, ...], tuple[int, int]] = {}
        for target, source in pairs:
            once.setdefault(tuple(sorted((target, source))), (target, source))
        return list(once.values())

    def move(self, z: Float[Tensor, "batch size"], target: int, source: int) -> Float[Tensor, " batch"]:
        """The proposed layer: what it adds to ``target`` at unit amplitude."""
        if target == source:
            return _targets(z.double(), self.circle, OWN_WAVES)[0][:, target] @ self.own[target]
        psi, _ = _targets(z.double(), self.circle, PAIR_WAVES)
        phi = _sources(z.double(), self.circle) - self.centre
        return torch.einsum("nb,bc,nc->n", psi[:, target], self.weights[target, source], phi[:, source])

    def __repr__(self) -> str:
        return f"Stein({len(self.t)} latents, {len(self.found)} savings, largest {self.nats.max():.3g} nats)"


def stein(z: Float[Tensor, "batch size"], circle: Bool[Tensor, " size"], *, level: float = 0.01) -> Stein:
    """Test latents of data for anything that one more layer could remove.

    A layer z_i <- z_i + gamma u_i(z) changes the mean loss by gamma E[z_i u_i - du_i/dz_i] to first order (without z_i
    for uniform angles): zero for every u if the latents have the base density. The best u, the one that saves most to
    second order, is proposed on every other row, and verified on the rest.

    Args:
        z: latents of data, standard normal where ``circle`` is False and uniform angles where it is True, if the flow
            is perfect.
        circle: which are angles.
        level: chance of any false alarm.

    Reference: Liu, Lee, Jordan (2016), arXiv 1602.03253 (Stein discrepancy); Chernozhukov et al. (2018), arXiv
    1608.00060 (propose on one fold, verify on the other).

    >>> z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    >>> stein(z, torch.tensor([False, False])).found
    []
    >>> stein(torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1), torch.tensor([False, False])).found
    [(1, 0)]
    """
    if z.ndim != 2 or len(z) < 40 or circle.shape != z.shape[1:]:
        raise ValueError(f"z: got {tuple(z.shape)} with circle {tuple(circle.shape)}, expected [at least 40, size]")
    z, size = z.detach().double().cpu(), z.shape[1]
    circle = circle.cpu()
    propose, verify = z[::2], z[1::2]
    centre = _sources(propose, circle).mean(0)
    phi_a, phi = (_sources(part, circle) - centre for part in (propose, verify))
    own, weights = _own(propose, circle), _pairs(propose, circle, phi_a)
    psi, bend = _targets(verify, circle, PAIR_WAVES)
    score = _scores(psi, bend, verify, circle)
    psi_own, bend_own = _targets(verify, circle, OWN_WAVES)
    score_own = _scores(psi_own, bend_own, verify, circle)
    slope, t, nats = (np.zeros((size, size)) for _ in range(3))
    for i in range(size):
        gain, moved, bent = (
            torch.einsum("nb,jbc,njc->nj", part[:, i], weights[i], phi) for part in (-score, psi, bend)
        )
        gain[:, i], moved[:, i], bent[:, i] = (part[:, i] @ own[i] for part in (-score_own, psi_own, bend_own))
        curvature = (bent.square() + (0.0 if circle[i] else 1.0) * moved.square()).mean(0)
        mean = gain.mean(0)
        slope[i], t[i] = mean, mean / (gain.std(0) / math.sqrt(len(gain))).clamp(min=1e-300)
        nats[i] = torch.where(mean > 0, mean.square() / (2 * curvature.clamp(min=1e-300)), 0.0)
    from scipy.stats import norm

    return Stein(nats, t, slope, float(norm.isf(level / size**2)), weights, own, circle, centre)


def _own(z: Float[Tensor, "batch size"], circle: Bool[Tensor, " size"]) -> Float[Tensor, "size bends"]:
    """The layer of every coordinate by itself that saves most to second order."""
    psi, bend = _targets(z, circle, OWN_WAVES)
    still = torch.where(circle, 0.0, 1.0).to(z)[:, None, None]
    curvature = torch.einsum("nib,nic->ibc", bend, bend) + still * torch.einsum("nib,nic->ibc", psi, psi)
    return _newton(-_scores(psi, bend, z, circle).mean(0), curvature / len(z))


def _pairs(
    z: Float[Tensor, "batch size"], circle: Bool[Tensor, " size"], phi: Float[Tensor, "batch size c"]
) -> Float[Tensor, "size size b c"]:
    """The layer of every coordinate given another one that saves most to second order; 0 on the diagonal."""
    psi, bend = _targets(z, circle, PAIR_WAVES)
    score = _scores(psi, bend, z, circle)
    some = slice(0, None, max(1, len(z) // CURVATURE_ROWS))
    found = []
    for i in range(z.shape[1]):
        force = -torch.einsum("nb,njc->jbc", score[:, i], phi).flatten(1) / len(z)
        curvature = torch.zeros(*force.shape, force.shape[1], dtype=z.dtype)
        for part in (bend,) if circle[i] else (bend, psi):
            product = torch.einsum("nb,njc->jnbc", part[some, i], phi[some]).flatten(2)
            curvature += product.mT @ product / product.shape[1]
        step = _newton(force, curvature)
        step[i] = 0.0
        found.append(step.unflatten(1, (psi.shape[2], phi.shape[2])))
    return torch.stack(found)


def _newton(force: Float[Tensor, "layers b"], curvature: Float[Tensor, "layers b b"]) -> Float[Tensor, "layers b"]:
    """Force over curvature, at unit length; a touch of the identity where functions are nearly dependent."""
    size = curvature.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=1e-300)
    step = torch.linalg.solve(curvature + 1e-3 * size * torch.eye(force.shape[1], dtype=force.dtype), force)
    return step / step.norm(dim=1, keepdim=True).clamp(min=1e-300)


def _targets(z: Tensor, circle: Tensor, waves: int) -> tuple[Tensor, Tensor]:
    """How a coordinate may be moved given itself, [batch, size, b], and the derivatives: shift, stretch, waves."""
    x = z[:, :, None]
    w, k = (torch.arange(1, n + 1, dtype=z.dtype) for n in (waves, waves + 1))
    real = torch.cat([torch.ones_like(x), x, (w * x).sin(), (w * x).cos()], 2)
    bent = torch.cat([torch.zeros_like(x), torch.ones_like(x), w * (w * x).cos(), -w * (w * x).sin()], 2)
    angle = torch.cat([(k * x).sin(), (k * x).cos()], 2)
    turned = torch.cat([k * (k * x).cos(), -k * (k * x).sin()], 2)
    on = circle[None, :, None]
    return torch.where(on, angle, real), torch.where(on, turned, bent)


def _scores(psi: Tensor, bend: Tensor, z: Tensor, circle: Tensor) -> Tensor:
    """What every function changes the loss by, per unit of amplitude."""
    return torch.where(circle[None, :, None], 0.0, z[:, :, None] * psi) - bend


def _sources(z: Tensor, circle: Tensor) -> Tensor:
    """Functions of the other coordinate, [batch, size, c]."""
    frequency = torch.where(circle[:, None], torch.tensor(CIRCLE), torch.tensor(REAL)).to(z)
    waves = frequency * z[:, :, None]
    return torch.cat([waves.sin(), waves.cos()], 2)
