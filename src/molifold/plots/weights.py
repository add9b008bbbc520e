"""Diagnosis of importance weights: their spread, the effective sample size as it grows, and the tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from molifold.analysis.pareto import ParetoK, pareto_k
from molifold.analysis.weights import (
    EffectiveSampleSize,
    checked_log_weights,
    effective_fraction_by_size,
    effective_sample_size,
)
from molifold.plots.style import BAD, FAIR, GOOD, INK, LINE, MUTED, REWEIGHTED, count, note, styled


@styled
def weights(log_w: Float[ndarray, " frames"]) -> Figure:
    """Histogram of log weights, effective fraction of the first n draws, and Pareto k-hat on its scale.

    Raises:
        ValueError: if ``log_w`` has NaN or +inf, or fewer than 25 entries.

    >>> len(weights(np.random.default_rng(0).normal(size=1000)).axes)
    3
    """
    log_w = checked_log_weights(log_w)
    ess, k = effective_sample_size(log_w), pareto_k(log_w)
    figure = Figure(figsize=(9.2, 2.75))
    histogram, growth, tail = figure.subplots(1, 3, width_ratios=[1.25, 1.25, 1])
    _histogram(histogram, log_w, ess)
    _growth(growth, log_w, ess)
    _tail(tail, k)
    return figure


def _histogram(axes: Axes, log_w: ndarray, ess: EffectiveSampleSize) -> None:
    from scipy.special import logsumexp

    centred = log_w - (logsumexp(log_w) - np.log(len(log_w)))
    finite = centred[np.isfinite(centred)]
    high, middle = finite.max(), np.median(finite)
    low = max(np.quantile(finite, 0.001), middle - 4 * (high - middle) - 1)
    edges = np.linspace(low - 0.02 * (high - low) - 1e-9, high + 0.02 * (high - low) + 1e-9, 61)
    shown = np.histogram(finite, edges)[0]
    carried = np.histogram(finite, edges, weights=np.exp(finite))[0]
    axes.stairs(shown / len(log_w), edges, fill=True, color=REWEIGHTED, alpha=0.3)
    axes.stairs(shown / len(log_w), edges, color=REWEIGHTED, lw=1.2, label="share of draws")
    axes.stairs(carried / len(log_w), edges, color=INK, lw=1.2, label="share of weight")
    axes.set(xlabel="log w − log ⟨w⟩", title="log weights", yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper left", borderaxespad=0)
    below = float((centred < edges[0]).mean())
    lines = [f"n {count(ess.n)}", f"heaviest {100 * ess.max_weight:.2g} %"]
    note(axes, "\n".join(lines + ([f"{100 * below:.2g} % further left"] if below > 0.002 else [])))


def _growth(axes: Axes, log_w: ndarray, ess: EffectiveSampleSize) -> None:
    n, fraction = effective_fraction_by_size(log_w)
    axes.plot(n, 100 * fraction, color=REWEIGHTED)
    axes.axhspan(100 * ess.low, 100 * ess.high, color=REWEIGHTED, alpha=0.15, lw=0)
    axes.axhline(100 * ess.clipped_fraction, color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.set(xscale="log", ylim=(0, 105), xlabel="draws n", title="effective sample size / %")
    text = f"unclipped {100 * ess.fraction:.1f} ± {100 * ess.error:.1f} %\n"
    text += f"top {ess.clip:g} clipped (dashed) {100 * ess.clipped_fraction:.1f} %"
    above = fraction[-1] < 0.6
    note(axes, text, y=0.96 if above else 0.22)


@dataclass(frozen=True)
class _Zone:
    low: float
    high: float
    colour: str
    name: str


def _tail(axes: Axes, k: ParetoK) -> None:
    zones = [
        _Zone(-0.2, 0.5, GOOD, "good"),
        _Zone(0.5, max(k.threshold, 0.5), FAIR, "usable"),
        _Zone(max(k.threshold, 0.5), 1.2, BAD, "unreliable"),
    ]
    for zone in zones:
        axes.barh(0, zone.high - zone.low, left=zone.low, height=0.5, color=zone.colour, alpha=0.3, lw=0)
        axes.text(0.5 * (zone.low + zone.high), -0.42, zone.name, ha="center", va="top", fontsize=7.5, color=MUTED)
    at = float(np.clip(k.k, -0.17, 1.17))
    axes.errorbar(at, 0, xerr=k.error, color=INK, fmt="o", ms=7, capsize=3, lw=1.6)
    axes.text(at, 0.42, "bounded" if np.isinf(k.k) else f"{k.k:.2f} ± {k.error:.2f}", ha="center", fontweight="bold")
    axes.set(xlim=(-0.22, 1.22), ylim=(-1.1, 1.3), yticks=[], title="tail: Pareto k-hat", xticks=[0, 0.5, 1])
    axes.spines["left"].set_visible(False)
    axes.tick_params(color=LINE)
    axes.set_xlabel(f"fitted to the {count(k.n_tail)} largest of {count(k.n)}")
