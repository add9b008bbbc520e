"""Free-energy maps of two torsions, side by side on one scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from molifold.analysis.histograms import Map
from molifold.plots.style import FREE_ENERGY, INK, MUTED, angle_axis, count, plain, styled

#: Free energies above this (kT) are one colour: fewer than one frame in 22,000 of the densest bin.
LIMIT = 10.0


@styled
def ramachandran(maps: Mapping[str, Map], *, temperature: float | None = None, limit: float = LIMIT) -> Figure:
    """Free energy ``-log p`` of two torsions in kT, one panel per ensemble, with contours at every second kT.

    Bins that no frame visited stay empty. Contours are of the density smoothed over one bin, on the torus, and end
    where a bin holds fewer than four frames.

    Args:
        maps: title and map of every panel; all of the same two torsions.
        temperature: K, for the label.
        limit: top of the colour scale, kT.

    Raises:
        ValueError: if ``maps`` is empty.

    >>> from molifold.analysis import Map
    >>> from molifold.analysis.histograms import edges
    >>> flat = Map(("phi", "psi"), edges(8), np.full((8, 8), 1 / (2 * np.pi) ** 2), 100, 100.0)
    >>> [axes.get_title(loc="left") for axes in ramachandran({"raw": flat}).axes][0]
    'raw'
    """
    if not maps:
        raise ValueError("maps: got none, expected at least one title and map")
    figure = Figure(figsize=(3.05 * len(maps) + 0.75, 3.45))
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    images = []
    for axes, (title, m) in zip(panels, maps.items(), strict=True):
        images.append(axes.imshow(
            np.where(np.isfinite(m.free_energy), m.free_energy, np.nan).T, origin="lower", cmap=FREE_ENERGY,
            extent=(-np.pi, np.pi, -np.pi, np.pi), vmin=0, vmax=limit, interpolation="nearest",
        ))  # fmt: skip
        x, z = _smooth(m)
        axes.contour(x, x, z.T, levels=_levels(m, limit), colors=INK, linewidths=0.6, alpha=0.75)
        angle_axis(axes, "x", name=m.names[0])
        angle_axis(axes, "y", name=m.names[1] if axes is panels[0] else "")
        axes.set_title(plain(title))
        weighted = f" · ESS {count(m.ess)}" if m.ess < 0.999 * m.n else ""
        axes.text(1, 1.02, f"n {count(m.n)}{weighted}", transform=axes.transAxes, ha="right", fontsize=7.5, color=MUTED)
        axes.spines[["top", "right"]].set_visible(True)
    kelvin = f" at {temperature:g} K" if temperature else ""
    bar = figure.colorbar(images[0], ax=panels, label=f"free energy / kT{kelvin}", shrink=0.82, pad=0.015, extend="max")
    bar.outline.set_visible(False)
    return figure


def _levels(m: Map, limit: float) -> Float[ndarray, " levels"]:
    top = np.log(max(m.density.max() * (m.edges[1] - m.edges[0]) ** 2 * m.ess / 4, 1.0))
    return np.arange(2, max(min(limit, top), 2) + 1e-9, 2)


def _smooth(m: Map, *, width: float = 0.8) -> tuple[Float[ndarray, " points"], Float[ndarray, "points points"]]:
    """Bin centres and free energy of the density smoothed on the torus, one bin beyond each edge so lines close."""
    bins = len(m.density)
    offset = np.minimum(np.arange(bins), bins - np.arange(bins))
    kernel = np.exp(-0.5 * (offset / width) ** 2)
    spectrum = np.fft.rfft(kernel / kernel.sum())
    smooth = np.fft.irfft(np.fft.rfft(m.density, axis=1) * spectrum, bins, axis=1)
    smooth = np.fft.irfft(np.fft.rfft(smooth, axis=0) * spectrum[:, None], bins, axis=0)
    floor = m.density.max() * np.exp(-30)
    free = np.pad(-np.log(np.maximum(smooth, floor) / smooth.max()), 1, mode="wrap")
    centres = 0.5 * (m.edges[1:] + m.edges[:-1])
    step = m.edges[1] - m.edges[0]
    return np.concatenate([[centres[0] - step], centres, [centres[-1] + step]]), free
