"""Free-energy maps of two torsions, side by side on one scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.histograms import Map
from molifold.plots.marks import Contours, Heatmap
from molifold.plots.picture import Axis, Panel, Picture, without_words
from molifold.plots.style import angle, kelvin, label, sizes

#: Free energies above this (kT) are one colour: fewer than one frame in 22,000 of the densest bin.
LIMIT = 10.0


def ramachandran(maps: Mapping[str, Map], *, temperature: float | None = None, limit: float = LIMIT) -> Picture:
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
    >>> ramachandran({"raw": flat}).panels[0].caption
    'n 100'
    """
    if not maps:
        raise ValueError("maps: got none, expected at least one title and map")
    panels = []
    for i, (title, m) in enumerate(maps.items()):
        x, smooth = smoothed(m)
        y = Axis(**angle(label(m.names[1]), step=90))
        panels.append(Panel(
            marks=(
                Heatmap(
                    x=m.edges, y=m.edges, values=np.where(m.density > 0, m.free_energy, np.nan), limits=(0, limit),
                    bar=f"free energy / {kelvin('kT', temperature)}",
                ),
                Contours(x=x, y=x, values=smooth, levels=_levels(m, limit)),
            ),
            x=Axis(**angle(label(m.names[0]), step=90)),
            y=y if i == 0 else without_words(y),
            title=title,
            caption=sizes(m.n, m.ess),
            cell=(0, i, 1, 1),
            box=True,
        ))  # fmt: skip
    return Picture(
        name="ramachandran", panels=tuple(panels), size=(3.05 * len(maps) + 0.75, 3.45), widths=(1.0,) * len(maps)
    )


def _levels(m: Map, limit: float) -> Float[ndarray, " levels"]:
    top = np.log(max(m.density.max() * (m.edges[1] - m.edges[0]) ** 2 * m.ess / 4, 1.0))
    return np.arange(2, max(min(limit, top), 2) + 1e-9, 2)


def smoothed(m: Map, *, width: float = 0.8) -> tuple[Float[ndarray, " points"], Float[ndarray, "points points"]]:
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
