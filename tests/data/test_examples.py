"""Named examples. References: published energies and torsions, OpenMM, the analytic energies of the package."""

from __future__ import annotations

import dataclasses

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from molifold import energies
from molifold.data import System, example, examples, from_force_field, from_prmtop, from_xml, structure
from molifold.data.examples import FILES
from molifold.geometry import distances, torsions
from molifold.molecule import Molecule
from molifold.topology import backbone_torsions

ANALYTIC = [n for n in examples() if example(n).build is None]
FORCE_FIELDS = [n for n in examples() if example(n).build is not None]


def energy(system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    return context.getState(getEnergy=True).getPotentialEnergy()._value


def minimum(system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    openmm.LocalEnergyMinimizer.minimize(context, 1e-4, 0)
    state = context.getState(getEnergy=True, getPositions=True)
    return state.getPotentialEnergy()._value, state.getPositions(asNumpy=True)._value


def test_names():
    assert set(examples()) >= {
        "alanine-dipeptide", "alanine-dipeptide-99sbildn", "ace-a3-nme", "ace-a5-nme", "butane",
        "double-well", "particle-dimer", "mueller-brown", "dw4", "lj13",
    }  # fmt: skip
    with pytest.raises(ValueError, match="name: got 'alanine', expected one of alanine-dipeptide, "):
        example("alanine")


@pytest.mark.parametrize("name", examples())
def test_every_example_is_complete(name):
    system = example(name)
    assert system.name == system.molecule.name == name
    assert system.x.shape == (1, system.molecule.n_atoms, system.molecule.dimensions)
    assert np.isfinite(system.x).all()
    assert system.description
    assert system.reference
    assert hasattr(energies, system.kind)
    assert name in repr(system)
    assert hash(system) == hash(dataclasses.replace(system))
    with pytest.raises(dataclasses.FrozenInstanceError):
        system.name = "other"


@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_nothing_but_forces(name):
    system = example(name)
    built = system.openmm_system()
    assert built.getNumParticles() == system.molecule.n_atoms
    assert built.getNumConstraints() == 0
    assert not any("CMMotion" in f.getName() for f in built.getForces())
    assert not built.usesPeriodicBoundaryConditions()
    masses = [built.getParticleMass(i)._value for i in range(built.getNumParticles())]
    assert masses == pytest.approx(system.molecule.masses, rel=1e-3)
    assert energy(built, system.x[0]) < 100


@pytest.mark.parametrize("name", ANALYTIC)
def test_analytic_systems_fit_their_energies(name):
    system = example(name)
    u = getattr(energies, system.kind)()
    x = torch.tensor(system.x, requires_grad=True)
    value = u(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert u.temperature == system.temperature
    assert torch.isfinite(value).all()
    assert gradient.abs().max() < 150  # no overlap
    if name in ("double-well", "mueller-brown"):
        assert gradient.abs().max() < 0.1  # a minimum
    with pytest.raises(
        ValueError, match=f"analytic potential has no OpenMM System; use molifold.energies.{system.kind}"
    ):
        system.openmm_system()


def test_shapes_of_the_clusters():
    lj13 = example("lj13").x
    pairs = np.array([(i, j) for i in range(13) for j in range(i)])
    r = np.sort(distances(lj13, pairs)[0])
    assert r[:12] == pytest.approx(0.96)  # centre to shell
    assert r[12:42] == pytest.approx(0.96 / np.sin(2 * np.pi / 5), rel=1e-6)  # the thirty edges of an icosahedron
    dimer = example("particle-dimer").x
    d = np.linalg.norm(dimer[0, :, None] - dimer[0], axis=-1) + 9 * np.eye(38)
    assert d.min() > 1.0
    assert np.abs(dimer).max() <= 3.0
    assert dimer[0, :2].ravel() == pytest.approx([-0.55, 0, 0.55, 0])


def test_alanine_dipeptide_is_the_one_of_the_literature():
    system = example("alanine-dipeptide")
    phi_psi = {k: torsions(system.x, v)[0, 0] for k, v in backbone_torsions(system.molecule).items()}
    assert np.degrees(np.abs([phi_psi["phi"], phi_psi["psi"]])) == pytest.approx([180, 180], abs=0.01)
    # openmmtools builds it from the same files: with OBC1, -138.97 kJ/mol at its crd coordinates.
    reference = app.AmberPrmtopFile(str(FILES / "alanine-dipeptide.prmtop")).createSystem(implicitSolvent=app.OBC1)
    x = app.AmberInpcrdFile(str(FILES / "alanine-dipeptide.crd")).getPositions(asNumpy=True)._value
    assert system.x[0] == pytest.approx(x, abs=1e-12)
    assert energy(system.openmm_system(), system.x[0]) == pytest.approx(energy(reference, x), abs=1e-9)


def test_butane_has_the_gauche_energy_of_opls():
    """0.8 kcal/mol above anti, at about 68 degrees: Jorgensen's OPLS-AA; experiment 0.67."""
    system = example("butane")
    carbons = np.array([[i for i, e in enumerate(system.molecule.elements) if e == "C"]])
    built = system.openmm_system()
    anti, x_anti = minimum(built, system.x[0])
    assert np.abs(torsions(x_anti[None], carbons))[0, 0] == pytest.approx(np.pi, abs=1e-3)
    molecule, _ = structure(FILES / "butane.pdb")
    turned = rotate_end(system.x[0], molecule, carbons[0], np.radians(-115))
    gauche, x_gauche = minimum(built, turned)
    assert np.degrees(np.abs(torsions(x_gauche[None], carbons)))[0, 0] == pytest.approx(68, abs=2)
    assert (gauche - anti) / 4.184 == pytest.approx(0.80, abs=0.03)


def rotate_end(x, molecule, carbons, angle):
    _, b, c, d = carbons
    axis = (x[c] - x[b]) / np.linalg.norm(x[c] - x[b])
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k  # Rodrigues
    moving = [i for i in range(len(x)) if i != c and molecule.hops[c, i] < molecule.hops[b, i]]
    out = x.copy()
    out[moving] = x[c] + (x[moving] - x[c]) @ rotation.T
    return out


def test_butane_mixes_sigma_geometrically():
    """Against a plain double loop over the published parameters."""
    system = example("butane")
    built = system.openmm_system()
    kept = {f.getName(): f for f in built.getForces()}
    for k, f in enumerate(kept.values()):
        f.setForceGroup(k)
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(system.x[0])
    group = 1 << kept["NonbondedForce"].getForceGroup()
    found = context.getState(getEnergy=True, groups=group).getPotentialEnergy()._value
    molecule, x = system.molecule, system.x[0]
    ends = {
        i
        for i in range(14)
        if molecule.elements[i] == "C" and sum(molecule.elements[j] == "C" for j in molecule.neighbors[i]) == 1
    }
    q = [0.06 if e == "H" else -0.18 if i in ends else -0.12 for i, e in enumerate(molecule.elements)]
    sigma, epsilon = ([{"H": h, "C": c}[e] for e in molecule.elements] for h, c in ((0.25, 0.35), (0.12552, 0.276144)))
    expected = 0.0
    for i in range(14):
        for j in range(i):
            if (hops := molecule.hops[i, j]) > 2:
                r = np.linalg.norm(x[i] - x[j])
                six = (np.sqrt(sigma[i] * sigma[j]) / r) ** 6
                pair = 4 * np.sqrt(epsilon[i] * epsilon[j]) * (six**2 - six) + 138.93545764 * q[i] * q[j] / r
                expected += pair * (0.5 if hops == 3 else 1.0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_own_systems(tmp_path):
    molecule, x = structure(sequence="G")
    system = from_force_field(molecule, x, files=["amber14-all.xml", "implicit/gbn2.xml"])
    assert system.description == "amber14-all + gbn2"
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system.openmm_system()))
    again = from_xml(tmp_path / "system.xml", molecule, x=x)
    assert energy(again.openmm_system(), x[0]) == pytest.approx(energy(system.openmm_system(), x[0]))
    vacuum = from_prmtop(FILES / "alanine-dipeptide.prmtop", example("alanine-dipeptide").x)
    assert vacuum.molecule == example("alanine-dipeptide").molecule
    assert energy(vacuum.openmm_system(), vacuum.x[0]) > energy(
        example("alanine-dipeptide").openmm_system(), vacuum.x[0]
    )


def test_mistakes_with_force_fields(tmp_path):
    glycine, x = structure(sequence="G")
    ethanol, y = structure(smiles="CCO")
    (tmp_path / "not.xml").write_text("<nothing/>")
    (tmp_path / "small.xml").write_text(openmm.XmlSerializer.serialize(openmm.System()))
    with pytest.raises(ValueError, match=r"files: got \['no-such.xml'\], expected OpenMM force field XML"):
        from_force_field(glycine, x, files=["no-such.xml"])
    with pytest.raises(ValueError, match=r"molecule: Molecule\('CCO'.*does not fit the force field.*No template"):
        from_force_field(ethanol, y, files=["amber14-all.xml"])
    with pytest.raises(ValueError, match="implicit_solvent: got 'obc', expected one of None, 'HCT'"):
        from_prmtop(FILES / "alanine-dipeptide.prmtop", x, implicit_solvent="obc")
    with pytest.raises(
        ValueError, match="alanine-dipeptide.prmtop has 22 atoms, but the conformation has 19; give the topology"
    ):
        from_prmtop(FILES / "alanine-dipeptide.prmtop", x)
    with pytest.raises(FileNotFoundError, match="no file nowhere.prmtop"):
        from_prmtop("nowhere.prmtop", x)
    with pytest.raises(ValueError, match="not.xml is not a serialised OpenMM System"):
        from_xml(tmp_path / "not.xml", glycine, x=x)
    with pytest.raises(ValueError, match="small.xml has 0 particles, expected the 19 of"):
        from_xml(tmp_path / "small.xml", glycine, x=x)
    with pytest.raises(ValueError, match="x: got shape"):
        System("wrong", Molecule(elements=("H",)), x)


def test_every_shipped_file_is_accounted_for():
    text = (FILES / "README.md").read_text()
    for file in FILES.iterdir():
        assert file.name == "README.md" or file.name in text, file
