"""Langevin dynamics and temperature replica exchange of many walkers at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.interfaces import Energy
from molifold.molecule import Molecule
from molifold.simulation.engines import Forces
from molifold.simulation.production import Plan, simulate
from molifold.simulation.recording import Progress


def replica_exchange(
    energy: Energy | Forces,
    x0: Float[ndarray, "walkers atoms 3"],
    *,
    molecule: Molecule,
    temperatures: Sequence[float],
    seed: int,
    steps: int | None = None,
    max_seconds: float | None = None,
    walkers_per_temperature: int = 4,
    exchange_every: int = 100,
    save_every: int = 100,
    save_temperatures: Sequence[float] | None = None,
    equilibration: int = 50_000,
    timestep: float = 0.001,
    friction: float = 1.0,
    hydrogen_mass: float | None = None,
    to: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Ensemble:
    """Sample a molecule at several temperatures whose walkers swap places.

    ``walkers_per_temperature`` independent ladders run side by side: they fill the vector lanes of the batched engine
    (16 walkers at a time; 8 temperatures x 4 fit twice), and their spread gives error bars.

    Args:
        energy: ``MolecularMechanics`` (fast, no constraints), any ``Energy``, or ``x -> (U kJ/mol, F kJ/mol/nm)``.
        x0: start, nm: one conformation, or one per walker. Minimise it first.
        molecule: what the atoms are; its masses are used.
        temperatures: K, ascending (see ``temperature_ladder``).
        seed: of all randomness. The same seed gives the same frames on the same machine, whatever ``threads``.
        steps: production steps of every walker; None: until ``max_seconds``.
        max_seconds: stop after this wall time (everything counts, also what ran before a resume).
        walkers_per_temperature: number of ladders.
        exchange_every: steps between attempted swaps.
        save_every: steps between saved frames.
        save_temperatures: keep only frames at these (K); None keeps all.
        equilibration: unsaved steps before production; the first half at the highest temperature, so that walkers
            from one structure become independent, the second half with exchanges.
        timestep: ps. 0.001 is right for bonds to hydrogen without constraints.
        friction: 1/ps.
        hydrogen_mass: repartition mass from heavy atoms so that hydrogens weigh this much (dalton), for steps of up
            to 0.002 ps; masses do not enter the distribution of conformations, only kinetics.
        to: write a store there (readable while it grows); None keeps frames in memory.
        resume: continue what a killed or finished run left at ``to``, exactly; starts afresh if there is nothing.
        checkpoint_seconds: write the state for ``resume`` this often (the first time after a second).
        threads: blocks of 16 walkers run on this many threads (batched engine only).
        progress: called now and then with (fraction done, ns of all walkers per day, what is going on).

    Returns:
        Frames in order of time, ``log_p = -U/kT`` at each frame's own temperature, and columns ``temperature`` (K),
        ``time`` (ps of production), ``trajectory`` (walker; its ladder is ``trajectory // len(temperatures)``),
        ``energy`` (kJ/mol). ``meta["simulation"]`` holds the settings, ``acceptance`` of every pair of neighbours
        and the number of ``round_trips`` from the top to the bottom of the ladders.

    Raises:
        ValueError: if an argument does not fit, or ``resume`` finds other settings.
        FloatingPointError: if the dynamics explodes.

    >>> import numpy as np
    >>> particle = Molecule(elements=("X",), masses=(10.0,), name="particle")
    >>> spring = lambda x: (0.5 * 500 * (x**2).sum((1, 2)), -500 * x)
    >>> e = replica_exchange(spring, np.zeros((1, 1, 3)), molecule=particle, temperatures=(300, 360), steps=200, seed=1)
    >>> e
    Ensemble('particle': 16 frames x 1 atoms; log_p; columns temperature, time, trajectory, energy)
    """
    plan = Plan(
        temperatures=tuple(float(t) for t in temperatures),
        walkers_per_temperature=walkers_per_temperature,
        exchange_every=exchange_every,
        save_every=save_every,
        save_temperatures=None if save_temperatures is None else tuple(float(t) for t in save_temperatures),
        equilibration=equilibration,
        timestep=timestep,
        friction=friction,
        hydrogen_mass=hydrogen_mass,
        seed=seed,
    )
    return simulate(
        energy, x0, molecule=molecule, plan=plan, steps=steps, max_seconds=max_seconds, to=to, resume=resume,
        checkpoint_seconds=checkpoint_seconds, threads=threads, progress=progress,
    )  # fmt: skip


def langevin(
    energy: Energy | Forces,
    x0: Float[ndarray, "walkers atoms 3"],
    *,
    molecule: Molecule,
    temperature: float,
    seed: int,
    steps: int | None = None,
    max_seconds: float | None = None,
    walkers: int = 16,
    save_every: int = 100,
    equilibration: int = 10_000,
    timestep: float = 0.001,
    friction: float = 1.0,
    hydrogen_mass: float | None = None,
    to: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Ensemble:
    """Sample a molecule at one temperature with independent walkers.

    Arguments, result and errors as in ``replica_exchange``; ``trajectory`` is the walker.

    >>> import numpy as np
    >>> particle = Molecule(elements=("X",), masses=(10.0,), name="particle")
    >>> spring = lambda x: (0.5 * 500 * (x**2).sum((1, 2)), -500 * x)
    >>> len(langevin(spring, np.zeros((1, 1, 3)), molecule=particle, temperature=300, steps=500, walkers=4, seed=1))
    20
    """
    return replica_exchange(
        energy, x0, molecule=molecule, temperatures=(temperature,), seed=seed, steps=steps, max_seconds=max_seconds,
        walkers_per_temperature=walkers, exchange_every=save_every, save_every=save_every, equilibration=equilibration,
        timestep=timestep, friction=friction, hydrogen_mass=hydrogen_mass, to=to, resume=resume,
        checkpoint_seconds=checkpoint_seconds, threads=threads, progress=progress,
    )  # fmt: skip
