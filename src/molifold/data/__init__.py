"""Where molecules and conformations come from: files, arrays, stores and named examples."""

from molifold.data.examples import example, examples
from molifold.data.export import write
from molifold.data.sources import convert, load
from molifold.data.structure import structure
from molifold.data.system import System, from_force_field, from_prmtop, from_xml

__all__ = [
    "System",
    "convert",
    "example",
    "examples",
    "from_force_field",
    "from_prmtop",
    "from_xml",
    "load",
    "structure",
    "write",
]
