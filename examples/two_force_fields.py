"""The same molecule under two force fields: which one likes the left-handed helix? Replica exchange, a few seconds."""

from molifold import data
from molifold.analysis import alanine_basins, measure, population
from molifold.energies import MolecularMechanics
from molifold.simulation import minimize, replica_exchange, temperature_ladder

for name in ("alanine-dipeptide", "alanine-dipeptide-99sbildn"):
    system = data.example(name)
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300.0)
    frames = replica_exchange(
        energy, minimize(energy, system.x).x, molecule=system.molecule, temperatures=temperature_ladder(300, 800, 8),
        save_temperatures=[300.0], walkers_per_temperature=2, steps=20_000, equilibration=5_000, seed=1,
    )  # fmt: skip
    angles = measure(frames, names=["phi", "psi"]).columns
    for basin, inside in alanine_basins(angles["phi"], angles["psi"]).items():
        print(f"{name:27} {basin:8} {population(inside, trajectory=frames.columns['trajectory'])}")
