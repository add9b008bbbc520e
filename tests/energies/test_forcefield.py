"""Force fields from every source, and what a user is told when one does not work."""

import openmm
import pytest
from energy_systems import PRMTOP, dipeptide, prmtop, system
from openmm import app

from molifold import Molecule
from molifold.energies import MolecularMechanics, load_system


def energy(s):
    return MolecularMechanics.from_system(s, temperature=300.0).potential_and_forces(dipeptide()[1][None])[0][0]


def test_sources_agree(tmp_path):
    topology, x = dipeptide()
    pdb = tmp_path / "molecule.pdb"
    with pdb.open("w") as file:
        app.PDBFile.writeFile(topology, x * 10, file)
    expected = energy(system("amber99sbildn+obc"))
    assert energy(load_system(topology)) == expected
    assert energy(load_system(str(pdb))) == expected
    assert energy(load_system(Molecule.from_pdb(pdb))) == expected
    serialised = tmp_path / "system.xml"
    serialised.write_text(openmm.XmlSerializer.serialize(load_system(topology)))
    assert energy(load_system(serialised)) == expected


def test_prmtop_with_solvent():
    assert energy(load_system(PRMTOP, implicit_solvent="obc1")) == energy(prmtop(implicitSolvent=app.OBC1))
    assert energy(load_system(PRMTOP)) == energy(prmtop())


def test_options_reach_the_system():
    s = load_system(PRMTOP, constraints="hbonds", cutoff=0.7, hydrogen_mass=3.0)
    assert s.getNumConstraints() == 12
    assert s.getParticleMass(0)._value == pytest.approx(3.0)
    (force,) = (f for f in s.getForces() if isinstance(f, openmm.NonbondedForce))
    assert force.getCutoffDistance()._value == 0.7
    assert not any(isinstance(f, openmm.CMMotionRemover) for f in s.getForces())


def ethanol_like():
    topology = app.Topology()
    residue = topology.addResidue("ETH", topology.addChain())
    topology.addAtom("C1", app.Element.getBySymbol("C"), residue)
    return topology


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: load_system("nowhere.prmtop"), FileNotFoundError, "no file nowhere.prmtop"),
        (lambda: load_system(dipeptide()[0], implicit_solvent="obc1"), ValueError, "implicit/obc1.xml"),
        (lambda: load_system(PRMTOP, implicit_solvent="obc7"), ValueError, "obc7.*'gbn2'"),
        (lambda: load_system(PRMTOP, constraints="bonds"), ValueError, "constraints: got 'bonds', expected"),
        (lambda: load_system(dipeptide()[0], forcefield=["amber99.xml"]), ValueError, "forcefield: got .*amber99.xml"),
        (
            lambda: load_system(dipeptide()[0], forcefield="amber99sb.xml"),
            ValueError,
            "forcefield: got the single name",
        ),
        (lambda: load_system(ethanol_like()), ValueError, "cannot describe it.*XmlSerializer"),
    ],
)
def test_errors(call, error, says):
    with pytest.raises(error, match=rf"(?s){says}"):
        call()
