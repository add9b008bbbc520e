"""What is done with a trained latent map: encode, decode, find paths, examine, hand over to OpenMM's neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.integrity import Integrity, integrity
from molifold.analysis.map_doctor import Diagnosis, diagnose
from molifold.analysis.map_quality import waves
from molifold.analysis.pathways import minima
from molifold.analysis.surfaces import Surface, free_energy_surface
from molifold.data import write
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.runs import Run
from molifold.workflows.compare import open_ensemble

if TYPE_CHECKING:
    from molifold.flows import LatentMap
    from molifold.flows.latent_path import LatentPath
    from molifold.interfaces import Energy

#: Frames that the geometry of decoded structures is judged by.
JUDGES = 5000
#: Frames below which a free energy on the map says nothing.
FEWEST = 200
#: Degrees: a torsion that turns further from one image to the next jumps. Wells of torsions are 120 degrees apart.
JUMP = 60.0


def load_map(run: str | Path) -> LatentMap:
    """The latent map of a run, with its weights; nothing of the run is executed.

    Raises:
        RunFormatError: if ``run`` is no run.
        ValueError: if what it trained is no latent map.
    """
    from molifold.flows import LatentMap
    from molifold.training import load_flow

    flow = load_flow(run)
    if not isinstance(flow, LatentMap):
        raise ValueError(f"run: {run} trained a {type(flow).__name__}; a map has use = 'molifold.flows:latent_map'")
    return flow


def conformations(name: str | Path, molecule: Molecule) -> Ensemble:
    """Conformations by name: what ``open_ensemble`` takes, and ``NAME@FRAME`` for a single one, counted from 0.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: as ``data.load``, or if there are fewer frames.
    """
    whole, at, frame = str(name).rpartition("@")
    if not at or Path(name).exists():
        return open_ensemble(name, molecule=molecule)
    frames = open_ensemble(whole, molecule=molecule)
    if not frame.isdecimal() or int(frame) >= len(frames):
        raise ValueError(f"{name}: got {frame!r} after @, expected a frame, 0 to {len(frames) - 1}")
    return frames[int(frame) : int(frame) + 1]


@dataclass(frozen=True)
class Basin:
    """A minimum of the free energy on the map: its place, depth (kT) with error, and the frame that lies next to it."""

    z: tuple[float, ...]
    free_energy: float
    error: float
    frame: int


@dataclass(frozen=True)
class Places:
    """Conformations with their places on a map (columns z1, sigma_z1, ...), and the basins of its first two dimensions.

    ``surface`` is the free energy there, None for fewer frames than say anything.
    """

    ensemble: Ensemble
    surface: Surface | None
    basins: tuple[Basin, ...]

    def lines(self) -> dict[str, str]:
        """One line of text per figure, by name."""
        lines = {"places": repr(self.ensemble)}
        for i, b in enumerate(self.basins, start=1):
            at = ", ".join(f"z{k} {v:.2f}" for k, v in enumerate(b.z, start=1))
            lines[f"basin {i}"] = f"{at}: F = {b.free_energy:.2f} +- {b.error:.2f} kT, frame {b.frame}"
        return lines


def encode_store(run: str | Path, source: str | Path, *, to: str | Path) -> Places:
    """Places of conformations on the map of a run, as a store with columns z1, sigma_z1, ..., and its basins.

    Raises:
        FileExistsError: if ``to`` exists.
        ValueError: as ``conformations`` and ``LatentMap.encode``.
    """
    if Path(to).exists():
        raise FileExistsError(f"to: {to} exists already; choose another name or remove it")
    flow = load_map(run)
    frames = conformations(source, flow.molecule)
    there = flow.encode(frames)
    widths = {f"sigma_z{i + 1}": column for i, column in enumerate(there.sigma.T)}
    frames.assign(**there.columns(), **widths).save(to)
    stored = Ensemble.load(to)
    if len(stored) < FEWEST:
        return Places(stored, None, ())
    names = list(there.columns())[:2]
    turning = [name for name, circle in zip(names, there.circular, strict=False) if circle]
    surface = free_energy_surface(stored, names, method="kde", periodic=turning)
    flat = waves(there.z[:, : len(names)], there.circular[: len(names)])
    basins = []
    for found in minima(surface):
        here = waves(np.array([found.position]), there.circular[: len(names)])
        nearest = int(np.square(flat - here).sum(axis=1).argmin())
        basins.append(Basin(found.position, found.free_energy, found.error, nearest))
    return Places(stored, surface, tuple(basins))


def decode_points(run: str | Path, z: Float[ndarray, "points latents"], *, each: int, seed: int = 0) -> Ensemble:
    """Conformations at points of the map of a run, with energies and weights; see ``LatentMap.decode``.

    Raises:
        ValueError: if the map has another number of dimensions.
    """
    flow = load_map(run)
    if z.shape[1] != flow.latents:
        raise ValueError(f"at: got {z.shape[1]} coordinates, expected {flow.latents}: the map has that many dimensions")
    return flow.decode(z, each=each, seed=seed, energy=energy_of(run))


@dataclass(frozen=True)
class CheckedPath:
    """A path between two conformations, and whether its structures are chemically whole."""

    path: LatentPath
    geometry: Integrity

    def lines(self) -> dict[str, str]:
        """One line of text per figure, by name."""
        energy, turns = self.path.energy, np.degrees(self.path.turns)
        jumps = [f"{i + 1} and {i + 2}" for i in np.flatnonzero(turns > JUMP)]
        found = f"; jumps between images {', '.join(jumps)}: ask for more --images or --candidates" if jumps else ""
        return {
            "images": str(len(self.path.z)),
            "continuity": f"torsions turn by up to {turns.max():.0f} degrees between neighbours{found}",
            "density": f"-log p(z) rises {self.path.barrier:.1f} kT above the lower end",
            "energy": f"median {np.median(energy):.1f}, 90 % below {np.quantile(energy, 0.9):.1f}, highest "
            f"{energy.max():.1f} kT above the lower end",
            "geometry": repr(self.geometry),
        }


def find_path(
    run: str | Path,
    a: str | Path,
    b: str | Path,
    *,
    images: int = 24,
    candidates: int = 64,
    seed: int = 0,
) -> CheckedPath:
    """A path through the map of a run between the first conformations of two files, with its structures checked.

    Structures with a clash, a bond beyond 3 standard deviations of the run's reference frames or an inverted centre are
    passed over where there is another candidate.

    Args:
        run: of a latent map.
        a, b: names of conformations (``conformations``), whose first frames are the ends.
        images, candidates, seed: see ``LatentMap.path``.

    Raises:
        ValueError: as ``data.load`` and ``LatentMap.path``.
    """
    flow, opened = load_map(run), Run.open(run)
    ends = [np.asarray(conformations(end, flow.molecule).x[0]) for end in (a, b)]
    frames = opened.ensemble("reference")
    judges = frames[:: max(1, len(frames) // JUDGES)]
    path = flow.path(
        *ends, energy=energy_of(run), images=images, candidates=candidates, seed=seed,
        sound=lambda drawn: integrity(drawn, judges).whole,
    )  # fmt: skip
    return CheckedPath(path, integrity(path.ensemble, judges))


def write_path(checked: CheckedPath, out: str | Path) -> list[Path]:
    """Write the structures of a path as a trajectory and everything known of them as an npz file beside it."""
    told, geometry = checked.path.ensemble, checked.geometry
    trajectory = write(told, out)
    beside = trajectory.with_suffix(".npz")
    columns: dict[str, Any] = {
        "z": checked.path.z, "log_prior": checked.path.log_prior, "log_p": told.log_p, "log_q": told.log_q,
        "energy": checked.path.energy, "turns": checked.path.turns, "whole": geometry.whole,
        "bond_deviation": geometry.bond_deviation,
        "clashes": geometry.clashes, "inversions": geometry.inversions,
    }  # fmt: skip
    np.savez(beside, **columns)
    return [trajectory, beside]


def examine(run: str | Path, *, source: str | Path | None = None) -> Diagnosis:
    """The doctor's findings about the map of a run, on the frames of ``source`` or the run's own reference.

    The lag is the one of the training.

    Raises:
        ValueError: as ``analysis.map_doctor.diagnose``.
    """
    flow, opened = load_map(run), Run.open(run)
    frames = opened.ensemble("reference") if source is None else conformations(source, flow.molecule)
    there = flow.encode(frames)
    lag = opened.info["settings"].get("lag")
    return diagnose(
        there.z, sigma=there.sigma, circular=there.circular, trajectory=frames.columns.get("trajectory"), lag=lag
    )


def energy_of(run: str | Path) -> Energy:
    """The energy that the recipe of a run names.

    Raises:
        ValueError: if the run keeps no recipe.
    """
    from molifold.training import Recipe, make_energy, make_system

    opened = Run.open(run)
    if opened.recipe is None:
        raise ValueError(f"run: {run} keeps no recipe, so its energy is unknown")
    recipe = Recipe(opened.recipe, source=str(run), trust=("molifold",))
    return make_energy(recipe, make_system(recipe))
