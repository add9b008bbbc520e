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
        weights: [target, source, functions of target, functions of source], the proposed layers.
    """

    nats: Float[ndarray, "size size"]
    t: Float[ndarray, "size size"]
    slope: Float[ndarray, "size size"]
    limit: float
    weights: Float[Tensor, "size size b c"]
    circle: Bool[Tensor, " size"]

    @property
    def found(self) -> list[tuple[int, int]]:
        """(target, source) of every certain and worthwhile saving, the largest first; each pair once."""
        certain = np.where((self.t > self.limit) & (self.nats > WORTH), self.nats, 0.0)
        order = np.argsort(-certain, axis=None)
        pairs = [divmod(int(k), len(self.t)) for k in order[: int((certain > 0).sum())]]
        return list({tuple(sorted(p)): p for p in reversed(pairs)}.values())[::-1]

    def move(self, z: Float[Tensor, "batch size"], target: int, source: int) -> Float[Tensor, " batch"]:
        """The proposed layer: what it adds to ``target`` at unit amplitude."""
        psi, _ = _targets(z.double(), self.circle)
        phi = _sources(z.double(), self.circle)
        own = target == source
        return _combine(psi[:, target], phi[:, source], self.weights[target, source], own=own)

    def __repr__(self) -> str:
        return f"Stein({len(self.t)} latents, {len(self.found)} savings, largest {self.nats.max():.3g} nats)"


def stein(z: Float[Tensor, "batch size"], circle: Bool[Tensor, " size"], *, level: float = 0.01) -> Stein:
    """Test latents of data for anything that one more layer could remove.

    A layer z_i <- z_i + gamma u_i(z) changes the mean loss by gamma E[z_i u_i - du_i/dz_i] to first order (without z_i
    for uniform angles): zero for every u if the latents have the base density. The best u is proposed on every other
    row, and verified on the rest.

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
    score_a, score_b = (_scores(part, circle) for part in (propose, verify))
    phi_a, phi_b = (_sources(part, circle) for part in (propose, verify))
    weights = -torch.einsum("nib,njc->ijbc", score_a, phi_a) / len(propose)
    # Own functions: one product is enough, since their derivative is known only for psi itself.
    own = torch.arange(size)
    weights[own, own] = 0.0
    weights[own, own, :, 0] = -score_a.mean(0)
    weights = weights / weights.flatten(2).norm(dim=2).clamp(min=1e-300)[..., None, None]
    psi, slope_psi = _targets(verify, circle)
    slope, t, nats = (np.zeros((size, size)) for _ in range(3))
    for i in range(size):
        phi = phi_b.clone()
        phi[:, i] = 0.0
        phi[:, i, 0] = 1.0
        gain = -torch.einsum("nb,jbc,njc->nj", score_b[:, i], weights[i], phi)
        moved = torch.einsum("nb,jbc,njc->nj", psi[:, i], weights[i], phi)
        bent = torch.einsum("nb,jbc,njc->nj", slope_psi[:, i], weights[i], phi)
        curvature = (bent.square() + (0.0 if circle[i] else 1.0) * moved.square()).mean(0)
        mean = gain.mean(0)
        slope[i], t[i] = mean, mean / (gain.std(0) / math.sqrt(len(gain))).clamp(min=1e-300)
        nats[i] = torch.where(mean > 0, mean.square() / (2 * curvature.clamp(min=1e-300)), 0.0)
    from scipy.stats import norm

    return Stein(nats, t, slope, float(norm.isf(level / size**2)), weights, circle)


def _targets(z: Tensor, circle: Tensor) -> tuple[Tensor, Tensor]:
    """How a coordinate may be moved given itself, [batch, size, b], and the derivatives: shift, stretch, bends."""
    x = z[:, :, None]
    on = circle[None, :, None]
    k = torch.tensor(CIRCLE[:2], dtype=z.dtype)
    w = torch.tensor(REAL[1:2], dtype=z.dtype)
    real = torch.cat([torch.ones_like(x), x, (w * x).sin(), (w * x).cos()], 2)
    bent = torch.cat([torch.zeros_like(x), torch.ones_like(x), w * (w * x).cos(), -w * (w * x).sin()], 2)
    angle = torch.cat([(k * x).sin(), (k * x).cos()], 2)
    turned = torch.cat([k * (k * x).cos(), -k * (k * x).sin()], 2)
    return torch.where(on, angle, real), torch.where(on, turned, bent)


def _scores(z: Tensor, circle: Tensor) -> Tensor:
    psi, slope = _targets(z, circle)
    return torch.where(circle[None, :, None], 0.0, z[:, :, None] * psi) - slope


def _sources(z: Tensor, circle: Tensor) -> Tensor:
    """Functions of the other coordinate, [batch, size, c]."""
    frequency = torch.where(circle[:, None], torch.tensor(CIRCLE), torch.tensor(REAL)).to(z)
    waves = frequency * z[:, :, None]
    return torch.cat([waves.sin(), waves.cos()], 2)


def _combine(psi: Tensor, phi: Tensor, weights: Tensor, *, own: bool) -> Tensor:
    if own:
        return psi @ weights[:, 0]
    return torch.einsum("nb,bc,nc->n", psi, weights, phi)
