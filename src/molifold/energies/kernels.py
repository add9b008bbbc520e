"""Energies and forces of blocks of conformations, one conformation per SIMD lane: the CPU engine.

Layout. A block is an array ``[atoms, 3, lanes]`` (nm), C-contiguous, with ``lanes = simd.lanes(dtype)``
conformations: 16 in float32, 8 in float64. A lane never sees another lane, so unused lanes may hold copies of
anything finite.

Inside your own numba function (an integrator, say) evaluate a block with

    energy_forces_block(x, p, u, f, scratch)

- ``x [atoms, 3, lanes]``: positions, nm;
- ``p``: ``mechanics.parameters("float32")``, a ``Parameters`` tuple of arrays of the same precision as ``x``;
- ``u [lanes]``: overwritten with potential energies, kJ/mol;
- ``f [atoms, 3, lanes]``: overwritten with forces, kJ/mol/nm;
- ``scratch [scratch_rows(p, atoms), lanes]``: any content; one per thread.

It allocates nothing and holds no state. ``pack`` and ``unpack`` change ``[batch, atoms, 3]`` to blocks and back.
Decorate the calling function with ``compiling.compiled()``: the first compilation takes several seconds, later starts
load it from disk, and a change of a kernel is noticed there.

>>> import numpy as np
>>> from molifold.energies.parameters import cast, empty
>>> bond = {"bond_atoms": np.array([[0, 1]]), "bond_length": np.array([0.1]), "bond_k": np.array([200.0])}
>>> p = cast(empty(2)._replace(**bond), "float64")
>>> x = np.array([[[0.0, 0, 0], [0.2, 0, 0]]])
>>> u, f = energy_forces(x, p)
>>> u.round(6), f[0, 0].round(6)
(array([1.]), array([20.,  0.,  0.]))
"""

# Numba functions, which numba types; the annotated function at the end is the one for ordinary Python.
# mypy: allow-untyped-defs
# ruff: noqa: ANN001, ANN201, ANN202
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float
from numba import njit
from numpy import ndarray

from molifold.energies.compiling import compiled
from molifold.energies.kernels_bonded import angles, bonds, cmaps, torsions
from molifold.energies.kernels_nonbonded import FREE, PER_ATOM, PER_PAIR, nonbonded
from molifold.energies.parameters import Parameters
from molifold.energies.simd import lanes, store


@njit
def scratch_rows(p, atoms):
    """Rows of scratch that ``energy_forces_block`` needs."""
    if len(p.gb_charge) == 0:
        return FREE
    return FREE + PER_ATOM * atoms + PER_PAIR * (atoms * (atoms - 1) // 2)


@njit(error_model="numpy")
def energy_forces_block(x, p, u, f, scratch):
    """Potential energies (kJ/mol) and forces (kJ/mol/nm) of one block; see the module's docstring."""
    f[:] = 0.0
    total = bonds(x, p, f)
    total = total + angles(x, p, f)
    total = total + torsions(x, p, f)
    if len(p.cmap_atoms) > 0:
        total = total + cmaps(x, p, f, scratch)
    total = total + nonbonded(x, p, f, scratch)
    store(u, 0, total)


@njit
def pack(x, first, block):
    """Copy conformations from ``first`` on of ``x [batch, atoms, 3]`` into a block; the last one fills what is left."""
    for lane in range(block.shape[2]):
        k = min(first + lane, x.shape[0] - 1)
        for i in range(block.shape[0]):
            for axis in range(3):
                block[i, axis, lane] = x[k, i, axis]


@njit
def unpack(block, first, x):
    """Copy the lanes of a block to conformations ``first``, ``first + 1``, ... of ``x [batch, atoms, 3]``."""
    for lane in range(min(block.shape[2], x.shape[0] - first)):
        for i in range(block.shape[0]):
            for axis in range(3):
                x[first + lane, i, axis] = block[i, axis, lane]


@compiled()
def _run(x, p, lanes, u, f):
    """Fill ``u [batch]`` and ``f [batch, atoms, 3]``."""
    atoms = x.shape[1]
    block, force = np.empty((atoms, 3, lanes), x.dtype), np.empty((atoms, 3, lanes), x.dtype)
    energy, scratch = np.empty(lanes, x.dtype), np.empty((scratch_rows(p, atoms), lanes), x.dtype)
    for first in range(0, x.shape[0], lanes):
        pack(x, first, block)
        energy_forces_block(block, p, energy, force, scratch)
        unpack(force, first, f)
        for lane in range(min(lanes, x.shape[0] - first)):
            u[first + lane] = energy[lane]


def energy_forces(
    x: Float[ndarray, "batch atoms 3"], parameters: Parameters, *, threads: int = 1
) -> tuple[Float[ndarray, " batch"], Float[ndarray, "batch atoms 3"]]:
    """Potential energies (kJ/mol) and forces (kJ/mol/nm), in the precision of ``parameters``.

    ``threads`` splits the batch; the result does not depend on it.
    """
    dtype = parameters.pair_a.dtype
    x = np.ascontiguousarray(x, dtype)
    width = lanes(dtype)
    u, f = np.empty(len(x), dtype), np.empty_like(x)
    blocks = -(-len(x) // width)
    if threads <= 1 or blocks <= 1:
        _run(x, parameters, width, u, f)
        return u, f
    edges = [width * (blocks * k // threads) for k in range(threads)] + [len(x)]
    with ThreadPoolExecutor(threads) as pool:
        parts = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if a < b]
        list(pool.map(lambda s: _run(x[s], parameters, width, u[s], f[s]), parts))
    return u, f
