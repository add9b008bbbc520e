"""Modes of a histogram: where they are, what they hold, and in words what differs between two histograms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.histograms import Axis, jensen_shannon

#: Width (bins) of the Gaussian that smooths before modes are sought; with 64 bins of a circle, 8 degrees.
SMOOTHING = 1.5
#: Two peaks are one mode if the saddle between them is higher than this fraction of the lower peak.
SADDLE = 0.5
#: A mode that holds less than this belongs to its neighbour.
SMALLEST = 5e-4


def modes(share: Float[ndarray, "*bins"], *, circle: bool, smallest: float = SMALLEST) -> Int[ndarray, "*bins"]:
    """Mode of every bin of a histogram or a map: 0, 1, ... in reading order; where the ends meet a mode may cross them.

    A watershed: bins are flooded from the highest down, and peaks that meet at a high saddle become one.

    Args:
        share: weight in every bin.
        circle: whether the ends of every axis meet.
        smallest: share that a mode holds at least.

    >>> modes(np.array([0, 5, 9, 5, 0, 0, 0, 0, 6, 9, 6, 0.0]), circle=False)
    array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    from scipy.ndimage import gaussian_filter

    p = np.asarray(share, dtype=np.float64) / np.sum(share)
    edge = "wrap" if circle else "constant"
    # The second, wide term leads from empty bins to the nearest full ones.
    height = (gaussian_filter(p, SMOOTHING, mode=edge) + 1e-9 * gaussian_filter(p, max(p.shape) / 4, mode=edge)).ravel()
    label, saddles = _flood(height, _neighbours(p.shape, circle=circle))
    mass = np.bincount(label, weights=p.ravel())
    parent = np.arange(len(mass))
    for high, a, b in saddles:
        a, b = _root(parent, a), _root(parent, b)
        # Peaks are numbered from the highest down.
        a, b = min(a, b), max(a, b)
        if a != b and (high > SADDLE * height[label == b].max() or min(mass[a], mass[b]) < smallest):
            parent[b], mass[a] = a, mass[a] + mass[b]
    roots = np.array([_root(parent, k) for k in label])
    order = {int(old): new for new, old in enumerate(dict.fromkeys(roots.tolist()))}
    return np.array([order[int(k)] for k in roots]).reshape(p.shape)


def _flood(height: Float[ndarray, " bins"], near: Int[ndarray, "bins neighbours"]) -> tuple[ndarray, list]:
    """Peak that every bin belongs to, and the saddles (height, peak, peak) between peaks that touch, highest first."""
    saddles: dict[tuple[int, int], float] = {}
    label, peaks = np.full(len(height), -1), 0
    for i in np.argsort(-height, kind="stable"):
        around = near[i]
        done = around[(around >= 0) & (label[around] >= 0)]
        if len(done) == 0:
            label[i], peaks = peaks, peaks + 1
            continue
        label[i] = label[done[np.argmax(height[done])]]
        for other in set(label[done].tolist()) - {int(label[i])}:
            saddles.setdefault((min(other, int(label[i])), max(other, int(label[i]))), float(height[i]))
    return label, [(high, a, b) for (a, b), high in saddles.items()]


def _neighbours(shape: tuple[int, ...], *, circle: bool) -> Int[ndarray, "bins neighbours"]:
    """Flat index of every bin that touches a bin; -1 beyond the ends."""
    place = np.indices(shape).reshape(len(shape), -1)
    size = np.array(shape)[:, None]
    found = []
    for step in product((-1, 0, 1), repeat=len(shape)):
        if any(step):
            there = place + np.array(step)[:, None]
            inside = ((there >= 0) & (there < size)).all(0) | circle
            found.append(np.where(inside, np.ravel_multi_index(tuple(there % size), shape), -1))
    return np.stack(found, axis=1)


def _root(parent: ndarray, k: int) -> int:
    while parent[k] != k:
        k = int(parent[k])
    return k


@dataclass(frozen=True)
class Peak:
    """One mode of a histogram: its share of the weight, its mean and its standard deviation."""

    share: float
    mean: float
    std: float


