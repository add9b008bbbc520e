"""Training objectives: functions of a flow and a batch that return a scalar."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from molifold.interfaces import Batch, Density, Energy


def nll(flow: Density, batch: Batch, energy: Energy | None, generator: Generator) -> Tensor:
    """Negative log-likelihood of the batch: forward KL divergence up to a constant ("maximum likelihood").

    Weighted by ``batch.weights`` where given.
    """
    return _mean(-flow.log_prob(batch.x), batch.weights)


def reverse_kl(
    flow: Density, batch: Batch, energy: Energy | None, generator: Generator, *, samples: int | None = None
) -> Tensor:
    """Reverse KL divergence up to a constant: mean of log q + u over ``samples`` draws ("energy training").

    Prone to lose modes on its own; combine it with ``nll``. Needs ``energy``; use a regularised one while clashes are
    frequent.

    Reference: Noe et al. (2019), arXiv 1812.01729, eq. 7 (J_KL).

    Raises:
        ValueError: if no energy is given.
    """
    if energy is None:
        raise ValueError("energy: got None, but reverse_kl needs the energy of generated conformations")
    x, log_q = flow.sample(len(batch.x) if samples is None else samples, generator=generator)
    return (log_q + energy(x)).mean()


def log_dispersion(
    flow: Density, batch: Batch, energy: Energy | None, generator: Generator, *, huber: float = 3.0
) -> Tensor:
    """Dispersion of log q + u over the batch: zero exactly when the flow equals the target wherever there is data.

    Off-policy log-variance divergence (Richter et al. 2020, arXiv 2010.10436), used beside ``nll`` as in Schopmans et
    al. (2026), arXiv 2602.03729: the energies of the frames are information that likelihood alone throws away, so it
    generalises from fewer frames. Uses ``batch.log_p`` where known, else evaluates ``energy``.

    The variance, but deviations from the mean beyond ``huber`` kT count linearly: single frames in a tail that the flow
    has not met yet would otherwise outweigh the batch and throw the training off. ``huber=math.inf`` is the variance.

    Raises:
        ValueError: if neither ``batch.log_p`` nor an energy is given.
    """
    log_p = batch.log_p
    if log_p is None:
        if energy is None:
            raise ValueError("batch.log_p: got None and no energy, but log_dispersion needs one of them")
        log_p = -energy(batch.x)
    difference = flow.log_prob(batch.x) - log_p
    deviation = difference - _mean(difference, batch.weights)
    near = deviation.clamp(-huber, huber)
    return _mean(near * (2 * deviation - near), batch.weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (weights * values).sum() / torch.sum(weights)
