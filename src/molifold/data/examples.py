"""Named systems that ship with the package. Files, their licences and sources: ``files/README.md``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from molifold.data.structure import structure
from molifold.data.system import System, from_force_field, from_prmtop
from molifold.molecule import Molecule

if TYPE_CHECKING:
    import openmm

Bonds = tuple[tuple[int, int], ...]

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
    system = EXAMPLES[name]()
    return replace(system, name=name, molecule=replace(system.molecule, name=name))


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
        description="Ace-Ala-Nme, AMBER ff96 + OBC1: the system of the Boltzmann-generator papers",
        reference="openmmtools.testsystems.AlanineDipeptideImplicit, without constraints",
    )


def _dipeptide_99sbildn() -> System:
    start = _alanine_dipeptide()
    return _peptide(start.molecule, start.x, description="Ace-Ala-Nme, AMBER99SB-ILDN + OBC2")


def _ace_a3_nme() -> System:
    return _peptide(*structure(FILES / "ace-a3-nme.pdb"), description="Ace-Ala3-Nme, AMBER99SB-ILDN + OBC2")


def _ace_a5_nme() -> System:
    return _peptide(*structure(FILES / "ace-a5-nme.pdb"), description="Ace-Ala5-Nme, AMBER99SB-ILDN + OBC2")


def _peptide(molecule: Molecule, x: ndarray, *, description: str) -> System:
    system = from_force_field(molecule, x, files=["amber99sbildn.xml", "amber99_obc.xml"])
    reference = (
        "K. Lindorff-Larsen et al., Proteins 78, 1950 (2010), doi:10.1002/prot.22711; A. Onufriev, D. Bashford, "
        "D. A. Case, Proteins 55, 383 (2004), doi:10.1002/prot.20033"
    )
    return replace(system, description=description, reference=reference)


def _butane() -> System:
    system = from_force_field(*structure(FILES / "butane.pdb"), files=[FILES / "butane-opls.xml"])
    return replace(
        system,
        build=lambda: _geometric_mixing(system.openmm_system()),
        description="n-butane, all atoms, OPLS-AA in vacuum",
        reference="W. L. Jorgensen, D. S. Maxwell, J. Tirado-Rives, J. Am. Chem. Soc. 118, 11225 (1996)",
    )


def _geometric_mixing(system: openmm.System) -> openmm.System:
    """OPLS takes the geometric mean of sigma where OpenMM takes the arithmetic: write every pair out."""
    import openmm

    (force,) = (f for f in system.getForces() if f.getName() == openmm.NonbondedForce().getName())
    n = system.getNumParticles()
    atoms = [[value._value for value in force.getParticleParameters(i)] for i in range(n)]
    excepted = {}
    for k in range(force.getNumExceptions()):
        i, j, charge, _, epsilon = force.getExceptionParameters(k)
        excepted[min(i, j), max(i, j)] = (charge._value, epsilon._value)
    for i, j in combinations(range(n), 2):
        (qi, si, ei), (qj, sj, ej) = atoms[i], atoms[j]
        charge, epsilon = excepted.get((i, j), (qi * qj, (ei * ej) ** 0.5))
        force.addException(i, j, charge, (si * sj) ** 0.5, epsilon, replace=True)
    return system


def _double_well() -> System:
    return _toy(
        "DoubleWell",
        [[[-2.529, 0.0]]],
        description="one particle in x^4/4 - 3 x^2 + x + y^2/2",
        reference="F. Noe, S. Olsson, J. Koehler, H. Wu, Science 365, eaaw1147 (2019), arXiv:1812.01729",
    )


def _particle_dimer() -> System:
    # Seven staggered rows of 5 and 6 particles fill the box of 6 x 6; the two at the centre are the dimer, atoms 0, 1.
    rows = [np.arange(5 + k % 2) - (4 + k % 2) / 2 for k in range(7)]
    points = np.array([[1.1 * a, 0.9 * (k - 3)] for k, row in enumerate(rows) for a in row])
    order = np.argsort(np.linalg.norm(points, axis=1), kind="stable")
    dimer, solvent = np.sort(order[:2]), np.sort(order[2:])
    return _toy(
        "ParticleDimer",
        points[[*dimer, *solvent]][None],
        bonds=((0, 1),),
        description="a bistable dimer (atoms 0 and 1) in a fluid of 36 soft discs",
        reference="F. Noe, S. Olsson, J. Koehler, H. Wu, Science 365, eaaw1147 (2019), arXiv:1812.01729",
    )


def _mueller_brown() -> System:
    return _toy(
        "MuellerBrown",
        [[[-0.558, 1.442]]],
        description="one particle on the Mueller-Brown surface, from its deepest minimum",
        reference="K. Mueller, L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608",
    )


def _dw4() -> System:
    return _toy(
        "DW4",
        [[[-2.0, -2.0], [2.0, -2.0], [2.0, 2.0], [-2.0, 2.0]]],
        description="four particles in the plane with a double well in every distance",
        reference="J. Koehler, L. Klein, F. Noe, ICML (2020), arXiv:2006.02425",
    )


def _lj13() -> System:
    golden = (1 + 5**0.5) / 2
    corners = [p for a in (-1, 1) for b in (-golden, golden) for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    shell = 0.96 * np.array(corners) / np.linalg.norm(corners[0])  # distances of the minimum are near 1
    return _toy(
        "LJ13",
        np.concatenate([np.zeros((1, 3)), shell])[None],
        description="thirteen Lennard-Jones particles, from the icosahedron",
        reference="J. Koehler, L. Klein, F. Noe, ICML (2020), arXiv:2006.02425",
    )


def _toy(kind: str, x: ArrayLike, *, description: str, reference: str, bonds: Bonds = ()) -> System:
    x = np.array(x, dtype=np.float64)
    molecule = Molecule(elements=("X",) * x.shape[1], bonds=bonds, dimensions=x.shape[2])
    return System("", molecule, x, kind=kind, description=description, reference=reference, temperature=1.0)


EXAMPLES: dict[str, Callable[[], System]] = {
    "alanine-dipeptide": _alanine_dipeptide,
    "alanine-dipeptide-99sbildn": _dipeptide_99sbildn,
    "ace-a3-nme": _ace_a3_nme,
    "ace-a5-nme": _ace_a5_nme,
    "butane": _butane,
    "double-well": _double_well,
    "particle-dimer": _particle_dimer,
    "mueller-brown": _mueller_brown,
    "dw4": _dw4,
    "lj13": _lj13,
}
