"""Force fields: from a topology and OpenMM's XML files, an AMBER prmtop, or a serialised System."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molifold.molecule import Molecule

if TYPE_CHECKING:
    import openmm

#: Names of OpenMM's objects in ``openmm.app``.
CONSTRAINTS = {None: None, "hbonds": "HBonds", "allbonds": "AllBonds", "hangles": "HAngles"}
SOLVENTS = {None: None, "hct": "HCT", "obc1": "OBC1", "obc2": "OBC2", "gbn": "GBn", "gbn2": "GBn2"}
AMBER99SB_ILDN_OBC = ("amber99sbildn.xml", "amber99_obc.xml")


def load_system(
    source: Molecule | Any,
    *,
    forcefield: Sequence[str] = AMBER99SB_ILDN_OBC,
    implicit_solvent: str | None = None,
    constraints: str | None = None,
    cutoff: float | None = None,
    hydrogen_mass: float | None = None,
) -> openmm.System:
    """An OpenMM System without periodic boundaries.

    Args:
        source: a ``Molecule`` or an OpenMM topology, which ``forcefield`` turns into a System; or the path of a .pdb or
            .cif file (likewise), of an AMBER .prmtop or .parm7 file (with ``implicit_solvent``), or of a System
            serialised to .xml (read as it is).
        forcefield: OpenMM XML files, shipped with OpenMM or own paths; implicit solvent is one of them, such as
            "implicit/gbn2.xml".
        implicit_solvent: for prmtop only: None, "hct", "obc1", "obc2", "gbn" or "gbn2".
        constraints: None, "hbonds", "allbonds" or "hangles".
        cutoff: nm; None for all pairs.
        hydrogen_mass: dalton; None leaves masses as they are.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a name is unknown, the force field does not cover the molecule, or an option does not apply.

    >>> from openmm import app, Vec3
    >>> topology = app.Topology()
    >>> residue = topology.addResidue("CL", topology.addChain())
    >>> _ = topology.addAtom("CL", app.Element.getBySymbol("Cl"), residue)
    >>> load_system(topology, forcefield=["amber14/tip3p.xml"]).getNumParticles()
    1
    """
    from openmm import app, unit

    options = {
        "constraints": _named(CONSTRAINTS, constraints, "constraints"),
        "nonbondedMethod": app.NoCutoff if cutoff is None else app.CutoffNonPeriodic,
        "hydrogenMass": None if hydrogen_mass is None else hydrogen_mass * unit.dalton,
        "rigidWater": False,
        "removeCMMotion": False,
    } | ({} if cutoff is None else {"nonbondedCutoff": cutoff})
    solvent = _named(SOLVENTS, implicit_solvent, "implicit_solvent")
    path = _existing(source) if isinstance(source, str | Path) else None
    suffix = path.suffix.lower() if path else None
    if suffix in (".prmtop", ".parm7"):
        return app.AmberPrmtopFile(str(source)).createSystem(implicitSolvent=solvent, **options)
    if solvent is not None:
        raise ValueError(
            f"implicit_solvent: got {implicit_solvent!r} with a source that is no prmtop file; add the solvent's XML "
            f'file to forcefield instead, for example "implicit/{implicit_solvent}.xml"'
        )
    if path and suffix == ".xml":
        return _deserialise(path)
    return _from_topology(_topology(source, suffix), forcefield, options)


def _named(table: dict[str | None, str | None], key: str | None, argument: str) -> Any:
    from openmm import app

    if key not in table:
        raise ValueError(f"{argument}: got {key!r}, expected one of {', '.join(map(repr, table))}")
    name = table[key]
    return None if name is None else getattr(app, name)


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"source: no file {path}; expected .pdb, .cif, .prmtop, .parm7 or a System in .xml")
    return Path(path)


def _deserialise(path: Path) -> openmm.System:
    import openmm

    try:
        system = openmm.XmlSerializer.deserialize(path.read_text())
    except openmm.OpenMMException as error:
        raise ValueError(
            f"source: {path} is no serialised OpenMM object ({error}); use a force field through forcefield="
        ) from error
    if type(system) is not openmm.System:
        raise ValueError(f"source: {path} holds a {type(system).__name__}, expected a System")
    return system


def _topology(source: Any, suffix: str | None) -> Any:
    from openmm import app

    if suffix in (".pdb", ".cif"):
        return (app.PDBFile if suffix == ".pdb" else app.PDBxFile)(str(source)).topology
    if suffix is not None:
        raise ValueError(f"source: got a {suffix} file, expected .pdb, .cif, .prmtop, .parm7 or a System in .xml")
    return source.to_openmm() if isinstance(source, Molecule) else source


def _from_topology(topology: Any, forcefield: Sequence[str], options: dict[str, Any]) -> openmm.System:
    from openmm import app

    if isinstance(forcefield, str):
        raise ValueError(f"forcefield: got the single name {forcefield!r}, expected a list of them")
    try:
        loaded = app.ForceField(*forcefield)
    except ValueError as error:
        raise ValueError(f"forcefield: got {list(forcefield)}; {error}") from error
    try:
        return loaded.createSystem(topology, **options)
    except Exception as error:  # OpenMM raises bare Exceptions too
        raise ValueError(
            f"source: {', '.join(forcefield)} cannot describe it: {error} Are hydrogens or bonds missing, or is it not "
            "made of standard residues? Otherwise serialise a System with openmm.XmlSerializer and pass that file."
        ) from error
