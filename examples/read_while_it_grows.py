"""An ensemble store can be read while somebody writes it: here both happen in one script."""

import numpy as np

from molifold import Ensemble, Molecule
from molifold.store import Writer

water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
rng = np.random.default_rng(0)

with Writer("water.ens", water, columns={"time": "float64"}, meta={"source": "an example"}) as writer:
    for block in range(3):
        writer.append(rng.normal(size=(100, 3, 3)), time=100.0 * block + np.arange(100))
        writer.flush()
        seen = Ensemble.load("water.ens")  # memory maps: opening costs nothing, whatever the size
        print(f"{len(seen)} frames so far, the last at {seen.columns['time'][-1]:.0f} ps")
