"""Diagnosis of importance weights: their spread, the effective sample size as it grows, and the tail."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.pareto import ParetoK, pareto_k
from molifold.analysis.weights import (
    EffectiveSampleSize,
    checked_log_weights,
    effective_fraction_by_size,
    effective_sample_size,
)
from molifold.plots.marks import Bars, Line, Mark, Points, Span, Steps, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import at, count, sizes


def weights(log_w: Float[ndarray, " frames"], *, temperature: float | None = None) -> Picture:
    """Histogram of log weights, effective fraction of the first n draws, and Pareto k-hat on its scale.

    Args:
        log_w: log importance weights.
        temperature: K, for the caption.

    Raises:
        ValueError: if ``log_w`` has NaN or +inf, or fewer than 25 entries.

    >>> len(weights(np.random.default_rng(0).normal(size=1000)).panels)
    3
    """
    log_w = checked_log_weights(log_w)
    ess, k = effective_sample_size(log_w), pareto_k(log_w)
    panels = (_histogram(log_w, ess, temperature), _growth(log_w, ess), _tail(k))
    return Picture(name="weights", panels=panels, size=(9.2, 2.75), widths=(1.25, 1.25, 1.0))


def _histogram(log_w: ndarray, ess: EffectiveSampleSize, temperature: float | None) -> Panel:
    from scipy.special import logsumexp

    centred = log_w - (logsumexp(log_w) - np.log(len(log_w)))
    finite = centred[np.isfinite(centred)]
    high, middle = finite.max(), np.median(finite)
    low = max(np.quantile(finite, 0.001), middle - 4 * (high - middle) - 1)
    edges = np.linspace(low - 0.02 * (high - low) - 1e-9, high + 0.02 * (high - low) + 1e-9, 61)
    shown = np.histogram(finite, edges)[0] / len(log_w)
    carried = np.histogram(finite, edges, weights=np.exp(finite))[0] / len(log_w)
    below = float((centred < edges[0]).mean())
    lines = [f"heaviest {100 * ess.max_weight:.2g} %"]
    lines += [f"{100 * below:.2g} % further left"] if below > 0.002 else []
    return Panel(
        marks=(
            Steps(edges=edges, values=shown, colour="reweighted", filled=True, opacity=0.3),
            Steps(edges=edges, values=shown, colour="reweighted", label="share of draws"),
            Steps(edges=edges, values=carried, colour="ink", label="share of weight"),
            Text(x=0.98, y=0.96, text="\n".join(lines), inside="panel", across="right", up="top"),
        ),
        x=Axis(label="log w − log ⟨w⟩"),
        y=Axis(limits=(0, 1.4 * max(shown.max(), carried.max())), ticks=(), line=False),
        title="log weights",
        caption=f"{sizes(ess.n, ess.ess)}{at(temperature)}",
        legend="upper left",
    )


def _growth(log_w: ndarray, ess: EffectiveSampleSize) -> Panel:
    n, fraction = effective_fraction_by_size(log_w)
    text = f"unclipped {100 * ess.fraction:.1f} ± {100 * ess.error:.1f} %\n"
    text += f"top {ess.clip:g} clipped (dashed) {100 * ess.clipped_fraction:.1f} %"
    marks: tuple[Mark, ...] = (
        Line(x=n, y=100 * fraction, colour="reweighted"),
        Span(low=100 * ess.low, high=100 * ess.high, along="y", colour="reweighted"),
        Span(low=100 * ess.clipped_fraction, high=100 * ess.clipped_fraction, along="y", dash=True),
        Text(x=0.98, y=0.96 if fraction[-1] < 0.6 else 0.22, text=text, inside="panel", across="right", up="top"),
    )
    return Panel(
        marks=marks,
        x=Axis(label="draws n", scale="log"),
        y=Axis(limits=(0, 105)),
        title="effective sample size / %",
        cell=(0, 1, 1, 1),
    )


def _tail(k: ParetoK) -> Panel:
    edge = max(k.threshold, 0.5)
    marks: list[Mark] = []
    for low, high, colour, name in (
        (-0.2, 0.5, "good", "good"), (0.5, edge, "fair", "usable"), (edge, 1.2, "bad", "unreliable"),
    ):  # fmt: skip
        ends = np.array([[low], [high]])
        marks.append(
            Bars(at=np.zeros(1), low=ends[0], high=ends[1], thickness=0.5, horizontal=True, colour=colour, opacity=0.3)
        )
        if high > low:
            marks.append(Text(x=0.5 * (low + high), y=-0.42, text=name, across="center", up="top"))
    at = float(np.clip(k.k, -0.17, 1.17))
    error = k.error if np.isfinite(k.error) else 0.0
    text = "bounded" if np.isinf(k.k) else f"{k.k:.2f} ± {k.error:.2f}"
    x = np.array([at])
    marks += [
        Points(x=x, y=np.zeros(1), low=x - error, high=x + error, along="x", size=7),
        Text(x=float(np.clip(at, 0.1, 0.9)), y=0.42, text=text, across="center", colour="ink", size=9, bold=True),
    ]
    return Panel(
        marks=tuple(marks),
        x=Axis(
            label=f"fitted to the {count(k.n_tail)} largest of {count(k.n)}", limits=(-0.22, 1.22),
            ticks=((0.0, "0"), (0.5, "0.5"), (1.0, "1")),
        ),
        y=Axis(limits=(-1.1, 1.3), ticks=(), line=False),
        title="tail: Pareto k-hat",
        cell=(0, 2, 1, 1),
    )  # fmt: skip
