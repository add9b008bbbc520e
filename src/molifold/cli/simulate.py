"""molifold simulate: molecular dynamics into an ensemble store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from molifold.cli.progress import Display


class Method(StrEnum):
    """How to simulate."""

    replica_exchange = "replica-exchange"
    langevin = "langevin"
    openmm = "openmm"


def command(
    system: Annotated[
        str | None, typer.Argument(help="A named example, or a structure file (pdb, cif, ...) with hydrogens.")
    ] = None,
    *,
    to: Annotated[Path, typer.Option(help="The ensemble store to write.")],
    sequence: Annotated[str | None, typer.Option(help="Amino acids instead of SYSTEM, capped: AAA.")] = None,
    alternate: Annotated[
        str | None, typer.Option(help="Of atoms at several places in the file: A, B, ...  [default: the first of each]")
    ] = None,
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM XML file; repeat for several.  [default: AMBER99SB-ILDN + OBC]")
    ] = None,
    prmtop: Annotated[Path | None, typer.Option(help="AMBER topology instead of a force field.")] = None,
    solvent: Annotated[str, typer.Option(help="With --prmtop: none, HCT, OBC1, OBC2, GBn, GBn2.")] = "OBC1",
    openmm_xml: Annotated[Path | None, typer.Option(help="Serialised OpenMM System instead of a force field.")] = None,
    method: Annotated[Method, typer.Option(help="Replica exchange keeps all its temperatures.")] = (
        Method.replica_exchange
    ),
    temperature: Annotated[
        float | None, typer.Option(help="K; the coldest one of a ladder.  [default: 300; 1 for analytic systems]")
    ] = None,
    hottest: Annotated[float | None, typer.Option(help="K; top of the ladder.  [default: 10/3 of the coldest]")] = None,
    replicas: Annotated[int, typer.Option(help="Temperatures in the ladder.")] = 8,
    walkers: Annotated[int, typer.Option(help="Copies of the ladder, or of the molecule.")] = 4,
    nanoseconds: Annotated[float | None, typer.Option(help="Length of every walker.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this wall time.")] = None,
    timestep: Annotated[float, typer.Option(help="ps.")] = 0.001,
    save_every: Annotated[int, typer.Option(help="Steps between saved frames.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; the frames do not depend on it.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed or finished run stopped.")] = False,
) -> None:
    """Simulate a molecule: replica exchange or Langevin dynamics, into a store that can be read while it grows.

    For example:

        molifold simulate alanine-dipeptide --to data.ens --minutes 4

        molifold simulate peptide.pdb --to data.ens --nanoseconds 5 --threads 2

        molifold simulate --sequence AAA --to a3.ens --method langevin --minutes 1

        molifold simulate alanine-dipeptide --to data.ens --minutes 8 --resume
    """
    from molifold.workflows.simulate import FORCE_FIELD, find_system, simulate

    if nanoseconds is None and minutes is None:
        raise typer.BadParameter("say how long: --nanoseconds of every walker, or --minutes of wall time")
    if to.exists() and not resume:
        raise typer.BadParameter(f"{to} exists; add --resume to go on with it, or choose another name for --to")
    found = find_system(
        system,
        sequence=sequence,
        alternate=alternate,
        force_field=force_field or FORCE_FIELD,
        prmtop=prmtop,
        solvent=None if solvent == "none" else solvent,
        openmm_xml=openmm_xml,
    )
    with Display() as display:
        display.say(repr(found))
        bar = display.phase("simulate")
        frames = simulate(
            found,
            to=to,
            method=method.value,
            temperature=temperature,
            hottest=hottest,
            replicas=replicas,
            walkers=walkers,
            nanoseconds=nanoseconds,
            seconds=None if minutes is None else 60 * minutes,
            timestep=timestep,
            save_every=save_every,
            seed=seed,
            threads=threads,
            resume=resume,
            progress=lambda done, speed, doing: bar(done, 1.0, doing=doing, **{"ns/day": speed}),
        )
    typer.echo(f"{to}: {frames!r}")
