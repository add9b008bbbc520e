"""Force fields under test, by name: OpenMM Systems and conformations of one molecule."""

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmm
from openmm import app, unit

from molifold.data import example
from molifold.data.examples import FILES

PRMTOP = FILES / "alanine-dipeptide.prmtop"


@cache
def dipeptide():
    """Alanine dipeptide: topology and one conformation in nm, centred."""
    x = example("alanine-dipeptide").x[0]
    return app.AmberPrmtopFile(str(PRMTOP)).topology, x - x.mean(0)


def prmtop(**options):
    return app.AmberPrmtopFile(str(PRMTOP)).createSystem(**options)


def xml(*files, **options):
    return app.ForceField(*files).createSystem(dipeptide()[0], **options)


def torsions_by_hand():
    """Ryckaert-Bellemans and periodic torsions, some on the same atoms, one read from the other end, odd phases."""
    system = openmm.System()
    for _ in range(22):
        system.addParticle(12.0)
    rb, periodic = openmm.RBTorsionForce(), openmm.PeriodicTorsionForce()
    rb.addTorsion(4, 6, 8, 14, 1.0, -2.0, 3.0, 0.5, -0.7, 0.3)
    rb.addTorsion(6, 8, 14, 16, 9.3, 11.6, -2.2, -3.1, 26.2, -31.5)
    periodic.addTorsion(4, 6, 8, 14, 5, 0.7, 3.1)
    periodic.addTorsion(14, 8, 6, 4, 3, 0.2, 1.1)
    system.addForce(rb)
    system.addForce(periodic)
    return system


def charmm36_cmap():
    """The alanine map of CHARMM36, as OpenMM ships it, on phi and psi; the rest of that field takes custom forces."""
    file = Path(app.__file__).with_name("data") / "charmm36.xml"
    with file.open("rb") as text:
        values = next(e.text for _, e in ElementTree.iterparse(text) if e.tag == "Map")
    grid = np.array(values.split(), dtype=float)
    size = round(len(grid) ** 0.5)
    system, force = openmm.System(), openmm.CMAPTorsionForce()
    for _ in range(22):
        system.addParticle(12.0)
    force.addTorsion(force.addMap(size, grid), 4, 6, 8, 14, 6, 8, 14, 16)
    system.addForce(force)
    return system


CUTOFF = {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": 0.6}
SYSTEMS = {
    "vacuum": lambda: prmtop(),
    "amber99sbildn+obc": lambda: xml("amber99sbildn.xml", "amber99_obc.xml"),
    "ff96+obc1": lambda: prmtop(implicitSolvent=app.OBC1),
    "ff96+obc2+ace": lambda: prmtop(implicitSolvent=app.OBC2, gbsaModel="ACE"),
    "ff96+hct": lambda: prmtop(implicitSolvent=app.HCT),
    "ff96+gbn": lambda: prmtop(implicitSolvent=app.GBn),
    "gbn2+ace": lambda: xml("amber99sbildn.xml", "implicit/gbn2.xml"),
    "gbn2+salt+cutoff": lambda: prmtop(
        implicitSolvent=app.GBn2, implicitSolventSaltConc=0.1 * unit.molar, gbsaModel="ACE", **CUTOFF
    ),
    "obc+cutoff": lambda: xml("amber99sbildn.xml", "amber99_obc.xml", **CUTOFF),
    "ff19sb-cmap": lambda: xml("amber19/protein.ff19SB.xml"),
    "reaction-field+switch": lambda: prmtop(switchDistance=0.4, **CUTOFF),
    "charmm36-cmap": charmm36_cmap,
    "torsions": torsions_by_hand,
}


@cache
def system(name):
    """OpenMM System by name."""
    return SYSTEMS[name]()


@cache
def conformations(kind):
    """[8, 22, 3] nm: "300 K", "1000 K" (of ff96 + OBC1), or "clash": atoms thrown about, and a molecule of half its size."""
    x = dipeptide()[1]
    rng = np.random.default_rng(1)
    if kind == "clash":
        thrown = x + 0.08 * rng.standard_normal((4, *x.shape))
        return np.concatenate([thrown, 0.5 * x + 0.01 * rng.standard_normal((4, *x.shape))])
    integrator = openmm.LangevinMiddleIntegrator(float(kind.split()[0]), 5.0, 0.001)
    integrator.setRandomNumberSeed(7)
    context = openmm.Context(system("ff96+obc1"), integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    frames = []
    for _ in range(8):
        integrator.step(300)
        frames.append(context.getState(getPositions=True).getPositions(asNumpy=True)._value)
    return np.array(frames)
