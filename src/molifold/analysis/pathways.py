"""Minima, saddles and minimum-energy paths on a free-energy surface, with the errors of barriers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.surfaces import Surface
from molifold.analysis.uncertainty import Estimate


@dataclass(frozen=True)
class Minimum:
    """A local minimum: ``position`` in the units of the axes, free energy and the climb to a deeper one in kT."""

    position: tuple[float, ...]
    free_energy: float
    error: float
    prominence: float


@dataclass(frozen=True)
class Pathway:
    """The lowest path between two minima: ``points`` [steps, axes], their free energy, and the saddle.

    ``barrier`` is F(saddle) - F(start), ``reverse`` F(saddle) - F(end), in kT, with errors from blocks. A saddle in a
    region that few frames visited is an upper bound by luck of those frames: look at its error.
    """

    names: tuple[str, ...]
    points: Float[ndarray, "steps axes"]
    free_energy: Band
    saddle: tuple[float, ...]
    barrier: Estimate
    reverse: Estimate
    n: int
    temperature: float

    def __repr__(self) -> str:
        where = ", ".join(f"{x:.2f}" for x in self.saddle)
        return f"Pathway({' x '.join(self.names)}: {len(self.points)} steps, barrier {self.barrier!r} kT at {where})"


def minima(surface: Surface, *, prominence: float = 0.5) -> tuple[Minimum, ...]:
    """Minima from which one must climb ``prominence`` kT, and two errors, to reach a deeper one; deepest first.

    Take a surface by "kde": in a histogram noise makes minima of its own.

    >>> from molifold.analysis.surfaces import free_energy_surface
    >>> from molifold import Ensemble, Molecule
    >>> x = np.random.default_rng(0).normal(np.repeat([-2.0, 2.0], [6000, 3000]), 0.5)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((9000, 1, 3)), log_q=np.zeros(9000), columns={"x": x})
    >>> [round(m.position[0]) for m in minima(free_energy_surface(e, "x", method="kde"))]
    [-2, 2]
    """
    f, neighbours = surface.free_energy.value.ravel(), _neighbours(surface)
    parent = np.full(f.size, -1)
    found: dict[int, float] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for i in np.argsort(f, kind="stable"):
        if not np.isfinite(f[i]):
            break
        parent[i] = i
        basins = sorted(
            {root(int(j)) for j in neighbours[i] if j >= 0 and j != i and parent[j] >= 0}, key=lambda r: f[r]
        )
        for lowest, other in ((basins[0], b) for b in basins[1:]):
            found[other] = float(f[i] - f[other])  # here a shallower basin meets a deeper one
            parent[other] = lowest
        if basins:
            parent[i] = basins[0]
    for i in range(f.size):  # what never met a deeper one
        if parent[i] == i:
            found.setdefault(i, math.inf)
    error = surface.free_energy.error.ravel()
    kept = sorted((i for i, climb in found.items() if climb >= max(prominence, 2 * error[i])), key=lambda i: f[i])
    return tuple(Minimum(_position(surface, i), float(f[i]), float(error[i]), found[i]) for i in kept)


def minimum_energy_path(
    surface: Surface, start: Sequence[float], *, end: Sequence[float], repeats: int = 100, seed: int = 0
) -> Pathway:
    """The path over the lowest saddle between two points of a surface.

    The saddle is that of the path whose highest point is lowest (minimax, by the minimum spanning tree of the grid).
    Among the paths that never go above it, the one of largest flux is returned: it minimises the integral of exp(F)
    along it, so it follows the valley floor.

    Args:
        surface: one by "kde" gives smooth paths.
        start: where to begin, in the units of the axes; the deepest bin nearby is taken (two bins around).
        end: where to end.
        repeats: bootstrap replicates of the surface for the error of the barrier.
        seed: of the bootstrap.

    Raises:
        ValueError: if a point lies outside, or no path of visited bins leads from one to the other.

    Reference: S. Huo, J. Straub, J. Chem. Phys. 107, 5000 (1997), doi:10.1063/1.474863 (maximum flux).

    >>> from molifold.analysis.surfaces import free_energy_surface
    >>> from molifold import Ensemble, Molecule
    >>> x = np.random.default_rng(0).normal(np.repeat([-2.0, 2.0], [6000, 3000]), 0.8)
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((9000, 1, 3)), log_q=np.zeros(9000), columns={"x": x})
    >>> path = minimum_energy_path(free_energy_surface(e, "x", method="kde"), [-2.0], end=[2.0])
    >>> abs(path.saddle[0]) < 0.5, path.barrier.error < 0.3
    (True, True)
    """
    f, neighbours = surface.free_energy.value.ravel(), _neighbours(surface)
    a, b = (_snapped(surface, neighbours, point, name) for point, name in ((start, "start"), (end, "end")))
    top = _saddle(f, neighbours, a, b)
    if top < 0:
        raise ValueError("start, end: no path of visited bins joins the two points; use method='kde' or fewer bins")
    steps = _widest_valley(surface, f, neighbours, a, b, float(f[top]))
    draws = surface.replicates(repeats, seed=seed).reshape(repeats, -1)
    tops = [(draw, _saddle(draw, neighbours, a, b)) for draw in draws]
    heights = np.array([[draw[s] - draw[a], draw[s] - draw[b]] for draw, s in tops if s >= 0]).reshape(-1, 2)
    blocks = len(surface.sums)
    barrier, reverse = (_barrier(float(f[top] - f[i]), heights[:, c], blocks, surface.n) for c, i in enumerate((a, b)))
    flat = surface.free_energy
    return Pathway(
        names=surface.names,
        points=np.array([_position(surface, i) for i in steps]),
        free_energy=Band(*(array.ravel()[steps] for array in (flat.value, flat.error, flat.low, flat.high))),
        saddle=_position(surface, top),
        barrier=barrier,
        reverse=reverse,
        n=surface.n,
        temperature=surface.temperature,
    )


def _barrier(value: float, draws: ndarray, blocks: int, n: int) -> Estimate:
    from scipy.special import stdtrit

    draws = draws[np.isfinite(draws)]
    if len(draws) < 2 or blocks < 2:
        return Estimate(value, math.inf, -math.inf, math.inf, math.inf, n)
    error = float(np.std(draws, ddof=1)) * math.sqrt(blocks / (blocks - 1))
    half = float(stdtrit(blocks - 1, 0.975)) * error
    return Estimate(value, error, value - half, value + half, math.nan, n)


def _position(surface: Surface, cell: int) -> tuple[float, ...]:
    index = np.unravel_index(cell, surface.free_energy.value.shape)
    return tuple(float(axis.centres[i]) for axis, i in zip(surface.axes, index, strict=True))


def _neighbours(surface: Surface) -> Int[ndarray, "cells neighbours"]:
    """Flat indices of the bins around every bin (diagonal ones too), -1 where the surface ends."""
    shape = surface.free_energy.value.shape
    index = np.indices(shape).reshape(len(shape), -1)
    out = []
    for step in product((-1, 0, 1), repeat=len(shape)):
        moved = index + np.array(step)[:, None]
        valid = np.ones(moved.shape[1], dtype=bool)
        for d, axis in enumerate(surface.axes):
            if axis.periodic:
                moved[d] %= shape[d]
            valid &= (moved[d] >= 0) & (moved[d] < shape[d])
        flat = np.ravel_multi_index(np.where(valid, moved, 0), shape)
        out.append(np.where(valid, flat, -1))
    return np.stack(out, axis=1)


def _snapped(surface: Surface, neighbours: ndarray, point: Sequence[float], name: str) -> int:
    point = tuple(point)
    if len(point) != len(surface.axes):
        raise ValueError(f"{name}: got {len(point)} numbers, expected one per axis {surface.names}")
    index = [int(axis.cells(np.array([x]))[0]) for axis, x in zip(surface.axes, point, strict=True)]
    if min(index) < 0:
        raise ValueError(f"{name}: got {point}, expected a point inside the surface of {surface.names}")
    cell = int(np.ravel_multi_index(index, surface.free_energy.value.shape))
    near = np.unique(neighbours[np.unique(neighbours[cell][neighbours[cell] >= 0])])
    near = near[near >= 0]
    return int(near[np.argmin(surface.free_energy.value.ravel()[near])])


def _edges(f: ndarray, neighbours: ndarray) -> tuple[ndarray, ndarray]:
    rows = np.repeat(np.arange(f.size), neighbours.shape[1])
    columns = neighbours.ravel()
    keep = (columns >= 0) & (rows != columns) & np.isfinite(f[rows])
    keep[keep] &= np.isfinite(f[columns[keep]])
    return rows[keep], columns[keep]


def _saddle(f: ndarray, neighbours: ndarray, a: int, b: int) -> int:
    """The highest bin of the path from a to b whose highest bin is lowest; -1 if none leads there."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    if not (np.isfinite(f[a]) and np.isfinite(f[b])):
        return -1
    rows, columns = _edges(f, neighbours)
    lift = 1.0 - float(f[np.isfinite(f)].min())  # a weight of zero would be no edge
    graph = csr_array((np.maximum(f[rows], f[columns]) + lift, (rows, columns)), shape=(f.size, f.size))
    before = breadth_first_order(minimum_spanning_tree(graph), a, directed=False)[1]
    path = [b]
    while path[-1] != a:
        if before[path[-1]] < 0:
            return -1
        path.append(int(before[path[-1]]))
    return int(max(path, key=lambda i: f[i]))


def _widest_valley(surface: Surface, f: ndarray, neighbours: ndarray, a: int, b: int, top: float) -> list[int]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    shape = surface.free_energy.value.shape
    rows, columns = _edges(np.where(f <= top, f, np.inf), neighbours)
    index = np.array(np.unravel_index(np.arange(f.size), shape))
    step = np.abs(index[:, rows] - index[:, columns])
    for d, axis in enumerate(surface.axes):
        if axis.periodic:
            step[d] = np.minimum(step[d], shape[d] - step[d])
    length = np.sqrt((step**2).sum(0))
    cost = length * 0.5 * (np.exp(f[rows] - top) + np.exp(f[columns] - top))
    graph = csr_array((cost, (rows, columns)), shape=(f.size, f.size))
    before = dijkstra(graph, indices=a, return_predecessors=True)[1]
    path = [b]
    while path[-1] != a:
        path.append(int(before[path[-1]]))
    return path[::-1]