def peak(share: Float[ndarray, " bins"], *, axis: Axis) -> Peak:
    """Share, mean and standard deviation of the bins where ``share`` is not zero (on a circle around the mean).

    >>> axis = Axis("phi", "circle", "rad", -np.pi, np.pi, 4)
    >>> peak(np.array([1.0, 0, 0, 1.0]), axis=axis).std.__round__(3)      # both a quarter of pi from the seam
    0.785
    """
    centre = 0.5 * (axis.edges[1:] + axis.edges[:-1])
    total = float(share.sum())
    if total <= 0:
        return Peak(0.0, float("nan"), float("nan"))
    w = share / total
    if axis.circle:
        mean = float(np.angle((w * np.exp(1j * centre)).sum()))
        offset = (centre - mean + np.pi) % (2 * np.pi) - np.pi
        return Peak(total, mean, float(np.sqrt((w * offset**2).sum())))
    mean = float((w * centre).sum())
    return Peak(total, mean, float(np.sqrt((w * (centre - mean) ** 2).sum())))


def in_words(generated: Float[ndarray, " bins"], reference: Float[ndarray, " bins"], *, axis: Axis) -> str:
    """What differs most: the share of a mode, the width of one, or where it is.

    >>> axis = Axis("phi", "circle", "rad", -np.pi, np.pi, 64)
    >>> x = 0.5 * (axis.edges[1:] + axis.edges[:-1])
    >>> in_words(np.exp(5 * np.cos(x)), np.exp(10 * np.cos(x)), axis=axis)
    'wider: standard deviation 27 instead of 19 near 0 degrees'
    """
    a, b = generated / generated.sum(), reference / reference.sum()
    unit = "degrees" if axis.unit == "rad" else axis.unit
    label = modes(0.5 * (a + b), circle=axis.circle)
    one = np.eye(int(label.max()) + 1)[label]
    shares = jensen_shannon(b @ one, a @ one)
    if shares > 0.5 * jensen_shannon(b, a):
        mine, known = a @ one, b @ one
        k = int(np.argmax((mine - known) ** 2 / (mine + known)))
        middle = peak((a + b) * (label == k), axis=axis).mean
        percent = [f"{round(100 * side[k], 2):.3g}" for side in (mine, known)]
        return f"{percent[0]} instead of {percent[1]} % near {_number(middle, axis)} {unit}"
    pairs = [(peak(a * (label == k), axis=axis), peak(b * (label == k), axis=axis)) for k in range(one.shape[1])]
    pairs = [(m, r) for m, r in pairs if m.share > 0.01 and r.share > 0.01] or pairs[:1]
    # The mode whose width or place is furthest off, counted by its share.
    m, r = max(pairs, key=lambda p: p[1].share * max(_width(p[0], p[1]), _shift(p[0], p[1], axis)))
    if max(_width(m, r), _shift(m, r, axis)) < 0.02:
        return "another shape"
    if _width(m, r) > _shift(m, r, axis):
        word = "wider" if m.std > r.std else "narrower"
        return (
            f"{word}: standard deviation {_number(m.std, axis)} instead of {_number(r.std, axis)} "
            f"near {_number(r.mean, axis)} {unit}"
        )
    return f"shifted: mean {_number(m.mean, axis)} instead of {_number(r.mean, axis)} {unit}"


def _width(a: Peak, b: Peak) -> float:
    return abs(float(np.log(a.std / b.std))) if a.std > 0 and b.std > 0 else 0.0


def _shift(a: Peak, b: Peak, axis: Axis) -> float:
    difference = a.mean - b.mean
    if axis.circle:
        difference = (difference + np.pi) % (2 * np.pi) - np.pi
    return abs(difference) / b.std if b.std > 0 else 0.0


def _number(value: float, axis: Axis) -> str:
    if axis.unit != "rad":
        return f"{value:.4g}"
    return f"{round(np.degrees(value), 0 if axis.circle else 1) + 0.0:g}"
