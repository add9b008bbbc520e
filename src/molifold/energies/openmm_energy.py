"""OpenMMEnergy: any OpenMM System, evaluated by OpenMM, one conformation at a time."""

from __future__ import annotations

import copy
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from molifold.energies.autograd import with_forces
from molifold.units import kT

if TYPE_CHECKING:
    import openmm


class OpenMMEnergy:
    """Reduced potential energy of an OpenMM System: every force that OpenMM knows, differentiable once.

    ``MolecularMechanics`` is about fifty times faster where it applies. The Reference platform is double precision,
    and the fastest one below about 50 atoms.

    Args:
        openmm_system: an ``openmm.System``.
        temperature: K.
        platform: an OpenMM platform: "Reference", "CPU", "CUDA", "OpenCL", "HIP".
        workers: contexts that evaluate parts of the batch at the same time.

    Raises:
        ValueError: if the platform does not exist here, or ``workers`` is not positive.

    >>> import openmm
    >>> system, bonds = openmm.System(), openmm.HarmonicBondForce()
    >>> for _ in range(2):
    ...     _ = system.addParticle(1.0)
    >>> _ = bonds.addBond(0, 1, 0.1, 200.0), system.addForce(bonds)
    >>> energy = OpenMMEnergy(system, temperature=300.0)
    >>> u, f = energy.potential_and_forces(np.array([[[0.0, 0, 0], [0.2, 0, 0]]]))
    >>> float(u[0].round(6)), float(f[0, 0, 0].round(6))
    (1.0, 20.0)
    """

    def __init__(
        self, openmm_system: openmm.System, *, temperature: float, platform: str = "Reference", workers: int = 1
    ) -> None:
        import openmm

        known = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
        if platform not in known:
            raise ValueError(f"platform: got {platform!r}, expected one of {', '.join(known)}")
        if workers < 1:
            raise ValueError(f"workers: got {workers}, expected at least 1")
        self.temperature = float(temperature)
        self.platform = platform
        self.workers = workers
        self.system = openmm_system
        self.atoms = openmm_system.getNumParticles()
        self._kT = kT(temperature)
        # A context is bound to no thread but must not be used by two at a time: whoever needs one takes it out.
        self._contexts: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(workers):
            integrator = openmm.VerletIntegrator(0.001)
            context = openmm.Context(openmm_system, integrator, openmm.Platform.getPlatformByName(platform))
            self._contexts.put(context)

    def at(self, temperature: float) -> OpenMMEnergy:
        """The same potential in units of another kT."""
        other = copy.copy(self)  # shares the contexts
        other.temperature, other._kT = float(temperature), kT(temperature)
        return other

    def __call__(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """u(x) in kT, of the dtype and on the device of ``x``; ``x`` in nm.

        Raises:
            ValueError: if ``x`` is not ``[batch, atoms, 3]``.
        """
        self._check(tuple(x.shape))
        return with_forces(x, self._evaluate)

    def potential_and_forces(
        self, x: Float[ndarray, "batch atoms 3"]
    ) -> tuple[Float[ndarray, " batch"], Float[ndarray, "batch atoms 3"]]:
        """Potential energies (kJ/mol) and forces (kJ/mol/nm); NaN where OpenMM cannot evaluate a conformation."""
        self._check(x.shape)
        x = np.asarray(x, np.float64)
        parts = np.array_split(np.arange(len(x)), max(1, min(self.workers, len(x))))
        if len(parts) == 1:
            return self._part(x)
        with ThreadPoolExecutor(len(parts)) as pool:
            results = list(pool.map(lambda rows: self._part(x[rows]), parts))
        return np.concatenate([u for u, _ in results]), np.concatenate([f for _, f in results])

    def _part(self, x: ndarray) -> tuple[ndarray, ndarray]:
        import openmm

        u, f = np.full(len(x), np.nan), np.full(x.shape, np.nan)
        context = self._contexts.get()
        try:
            for k in np.flatnonzero(np.isfinite(x).all((1, 2))):
                try:
                    context.setPositions(x[k])
                    state = context.getState(getEnergy=True, getForces=True)
                except openmm.OpenMMException:  # "Particle coordinate is NaN" and the like
                    continue
                u[k] = state.getPotentialEnergy()._value
                f[k] = state.getForces(asNumpy=True)._value
        finally:
            self._contexts.put(context)
        return u, f

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, f = self.potential_and_forces(x.detach().cpu().numpy())
        reduced = torch.as_tensor(u / self._kT, dtype=x.dtype, device=x.device)
        return reduced, torch.as_tensor(f / self._kT, dtype=x.dtype, device=x.device)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[1:] != (self.atoms, 3):
            raise ValueError(f"x: got shape {list(shape)}, expected [batch, {self.atoms}, 3]")

    def __repr__(self) -> str:
        forces = ", ".join(force.getName() for force in self.system.getForces())
        return f"OpenMMEnergy({self.atoms} atoms, {self.temperature:g} K, {self.platform}: {forces})"
