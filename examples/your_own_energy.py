"""A potential of your own in a few lines: simulated as it is, and checked against its exact average."""

from dataclasses import dataclass, replace

import numpy as np

from molifold import Molecule
from molifold.analysis import reweighted_mean
from molifold.simulation import langevin
from molifold.units import BOLTZMANN


@dataclass(frozen=True)
class Trap:
    """Particles in a harmonic trap of ``stiffness`` (kJ/mol/nm^2)."""

    stiffness: float = 500.0
    temperature: float = 300.0

    def __call__(self, x):
        return 0.5 * self.stiffness * x.square().sum((1, 2)) / (BOLTZMANN * self.temperature)

    def at(self, temperature):
        return replace(self, temperature=temperature)


argon = Molecule(elements=("Ar",), name="argon")
frames = langevin(Trap(), np.zeros((1, 1, 3)), molecule=argon, temperature=300.0, steps=4000, walkers=512, seed=1)
mean = reweighted_mean(frames.columns["energy"], None, trajectory=frames.columns["trajectory"])
print(f"<U> = {mean} kJ/mol; equipartition says {1.5 * BOLTZMANN * 300:.3f}")
