"""Histograms of the reduced energy of reference, raw and reweighted conformations."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from molifold.analysis.energies import EnergyComparison
from molifold.analysis.uncertainty import Estimate
from molifold.plots.style import COLOURS, FILL, note, signed, styled


@styled
def energies(comparison: EnergyComparison, *, temperature: float | None = None) -> Figure:
    """Densities of u = U / kT: the reweighted histogram must lie on the reference; the raw one may sit higher.

    Left on a linear, right on a logarithmic scale, where the tails are seen.

    >>> from molifold import Ensemble, Molecule
    >>> from molifold.analysis import energy_comparison
    >>> u = np.random.default_rng(0).gamma(30, size=2000)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((2000, 1, 3)), log_p=-u)
    >>> len(energies(energy_comparison(e, e)).axes)
    2
    """
    c = comparison
    figure = Figure(figsize=(9.2, 3.2))
    panels = figure.subplots(1, 2)
    for axes, scale in zip(panels, ("linear", "log"), strict=True):
        axes.stairs(c.reference, c.edges, color=FILL, fill=True)
        axes.stairs(c.reference, c.edges, color=COLOURS["reference"], lw=1, label="reference")
        axes.stairs(c.raw, c.edges, color=COLOURS["raw"], lw=2.4, label="raw")
        if c.reweighted is not None:
            axes.stairs(c.reweighted, c.edges, color=COLOURS["reweighted"], lw=1.2, label="reweighted")
        axes.set(yscale=scale, xlim=(c.edges[0], c.edges[-1]), ylabel="density / kT⁻¹")
        kelvin = f" at {temperature:g} K" if temperature else ""
        axes.set_xlabel(f"reduced energy U / kT{kelvin}")
    seen = np.concatenate([c.reference[c.reference > 0], c.raw[c.raw > 0]])
    panels[1].set_ylim(max(seen.min(), 1e-7) / 2, 3 * seen.max())
    panels[0].set_ylim(0, 1.12 * panels[0].get_ylim()[1])
    note(panels[0], _text(c))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, borderaxespad=0.2)
    return figure


def _text(c: EnergyComparison) -> str:
    lines = [f"⟨u⟩ reference {_pm(c.reference_mean)}"]
    if c.reweighted_mean is not None:
        lines.append(f"⟨u⟩ reweighted {_pm(c.reweighted_mean)}")
    lines.append(f"1 − overlap:\nraw {c.raw_variation.value:.3f} (floor {c.raw_variation.floor:.3f})")
    if c.reweighted_variation is not None:
        lines.append(f"reweighted {c.reweighted_variation.value:.3f} (floor {c.reweighted_variation.floor:.3f})")
    if c.outside > 0:
        lines.append(f"{100 * c.outside:.2g} % of raw draws\nbeyond the right edge")
    return "\n".join(lines)


def _pm(e: Estimate) -> str:
    return f"{signed(e.value, '.2f')} ± {e.error:.2f} kT"
