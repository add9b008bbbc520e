"""molifold: learn, generate and look at the conformations of a molecule.

The names below need NumPy only; import the torch half by module, for example ``from molifold import flows``.
"""

from typing import TYPE_CHECKING, Any

from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.space import Block, Space

if TYPE_CHECKING:
    from molifold.workbench import view

__version__ = "0.1.0"

__all__ = ["Block", "Ensemble", "Molecule", "Space", "__version__", "view"]


def __getattr__(name: str) -> Any:
    # The workbench is imported when somebody looks at something, not with every `import molifold`.
    if name == "view":
        from molifold.workbench import view

        return view
    raise AttributeError(f"module 'molifold' has no attribute {name!r}")
