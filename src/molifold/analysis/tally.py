"""Counting: one pass over an ensemble, however large, into block histograms of all its degrees of freedom.

Coordinates are read ``CHUNK`` frames at a time and nothing that grows with the number of frames is kept, so that an
ensemble may be a memory map larger than the memory. Counts of parts add up: several processes (Dask) and one give the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.columns import CHUNK
from molifold.analysis.energies import energy_of
from molifold.analysis.freedom import DegreeOfFreedom, values
from molifold.analysis.histograms import Axis
from molifold.analysis.uncertainty import MOST
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

#: Resolution of a fingerprint (nm, rad): rounding of float32 is a hundred times finer, two frames of a simulation
#: are hundreds of times further apart.
RESOLUTION = 1e-4
#: Degrees of freedom in a fingerprint; with fewer than ``LEAST`` two frames may agree by chance.
FINGERPRINT, LEAST = 12, 6


@dataclass(frozen=True)
class Plan:
    """Which block every frame is in, chunk by chunk, and which frames are kept when the ensemble is thinned.

    Blocks are whole trajectories or equal runs of them in time, as ``uncertainty.trajectory_blocks`` cuts them.
    ``kept`` frames are spread evenly over the blocks.
    """

    frames: int
    kept: int
    blocks: int
    column: ndarray | None
    before: tuple[dict[int, int], ...]
    trajectories: dict[int, tuple[int, int, int, int]]

    @staticmethod
    def of(ensemble: Ensemble, *, blocks: int, kept: int | None = None) -> Plan:
        """The plan for an ensemble: one look at its column ``trajectory``, a chunk at a time.

        >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((6, 1, 3)), columns={"trajectory": np.arange(6) // 4})
        >>> Plan.of(e, blocks=3).labels(0)[0]
        array([0, 0, 1, 1, 2, 2])
        """
        frames, column = len(ensemble), ensemble.columns.get("trajectory")
        seen: dict[int, int] = {}
        before = []
        for start in range(0, frames, CHUNK):
            n = min(CHUNK, frames - start)
            chunk = np.zeros(n, dtype=np.int64) if column is None else np.asarray(column[start : start + n])
            names, counts = np.unique(chunk, return_counts=True)
            before.append({int(name): seen.get(int(name), 0) for name in names})
            for name, count in zip(names, counts, strict=True):
                seen[int(name)] = seen.get(int(name), 0) + int(count)
        trajectories, rank, label = {}, 0, 0
        for name, count in sorted(seen.items()):
            pieces = int(np.clip(np.rint(blocks * count / max(frames, 1)), 1, count))
            trajectories[name] = (rank, count, pieces, label)
            rank, label = rank + count, label + pieces
        kept = frames if kept is None else min(kept, frames)
        return Plan(frames, kept, min(label, MOST), column, tuple(before), trajectories)

    def labels(self, part: int) -> tuple[Int[ndarray, " frames"], ndarray]:
        """Block of every frame of a chunk, and whether it is kept."""
        start = part * CHUNK
        n = min(CHUNK, self.frames - start)
        chunk = np.zeros(n, dtype=np.int64) if self.column is None else np.asarray(self.column[start : start + n])
        names, inverse, sizes = np.unique(chunk, return_inverse=True, return_counts=True)
        place = np.empty(n, dtype=np.int64)
        place[np.argsort(inverse, kind="stable")] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        place += np.array([self.before[part][int(name)] for name in names])[inverse]
        first, count, pieces, label = np.array([self.trajectories[int(name)] for name in names]).T[:, inverse]
        total = sum(t[2] for t in self.trajectories.values())
        block = label + place * pieces // count
        rank = first + place
        kept = -(-rank * self.kept // self.frames) != -(-(rank + 1) * self.kept // self.frames)
        return (block if total <= MOST else block * MOST // total), kept


@dataclass(frozen=True)
class Quantities:
    """What is counted: degrees of freedom with their axes, and pairs of them (by position) for joint histograms."""

    molecule: Molecule
    freedoms: tuple[DegreeOfFreedom, ...]
    axes: tuple[Axis, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    fingerprint: tuple[int, ...] = ()

    @property
    def chiral(self) -> tuple[int, ...]:
        """Positions of the impropers of chiral centres."""
        return tuple(i for i, f in enumerate(self.freedoms) if f.component == "chiral")

    def values(self, x: ndarray, *, energy: ndarray | None) -> Float[ndarray, "quantities frames"]:
        """Every quantity of every frame."""
        return with_energy(values(x, self.freedoms, molecule=self.molecule), self.freedoms, energy=energy)

    def fingerprints(self, measured: Float[ndarray, "quantities frames"]) -> ndarray:
        """One number per frame, equal for copies of a frame however they are turned (uint64)."""
        rows = np.nan_to_num(measured[list(self.fingerprint)])
        digits = np.floor(rows / RESOLUTION).astype(np.int64).astype(np.uint64)
        out = np.zeros(measured.shape[1], dtype=np.uint64)
        for row in digits:  # Knuth's multiplicative hash
            out = (out ^ row) * np.uint64(0x9E3779B97F4A7C15)
            out ^= out >> np.uint64(29)
        return out


def with_energy(
    measured: Float[ndarray, "quantities frames"], freedoms: Sequence[DegreeOfFreedom], *, energy: ndarray | None
) -> Float[ndarray, "quantities frames"]:
    """The values with the row of the energy filled."""
    for i, freedom in enumerate(freedoms):
        if freedom.kind == "energy" and energy is not None:
            measured[i] = energy
    return measured


@dataclass(frozen=True)
class Tally:
    """Weights counted in cells.

    ``cells [2, quantities, 2, blocks, cells]``: first plain weights, then those with the weights of the other side
    dealt to the frames; thinned frames, then the rest. ``pairs`` likewise, over joint cells. ``copies`` are the
    fingerprints that were looked for and found. ``broken`` frames have a quantity that is not finite.
    """

    cells: Float[ndarray, "channels quantities 2 blocks cells"]
    pairs: Float[ndarray, "channels pairs 2 blocks joint"]
    copies: frozenset[int]
    broken: int

    def __add__(self, other: Tally) -> Tally:
        """Counts of both."""
        return Tally(
            self.cells + other.cells,
            self.pairs + other.pairs,
            self.copies | other.copies,
            self.broken + other.broken,
        )

    def thinned(self, quantity: int, *, dealt: bool = False) -> Float[ndarray, "blocks cells"]:
        """Weights of the kept frames in every cell of every block."""
        return self.cells[-1 if dealt else 0, quantity, 0]

    def all(self, quantity: int) -> Float[ndarray, "blocks cells"]:
        """The same of all frames."""
        return self.cells[0, quantity].sum(0)


def tally_part(
    x: ndarray, energy: ndarray | None, label: ndarray, weights: Sequence[ndarray], quantities: Quantities,
    blocks: int, known: ndarray,
) -> Tally:  # fmt: skip
    """Count one chunk. ``label`` is twice the block, plus one for frames that are not kept."""
    from molifold.analysis import kernels

    axes = quantities.axes
    measured = quantities.values(x, energy=energy)
    cell = np.empty(measured.shape, dtype=np.int32)
    kernels.cells_into(
        cell, measured,
        np.array([a.low for a in axes]), np.array([a.bins / (a.high - a.low) for a in axes]),
        np.array([a.bins for a in axes]), np.array([a.circle for a in axes]),
    )  # fmt: skip
    broken = (cell < 0).any(0)
    label = np.where(broken, -1, label)
    joint = np.empty((len(quantities.pairs), len(x)), dtype=np.int32)
    for row, (i, j) in enumerate(quantities.pairs):
        joint[row] = cell[i] * axes[j].n_cells + cell[j]
    most = max((a.n_cells for a in axes), default=1)
    area = max((axes[i].n_cells * axes[j].n_cells for i, j in quantities.pairs), default=1)
    cells = np.zeros((len(weights), len(axes), 2 * blocks, most))
    pairs = np.zeros((len(weights), len(joint), 2 * blocks, area))
    for channel, w in enumerate(weights):
        kernels.count_into(cells[channel], cell, label, w)
        kernels.count_into(pairs[channel], joint, label, w)
    found = np.intersect1d(quantities.fingerprints(measured), known) if len(known) else known
    # [..., block, kept or not] -> [..., kept or not, block]
    halves = [np.moveaxis(a.reshape(*a.shape[:2], blocks, 2, a.shape[-1]), 3, 2) for a in (cells, pairs)]
    return Tally(halves[0], halves[1], frozenset(int(f) for f in found), int(broken.sum()))


def tally(
    ensemble: Ensemble,
    quantities: Quantities,
    *,
    plan: Plan,
    weigh: Callable[[slice], Float[ndarray, " frames"]],
    dealt: Float[ndarray, " weights"] | None = None,
    known: ndarray | None = None,
    seed: int = 0,
    client: Any = None,
) -> Tally:
    """Count an ensemble in one pass.

    Args:
        ensemble: may be a memory map.
        quantities: what to count.
        plan: blocks and thinning.
        weigh: weight of the frames of a slice.
        dealt: weights of another ensemble, dealt at random to these frames for a second count.
        known: fingerprints to look for.
        seed: of the dealing.
        client: ``dask.distributed.Client`` that counts the chunks in its processes.

    >>> from molifold.analysis.freedom import degrees_of_freedom
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> e = Ensemble(butane, np.random.default_rng(0).normal(size=(100, 4, 3)))
    >>> (phi,) = degrees_of_freedom(butane, kinds=["torsion"])
    >>> axis = Axis.around(np.zeros(1), name=phi.name, support="circle", unit="rad")
    >>> t = tally(e, Quantities(butane, (phi,), (axis,)), plan=Plan.of(e, blocks=4), weigh=lambda s: np.ones(100))
    >>> t.all(0).sum(1)
    array([25., 25., 25., 25.])
    """
    has_energy = any(f.kind == "energy" for f in quantities.freedoms)
    known = np.zeros(0, dtype=np.uint64) if known is None or len(quantities.fingerprint) < LEAST else np.sort(known)

    def jobs() -> Iterator[tuple]:
        for part, start in enumerate(range(0, len(ensemble), CHUNK)):
            where = slice(start, min(start + CHUNK, len(ensemble)))
            label, kept = plan.labels(part)
            w = weigh(where)
            weights = [w]
            if dealt is not None:
                weights.append(w * np.random.default_rng([seed, part]).choice(dealt, size=len(w)))
            energy = energy_of(ensemble[where]) if has_energy else None
            yield np.asarray(ensemble.x[where]), energy, 2 * label + ~kept, weights, quantities, plan.blocks, known

    results = (tally_part(*job) for job in jobs()) if client is None else _through(client, jobs())
    total = next(results)
    for part in results:
        total = total + part
    return total


def _through(client: Any, jobs: Iterator[tuple]) -> Iterator[Tally]:
    """Results of a Dask client in order, with a few chunks under way at a time."""
    waiting: list[Any] = []
    width = 2 * max(len(client.scheduler_info()["workers"]), 1)
    for job in jobs:
        waiting.append(client.submit(tally_part, *job, pure=False))
        if len(waiting) >= width:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
