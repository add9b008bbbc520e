"""Molecular dynamics by OpenMM itself: any System, constraints and explicit solvent included."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.simulation.recording import COLUMNS, Progress, Recorder, check_limits, drive
from molifold.units import kT

if TYPE_CHECKING:
    import openmm


def openmm_run(
    system: openmm.System,
    x0: Float[ndarray, "1 atoms 3"],
    *,
    molecule: Molecule,
    temperature: float,
    seed: int,
    steps: int | None = None,
    max_seconds: float | None = None,
    save_every: int = 500,
    equilibration: int = 10_000,
    timestep: float = 0.002,
    friction: float = 1.0,
    platform: str = "Reference",
    to: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    progress: Progress | None = None,
) -> Ensemble:
    """Langevin dynamics of one walker with OpenMM's ``LangevinMiddleIntegrator``, which obeys constraints.

    ``replica_exchange`` and ``langevin`` are tens of times faster where ``MolecularMechanics`` applies.

    Args:
        system: an ``openmm.System``; it is not changed. With a barostat, frames come from that ensemble.
        x0: start, nm; minimised before equilibration (not if ``equilibration`` is 0).
        molecule: what the particles are.
        temperature: K.
        seed: of all randomness, 0 or more.
        steps, max_seconds, save_every, equilibration, to, resume, checkpoint_seconds, progress: as in
            ``replica_exchange``. Resuming needs the same machine and OpenMM, whose checkpoint is used; it is exact
            on the Reference platform.
        timestep: ps; 0.002 needs constrained bonds to hydrogen, 0.001 is right without.
        friction: 1/ps.
        platform: "Reference" is the fastest below about 50 atoms without a GPU; else "CPU", "CUDA", "OpenCL", "HIP".

    Returns:
        Frames and columns as of ``langevin``; in periodic systems also ``box`` [frames, 3, 3], nm.

    Raises:
        ValueError: if an argument does not fit, or ``resume`` finds other settings.

    >>> import openmm
    >>> system = openmm.System()
    >>> _ = system.addParticle(10.0)
    >>> spring = openmm.CustomExternalForce("250 * (x^2 + y^2 + z^2)")
    >>> _ = spring.addParticle(0), system.addForce(spring)
    >>> particle = Molecule(elements=("X",), masses=(10.0,), name="particle")
    >>> openmm_run(system, np.zeros((1, 1, 3)), molecule=particle, temperature=300, seed=1, steps=1000, save_every=100)
    Ensemble('particle': 10 frames x 1 atoms; log_p; columns temperature, time, trajectory, energy)
    """
    import openmm

    began = time.monotonic()
    check_limits(steps=steps, max_seconds=max_seconds, to=to, resume=resume)
    x = np.asarray(x0, dtype=np.float64).reshape(-1, *np.shape(x0)[-2:])
    if x.shape != (1, system.getNumParticles(), 3) or molecule.n_atoms != x.shape[1]:
        raise ValueError(
            f"x0: got shape {np.shape(x0)} for {molecule!r}, expected [1, {system.getNumParticles()}, 3], one position "
            "per particle of the System"
        )
    if not 0 <= seed < 2**31 - 1:
        raise ValueError(f"seed: got {seed}, expected 0 to {2**31 - 2}")
    settings = {
        "temperature": temperature, "save_every": save_every, "equilibration": equilibration, "timestep": timestep,
        "friction": friction, "seed": seed, "platform": platform,
        "system": hashlib.sha256(openmm.XmlSerializer.serialize(system).encode()).hexdigest(),
    }  # fmt: skip
    periodic = bool(system.usesPeriodicBoundaryConditions())
    columns = {**COLUMNS, "box": ("float32", (3, 3))} if periodic else COLUMNS
    context = _context(system, settings)
    recorder = Recorder(to, molecule, settings=settings, columns=columns, resume=resume)
    try:
        run = _Run(context, settings, recorder, periodic=periodic)
        if recorder.saved is None:
            run.start(x[0], seed=seed + 1)
        drive(
            run, began=began, steps=steps, max_seconds=max_seconds, checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )  # fmt: skip
    finally:
        recorder.close()
    return recorder.ensemble()


def _context(system: openmm.System, settings: dict[str, Any]) -> openmm.Context:
    import openmm

    known = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
    if settings["platform"] not in known:
        raise ValueError(f"platform: got {settings['platform']!r}, expected one of {', '.join(known)}")
    kT(settings["temperature"])
    integrator = openmm.LangevinMiddleIntegrator(
        settings["temperature"], settings["friction"], settings["timestep"]
    )  # in K, 1/ps, ps
    integrator.setRandomNumberSeed(settings["seed"] + 1)  # zero would mean a new one every time
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName(settings["platform"]))


class _Run:
    """A ``recording.Job`` around an OpenMM Context."""

    def __init__(self, context: Any, settings: dict[str, Any], recorder: Recorder, *, periodic: bool) -> None:
        self._context, self._settings, self._recorder, self._periodic = context, settings, recorder, periodic
        self.step, self.seconds = self.first_step, 0.0
        if (saved := recorder.saved) is not None:
            context.loadCheckpoint(saved["checkpoint"].tobytes())
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])

    def start(self, x: Float[ndarray, "atoms 3"], *, seed: int) -> None:
        """Place the atoms, relax them, and draw velocities."""
        import openmm

        self._context.setPositions(x)
        state = self._context.getState(getEnergy=True, getForces=True)
        # OpenMM's minimiser never returns from NaN.
        if not np.isfinite(state.getPotentialEnergy()._value + state.getForces(asNumpy=True)._value.sum()):
            raise ValueError("x0: energy or forces are not finite; do two atoms sit on the same place?")
        if self.step < 0:
            openmm.LocalEnergyMinimizer.minimize(self._context)
        self._context.applyConstraints(1e-6)
        self._context.setVelocitiesToTemperature(self._settings["temperature"], seed)

    @property
    def first_step(self) -> int:
        """Where equilibration began."""
        return -int(self._settings["equilibration"])

    @property
    def ps_per_step(self) -> float:
        """Simulated time per step."""
        return float(self._settings["timestep"])

    def advance(self, limit: int | None) -> None:
        """Integrate to the next frame."""
        every = self._settings["save_every"]
        due = [self.step - self.step % every + every]
        due += [s for s in (0, limit) if s is not None and s > self.step]
        # Chunks short enough for progress and time limits of big systems.
        target = min([*due, self.step + 1000])
        self._context.getIntegrator().step(target - self.step)
        self.step = target
        if self.step > 0 and self.step % every == 0:
            self._record()

    def _record(self) -> None:
        state = self._context.getState(getEnergy=True, getPositions=True)
        energy = state.getPotentialEnergy()._value
        if not np.isfinite(energy):
            raise FloatingPointError(
                f"energy: not finite at step {self.step} (timestep {self._settings['timestep']} ps); take a shorter "
                "timestep, or constrain bonds to hydrogen"
            )
        box = {"box": state.getPeriodicBoxVectors(asNumpy=True)._value[None]} if self._periodic else {}
        temperature = self._settings["temperature"]
        self._recorder.append(
            state.getPositions(asNumpy=True)._value[None].astype(np.float32),
            log_p=np.array([-energy / kT(temperature)]),
            temperature=np.array([temperature], np.float32),
            time=np.array([self.step * self.ps_per_step]),
            trajectory=np.zeros(1, np.int32),
            energy=np.array([energy]),
            **{name: value.astype(np.float32) for name, value in box.items()},
        )

    def message(self) -> str:
        """What is going on."""
        if self.step < 0:
            return "equilibrating"
        return f"{self.step * self.ps_per_step / 1000:.2f} ns, {self._recorder.frames} frames"

    def checkpoint(self) -> None:
        """Make everything so far survive a kill."""
        state = {
            "checkpoint": np.frombuffer(self._context.createCheckpoint(), dtype=np.uint8),
            "step": np.array(self.step),
            "seconds": np.array(self.seconds),
        }
        self._recorder.checkpoint(state, results={"steps": self.step})
