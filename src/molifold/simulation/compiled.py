"""The fast engine: Langevin dynamics of blocks of walkers in single precision, one walker per vector lane.

A block of 16 walkers is integrated for many steps inside one compiled call, with forces from
``energies.kernels.energy_forces_block``; blocks run on threads. Measured in ``benchmarks/replica_exchange.py``.
"""

# Numba infers types itself; annotations on its functions would only mislead.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.energies.compiling import compiled
from molifold.energies.kernels import energy_forces, energy_forces_block, scratch_rows
from molifold.energies.parameters import Parameters
from molifold.energies.simd import lanes
from molifold.simulation.noise import fill_normal, seed_lanes

LANES = lanes("float32")


@compiled(fastmath={"contract", "nsz"})
def _advance_block(x, v, f, u, rng, noise, scratch, p, kick, keep, spread, half, steps):
    """Integrate one block in place; ``spread`` [atoms, lanes] is the width of the noise on velocities.

    Centroids end at the origin: the energy does not depend on them, and float32 loses digits as molecules diffuse.
    """
    atoms, _, width = x.shape
    for _ in range(steps):
        fill_normal(rng, noise)
        for i in range(atoms):
            for axis in range(3):
                row = 3 * i + axis
                for lane in range(width):
                    kicked = v[i, axis, lane] + kick[i] * f[i, axis, lane]
                    cooled = keep * kicked + spread[i, lane] * noise[row, lane]
                    x[i, axis, lane] += half * (kicked + cooled)
                    v[i, axis, lane] = cooled
        energy_forces_block(x, p, u, f, scratch)
    share = np.float32(1 / atoms)
    for axis in range(3):
        for lane in range(width):
            centroid = np.float32(0)
            for i in range(atoms):
                centroid += share * x[i, axis, lane]
            for i in range(atoms):
                x[i, axis, lane] -= centroid


class CompiledEngine:
    """Langevin dynamics on the batched molecular mechanics (see ``engines.Engine``).

    Args:
        parameters: of the force field, float32.
        x: [walkers, atoms, 3], nm: where to start. Velocities start from ``kT``.
        masses: [atoms], dalton.
        timestep: ps.
        friction: 1/ps.
        kT: [walkers], kJ/mol.
        seed: of all randomness.
        threads: run blocks on so many threads; results do not depend on it.
    """

    def __init__(
        self,
        parameters: Parameters,
        x: Float[ndarray, "walkers atoms 3"],
        *,
        masses: Float[ndarray, " atoms"],
        timestep: float,
        friction: float,
        kT: Float[ndarray, " walkers"],
        seed: int,
        threads: int = 1,
    ) -> None:
        self._parameters = parameters
        self._walkers, self._atoms = x.shape[:2]
        self._masses = np.asarray(masses, dtype=np.float64)
        self._kick = (timestep / self._masses).astype(np.float32)
        self._keep = np.float32(np.exp(-friction * timestep))
        self._spread = np.sqrt(-np.expm1(-2 * friction * timestep) / self._masses)
        self._half = np.float32(0.5 * timestep)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        blocks = -(-self._walkers // LANES)
        centred = (x - x.mean(axis=1, keepdims=True)).astype(np.float32)
        u, f = energy_forces(centred, parameters, threads=threads)
        self._x, self._f, self._u = self._pack(centred), self._pack(f), self._lanes(u)
        self._v = np.zeros_like(self._x)
        states = seed_lanes(seed, lanes=blocks * LANES)
        self._rng = np.ascontiguousarray(states.reshape(4, blocks, LANES).swapaxes(0, 1))
        # An even number of rows, as fill_normal wants.
        self._noise = np.zeros((blocks, 3 * self._atoms + self._atoms % 2, LANES), np.float32)
        self._scratch = np.zeros((blocks, scratch_rows(parameters, self._atoms), LANES), np.float32)
        for b, block_kT in enumerate(self._lanes(kT)):
            fill_normal(self._rng[b], self._noise[b])
            thermal = np.sqrt(block_kT[None, :] / self._masses[:, None])
            self._v[b] = self._noise[b, : 3 * self._atoms].reshape(self._atoms, 3, LANES) * thermal[:, None, :]

    def advance(self, steps: int, *, kT: Float[ndarray, " walkers"]) -> None:
        """Integrate ``steps`` steps."""
        root = np.sqrt(self._lanes(kT))
        spread = (self._spread[None, :, None] * root[:, None, :]).astype(np.float32)

        def block(b: int) -> None:
            _advance_block(
                self._x[b], self._v[b], self._f[b], self._u[b], self._rng[b], self._noise[b], self._scratch[b],
                self._parameters, self._kick, self._keep, spread[b], self._half, steps,
            )  # fmt: skip

        if self._pool is None:
            for b in range(len(self._x)):
                block(b)
        else:
            list(self._pool.map(block, range(len(self._x))))

    def observe(self) -> tuple[Float[ndarray, "walkers atoms 3"], Float[ndarray, " walkers"]]:
        """Coordinates (nm, centroid at the origin) and potential energies (kJ/mol) now."""
        x = self._x.transpose(0, 3, 1, 2).reshape(-1, self._atoms, 3)[: self._walkers]
        return x, self._u.reshape(-1)[: self._walkers].astype(np.float64)

    def scale_velocities(self, factors: Float[ndarray, " walkers"]) -> None:
        """Multiply velocities, as an exchange of temperatures asks."""
        self._v *= self._lanes(factors).astype(np.float32)[:, None, None, :]

    def state(self) -> dict[str, ndarray]:
        """Everything that the future depends on."""
        return {"x": self._x, "v": self._v, "f": self._f, "u": self._u, "rng": self._rng}

    def restore(self, state: Mapping[str, ndarray]) -> None:
        """Go back to a ``state``, bit by bit."""
        for name, value in self.state().items():
            value[...] = state[name]

    def _lanes(self, values: Float[ndarray, " walkers"]) -> Float[ndarray, "blocks lanes"]:
        """One number per walker as blocks; spare lanes repeat the last walker."""
        spare = -len(values) % LANES
        return np.concatenate([values, np.repeat(values[-1:], spare)]).reshape(-1, LANES)

    def _pack(self, x: Float[ndarray, "walkers atoms 3"]) -> Float[ndarray, "blocks atoms 3 lanes"]:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % LANES, axis=0)])
        blocks = padded.reshape(-1, LANES, self._atoms, 3).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(blocks, dtype=np.float32)
