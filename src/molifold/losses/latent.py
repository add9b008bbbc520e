"""Objectives of the latent map: functions of a map and a batch that return a scalar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from molifold.interfaces import Batch, Energy

if TYPE_CHECKING:
    from molifold.flows.latent import LatentMap
    from molifold.flows.latent_encoder import Posterior

#: Added to the diagonals of covariances, relative to their mean: the matrices of untrained latents are nearly singular.
RIDGE = 1e-6


def elbo(
    flow: LatentMap,
    batch: Batch,
    energy: Energy | None,
    generator: Generator,
    *,
    beta: float = 1.0,
    free_bits: float = 1.0,
) -> Tensor:
    """Negative evidence lower bound, with a guard against posterior collapse.

        E_q(z|x)[-log p(x|z)] + beta max(KL, free_bits * latents) ,  KL = E_q(z|x)[log q(z|x) - log p(z)] .

    While the mean KL of the batch is below ``free_bits`` (nats per latent) it is not pushed down further, so that the
    encoder has nothing to gain from ignoring x. Above, and with ``beta = 1``, this is the bound itself. Weighted by
    ``batch.weights`` where given.

    Reference: Kingma and Welling (2014), arXiv 1312.6114; free bits: Kingma et al. (2016), arXiv 1606.04934, eq. 15.
    """
    return _elbo(flow, batch, flow.encoder(batch.x), generator, beta=beta, free_bits=free_bits)


def vamp2(flow: LatentMap, batch: Batch, energy: Energy | None, generator: Generator) -> Tensor:
    """Negative VAMP-2 score of the latents over the lag of the batch, averaged over the first 1, 2, ... latents.

        -|| C00^-1/2 C0t Ctt^-1/2 ||_F^2 - 1 .

    The nested average orders the latents: the first alone captures the slowest process. Circular latents enter as
    cosine and sine. With several processes the covariances are those of all of them, so the score is that of the whole
    batch; a score is no mean over frames.

    Reference: Wu and Noe (2020), arXiv 1707.04659; Mardt et al. (2018), arXiv 1710.06012.

    Raises:
        ValueError: if the batch has no lagged frames.
    """
    return _nested_vamp2(flow.encoder(batch.x), flow.encoder(_lagged(batch, "vamp2")), batch.weights)


def propagation(flow: LatentMap, batch: Batch, energy: Energy | None, generator: Generator) -> Tensor:
    """How badly z predicts itself a lag later: E[log q(z'|x') - log p(z'|z)], z ~ q(z|x), z' ~ q(z'|x').

    The autoregressive part of a time-lagged ELBO: with ``elbo``'s reconstruction it bounds the likelihood of
    a frame given the one before. The entropy of q keeps latents from shrinking to a point, which would be predicted
    perfectly.

    Reference: Hernandez et al. (2018), arXiv 1711.08576 (variational dynamics encoder).

    Raises:
        ValueError: if the batch has no lagged frames, or the map no propagator.
    """
    return _propagation(flow, batch, flow.encoder(batch.x), flow.encoder(_lagged(batch, "propagation")), generator)


def latent_objective(
    flow: LatentMap,
    batch: Batch,
    energy: Energy | None,
    generator: Generator,
    *,
    beta: float = 1.0,
    free_bits: float = 1.0,
    slowness: float = 10.0,
    memory: float = 1.0,
) -> Tensor:
    """``elbo + slowness * vamp2 + memory * propagation``: a generator whose map is that of the slow processes.

    A score of 1 means nothing slow and 2 a process that never relaxes, so ``slowness`` is what one perfectly slow
    process is worth in nats per frame. The three share what they can: every frame is encoded once.
    """
    now, later = flow.encoder(batch.x), flow.encoder(_lagged(batch, "latent_objective"))
    return (
        _elbo(flow, batch, now, generator, beta=beta, free_bits=free_bits)
        + slowness * _nested_vamp2(now, later, batch.weights)
        + memory * _propagation(flow, batch, now, later, generator)
    )


def vamp2_score(
    now: Float[Tensor, "batch features"],
    later: Float[Tensor, "batch features"],
    *,
    weights: Float[Tensor, " batch"] | None = None,
) -> Tensor:
    """VAMP-2 score of features and the same a lag later; over all processes, with gradient.

    The constant function counts, so a score lies between 1 and 1 + features.

    >>> z = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    >>> round(float(vamp2_score(z, 3 * z + 1)), 4)
    2.0
    """
    return 1 + _score(*_covariances(now, later, weights))


def _elbo(
    flow: LatentMap, batch: Batch, posterior: Posterior, generator: Generator, *, beta: float, free_bits: float
) -> Tensor:
    z = posterior.sample(generator=generator)
    divergence = _mean(posterior.log_prob(z).sum(1) - flow.prior.log_prob(z), batch.weights)
    kept = torch.clamp(divergence, min=free_bits * flow.latents)
    return _mean(-flow.generator.log_prob(batch.x, z), batch.weights) + beta * kept


def _propagation(flow: LatentMap, batch: Batch, now: Posterior, later: Posterior, generator: Generator) -> Tensor:
    if flow.propagator is None:
        raise ValueError("flow: this map has no propagator; build it with time_lagged=True")
    past, z = now.sample(generator=generator), later.sample(generator=generator)
    return _mean(later.log_prob(z).sum(1) - flow.propagator.log_prob(z, past), batch.weights)


def _nested_vamp2(now: Posterior, later: Posterior, weights: Tensor | None) -> Tensor:
    c00, c0t, ctt = _covariances(_waves(now.mean, now.circle), _waves(later.mean, later.circle), weights)
    ends = (1 + now.circle.long()).cumsum(0).tolist()
    scores = [_score(c00[:k, :k], c0t[:k, :k], ctt[:k, :k]) for k in ends]
    return -1 - torch.stack(scores).mean()


def _score(c00: Tensor, c0t: Tensor, ctt: Tensor) -> Tensor:
    """|| C00^-1/2 C0t Ctt^-1/2 ||_F^2 = tr(C00^-1 C0t Ctt^-1 Ct0): a trace of solves has no gradient of eigenvalues."""
    left, right = _ridged(c00), _ridged(ctt)
    return torch.trace(torch.linalg.solve(left, c0t) @ torch.linalg.solve(right, c0t.T))


def _ridged(c: Tensor) -> Tensor:
    return c + (RIDGE * c.diagonal().mean() + torch.finfo(c.dtype).tiny) * torch.eye(len(c)).to(c)


def _covariances(now: Tensor, later: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """C00, C0t, Ctt of all processes' frames, means removed. In double precision: differences of large sums."""
    w = now.new_ones(len(now)) if weights is None else weights
    both = torch.cat([now, later], dim=1).double()
    both = torch.cat([both, torch.ones_like(both[:, :1])], dim=1)
    moments = _all_reduced((w.double()[:, None] * both).T @ both)
    moments = moments / moments[-1, -1]
    mean, n = moments[-1, :-1], now.shape[1]
    covariance = moments[:-1, :-1] - torch.outer(mean, mean)
    return covariance[:n, :n], covariance[:n, n:], covariance[n:, n:]


def _all_reduced(value: Tensor) -> Tensor:
    """The sum over all processes. Its gradient is summed likewise, which wrappers that average gradients undo."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def _waves(z: Float[Tensor, "batch latents"], circle: Tensor) -> Float[Tensor, "batch features"]:
    """Real latents as they are, circular ones as cosine and sine, in order."""
    columns = [[z[:, i].cos(), z[:, i].sin()] if c else [z[:, i]] for i, c in enumerate(circle.tolist())]
    return torch.stack([column for pair in columns for column in pair], dim=1)


def _lagged(batch: Batch, name: str) -> Tensor:
    if batch.lagged is None:
        raise ValueError(f"batch.lagged: got None, but {name} needs frames a lag later; pass lag= (frames) to fit")
    return batch.lagged


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (weights * values).sum() / torch.sum(weights)
