"""Named systems that ship with the package. Files, their licences and sources: ``files/README.md``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from molifold.data.system import System, from_prmtop
from molifold.molecule import Molecule

FILES = Path(__file__).parent / "files"


def example(name: str) -> System:
    """A named system, with everything needed to simulate it.

    Raises:
        ValueError: if no example has that name.

    >>> example("alanine-dipeptide").molecule
    Molecule('alanine-dipeptide': 22 atoms C6H12N2O2, 21 bonds)
    """
    if name not in EXAMPLES:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(EXAMPLES)}")
    return replace(EXAMPLES[name](), name=name)


def examples() -> tuple[str, ...]:
    """Names that ``example`` knows.

    >>> "alanine-dipeptide" in examples()
    True
    """
    return tuple(EXAMPLES)


def _alanine_dipeptide() -> System:
    lines = (FILES / "alanine-dipeptide.crd").read_text().splitlines()[2:]
    x = np.array(" ".join(lines).split(), dtype=np.float64).reshape(1, -1, 3) / 10
    return replace(
        from_prmtop(FILES / "alanine-dipeptide.prmtop", x, implicit_solvent="OBC1"),
        description="Ace-Ala-Nme, AMBER ff96 + OBC1, no constraints: the system of the Boltzmann-generator papers",
        reference="openmmtools.testsystems.AlanineDipeptideImplicit (Chodera lab, MIT); ff96: Kollman 1996",
    )


EXAMPLES: dict[str, Callable[[], System]] = {
    "alanine-dipeptide": _alanine_dipeptide,
}
