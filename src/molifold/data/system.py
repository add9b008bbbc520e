"""System: a molecule with a start structure and the physics that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from numpy import ndarray

from molifold.molecule import Molecule

if TYPE_CHECKING:
    import openmm


@dataclass(frozen=True)
class System:
    """What can be simulated: a molecule, one start structure, and how its potential energy is made.

    Args:
        name: short name, as on the command line.
        molecule: atoms and bonds.
        x: [1, atoms, dimensions], nm; one conformation to start from.
        kind: name of the class in ``molifold.energies`` that evaluates it; "MolecularMechanics" for everything
            that has an OpenMM System.
        description: one line for people.
        reference: where parameters and structure come from.
        temperature: K, the one used in the literature; 1 for an analytic potential, in its own units.
        build: makes the OpenMM System; None for analytic potentials.

    Raises:
        ValueError: if the structure does not fit the molecule.

    >>> from molifold.data import example
    >>> example("butane").openmm_system().getNumParticles()
    14
    """

    name: str
    molecule: Molecule
    x: Float[ndarray, "1 atoms dimensions"] = field(repr=False, compare=False)
    kind: str = "MolecularMechanics"
    description: str = ""
    reference: str = ""
    temperature: float = 300.0
    build: Callable[[], openmm.System] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        expected = (1, self.molecule.n_atoms, self.molecule.dimensions)
        if self.x.shape != expected:
            raise ValueError(f"x: got shape {self.x.shape}, expected {expected} for {self.molecule!r}")

    def openmm_system(self) -> openmm.System:
        """A new OpenMM System with every force of this system, no constraints and no centre-of-mass remover.

        Raises:
            ValueError: if the potential is analytic.
        """
        if self.build is None:
            raise ValueError(
                f"{self.name}: an analytic potential has no OpenMM System; use molifold.energies.{self.kind}"
            )
        return self.build()

    def __repr__(self) -> str:
        return f"System({self.name!r}: {self.molecule!r}, {self.kind}; {self.description})"


def from_force_field(molecule: Molecule, x: Float[ndarray, "1 atoms 3"], *, files: Sequence[str | Path]) -> System:
    """System of a molecule whose residues OpenMM force field files know, in vacuum or implicit solvent.

    ``files`` are names that OpenMM ships (``"amber14-all.xml"``, ``"implicit/obc2.xml"``) or paths. No cutoff, no
    constraints. Templates are matched when this function is called, so a residue that the files do not know is
    reported now and not in the middle of a run.

    Raises:
        ValueError: if a file cannot be read, or no template of the force field fits a residue.

    >>> from molifold.data import structure
    >>> system = from_force_field(*structure(sequence="G"), files=["amber99sbildn.xml", "amber99_obc.xml"])
    >>> system.openmm_system().getNumParticles()
    19
    """
    from openmm import app

    try:
        force_field = app.ForceField(*map(str, files))
    except Exception as error:  # OpenMM raises bare Exceptions and the XML parser its own kind
        raise ValueError(f"files: got {list(map(str, files))}, expected OpenMM force field XML: {error}") from error
    topology = molecule.to_openmm()

    def build() -> openmm.System:
        return force_field.createSystem(
            topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False, removeCMMotion=False
        )

    try:
        build()
    except ValueError as error:
        raise ValueError(
            f"molecule: {molecule!r} does not fit the force field {list(map(str, files))}: {error}"
        ) from error
    described = " + ".join(Path(f).name.removesuffix(".xml") for f in files)
    return System(name=molecule.name, molecule=molecule, x=x, description=described, build=build)


def from_prmtop(path: str | Path, x: Float[ndarray, "1 atoms 3"], *, implicit_solvent: str | None = None) -> System:
    """System of an AMBER topology file.

    Args:
        path: prmtop file (AMBER 7 or later).
        x: one conformation, nm.
        implicit_solvent: None (vacuum), "HCT", "OBC1", "OBC2", "GBn" or "GBn2".

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the solvent model is unknown, or ``x`` is of another number of atoms.
    """
    from openmm import app

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {path}, expected an AMBER prmtop file")
    models = {None: None, "HCT": app.HCT, "OBC1": app.OBC1, "OBC2": app.OBC2, "GBn": app.GBn, "GBn2": app.GBn2}
    if implicit_solvent not in models:
        known = ", ".join(map(repr, models))
        raise ValueError(f"implicit_solvent: got {implicit_solvent!r}, expected one of {known}")
    prmtop = app.AmberPrmtopFile(str(path))
    if x.shape[1] != prmtop.topology.getNumAtoms():
        raise ValueError(
            f"path: {path} has {prmtop.topology.getNumAtoms()} atoms, but the conformation has {x.shape[1]}; give the "
            "topology that was made for this structure, with or without water as it is"
        )

    def build() -> openmm.System:
        return prmtop.createSystem(
            implicitSolvent=models[implicit_solvent], constraints=None, rigidWater=False, removeCMMotion=False
        )

    molecule = Molecule.from_openmm(prmtop.topology, name=Path(path).stem)
    described = f"{Path(path).name} + {implicit_solvent or 'vacuum'}"
    return System(name=molecule.name, molecule=molecule, x=x, description=described, build=build)


def from_xml(path: str | Path, molecule: Molecule, *, x: Float[ndarray, "1 atoms 3"]) -> System:
    """System that was written by ``openmm.XmlSerializer.serialize``.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a serialised System, or of another number of atoms.
    """
    import openmm

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {path}, expected a serialised OpenMM System")
    text = Path(path).read_text()
    try:
        particles = openmm.XmlSerializer.deserialize(text).getNumParticles()
    except (openmm.OpenMMException, ValueError, AttributeError) as error:
        raise ValueError(f"path: {path} is not a serialised OpenMM System: {error}") from error
    if particles != molecule.n_atoms:
        raise ValueError(f"path: {path} has {particles} particles, expected the {molecule.n_atoms} of {molecule!r}")

    def build() -> openmm.System:
        return openmm.XmlSerializer.deserialize(text)

    return System(name=molecule.name, molecule=molecule, x=x, description=Path(path).name, build=build)
