"""Pareto k-hat: whether the tail of the importance weights lets averages converge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.weights import checked_log_weights


@dataclass(frozen=True)
class ParetoK:
    """Shape of the tail of the weights: moments up to order 1/k exist.

    ``k`` with asymptotic standard error ``error``; fitted to the ``n_tail`` largest of ``n`` weights. Below 0.5 the
    variance of the weights is finite; up to ``threshold = min(1 - 1 / log10(n), 0.7)`` averages are usable; above 1
    not even the mean exists.
    """

    k: float
    error: float
    threshold: float
    n: int
    n_tail: int

    @property
    def verdict(self) -> str:
        """``good`` (variance finite), ``usable``, ``unreliable`` or ``useless``."""
        if self.k > 1:
            return "useless"
        if self.k > self.threshold:
            return "unreliable"
        return "usable" if self.k > 0.5 else "good"

    def __repr__(self) -> str:
        return f"Pareto k-hat {self.k:.2f} +- {self.error:.2f} ({self.verdict}; usable below {self.threshold:.2f})"


def pareto_k(log_w: Float[ndarray, " frames"]) -> ParetoK:
    """Pareto shape of the largest ``min(n / 5, 3 sqrt(n))`` weights (PSIS, fitted by ``arviz-stats``).

    Raises:
        ValueError: if ``log_w`` has NaN or +inf, or fewer than 25 entries.

    Reference: Vehtari, Simpson, Gelman, Yao and Gabry, JMLR 25 (2024), arXiv 1507.02646.

    >>> log_w = np.random.default_rng(0).standard_exponential(10_000) * 0.4   # weights with Pareto tail of shape 0.4
    >>> pareto_k(log_w)
    Pareto k-hat 0.4... +- 0.0... (...; usable below 0.70)
    """
    from arviz_stats.base import array_stats

    log_w = checked_log_weights(log_w)
    n = len(log_w)
    if n < 25:
        raise ValueError(f"log_w: got {n} entries, expected at least 25, so that five form a tail; draw more")
    n_tail = int(3 * math.sqrt(n)) if n > 225 else n // 5
    threshold = min(1 - 1 / math.log10(n), 0.7)
    tail = np.sort(np.exp(log_w - log_w.max()))[-n_tail - 1 :]
    if tail[-1] - tail[1] < 1e-12:  # all equal: bounded, and no fit is possible
        return ParetoK(k=-math.inf, error=0.0, threshold=threshold, n=n, n_tail=n_tail)
    k = float(array_stats.psislw(-log_w)[1])
    # Variance of the maximum-likelihood shape of a generalised Pareto law (Smith 1987).
    return ParetoK(k=k, error=abs(1 + k) / math.sqrt(n_tail), threshold=threshold, n=n, n_tail=n_tail)
