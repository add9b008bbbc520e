"""Modes of a histogram: where they are, what they hold, and in words what differs between two histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.histograms import Axis, jensen_shannon

#: Width (bins) of the Gaussian that smooths before minima are sought; with 64 bins of a circle, 8 degrees.
SMOOTHING = 1.5
#: Two peaks are one mode if the valley between them is higher than this fraction of the lower peak.
VALLEY = 0.5
#: A mode that holds less than this belongs to its neighbour.
SMALLEST = 5e-4


def modes(share: Float[ndarray, " bins"], *, circle: bool) -> Int[ndarray, " bins"]:
    """Mode of every bin: 0, 1, ... from left to right; on a circle the last bin may belong to the first mode.

    Args:
        share: weight in every bin.
        circle: whether the ends meet.

    >>> modes(np.array([0, 5, 9, 5, 0, 0, 0, 0, 6, 9, 6, 0.0]), circle=False)
    array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    p = np.asarray(share, dtype=np.float64) / np.sum(share)
    n = len(p)
    reach = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (reach / SMOOTHING) ** 2)
    padded = np.pad(p, 6, mode="wrap" if circle else "constant")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    # Walk a circle from its emptiest bin, so that no mode is cut at the ends.
    shift = int(np.argmin(smooth)) if circle else 0
    smooth, p = np.roll(smooth, -shift), np.roll(p, -shift)
    label = np.roll(_walk(smooth, p), shift)
    order = {int(old): new for new, old in enumerate(dict.fromkeys(label.tolist()))}
    return np.array([order[int(k)] for k in label]) if n else label


def _walk(smooth: ndarray, p: ndarray) -> ndarray:
    rising = np.diff(np.concatenate([[0.0], smooth, [0.0]]))
    peaks = np.flatnonzero((rising[:-1] > 0) & (rising[1:] <= 0))
    cuts = [a + int(np.argmin(smooth[a:b])) for a, b in zip(peaks[:-1], peaks[1:], strict=True)]
    while cuts:
        ends = [0, *cuts, len(p)]
        height = [smooth[a:b].max() for a, b in zip(ends[:-1], ends[1:], strict=True)]
        mass = [p[a:b].sum() for a, b in zip(ends[:-1], ends[1:], strict=True)]
        merit = [
            0.0 if min(mass[k], mass[k + 1]) < SMALLEST else 1 - smooth[c] / min(height[k], height[k + 1])
            for k, c in enumerate(cuts)
        ]
        worst = int(np.argmin(merit))
        if merit[worst] > 1 - VALLEY:
            break
        del cuts[worst]
    label = np.zeros(len(p), dtype=np.int64)
    for cut in cuts:
        label[cut:] += 1
    return label


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
    'wider: standard deviation 28 instead of 19 degrees near 0'
    """
    a, b = generated / generated.sum(), reference / reference.sum()
    label = modes(0.5 * (a + b), circle=axis.circle)
    one = np.eye(int(label.max()) + 1)[label]
    shares = jensen_shannon(b @ one, a @ one)
    if shares > 0.5 * jensen_shannon(b, a):
        k = int(np.argmax(np.abs(a @ one - b @ one)))
        middle = peak((a + b) * (label == k), axis=axis).mean
        return f"{100 * a @ one[:, k]:.2g} instead of {100 * b @ one[:, k]:.2g} % near {_number(middle, axis)}"
    pairs = [(peak(a * (label == k), axis=axis), peak(b * (label == k), axis=axis)) for k in range(one.shape[1])]
    pairs = [(m, r) for m, r in pairs if m.share > 0.01 and r.share > 0.01] or pairs[:1]
    # The mode whose width or place is furthest off, counted by its share.
    m, r = max(pairs, key=lambda p: p[1].share * max(_width(*p), _shift(*p, axis)))
    unit = "degrees" if axis.unit == "rad" else axis.unit
    if max(_width(m, r), _shift(m, r, axis)) < 0.02:
        return "another shape"
    if _width(m, r) > _shift(m, r, axis):
        word = "wider" if m.std > r.std else "narrower"
        return (
            f"{word}: standard deviation {_number(m.std, axis)} instead of {_number(r.std, axis)} {unit} "
            f"near {_number(r.mean, axis)}"
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
    if axis.unit == "rad":
        degrees = np.degrees(value)
        return (
            f"{degrees:.1f}"
            if not axis.circle
            else f"{degrees:.0f}".replace("-0", "0")
            if abs(degrees) < 0.5
            else f"{degrees:.0f}"
        )
    return f"{value:.4g}"
