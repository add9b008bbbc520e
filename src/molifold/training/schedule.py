"""Learning-rate schedules: the factor on the learning rate as a function of the share of the budget that is spent."""

from __future__ import annotations

import math
from collections.abc import Callable

#: Share of the budget spent, in [0, 1] -> factor on the learning rate.
Schedule = Callable[[float], float]


def cosine(*, warmup: float = 0.02, floor: float = 0.0) -> Schedule:
    """Linear warm-up, then half a cosine down to ``floor`` (I. Loshchilov, F. Hutter, ICLR 2017, arXiv:1608.03983).

    Args:
        warmup: share of the budget spent warming up.
        floor: factor at the end.

    Raises:
        ValueError: if ``warmup`` is not in [0, 1).

    >>> rate = cosine(warmup=0.1)
    >>> [round(rate(t), 3) for t in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup: got {warmup!r}, expected a share of the budget in [0, 1)")

    def factor(spent: float) -> float:
        if spent < warmup:
            return spent / warmup
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (spent - warmup) / (1 - warmup)))

    return factor


def constant(*, warmup: float = 0.02) -> Schedule:
    """Linear warm-up, then 1.

    >>> constant(warmup=0.5)(0.25)
    0.5
    """
    return lambda spent: min(1.0, spent / warmup) if warmup else 1.0
