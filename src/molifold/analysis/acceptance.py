"""Acceptance of a Metropolised independence sampler that proposes the draws one after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.uncertainty import block_sums, trajectory_blocks
from molifold.analysis.weights import checked_log_weights, normalised_weights


@dataclass(frozen=True)
class Acceptance:
    """Metropolised independence sampling from the draws.

    ``rate`` is the accepted fraction of one chain over the draws in order, with block error ``error``; ``expected``
    its value in equilibrium, computed exactly over all pairs of draws; ``longest_wait`` the most consecutive
    rejections: a long one is a frame of outsized weight.
    """

    rate: float
    error: float
    expected: float
    longest_wait: int
    n: int

    def __repr__(self) -> str:
        return f"acceptance {100 * self.rate:.1f} +- {100 * self.error:.1f} %, longest wait {self.longest_wait}"


def independence_acceptance(log_w: Float[ndarray, " frames"], *, seed: int = 0) -> Acceptance:
    """Acceptance of the Metropolised independence sampler, ``min(1, w' / w)``, run over the draws in order.

    Raises:
        ValueError: if ``log_w`` has NaN or +inf, or fewer than two entries.

    Reference: J. S. Liu, Statistics and Computing 6, 113 (1996), doi:10.1007/BF00162521.

    >>> independence_acceptance(np.zeros(50))
    acceptance 100.0 +- 0.0 %, longest wait 0
    """
    log_w = checked_log_weights(log_w)
    n = len(log_w)
    if n < 2:
        raise ValueError(f"log_w: got {n} entry, expected at least two: a chain needs a proposal")
    accepted = np.zeros(n - 1)
    current = -math.inf
    thresholds = np.log(np.random.default_rng(seed).random(n)).tolist()
    for i, (proposal, threshold) in enumerate(zip(log_w.tolist(), thresholds, strict=True)):
        if i == 0 or current == -math.inf or proposal - current >= threshold:
            current = proposal
            if i:
                accepted[i - 1] = 1.0
    hits = np.concatenate([[-1], np.flatnonzero(accepted), [n - 1]])
    blocks = trajectory_blocks(n - 1)
    means = block_sums(blocks, accepted[:, None])[:, 0] / np.bincount(blocks)
    # E min(1, w_j / w_i) over i from the target: sum over pairs of min(W_i, W_j) / n, by sorting.
    ranked = np.sort(normalised_weights(log_w))
    return Acceptance(
        rate=float(accepted.mean()),
        error=float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan,
        expected=float((ranked * (2 * (n - np.arange(n)) - 1)).sum() / n),
        longest_wait=int(np.diff(hits).max() - 1),
        n=n,
    )
