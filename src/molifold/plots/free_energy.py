"""Free energy of a region: profile along one torsion, and the difference with its error."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from molifold.analysis.free_energy import FreeEnergyDifference
from molifold.analysis.histograms import Histogram
from molifold.plots.style import COLOURS, INK, MUTED, angle_axis, label, plain, signed, styled


@styled
def free_energy(
    differences: Mapping[str, FreeEnergyDifference],
    *,
    profiles: Mapping[str, Histogram],
    name: str = "phi",
    region: str = "0° < φ < 150°",
    temperature: float | None = None,
) -> Figure:
    """Profile ``-log p`` along a torsion, and ``F(region) - F(rest)`` of every ensemble with its 95 % interval.

    Args:
        differences: by ensemble ("reference", "raw", "reweighted").
        profiles: histograms of the torsion, by ensemble.
        name: of the torsion.
        region: what the difference is of.
        temperature: K, for the label.

    >>> from molifold.analysis import circular_histogram
    >>> h = circular_histogram(np.random.default_rng(0).normal(size=1000))
    >>> len(free_energy({}, profiles={"reference": h}).axes)
    2
    """
    figure = Figure(figsize=(9.2, 2.9))
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    for key, h in profiles.items():
        _profile(left, h, colour=COLOURS.get(key, INK), key=key)
    angle_axis(left, name=name)
    kelvin = f" at {temperature:g} K" if temperature else ""
    left.set(ylabel=f"free energy / kT{kelvin}", title=f"profile along {label(name)}")
    left.set_ylim(-0.3, None)
    left.legend(loc="upper right", ncols=3)
    left.set_ylim(-0.3, 1.22 * left.get_ylim()[1])
    _differences(right, differences)
    right.set(title=f"F({plain(region)}) − F(rest)", xlabel="kT, 95 % interval")
    return figure


def _profile(axes: Axes, h: Histogram, *, colour: str, key: str) -> None:
    density = np.where(h.density > 0, h.density, np.nan)
    free = -np.log(density / np.nanmax(density))
    error = h.error / density
    axes.plot(h.centres, free, color=colour, label=plain(key), lw=1.4, zorder=2 if key == "reference" else 3)
    axes.fill_between(h.centres, free - 1.96 * error, free + 1.96 * error, color=colour, alpha=0.18, lw=0)


def _differences(axes: Axes, differences: Mapping[str, FreeEnergyDifference]) -> None:
    finite = [v for d in differences.values() for v in (d.value, d.low, d.high) if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.25 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    for row, (key, d) in enumerate(differences.items()):
        colour, start = COLOURS.get(key, INK), max(d.low, low - margin)
        axes.plot([start, min(d.high, high + margin)], [-row, -row], color=colour, lw=2, solid_capstyle="butt")
        if np.isfinite(d.value):
            axes.plot(d.value, -row, "o", color=colour, ms=7)
            text = f"{plain(key)}: {signed(d.value, '.2f')} ± {d.error:.2f} kT"
        else:
            axes.plot(start, -row, ">", color=colour, ms=7)
            text = f"{plain(key)}: no frame inside: above {d.low:.1f} kT"
        axes.text(low - margin, -row + 0.2, text, color=INK, fontsize=8.5)
        axes.text(
            high + margin, -row + 0.2, f"P = {100 * d.population_a.value:.2f} %", ha="right", color=MUTED, fontsize=8
        )
    if "reference" in differences and np.isfinite(differences["reference"].value):
        axes.axvspan(
            differences["reference"].low, differences["reference"].high, color=COLOURS["reference"], alpha=0.1, lw=0
        )
    axes.set(ylim=(-len(differences) + 0.4, 0.75), yticks=[])
    axes.spines["left"].set_visible(False)
