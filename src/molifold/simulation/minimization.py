"""Energy minimisation of batches of conformations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from molifold.interfaces import Energy
from molifold.simulation.engines import Forces, forces_of


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended: ``x`` (nm), potential energies (kJ/mol), largest force on an atom (kJ/mol/nm)."""

    x: Float[ndarray, "batch atoms 3"]
    energy: Float[ndarray, " batch"]
    max_force: Float[ndarray, " batch"]
    converged: Bool[ndarray, " batch"]
    steps: int


def minimize(
    energy: Energy | Forces,
    x0: Float[ndarray, "batch atoms 3"],
    *,
    tolerance: float = 10.0,
    max_steps: int = 5000,
    max_move: float = 0.01,
) -> Minimum:
    """Relax every conformation into a local minimum with FIRE, all of them at once.

    Robust rather than fast: no atom ever moves more than ``max_move`` in a step, so that clashes open gently.
    Conformations that have converged stay where they are.

    Args:
        energy: an ``Energy`` or a callable ``x -> (U kJ/mol, F kJ/mol/nm)``.
        x0: start, nm; one conformation [atoms, 3] is a batch of one.
        tolerance: a conformation is converged when no atom feels a larger force, kJ/mol/nm.
        max_steps: give up after so many force evaluations (``converged`` tells).
        max_move: nm.

    Raises:
        ValueError: if the energy or a force at the start is not finite.

    Reference: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201 (their
    constants); J. Guénolé et al., Comput. Mater. Sci. 175, 109584 (2020) (half a step back after going uphill).

    >>> spring = lambda x: (0.5 * 1000 * (x**2).sum((1, 2)), -1000 * x)
    >>> bool(minimize(spring, np.ones((2, 1, 3)), tolerance=0.1).converged.all())
    True
    """
    forces = forces_of(energy)
    x = np.array(x0, dtype=np.float64)
    x = x[None] if x.ndim == 2 else x
    u, f = (np.array(part, dtype=np.float64) for part in forces(x))
    if not (np.isfinite(u).all() and np.isfinite(f).all()):
        raise ValueError("x0: energy or forces are not finite; do two atoms sit on the same place?")
    v = np.zeros_like(x)
    # Unit masses: a bond of 5e5 kJ/mol/nm^2 oscillates with 700 per unit time and is stable up to 2.8e-3.
    dt, mixing, downhill = np.full(len(x), 1e-3), np.full(len(x), 0.1), np.zeros(len(x), dtype=int)
    steps = 0
    for steps in range(max_steps + 1):
        moving = _max_force(f) > tolerance
        if not moving.any() or steps == max_steps:
            break
        power = (f * v).sum((1, 2))
        up = power < 0
        downhill = np.where(up, 0, downhill + 1)
        x -= np.where(up & moving, 0.5 * dt, 0.0)[:, None, None] * v
        v[up] = 0.0
        faster = downhill > 5
        dt = np.where(up, dt * 0.5, np.where(faster, np.minimum(dt * 1.1, 5e-3), dt))
        mixing = np.where(up, 0.1, np.where(faster, mixing * 0.99, mixing))
        v += dt[:, None, None] * f
        ratio = np.linalg.norm(v, axis=(1, 2)) / np.maximum(np.linalg.norm(f, axis=(1, 2)), 1e-300)
        v = (1 - mixing)[:, None, None] * v + (mixing * ratio)[:, None, None] * f
        step = dt[:, None, None] * v
        longest = np.linalg.norm(step, axis=2).max(axis=1)
        shrink = np.minimum(1.0, max_move / np.maximum(longest, 1e-300))
        v *= shrink[:, None, None]
        x += np.where(moving, shrink, 0.0)[:, None, None] * step
        u, f = (np.array(part, dtype=np.float64) for part in forces(x))
    return Minimum(x=x, energy=u, max_force=_max_force(f), converged=_max_force(f) <= tolerance, steps=steps)


def _max_force(f: Float[ndarray, "batch atoms 3"]) -> Float[ndarray, " batch"]:
    return np.linalg.norm(f, axis=2).max(axis=1)
