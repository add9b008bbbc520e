"""What advances walkers: the interface, and the engine that works for every energy.

Both engines integrate Langevin dynamics ``dv = F/m dt - friction v dt + sqrt(2 friction kT / m) dW`` with the "middle"
splitting: kick, half drift, friction and noise, half drift. One force evaluation per step; for a harmonic potential
the positions have the exact canonical distribution at any stable step. References: B. Leimkuhler and C. Matthews,
Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010; Z. Zhang et al., J. Phys. Chem. A 123, 6056 (2019),
doi:10.1021/acs.jpca.9b02771.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from molifold.energies import MolecularMechanics, OpenMMEnergy
from molifold.interfaces import Energy
from molifold.units import kT as kT_of

#: x [batch, atoms, 3] nm -> potential energies [batch] kJ/mol and forces [batch, atoms, 3] kJ/mol/nm.
Forces = Callable[[ndarray], tuple[ndarray, ndarray]]


class Engine(Protocol):
    """Walkers that move in time. Masses in dalton, times in ps, kT in kJ/mol, one per walker."""

    def advance(self, steps: int, *, kT: Float[ndarray, " walkers"]) -> None:
        """Integrate ``steps`` steps."""
        ...

    def observe(self) -> tuple[Float[ndarray, "walkers atoms 3"], Float[ndarray, " walkers"]]:
        """Coordinates (nm) and potential energies (kJ/mol) now."""
        ...

    def scale_velocities(self, factors: Float[ndarray, " walkers"]) -> None:
        """Multiply velocities, as an exchange of temperatures asks."""
        ...

    def state(self) -> dict[str, ndarray]:
        """Everything that the future depends on."""
        ...

    def restore(self, state: Mapping[str, ndarray]) -> None:
        """Go back to a ``state``, bit by bit."""
        ...


class GenericEngine:
    """Langevin dynamics of many walkers in NumPy, for any potential.

    Args:
        forces: the potential.
        x: [walkers, atoms, dimensions], nm: where to start. Velocities start from ``kT``.
        masses: [atoms], dalton.
        timestep: ps.
        friction: 1/ps.
        kT: [walkers], kJ/mol.
        seed: of all randomness.
    """

    def __init__(
        self,
        forces: Forces,
        x: Float[ndarray, "walkers atoms 3"],
        *,
        masses: Float[ndarray, " atoms"],
        timestep: float,
        friction: float,
        kT: Float[ndarray, " walkers"],
        seed: int,
    ) -> None:
        self._forces = forces
        self._masses = np.asarray(masses, dtype=np.float64)[:, None]
        self._timestep = timestep
        self._keep = float(np.exp(-friction * timestep))
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._x = np.array(x, dtype=np.float64)
        self._v = self._rng.standard_normal(self._x.shape) * np.sqrt(kT[:, None, None] / self._masses)
        self._u, self._f = forces(self._x)

    def advance(self, steps: int, *, kT: Float[ndarray, " walkers"]) -> None:
        """Integrate ``steps`` steps."""
        noise = np.sqrt((1 - self._keep**2) * kT[:, None, None] / self._masses)
        for _ in range(steps):
            self._v += self._timestep * self._f / self._masses
            self._x += 0.5 * self._timestep * self._v
            self._v = self._keep * self._v + noise * self._rng.standard_normal(self._v.shape)
            self._x += 0.5 * self._timestep * self._v
            self._u, self._f = self._forces(self._x)

    def observe(self) -> tuple[Float[ndarray, "walkers atoms 3"], Float[ndarray, " walkers"]]:
        """Coordinates (nm) and potential energies (kJ/mol) now."""
        return self._x.copy(), np.array(self._u, dtype=np.float64)

    def scale_velocities(self, factors: Float[ndarray, " walkers"]) -> None:
        """Multiply velocities, as an exchange of temperatures asks."""
        self._v *= factors[:, None, None]

    def state(self) -> dict[str, ndarray]:
        """Everything that the future depends on."""
        generator = np.frombuffer(json.dumps(self._rng.bit_generator.state).encode(), dtype=np.uint8)
        return {"x": self._x, "v": self._v, "f": self._f, "u": self._u, "generator": generator}

    def restore(self, state: Mapping[str, ndarray]) -> None:
        """Go back to a ``state``, bit by bit."""
        self._x, self._v, self._f, self._u = (np.array(state[name]) for name in ("x", "v", "f", "u"))
        self._rng.bit_generator.state = json.loads(state["generator"].tobytes())


def forces_of(energy: Energy | Forces) -> Forces:
    """The potential and forces behind an energy: by autograd for an ``Energy``, else the callable itself.

    >>> spring = lambda x: (0.5 * (x**2).sum((1, 2)), -x)
    >>> forces_of(spring) is spring
    True
    """
    if isinstance(energy, MolecularMechanics | OpenMMEnergy):
        return energy.potential_and_forces  # without the detour over torch
    if not isinstance(energy, Energy):
        return energy
    scale = kT_of(energy.temperature)
    reduced = energy

    def forces(x: ndarray) -> tuple[ndarray, ndarray]:
        positions = torch.from_numpy(np.array(x)).requires_grad_()
        u = reduced(positions)
        (gradient,) = torch.autograd.grad(u.sum(), positions)
        return scale * u.detach().double().numpy(), -scale * gradient.double().numpy()

    return forces
