"""The loop behind ``langevin`` and ``replica_exchange``: advance, exchange, save, checkpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold import store
from molifold.ensemble import Ensemble
from molifold.interfaces import Energy
from molifold.molecule import Molecule
from molifold.simulation.engines import Engine, Forces, GenericEngine, forces_of
from molifold.simulation.exchange import Ladders
from molifold.units import BOLTZMANN

#: ``progress(fraction done, ns of all walkers per day, what is going on)``.
Progress = Callable[[float, float, str], None]

STATE = "state.npz"
COLUMNS = {"temperature": "float32", "time": "float64", "trajectory": "int32", "energy": "float64"}


@dataclass(frozen=True)
class Plan:
    """What determines every frame of a simulation (arguments of ``replica_exchange``); a resumed run must agree."""

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


def repartition_hydrogen_mass(molecule: Molecule, *, hydrogen_mass: float) -> Float[ndarray, " atoms"]:
    """Masses (dalton) with hydrogens made heavier at the cost of the atom that they are bonded to.

    Raises:
        ValueError: if a heavy atom would end up lighter than its hydrogens.

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
    if steps is None and max_seconds is None:
        raise ValueError("steps: got None for steps and for max_seconds, expected at least one of them")
    if resume and to is None:
        raise ValueError("resume: got True without a path, expected to= the store to continue")
    ladders = Ladders(plan.temperatures, copies=plan.walkers_per_temperature, seed=plan.seed)
    engine = _engine(energy, _starts(x0, molecule, plan.walkers), molecule=molecule, plan=plan, threads=threads)
    saved = _read_state(Path(to) / STATE, plan) if resume and to is not None else None
    with _recorder(to, molecule, plan, resume=resume) as recorder:
        run = _Run(engine, ladders, plan, recorder, molecule)
        if saved is not None:
            run.restore(saved)
        else:
            recorder.truncate(0)
        run.until(
            steps=steps, max_seconds=max_seconds, began=began, checkpoint_seconds=checkpoint_seconds,
            progress=progress or (lambda fraction, speed, message: None),
        )  # fmt: skip
        run.checkpoint()
    return recorder.ensemble() if isinstance(recorder, _Memory) else store.load(recorder.path)


class _Run:
    """A simulation in progress. ``step`` counts production steps; equilibration has negative ones."""

    def __init__(
        self, engine: Engine, ladders: Ladders, plan: Plan, recorder: store.Writer | _Memory, molecule: Molecule
    ) -> None:
        self.engine, self.ladders, self.plan, self.recorder = engine, ladders, plan, recorder
        self.step = -plan.equilibration
        self.seconds = 0.0
        kept = plan.temperatures if plan.save_temperatures is None else plan.save_temperatures
        self._kept = np.isin(ladders.temperatures, kept)

    def until(
        self, *, steps: int | None, max_seconds: float | None, began: float, checkpoint_seconds: float,
        progress: Progress,
    ) -> None:  # fmt: skip
        """Go on to ``steps``, or until the time is up."""
        spent_before, first = self.seconds, self.step
        started = last_checkpoint = last_progress = time.monotonic()
        while True:
            now = time.monotonic()
            self.seconds = spent_before + now - began
            if now - last_progress > 0.5:
                speed = (self.step - first) * self.plan.timestep * self.plan.walkers * 86.4 / (now - started)
                progress(self._fraction(steps, max_seconds), speed, self._message())
                last_progress = now
            if now - last_checkpoint >= checkpoint_seconds:
                self.checkpoint()
                last_checkpoint = now
            if (steps is not None and self.step >= steps) or (max_seconds is not None and self.seconds >= max_seconds):
                break
            event = self._next_event()
            self._advance_to(event if steps is None else min(event, steps))
        progress(1.0, (self.step - first) * self.plan.timestep * self.plan.walkers * 86.4 / (now - started), "done")

    def _next_event(self) -> int:
        every = [n - self.step % n + self.step for n in (self.plan.exchange_every, self.plan.save_every)]
        return min([*every, *(s for s in (self._cooling, 0) if s > self.step)])

    @property
    def _cooling(self) -> int:
        """The step at which walkers leave the highest temperature for their own."""
        return -(self.plan.equilibration // 2)

    def _advance_to(self, step: int) -> None:
        plan, ladders = self.plan, self.ladders
        hot = np.full(plan.walkers, max(plan.temperatures))
        temperature = ladders.temperature if self.step >= self._cooling else hot
        self.engine.advance(step - self.step, kT=BOLTZMANN * temperature)
        self.step = step
        x, u = self.engine.observe()
        if not np.isfinite(u).all():
            raise FloatingPointError(
                f"energy: walkers {np.flatnonzero(~np.isfinite(u)).tolist()} exploded at step {step} (timestep "
                f"{plan.timestep} ps); minimise x0 first, or take a shorter timestep"
            )
        if step > self._cooling and step % plan.exchange_every == 0:
            self.engine.scale_velocities(ladders.attempt(u))
        if step == 0:
            ladders.forget_counts()
        if step > 0 and step % plan.save_every == 0:
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

    def _fraction(self, steps: int | None, max_seconds: float | None) -> float:
        done = [0.0]
        if steps is not None:
            done.append((self.step + self.plan.equilibration) / (steps + self.plan.equilibration))
        if max_seconds is not None:
            done.append(self.seconds / max_seconds)
        return min(max(done), 1.0)

    def _message(self) -> str:
        if self.step < self._cooling:
            return f"decorrelating walkers at {max(self.plan.temperatures):.0f} K"
        if self.step < 0:
            return "equilibrating"
        acceptance = self.ladders.acceptance
        swaps = f", swaps accepted {acceptance.min():.0%}" if acceptance.size and self.ladders.attempted.min() else ""
        return f"{self.step * self.plan.timestep / 1000:.2f} ns per walker, {self.recorder.frames} frames{swaps}"

    def checkpoint(self) -> None:
        """Make everything so far survive a kill."""
        acceptance = [round(float(a), 4) if np.isfinite(a) else None for a in self.ladders.acceptance]
        self.recorder.annotate(
            simulation={
                **asdict(self.plan),
                "steps": self.step,
                "acceptance": acceptance,
                "round_trips": int(self.ladders.round_trips.sum()),
            }
        )
        self.recorder.flush()
        if isinstance(self.recorder, _Memory):
            return
        state = {f"engine_{k}": v for k, v in self.engine.state().items()}
        state |= {f"ladders_{k}": v for k, v in self.ladders.state().items()}
        state |= {"step": np.array(self.step), "frames": np.array(self.recorder.frames)}
        state |= {"seconds": np.array(self.seconds), "plan": np.array(_as_json(self.plan))}
        part = self.recorder.path / f"{STATE}.part"
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **state)
        os.replace(part, self.recorder.path / STATE)

    def restore(self, saved: Mapping[str, ndarray]) -> None:
        """Go back to a checkpoint, frames included."""
        self.engine.restore({k.removeprefix("engine_"): v for k, v in saved.items() if k.startswith("engine_")})
        self.ladders.restore({k.removeprefix("ladders_"): v for k, v in saved.items() if k.startswith("ladders_")})
        self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
        self.recorder.truncate(int(saved["frames"]))


