"""Replica exchange: microseconds of CPU per step and replica, against OpenMM's Reference platform, in one run.

    python benchmarks/replica_exchange.py

Ours is ``replica_exchange`` as users call it (8 temperatures, exchanges every 100 steps, frames at 300 K in memory);
the peer is OpenMM's LangevinMiddleIntegrator alone, without exchanges or output. One core, medians of interleaved
repeats, CPU time, so that other load counts little.
"""

from __future__ import annotations

import statistics
import time

import openmm
from measure import arguments, show

from molifold.data import example
from molifold.energies import MolecularMechanics
from molifold.simulation import minimize, replica_exchange, temperature_ladder

SYSTEMS = ("butane", "alanine-dipeptide-99sbildn", "alanine-dipeptide", "ace-a3-nme")


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def timings(name: str, *, copies: int, repeats: int, seconds: float) -> tuple[float, float]:
    """Medians, us per step and replica: ours, OpenMM's."""
    system = example(name)
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300)
    start = minimize(energy, system.x).x

    def ours(steps: int) -> None:
        replica_exchange(
            energy, start, molecule=system.molecule, temperatures=temperature_ladder(300, 1000, 8), seed=1, steps=steps,
            walkers_per_temperature=copies, save_temperatures=(300,), equilibration=0,
        )  # fmt: skip

    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
    context = openmm.Context(system.openmm_system(), integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start[0])
    walkers = 8 * copies
    ours(100)  # compile
    integrator.step(10)
    # As many steps as fill the time, so that set-up is a small part as it is in real runs.
    our_steps = max(100, int(seconds * 500 / cpu_seconds(lambda: ours(500))) // 100 * 100)
    their_steps = max(50, int(seconds * 50 / cpu_seconds(lambda: integrator.step(50))))
    pairs = [
        (
            cpu_seconds(lambda: ours(our_steps)) / our_steps / walkers,
            cpu_seconds(lambda: integrator.step(their_steps)) / their_steps,
        )
        for _ in range(repeats)
    ]
    return statistics.median(p[0] for p in pairs) * 1e6, statistics.median(p[1] for p in pairs) * 1e6


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--copies", nargs="+", type=int, default=[4], help="ladders of 8 walkers")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU per repeat")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in options.systems:
        for copies in options.copies:
            ours, theirs = timings(name, copies=copies, repeats=options.repeats, seconds=options.seconds)
            rows.append(
                {
                    "system": name,
                    "replicas": 8 * copies,
                    "molifold, us": ours,
                    "OpenMM Reference, us": theirs,
                    "times faster": theirs / ours,
                    "ns/day": round(86400 / ours),
                }
            )
    show("Langevin dynamics with replica exchange, per step of 1 fs and replica", rows, to=options.json)


if __name__ == "__main__":
    main()
