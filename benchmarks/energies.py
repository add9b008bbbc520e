"""Energies and forces: the batched engine against OpenMM Reference, in one run on one core.

Process CPU time per conformation of a batch of 1024, from 1000 K Langevin dynamics; medians, rivals take turns.
"loop" is ``setPositions`` and ``getState`` of OpenMM with nothing around it. OpenMM interprets the formulas of the
ff96 + OBC1 system (a CustomGBForce) and is slow there; the other solvated systems use its native GBSAOBCForce: judge
by those. Errors are the largest against Reference over 64 conformations.

    python benchmarks/energies.py --json energies.json
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import numpy as np
import openmm
import torch
from measure import arguments, cpu_seconds, show

from molifold.data import example
from molifold.energies import MolecularMechanics, OpenMMEnergy

SYSTEMS = ("alanine-dipeptide-99sbildn", "alanine-dipeptide", "ace-a3-nme", "ace-a5-nme", "butane")
BATCH = 1024
#: The loop costs the same per conformation however many there are.
FRAMES_OF_LOOP = 128
LOOP = "OpenMM Reference loop"


def conformations(system: openmm.System, x: np.ndarray) -> np.ndarray:
    """[batch, atoms, 3] nm, every 20 fs at 1000 K."""
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.LangevinMiddleIntegrator(1000.0, 5.0, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, platform)
    context.setPositions(x)
    frames = []
    for _ in range(BATCH // 4):
        integrator.step(20)
        frames.append(context.getState(getPositions=True).getPositions(asNumpy=True)._value)
    return np.tile(frames, (4, 1, 1))


def rivals(system: openmm.System, x: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is compared: calls that evaluate the batch (the loop: a part of it) once."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def loop() -> None:
        for frame in x[:FRAMES_OF_LOOP]:
            context.setPositions(frame)
            state = context.getState(getEnergy=True, getForces=True)
            state.getPotentialEnergy()
            state.getForces(asNumpy=True)

    def gradient(energy: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> Callable[[], object]:
        positions = torch.tensor(x, dtype=dtype, requires_grad=True)
        return lambda: torch.autograd.grad(energy(positions).sum(), positions)

    found: dict[str, Callable[[], object]] = {LOOP: loop}
    for precision in ("float32", "float64"):
        ours = MolecularMechanics.from_system(system, temperature=300.0, precision=precision)
        cast = x.astype(precision)
        found[precision] = lambda ours=ours, cast=cast: ours.potential_and_forces(cast)
        found[f"{precision}, autograd"] = gradient(ours, getattr(torch, precision))
        if precision == "float32":
            found["float32, torch path"] = gradient(ours._smooth, torch.float32)
    return found


def errors(system: openmm.System, x: np.ndarray, *, precision: str) -> dict[str, float]:
    """Largest errors of energies (kJ/mol) and of forces (of the force norm)."""
    u, f = OpenMMEnergy(system, temperature=300.0).potential_and_forces(x[:64])
    v, g = MolecularMechanics.from_system(system, temperature=300.0, precision=precision).potential_and_forces(x[:64])
    force = np.linalg.norm((g - f).reshape(len(f), -1), axis=1) / np.linalg.norm(f.reshape(len(f), -1), axis=1)
    return {"energy error": float(np.abs(v - u).max()), "force error": float(force.max())}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name in SYSTEMS:
        built = example(name)
        system = built.openmm_system()
        x = conformations(system, built.x[0])
        seconds = cpu_seconds(rivals(system, x), repeats=options.repeats)
        micro = {k: 1e6 * v / (FRAMES_OF_LOOP if k == LOOP else BATCH) for k, v in seconds.items()}
        for rival, value in micro.items():
            wrong = {} if rival == LOOP else errors(system, x, precision=rival.split(",")[0])
            row = {"system": name, "atoms": x.shape[1], "engine": rival, "us": value}
            row |= {"times faster": micro[LOOP] / value}
            rows.append(row | {k: wrong.get(k, 0.0) for k in ("energy error", "force error")})
    show(f"Energies and forces, batch {BATCH}, one core", rows, to=options.json)


if __name__ == "__main__":
    main()
