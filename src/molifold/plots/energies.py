"""Histograms of the reduced energy of reference, raw and reweighted conformations."""

from __future__ import annotations

from typing import Literal

import numpy as np

from molifold.analysis.energies import EnergyComparison
from molifold.analysis.uncertainty import Estimate
from molifold.plots.marks import Mark, Steps, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import kelvin, signed, sizes


def energies(comparison: EnergyComparison, *, temperature: float | None = None) -> Picture:
    """Densities of u = U / kT: the reweighted histogram must lie on the reference; the raw one may sit higher.

    Left on a linear, right on a logarithmic scale, where the tails are seen.

    >>> from molifold import Ensemble, Molecule
    >>> from molifold.analysis import energy_comparison
    >>> u = np.random.default_rng(0).gamma(30, size=2000)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((2000, 1, 3)), log_p=-u)
    >>> len(energies(energy_comparison(e, e)).panels)
    2
    """
    c = comparison
    marks: list[Mark] = [
        Steps(edges=c.edges, values=c.reference, colour="fill", filled=True),
        Steps(edges=c.edges, values=c.reference, colour="reference", width=1, label="reference"),
        Steps(edges=c.edges, values=c.raw, colour="raw", width=2.4, label="raw"),
    ]
    if c.reweighted is not None:
        marks.append(Steps(edges=c.edges, values=c.reweighted, colour="reweighted", label="reweighted"))
    seen = np.concatenate([c.reference[c.reference > 0], c.raw[c.raw > 0]])
    note = Text(x=0.98, y=0.96, text=_said(c), inside="panel", across="right", up="top")

    def panel(column: int, scale: Literal["linear", "log"], limits: tuple[float, float], *more: Mark) -> Panel:
        return Panel(
            marks=(*marks, *more),
            x=Axis(label="reduced energy U", unit=kelvin("kT", temperature), limits=(c.edges[0], c.edges[-1])),
            y=Axis(label="density", unit="kT⁻¹", scale=scale, limits=limits),
            cell=(0, column, 1, 1),
            caption=_caption(c) if column == 0 else "",
        )

    top = max(v.max() for v in (c.reference, c.raw, c.reweighted) if v is not None)
    panels = (
        panel(0, "linear", (0, 1.18 * top), note),
        panel(1, "log", (max(seen.min(), 1e-7) / 2, 3 * seen.max())),
    )
    return Picture(name="energies", panels=panels, size=(9.2, 3.2), widths=(1.0, 1.0), legend=True)


def _caption(c: EnergyComparison) -> str:
    d = c.reweighted_variation or c.raw_variation
    return f"{sizes(d.frames, d.ess)} · overlap {100 * (1 - d.value):.0f} %"


def _said(c: EnergyComparison) -> str:
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