class _Memory:
    """Keeps frames as ``store.Writer`` does, but in memory."""

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.frames = 0
        self._parts: list[dict[str, ndarray]] = []
        self._meta: dict[str, Any] = {}

    def append(self, x: ndarray, **arrays: ndarray) -> None:
        self._parts.append({"x": x, **arrays})
        self.frames += len(x)

    def annotate(self, **meta: Any) -> None:
        self._meta |= meta

    def flush(self) -> None:
        pass

    def truncate(self, frames: int) -> None:
        pass

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ensemble(self) -> Ensemble:
        atoms, dimensions = self.molecule.n_atoms, self.molecule.dimensions
        empty: dict[str, ndarray] = {name: np.empty(0, kind) for name, kind in {"log_p": "f8", **COLUMNS}.items()}
        parts = self._parts or [{"x": np.empty((0, atoms, dimensions), np.float32), **empty}]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Ensemble(
            self.molecule, arrays.pop("x"), log_p=arrays.pop("log_p"), columns=arrays, meta=self._meta
        )  # fmt: skip


def _recorder(to: str | Path | None, molecule: Molecule, plan: Plan, *, resume: bool) -> store.Writer | _Memory:
    return _Memory(molecule) if to is None else store.Writer(to, molecule, columns=COLUMNS, resume=resume)


def _engine(energy: Energy | Forces, x: ndarray, *, molecule: Molecule, plan: Plan, threads: int) -> Engine:
    hydrogen = plan.hydrogen_mass
    masses = (
        np.array(molecule.masses) if hydrogen is None else repartition_hydrogen_mass(molecule, hydrogen_mass=hydrogen)
    )
    kT = np.full(plan.walkers, BOLTZMANN * max(plan.temperatures))
    return GenericEngine(
        forces_of(energy), x, masses=masses, timestep=plan.timestep, friction=plan.friction, kT=kT, seed=plan.seed
    )


def _starts(x0: Float[ndarray, "walkers atoms 3"], molecule: Molecule, walkers: int) -> ndarray:
    x = np.asarray(x0, dtype=np.float64)
    x = x[None] if x.ndim == 2 else x
    expected = (molecule.n_atoms, molecule.dimensions)
    if x.ndim != 3 or x.shape[1:] != expected or len(x) not in (1, walkers):
        raise ValueError(f"x0: got shape {x.shape}, expected [1 or {walkers} walkers, {expected[0]}, {expected[1]}]")
    return np.broadcast_to(x, (walkers, *expected))


def _read_state(path: Path, plan: Plan) -> dict[str, ndarray] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        saved = {name: file[name] for name in file.files}
    theirs, ours = json.loads(str(saved["plan"])), json.loads(_as_json(plan))
    changed = {k: (theirs.get(k), ours[k]) for k in ours if theirs.get(k) != ours[k]}
    if changed:
        told = "; ".join(f"{k} was {was}, is {now}" for k, (was, now) in changed.items())
        raise ValueError(
            f"resume: {path.parent} was made with other settings ({told}); repeat them, or start elsewhere"
        )
    return saved


def _as_json(plan: Plan) -> str:
    return json.dumps(asdict(plan))
