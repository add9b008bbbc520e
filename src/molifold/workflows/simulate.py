"""From a name or a file to an ensemble by molecular dynamics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from molifold.data import System, example, examples, from_force_field, from_prmtop, from_xml, structure
from molifold.ensemble import Ensemble

#: AMBER99SB-ILDN with OBC2 implicit solvent, as OpenMM ships it.
FORCE_FIELD = ("amber99sbildn.xml", "amber99_obc.xml")

Method = Literal["replica-exchange", "langevin", "openmm"]


def find_system(
    what: str | None = None,
    *,
    sequence: str | None = None,
    alternate: str | None = None,
    force_field: Sequence[str] = FORCE_FIELD,
    prmtop: str | Path | None = None,
    solvent: str | None = "OBC1",
    openmm_xml: str | Path | None = None,
) -> System:
    """The system that a user means: a named example, a structure file, or a sequence.

    Args:
        what: name of an example, or a structure file (pdb, cif, ...), which gives the coordinates.
        sequence: one-letter amino-acid codes, capped with Ace and Nme, instead of ``what``.
        alternate: of a PDB or mmCIF file, which place to take of atoms that have several, see ``data.structure``.
        force_field: OpenMM XML files, shipped with OpenMM or paths.
        prmtop: AMBER topology, instead of ``force_field``.
        solvent: implicit solvent model for ``prmtop``: None, "HCT", "OBC1", "OBC2", "GBn" or "GBn2".
        openmm_xml: serialised OpenMM System, instead of ``force_field``.

    Raises:
        FileNotFoundError: if ``what`` is neither an example nor a file.
        ValueError: if both or neither of ``what`` and ``sequence`` are given, or no force field fits.

    >>> find_system("butane").molecule.formula
    'C4H10'
    """
    if (what is None) == (sequence is None):
        raise ValueError("what: expected either a system (example or file) or a sequence, not both and not neither")
    if what in examples():
        if alternate is not None:
            raise ValueError(f"alternate: got {alternate!r} with the example {what}, expected it with a file only")
        return example(str(what))
    if sequence is None and not Path(str(what)).is_file():
        raise FileNotFoundError(f"what: no file {what}, and no example of that name: {', '.join(examples())}")
    molecule, x = structure(what, sequence=sequence, alternate=alternate)
    if prmtop is not None and openmm_xml is not None:
        raise ValueError("openmm_xml: got prmtop as well, expected one of the two")
    if openmm_xml is not None:
        return from_xml(openmm_xml, molecule, x=x)
    if prmtop is not None:
        system = from_prmtop(prmtop, x, implicit_solvent=solvent)
        if system.molecule.elements != molecule.elements:
            raise ValueError(
                f"prmtop: {prmtop} has other atoms than {what}, or in another order; give its own topology"
            )
        return system
    return from_force_field(molecule, x, files=force_field)


def simulate(
    system: System,
    *,
    to: str | Path,
    method: Method = "replica-exchange",
    temperature: float | None = None,
    hottest: float | None = None,
    replicas: int = 8,
    walkers: int = 4,
    nanoseconds: float | None = None,
    seconds: float | None = None,
    timestep: float = 0.001,
    save_every: int = 100,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    progress: Callable[[float, float, str], None] | None = None,
) -> Ensemble:
    """Simulate a system from its minimised start structure on the batched engine, into a store.

    Args:
        system: what.
        to: the store; readable while it grows.
        method: "replica-exchange" crosses barriers by ``replicas`` temperatures from ``temperature`` to ``hottest`` (K)
            and keeps all of them; "langevin" runs at one; "openmm" uses OpenMM's own integrator and any force that it
            has, one walker, tens of times slower.
        temperature: K; None: the system's own (300 K, and 1 in the units of an analytic potential).
        hottest: top of the ladder; None: 10/3 of ``temperature``.
        walkers: independent copies of the ladder, or of the molecule.
        nanoseconds: of every walker; None: until ``seconds`` of wall time have passed.
        timestep: ps.
        save_every: steps between saved frames.
        seed, threads, resume, progress: see ``simulation.replica_exchange``.

    Raises:
        ValueError: if an argument does not fit, or neither ``nanoseconds`` nor ``seconds`` is given.
        FileExistsError: if ``to`` exists and ``resume`` is False.
    """
    from molifold import energies
    from molifold.simulation import langevin, minimize, openmm_run, replica_exchange, temperature_ladder

    temperature = system.temperature if temperature is None else temperature
    hottest = temperature * 10 / 3 if hottest is None else hottest
    common: dict[str, Any] = {
        "molecule": system.molecule, "seed": seed, "max_seconds": seconds, "save_every": save_every,
        "timestep": timestep, "steps": None if nanoseconds is None else round(1000 * nanoseconds / timestep), "to": to,
        "resume": resume, "progress": progress,
    }  # fmt: skip
    if method == "openmm":
        return openmm_run(system.openmm_system(), system.x, temperature=temperature, **common)
    if system.build is None:
        energy = getattr(energies, system.kind)()
    else:
        energy = energies.MolecularMechanics.from_system(system.openmm_system(), temperature=temperature)
    start = minimize(energy, system.x).x
    common["threads"] = threads
    if method == "langevin":
        return langevin(energy, start, temperature=temperature, walkers=walkers, **common)
    ladder = temperature_ladder(temperature, hottest, replicas)
    return replica_exchange(energy, start, temperatures=ladder, walkers_per_temperature=walkers, **common)
