"""Render every picture of the gallery: python docs/gallery.py DATA [FOLDER] [DPI] [RUN].

DATA holds 70 ns of alanine dipeptide: ``trajectory-0.dcd`` to ``trajectory-6.dcd`` and ``ala2.pdb``
(doi:10.6084/m9.figshare.1026131). The "model" is trajectories 0 to 2, the "reference" 3 to 6; weights carry the
simulation from 300 K to 310 K. RUN is a training of ``molifold train`` (300 steps of 256 frames, on 10,000 frames of
replica exchange, looked at every ten steps), whose history is drawn; without it those pictures stay as they are.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy import ndarray

from molifold import Ensemble, analysis, plots
from molifold.analysis import clusters, markov, metastable, methods, surfaces
from molifold.data import load
from molifold.plots import Picture
from molifold.runs import Run
from molifold.workbench.evolving import evolution_panels

KT = 0.00831446261815324 * 300


def _ensemble(folder: Path, numbers: range) -> Ensemble:
    parts = [load(folder / f"trajectory-{i}.dcd", top=folder / "ala2.pdb") for i in numbers]
    lengths = [len(p) for p in parts]
    energy = np.concatenate(
        [_energies(folder / f"trajectory-{i}.log.gz", n) for i, n in zip(numbers, lengths, strict=True)]
    )
    columns = {
        "trajectory": np.repeat(np.arange(len(parts)), lengths),
        "time": np.concatenate([np.arange(n, dtype=float) for n in lengths]),
        "temperature": np.full(sum(lengths), 300.0),
    }  # fmt: skip
    x = np.concatenate([p.x for p in parts])
    return Ensemble(parts[0].molecule, x, log_p=-energy / KT, columns=columns)


def _energies(path: Path, frames: int) -> ndarray:
    with gzip.open(path, "rt") as file:
        return np.genfromtxt(file, comments="#", delimiter="\t", usecols=3)[:frames]


def pictures(folder: Path) -> Iterator[tuple[str, Picture]]:
    """Every picture by name."""
    everything, model, reference = (_ensemble(folder, range(*r)) for r in ((7,), (3,), (3, 7)))
    measured = [analysis.measure(e, names=["phi", "psi"]) for e in (model, reference)]
    maps = [analysis.ramachandran(e) for e in measured]
    yield "ramachandran", plots.ramachandran({"reference": maps[1], "raw": maps[0]}, temperature=300)
    phi_psi = analysis.measure(everything, names=["phi", "psi"])
    yield "surface", plots.surface(surfaces.free_energy_surface(phi_psi, ["phi", "psi"]))
    yield "curve", plots.surface(surfaces.free_energy_surface(phi_psi, ["psi"]))
    names = list(analysis.named_torsions(model.molecule))
    torsions = analysis.torsion_comparison(model, reference, names=names)
    yield "ridge", plots.ridge(torsions, temperature=300)
    yield "torsions", plots.torsions(torsions, temperature=300)
    yield "energies", plots.energies(analysis.energy_comparison(model, reference), temperature=300)
    yield "weights", plots.weights(np.asarray(everything.log_p) * (300 / 310 - 1), temperature=310)
    yield from _states(phi_psi)
    yield "comparison", plots.comparison(analysis.compare_ensembles(model, reference), temperature=300)


def _states(everything: Ensemble) -> Iterator[tuple[str, Picture]]:
    micro = clusters.cluster(everything, methods.KMeans(60), of=["phi", "psi"], refits=0)
    yield (
        "timescales",
        plots.timescales(markov.implied_timescales(everything, micro.labels, (1, 2, 5, 10, 20, 50, 100))),
    )
    model = markov.markov_model(everything, micro.labels, 20)
    states, sets = metastable.metastable_states(everything, micro, model, 3)
    yield "clusters", plots.clusters(states, everything)
    yield "network", plots.network(model, metastable.mean_first_passage_times(model, sets=sets), sets=sets)
    test = markov.chapman_kolmogorov(everything, micro.labels, 20, sets=sets)
    yield "chapman_kolmogorov", plots.chapman_kolmogorov(test)


def evolution(run: Path) -> Iterator[tuple[str, Picture]]:
    """How the distribution grew in a training."""
    kept = Run.open(run)
    for panel in evolution_panels(kept.ensemble("history"), kept.ensemble("reference"), temperature=300):
        yield panel.key, panel.picture
    yield "training", plots.training(kept.scalars()[0])


def main() -> None:
    """Draw everything."""
    data, folder, dpi, run = (*sys.argv[1:], *("", "docs/images/gallery", "90", "")[len(sys.argv) - 1 :])
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, picture in chain(pictures(Path(data)), evolution(Path(run)) if run else ()):
        picture.save(Path(folder) / f"{name}.png", dpi=int(dpi))
        print(name, picture)


if __name__ == "__main__":
    main()
