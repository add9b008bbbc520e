"""Gallery of clusters: the medoid of each in three dimensions, and members of the cluster behind it."""

from __future__ import annotations

import numpy as np

from molifold import geometry
from molifold.analysis.clusters import Clusters
from molifold.ensemble import Ensemble
from molifold.plots.marks import Text
from molifold.plots.molecules import aligned, structure
from molifold.plots.picture import Axis, Panel, Picture, grid
from molifold.plots.style import at, series, sizes

COLUMNS = 4


def clusters(found: Clusters, ensemble: Ensemble, *, behind: int = 10, most: int = 12) -> Picture:
    """Medoids as balls and sticks, all turned alike and on one scale, with their populations and their stability.

    Args:
        found: clusters of ``ensemble``.
        ensemble: what was clustered.
        behind: members of each cluster, spread evenly over it, that stand behind as thin sticks.
        most: clusters to show, the most populated first.

    Raises:
        ValueError: if there are as many labels as no ensemble of this size has, or no cluster.
    """
    if len(found.labels) != len(ensemble):
        raise ValueError(f"ensemble: got {len(ensemble)} frames, expected the {len(found.labels)} that were clustered")
    if len(found) == 0:
        raise ValueError("found: got no cluster (all frames are noise), expected one or more")
    molecule = ensemble.molecule
    shown = range(min(len(found), most))
    medoids = aligned(molecule, ensemble.x[found.medoids[: len(shown)]])
    heavy = np.array([e != "H" for e in molecule.elements], dtype=float)
    heavy = heavy if heavy.any() else 1 - heavy
    marks = []
    for i in shown:
        members = np.flatnonzero(found.labels == i)
        chosen = members[np.linspace(0, len(members) - 1, min(behind, len(members))).astype(int)]
        flat = np.asarray(ensemble.x[chosen], dtype=float)
        xyz = np.concatenate([flat, np.zeros((*flat.shape[:2], 3 - flat.shape[2]))], axis=2)
        turned = geometry.superpose(xyz, medoids[i], weights=heavy)
        marks.append(structure(molecule, np.concatenate([medoids[i : i + 1], turned]), colour=series(i)))
    low = np.min([m.xyz.min((0, 1)) for m in marks], axis=0) - 0.07
    high = np.max([m.xyz.max((0, 1)) for m in marks], axis=0) + 0.07
    x, y = (Axis(limits=(float(low[k]), float(high[k])), ticks=(), line=False) for k in (0, 1))
    panels = [
        Panel(
            marks=(mark, Text(x=0.5, y=-0.02, text=_said(found, i), inside="panel", across="center", up="top")),
            x=x, y=y, title=f"{i + 1}", caption=_share(found, i), equal=True,
        )
        for i, mark in zip(shown, marks, strict=True)
    ]  # fmt: skip
    placed, widths, heights = grid(panels, columns=COLUMNS)
    ratio = float((high - low)[1] / (high - low)[0])
    size = (2.3 * len(widths), (2.2 * ratio + 0.75) * len(heights) + 0.4)
    return Picture(name="clusters", panels=placed, widths=widths, heights=heights, size=size, title=_title(found))


def _share(found: Clusters, i: int) -> str:
    share = found.populations[i]
    return f"{100 * share.value:.1f} ± {100 * share.error:.1f} %"


def _said(found: Clusters, i: int) -> str:
    words = f"silhouette {found.silhouettes[i]:.2f}".replace("-", "−")
    return words if found.stability is None else f"{words} · stability {found.stability.value[i]:.2f}"


def _title(found: Clusters) -> str:
    noise = f" · noise {100 * found.noise.value:.1f} %" if found.noise.value > 0 else ""
    return f"{found.method} · {sizes(found.n, found.ess)}{at(found.temperature)}{noise}"
