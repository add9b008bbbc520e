"""Distances that need samples of one fixed size (optimal transport, coverage by RMSD), beside their noise floors.

The Wasserstein distance of two finite samples of one law is not zero, and shrinks with their size: it only means
something beside the distance of two samples of the reference of that size. Half of the blocks (whole trajectories,
or long runs) of either ensemble are drawn at random, ``repeats`` times, and ``n`` frames from each half: model against
reference is the value, the other half of the reference (with the weights of the model dealt to it) is the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.divergence import Divergence
from molifold.analysis.rmsd import symmetric_rmsd

#: ``statistic(model, its normalised weights, reference) -> numbers``; the reference is not weighted.
Statistic = Callable[[Any, ndarray, Any], Sequence[float]]


@dataclass(frozen=True)
class Sample:
    """Features of some frames of an ensemble, their weights, and the block that each is in."""

    features: ndarray
    weights: Float[ndarray, " frames"]
    block: Int[ndarray, " frames"]


def at_fixed_size(
    statistic: Statistic,
    names: Sequence[str],
    *,
    model: Sample,
    reference: Sample,
    n: int = 500,
    repeats: int = 8,
    seed: int = 0,
) -> tuple[Divergence, ...]:
    """One ``Divergence`` per number of ``statistic``, for ``n`` frames a side (fewer where a half has fewer).

    ``error`` and ``floor_error`` are the spread over the random halves, which is the standard error of the ensemble
    that the halves are drawn from, and that of picking ``n`` frames.

    Args:
        statistic: of the model's features, its weights and the reference's features.
        names: of its numbers, with units.
        model, reference: what to draw from; the reference may carry weights, by which its frames are drawn.
        n: frames on either side.
        repeats: random halves.
        seed: of the drawing.

    >>> rng = np.random.default_rng(0)
    >>> a, b = (Sample(rng.normal(m, 1, (4000, 1)), np.ones(4000), np.arange(4000) // 100) for m in (3, 0))
    >>> at_fixed_size(wasserstein_1, ["W1 (kT)"], model=a, reference=b)[0].value.__round__(1)
    3.0
    """
    rng = np.random.default_rng(seed)
    values, floors, worth = [], [], []
    for _ in range(repeats):
        near, far = _halves(reference, rng)
        (mine, _) = _halves(model, rng)
        size = min(n, len(near), len(far), len(mine))
        chosen = [_draw(reference, part, size, rng) for part in (near, far)]
        picked = rng.choice(mine, size, replace=False)
        w = model.weights[picked] / model.weights[picked].sum()
        values.append(statistic(model.features[picked], w, reference.features[chosen[0]]))
        floors.append(statistic(reference.features[chosen[1]], rng.permutation(w), reference.features[chosen[0]]))
        worth.append((size, 1 / (w * w).sum()))
    a, b = np.array(values, dtype=float), np.array(floors, dtype=float)
    spread = [s.std(0, ddof=1) if repeats > 1 else np.full(len(names), np.nan) for s in (a, b)]
    value, floor = a.mean(0), b.mean(0)
    frames, ess = np.mean(worth, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = value / floor
        ratio_error = ratio * np.hypot(spread[0] / value, spread[1] / floor)
    return tuple(
        Divergence(
            measure=name, value=float(value[k]), error=float(spread[0][k]), floor=float(floor[k]),
            floor_error=float(spread[1][k]), floor_high=float(np.quantile(b[:, k], 0.95)), ideal_floor=float("nan"),
            ratio=float(ratio[k]), ratio_error=float(ratio_error[k]), plain=float("nan"), frames=int(frames),
            ess=float(ess),
        )
        for k, name in enumerate(names)
    )  # fmt: skip


def _halves(sample: Sample, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    used = np.flatnonzero(sample.weights > 0)
    blocks = np.unique(sample.block[used])
    if len(blocks) < 2:
        order = rng.permutation(used)
        return order[: len(order) // 2], order[len(order) // 2 :]
    first = rng.permutation(blocks)[: len(blocks) // 2]
    inside = np.isin(sample.block[used], first)
    return used[inside], used[~inside]


def _draw(sample: Sample, rows: ndarray, size: int, rng: np.random.Generator) -> ndarray:
    w = sample.weights[rows]
    if (w == w[0]).all():
        return rng.choice(rows, size, replace=False)
    return rng.choice(rows, size, p=w / w.sum())


def wasserstein_1(a: Float[ndarray, "n 1"], w: Float[ndarray, " n"], b: Float[ndarray, "m 1"]) -> list[float]:
    """Wasserstein-1 distance on a line, exact.

    >>> wasserstein_1(np.array([[0.0], [1.0]]), np.array([0.5, 0.5]), np.array([[2.0], [3.0]]))
    [2.0]
    """
    from scipy.stats import wasserstein_distance

    return [float(wasserstein_distance(a[:, 0], b[:, 0], u_weights=w))]


def wasserstein_2(a: Float[ndarray, "n d"], w: Float[ndarray, " n"], b: Float[ndarray, "m d"]) -> list[float]:
    """Wasserstein-2 distance in Euclidean space, by exact optimal transport.

    Reference: Flamary et al., POT: Python Optimal Transport, JMLR 22, 78 (2021).

    >>> wasserstein_2(np.array([[0.0, 0.0]]), np.ones(1), np.array([[3.0, 4.0]]))
    [5.0]
    """
    return [_transport(((a[:, None] - b[None]) ** 2).sum(-1), w)]


def torus_wasserstein_2(a: Float[ndarray, "n d"], w: Float[ndarray, " n"], b: Float[ndarray, "m d"]) -> list[float]:
    """Wasserstein-2 distance of angles (radians), with the shortest way around every circle.

    >>> torus_wasserstein_2(np.array([[3.0]]), np.ones(1), np.array([[-3.0]]))[0].__round__(4)
    0.2832
    """
    difference = (a[:, None] - b[None] + np.pi) % (2 * np.pi) - np.pi
    return [_transport((difference**2).sum(-1), w)]


def _transport(cost: ndarray, w: ndarray) -> float:
    import ot

    # Weights below a rounding error only slow the solver down.
    some = w > 1e-12
    target = np.full(cost.shape[1], 1 / cost.shape[1])
    found = ot.emd2(w[some] / w[some].sum(), target, np.ascontiguousarray(cost[some]), numItermax=1_000_000)
    return float(np.sqrt(max(float(found), 0.0)))


def coverage(*, permutations: Int[ndarray, "permutations atoms"], threshold: float) -> Statistic:
    """Statistic with COV-R, MAT-R, COV-P and MAT-P of conformations, by RMSD of symmetric heavy atoms.

    COV-R is the share of the reference with a generated frame nearer than ``threshold`` (nm), MAT-R the mean distance
    (nm) to the nearest; -P with the roles swapped. Generated frames that weigh nothing do not count.

    Reference: Ganea et al., GeoMol, arXiv 2106.07802.

    >>> x = np.random.default_rng(0).normal(size=(3, 5, 3))
    >>> coverage(permutations=np.arange(5)[None], threshold=0.05)(x, np.ones(3) / 3, x)
    [1.0, 0.0, 1.0, 0.0]
    """

    def statistic(a: ndarray, w: ndarray, b: ndarray) -> list[float]:
        some = w > 1e-12
        rmsd = symmetric_rmsd(a[some], b, permutations=permutations).round(6)
        of_reference, of_model, w = rmsd.min(0), rmsd.min(1), w[some] / w[some].sum()
        return [
            float((of_reference < threshold).mean()), float(of_reference.mean()),
            float(np.clip((w * (of_model < threshold)).sum(), 0, 1).round(12)), float((w * of_model).sum()),
        ]  # fmt: skip

    return statistic
