"""From one ensemble, wherever it lies, to its analysis with tables, figures and the structures of its states."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from molifold.analysis import EnsembleAnalysis
from molifold.analysis.methods import HDBSCAN, DensityPeaks, KCenters, KMeans
from molifold.ensemble import Ensemble
from molifold.workflows.tables import plain, save_pictures, write_rows

#: Ways of clustering by name; those that want a number of clusters take it.
METHODS = ("density-peaks", "hdbscan", "k-means", "k-centers")


def clustering(name: str, count: int | None) -> DensityPeaks | HDBSCAN | KMeans | KCenters:
    """The method of a name.

    Raises:
        ValueError: if there is none of that name, or it lacks or cannot use a number of clusters.

    >>> clustering("k-means", 3)
    KMeans(k=3)
    """
    if name not in METHODS:
        raise ValueError(f"method: got {name!r}, expected one of {', '.join(METHODS)}")
    if name in ("k-means", "k-centers"):
        if count is None:
            raise ValueError(f"clusters: missing; {name} needs to know how many, for example --clusters 5")
        return KMeans(count) if name == "k-means" else KCenters(count)
    if count is not None:
        raise ValueError(f"clusters: got {count}, but {name} finds out how many there are; use --method k-means")
    return DensityPeaks() if name == "density-peaks" else HDBSCAN()


def write_table(found: EnsembleAnalysis, path: Path) -> Path:
    """All numbers as a table, one row each: ``.csv``, ``.parquet`` or, with what was skipped, ``.json``."""
    return write_rows(found.rows(), path, data=as_data(found))


def as_data(found: EnsembleAnalysis) -> dict[str, Any]:
    """Everything that was found, as JSON allows it (what is no number is null)."""
    about = ("total", "frames", "weighted", "simulated", "ess", "temperature", "skipped")
    return plain({
        **{name: getattr(found, name) for name in about},
        "rows": [asdict(row) for row in found.rows()],
    })  # fmt: skip


def write_figures(found: EnsembleAnalysis, ensemble: Ensemble, folder: Path) -> list[Path]:
    """Free energies, clusters and kinetics as PNG files, and the medoid of every cluster as a PDB file."""
    from molifold import data
    from molifold.workbench.panels import state_panels

    paths = save_pictures(state_panels(found, ensemble), folder)
    if found.clusters is not None:
        for i, x in enumerate(found.medoids):
            paths.append(folder / f"cluster_{i}.pdb")
            data.write(Ensemble(ensemble.molecule, x[None]), paths[-1])
    return paths
