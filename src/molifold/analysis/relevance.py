"""Which degrees of freedom deserve a look: different from the reference, slow, or of several modes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.uncertainty import Estimate

#: Times the median autocorrelation time that is slow, and share outside the main mode that is several modes.
SLOW, SPREAD = 10.0, 0.02
#: Share of the variance above which one degree of freedom repeats another.
SAME = 0.8

Reason = Literal["different", "slow", "multimodal", "ordinary"]


@dataclass(frozen=True)
class Relevance:
    """Why a degree of freedom is shown where it is.

    ``different``: the excess of its Jensen-Shannon divergence over the noise floor (bits) is significant; ``slow``:
    its integrated autocorrelation time (frames) is at least ten times the median; ``multimodal``: the share of the
    reference outside its main mode is above 2 %. ``score`` is that measure. The first that holds counts.
    """

    reason: Reason
    score: float

    def __repr__(self) -> str:
        unit = {"different": "bits above the floor", "slow": "frames", "multimodal": "outside the main mode"}
        return "ordinary" if self.reason == "ordinary" else f"{self.reason} ({self.score:.3g} {unit[self.reason]})"


def relevance(
    *, excess: float, significant: bool, time: Estimate | None, usual_time: float, spread: float
) -> Relevance:
    """The first reason that holds, in the order of ``Relevance``.

    Args:
        excess: divergence above its floor, bits.
        significant: whether it can be told from the floor.
        time: integrated autocorrelation time, frames; None without time.
        usual_time: the median of all degrees of freedom.
        spread: share outside the main mode.

    >>> relevance(excess=0.1, significant=False, time=None, usual_time=2.0, spread=0.4)
    multimodal (0.4 outside the main mode)
    """
    if significant:
        return Relevance("different", excess)
    if time is not None and time.value >= SLOW * usual_time and time.value > 5:
        return Relevance("slow", time.value)
    if spread >= SPREAD:
        return Relevance("multimodal", spread)
    return Relevance("ordinary", spread)


def rank(found: Sequence[Relevance]) -> list[int]:
    """Positions, the most relevant first: by reason, then by score.

    >>> rank([Relevance("multimodal", 0.5), Relevance("different", 0.1), Relevance("different", 0.3)])
    [2, 1, 0]
    """
    order = ("different", "slow", "multimodal", "ordinary")
    return sorted(range(len(found)), key=lambda i: (order.index(found[i].reason), -found[i].score))


def echoes(
    features: Sequence[Float[ndarray, "frames components"]], order: Sequence[int], *, group: Sequence[Hashable] = ()
) -> dict[int, int]:
    """Which degrees of freedom only repeat a better one: ``{repeats: repeated}``.

    Torsions about one bond differ by a constant, and distances across it follow: ``b`` repeats ``a`` if it is of the
    same group, or if the linear regression of ``b`` on ``a`` explains more than 80 % of its variance. Of those that
    say the same, the first of the list is kept, because named torsions come first.

    Args:
        features: of every degree of freedom: cosine and sine of a circle, the value of anything else.
        order: of relevance, the best first; what is not in it is not looked at.
        group: of every degree of freedom, None for none.

    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> echoes([x[:, :1], 2 * x[:, :1] + 0.01 * x[:, 1:], x[:, 1:]], [1, 2, 0])
    {1: 0}
    """
    centred = {i: features[i] - features[i].mean(0) for i in order}
    basis = {i: np.linalg.svd(centred[i], full_matrices=False)[0] for i in order}
    left, found = list(order), {}
    while left:
        best, u = left[0], basis[left[0]]
        alike = [best]
        for i in left[1:]:
            whole = (centred[i] ** 2).sum()
            grouped = bool(group) and group[i] is not None and group[i] == group[best]
            if grouped or (whole > 0 and ((u.T @ centred[i]) ** 2).sum() > SAME * whole):
                alike.append(i)
        kept = min(alike)
        found.update({i: kept for i in alike if i != kept})
        left = [i for i in left if i not in alike]
    return found
