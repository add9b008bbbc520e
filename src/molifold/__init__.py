"""molifold: learn, generate and look at the conformations of a molecule.

The names below need NumPy only; import the torch half by module, for example ``from molifold import flows``.
"""

from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.space import Block, Space

__version__ = "0.1.0"

__all__ = ["Block", "Ensemble", "Molecule", "Space", "__version__"]
