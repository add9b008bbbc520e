"""What ``langevin`` and ``replica_exchange`` run: walkers that advance, exchange temperatures and are saved."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.energies import MolecularMechanics
from molifold.ensemble import Ensemble
from molifold.interfaces import Energy
from molifold.molecule import Molecule
from molifold.simulation.compiled import CompiledEngine
from molifold.simulation.engines import Engine, Forces, GenericEngine, forces_of
from molifold.simulation.exchange import Ladders
from molifold.simulation.recording import Progress, Recorder, check_limits, drive
from molifold.units import BOLTZMANN


@dataclass(frozen=True)
class Plan:
    """What determines every frame of a simulation (arguments of ``replica_exchange``)."""

    temperatures: tuple[float, ...]
    walkers_per_temperature: int
    exchange_every: int
    save_every: int
    save_temperatures: tuple[float, ...] | None
    equilibration: int
    timestep: float
    friction: float
    hydrogen_mass: float | None
    seed: int

    def __post_init__(self) -> None:
        t = self.temperatures
        if not t or min(t) <= 0 or list(t) != sorted(set(t)):
            raise ValueError(f"temperatures: got {t}, expected ascending positive kelvin; see temperature_ladder")
        if unknown := set(self.save_temperatures or ()) - set(t):
            raise ValueError(f"save_temperatures: got {sorted(unknown)}, expected some of the temperatures {t}")
        for name in ("walkers_per_temperature", "exchange_every", "save_every", "timestep", "friction"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a positive number")
        if self.equilibration < 0:
            raise ValueError(f"equilibration: got {self.equilibration}, expected a number of steps, 0 or more")

    @property
    def walkers(self) -> int:
        """How many walkers there are in all."""
        return len(self.temperatures) * self.walkers_per_temperature

    @property
    def cooling_step(self) -> int:
        """The step (of equilibration) at which walkers leave the highest temperature for their own."""
        return -(self.equilibration // 2)


def repartition_hydrogen_mass(molecule: Molecule, *, hydrogen_mass: float) -> Float[ndarray, " atoms"]:
    """Masses (dalton) with hydrogens made heavier at the cost of the atom that they are bonded to.

    Raises:
        ValueError: if a heavy atom would end up lighter than a hydrogen.

    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)))
    >>> repartition_hydrogen_mass(water, hydrogen_mass=3.0).round(3)
    array([ 3. , 12.015, 3. ])
    """
    masses = np.array(molecule.masses)
    for atom, element in enumerate(molecule.elements):
        heavy = [n for n in molecule.neighbors[atom] if molecule.elements[n] != "H"]
        if element == "H" and heavy:
            masses[heavy[0]] -= hydrogen_mass - masses[atom]
            masses[atom] = hydrogen_mass
    if masses.min() < min(hydrogen_mass, 1.0):
        raise ValueError(f"hydrogen_mass: got {hydrogen_mass}, too much for {molecule!r}; 3 or less is usual")
    return masses


def simulate(
    energy: Energy | Forces,
    x0: Float[ndarray, "walkers atoms 3"],
    *,
    molecule: Molecule,
    plan: Plan,
    steps: int | None,
    max_seconds: float | None,
    to: str | Path | None,
    resume: bool,
    checkpoint_seconds: float,
    threads: int,
    progress: Progress | None,
) -> Ensemble:
    """Run ``plan``; see ``replica_exchange`` for the arguments."""
    began = time.monotonic()
    check_limits(steps=steps, max_seconds=max_seconds, to=to, resume=resume)
    if progress:
        progress(0.0, 0.0, "preparing")  # the first run on a machine compiles for some seconds
    engine = _engine(energy, _starts(x0, molecule, plan.walkers), molecule=molecule, plan=plan, threads=threads)
    recorder = Recorder(to, molecule, settings=asdict(plan), resume=resume)
    try:
        drive(
            _Run(engine, plan, recorder), began=began, steps=steps, max_seconds=max_seconds,
            checkpoint_seconds=checkpoint_seconds, progress=progress,
        )  # fmt: skip
    finally:
        recorder.close()
    return recorder.ensemble()


class _Run:
    """A ``recording.Job``: an engine, the temperatures of its walkers, and where frames go."""

    def __init__(self, engine: Engine, plan: Plan, recorder: Recorder) -> None:
        self.engine, self.plan, self.recorder = engine, plan, recorder
        self.ladders = Ladders(plan.temperatures, copies=plan.walkers_per_temperature, seed=plan.seed)
        self.step, self.seconds = self.first_step, 0.0
        kept = plan.temperatures if plan.save_temperatures is None else plan.save_temperatures
        self._kept = np.isin(self.ladders.temperatures, kept)
        if (saved := recorder.saved) is not None:
            for part, name in ((engine, "engine_"), (self.ladders, "ladders_")):
                part.restore({k.removeprefix(name): v for k, v in saved.items() if k.startswith(name)})
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])

    @property
    def first_step(self) -> int:
        """Where equilibration began."""
        return -self.plan.equilibration

    @property
    def ps_per_step(self) -> float:
        """Simulated time of all walkers per step."""
        return self.plan.timestep * self.plan.walkers

    def advance(self, limit: int | None) -> None:
        """Integrate to the next exchange, frame or change of phase, and do what is due there."""
        plan, ladders = self.plan, self.ladders
        due = [self.step - self.step % n + n for n in (plan.exchange_every, plan.save_every)]
        phases = [s for s in (plan.cooling_step, 0, limit) if s is not None and s > self.step]
        target = min(due + phases)
        hot = np.full(plan.walkers, max(plan.temperatures))
        temperature = hot if self.step < plan.cooling_step else ladders.temperature
        self.engine.advance(target - self.step, kT=BOLTZMANN * temperature)
        self.step = target
        x, u = self.engine.observe()
        if not np.isfinite(u).all():
            raise FloatingPointError(
                f"energy: walkers {np.flatnonzero(~np.isfinite(u)).tolist()} exploded at step {self.step} (timestep "
                f"{plan.timestep} ps); minimise x0 first, or take a shorter timestep"
            )
        if self.step > plan.cooling_step and self.step % plan.exchange_every == 0:
            self.engine.scale_velocities(ladders.attempt(u))
        if self.step == 0:
            ladders.forget_counts()
        if self.step > 0 and self.step % plan.save_every == 0:
            self._record(x, u)

    def _record(self, x: Float[ndarray, "walkers atoms 3"], u: Float[ndarray, " walkers"]) -> None:
        keep = np.flatnonzero(self._kept[self.ladders.level])
        temperature = self.ladders.temperature[keep]
        self.recorder.append(
            x[keep].astype(np.float32),
            log_p=-u[keep] / (BOLTZMANN * temperature),
            temperature=temperature.astype(np.float32),
            time=np.full(len(keep), self.step * self.plan.timestep),
            trajectory=keep.astype(np.int32),
            energy=u[keep],
        )

    def message(self) -> str:
        """What is going on."""
        if self.step < self.plan.cooling_step:
            return f"decorrelating walkers at {max(self.plan.temperatures):.0f} K"
        if self.step < 0:
            return "equilibrating"
        tried = self.ladders.attempted.size and self.ladders.attempted.min()
        swaps = f", swaps accepted {self.ladders.acceptance.min():.0%}" if tried else ""
        return f"{self.step * self.plan.timestep / 1000:.2f} ns per walker, {self.recorder.frames} frames{swaps}"

    def checkpoint(self) -> None:
        """Make everything so far survive a kill."""
        state = {f"engine_{k}": v for k, v in self.engine.state().items()}
        state |= {f"ladders_{k}": v for k, v in self.ladders.state().items()}
        state |= {"step": np.array(self.step), "seconds": np.array(self.seconds)}
        acceptance = [round(float(a), 4) if np.isfinite(a) else None for a in self.ladders.acceptance]
        results = {"acceptance": acceptance, "round_trips": int(self.ladders.round_trips.sum()), "steps": self.step}
        self.recorder.checkpoint(state, results=results)


def _engine(energy: Energy | Forces, x: ndarray, *, molecule: Molecule, plan: Plan, threads: int) -> Engine:
    masses = np.array(molecule.masses)
    if plan.hydrogen_mass is not None:
        masses = repartition_hydrogen_mass(molecule, hydrogen_mass=plan.hydrogen_mass)
    options: dict[str, Any] = {
        "masses": masses,
        "timestep": plan.timestep,
        "friction": plan.friction,
        "kT": np.full(plan.walkers, BOLTZMANN * max(plan.temperatures)),
        "seed": plan.seed,
    }
    if isinstance(energy, MolecularMechanics):
        _require_bond_terms(energy, molecule)
        if energy.precision == "float32":
            return CompiledEngine(energy.parameters(), x, threads=threads, **options)
    return GenericEngine(forces_of(energy), x, **options)


def _require_bond_terms(energy: MolecularMechanics, molecule: Molecule) -> None:
    terms = {(min(i, j), max(i, j)) for i, j in energy.table.bond_atoms.tolist()}
    loose = [bond for bond in molecule.bonds if bond not in terms]
    if loose:
        raise ValueError(
            f"energy: {len(loose)} bonds of {molecule!r}, such as {loose[0]}, have no potential; was the System made "
            "with constraints? Make it with constraints=None, rigidWater=False, or use simulation.openmm_run"
        )


def _starts(x0: Float[ndarray, "walkers atoms 3"], molecule: Molecule, walkers: int) -> ndarray:
    x = np.asarray(x0, dtype=np.float64)
    x = x[None] if x.ndim == 2 else x
    expected = (molecule.n_atoms, molecule.dimensions)
    if x.ndim != 3 or x.shape[1:] != expected or len(x) not in (1, walkers):
        raise ValueError(f"x0: got shape {x.shape}, expected [1 or {walkers} walkers, {expected[0]}, {expected[1]}]")
    return np.broadcast_to(x, (walkers, *expected))
