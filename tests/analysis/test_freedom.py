"""Degrees of freedom against mdtraj and against geometry written out."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest

from molifold import Molecule
from molifold.analysis import degrees_of_freedom, hydrogen_bonds
from molifold.analysis.freedom import pucker, radius_of_gyration, values
from molifold.data import example


@pytest.fixture(scope="module")
def dipeptide():
    system = example("alanine-dipeptide")
    x = system.x + 0.02 * np.random.default_rng(0).normal(size=(130, 22, 3))
    return system.molecule, x.astype(np.float32)


@pytest.mark.parametrize("compiled", [True, False])
def test_bonds_angles_torsions_and_radii_are_those_of_mdtraj(dipeptide, compiled, monkeypatch):
    monkeypatch.setattr("molifold.analysis.freedom.PIECE", 5000)  # some 50 frames at a time
    molecule, x = dipeptide
    known = degrees_of_freedom(molecule, distances=[(0, 21)])
    found = values(x, known, molecule=molecule, compiled=compiled)
    trajectory = mdtraj.Trajectory(x, molecule.to_mdtraj())
    measures = {
        "bond": mdtraj.compute_distances, "distance": mdtraj.compute_distances, "angle": mdtraj.compute_angles,
        "hydrogen bond": mdtraj.compute_distances, "torsion": mdtraj.compute_dihedrals,
        "improper": mdtraj.compute_dihedrals,
    }  # fmt: skip
    options = {"periodic": False, "opt": False}
    for kind, measure in measures.items():
        rows = [i for i, f in enumerate(known) if f.kind == kind]
        assert rows, kind
        theirs = measure(trajectory, np.array([known[i].atoms for i in rows]), **options)
        apart = np.angle(np.exp(1j * (found[rows].T - theirs)))
        assert np.abs(apart).max() < 2e-5, kind
    (row,) = [i for i, f in enumerate(known) if f.kind == "radius of gyration"]
    # mdtraj takes the unweighted centre whatever the masses, so the two agree for equal ones.
    ours = radius_of_gyration(x, masses=np.ones(22))
    np.testing.assert_allclose(ours, mdtraj.compute_rg(trajectory), rtol=1e-5)
    w = np.array(molecule.masses) / sum(molecule.masses)
    pairs = 0.5 * np.einsum("a,b,fab->f", w, w, ((x[:, :, None] - x[:, None]) ** 2).sum(-1))  # Lagrange
    np.testing.assert_allclose(found[row], np.sqrt(pairs), rtol=1e-5)


def test_a_mirror_image_turns_the_sign_of_the_chiral_improper_and_of_no_length(dipeptide):
    molecule, x = dipeptide
    known = degrees_of_freedom(molecule)
    a, b = (values(part, known, molecule=molecule) for part in (x, x * np.float32([-1, 1, 1])))
    chiral = [i for i, f in enumerate(known) if f.component == "chiral"]
    assert [known[i].name for i in chiral] == ["improper_ALA2_CA_N_CB_C"]
    np.testing.assert_allclose(a[chiral], -b[chiral], atol=1e-5)
    lengths = [i for i, f in enumerate(known) if f.support in ("positive", "interval")]
    np.testing.assert_allclose(a[lengths], b[lengths], atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_angles_stay_accurate_where_arccos_does_not(compiled):
    molecule = Molecule(elements=("C",) * 3, bonds=((0, 1), (1, 2)))
    (angle,) = degrees_of_freedom(molecule, kinds=["angle"])
    for bent in (1e-7, 1e-3, np.pi / 2, np.pi - 1e-7):
        x = np.array([[[1.0, 0, 0], [0, 0, 0], [np.cos(bent), np.sin(bent), 0]]])
        assert values(x, [angle], molecule=molecule, compiled=compiled)[0, 0] == pytest.approx(bent, rel=1e-9)


def test_a_chair_and_its_inverse_have_opposite_height_and_a_boat_has_none():
    turn = np.pi / 3 * np.arange(6)
    flat = np.stack([0.15 * np.cos(turn), 0.15 * np.sin(turn)], 1)
    up = np.array([1, -1, 1, -1, 1, -1.0])
    chair = np.concatenate([flat, 0.02 * up[:, None]], 1)
    boat = np.concatenate([flat, 0.02 * np.array([1, 0, 0, 1, 0, 0.0])[:, None]], 1)
    found = pucker(np.stack([chair, chair * [1, 1, -1], boat]))
    np.testing.assert_allclose(found["height3"][:2], [-0.02 * np.sqrt(6), 0.02 * np.sqrt(6)], rtol=1e-9)
    np.testing.assert_allclose(found["amplitude2"][:2], 0, atol=1e-12)
    assert abs(found["height3"][2]) < 1e-12
    assert found["amplitude2"][2] > 0.02


def test_hydrogen_bonds_are_those_of_baker_and_hubbard_in_mdtraj(dipeptide):
    system = example("ace-a5-nme")
    x = np.random.default_rng(1).normal(0, 0.03, (200, system.molecule.n_atoms, 3)) + system.x
    x = x.astype(np.float32)
    from molifold import Ensemble

    ours = {name: share.mean() for name, share in hydrogen_bonds(Ensemble(system.molecule, x)).items() if share.any()}
    trajectory = mdtraj.Trajectory(x, system.molecule.to_mdtraj())
    theirs = mdtraj.baker_hubbard(trajectory, freq=0.0, periodic=False, exclude_water=False)
    pairs = {(int(h), int(a)) for _, h, a in theirs}
    known = {f.name: f.atoms for f in degrees_of_freedom(system.molecule, kinds=["hydrogen bond"])}
    assert {known[name] for name in ours} == {p for p in pairs if p in set(known.values())}


def test_names_are_unique_and_unknown_kinds_are_named():
    molecule = Molecule.from_sequence("AFWPA")
    names = [f.name for f in degrees_of_freedom(molecule)]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="kinds: got \\['bonds'\\]"):
        degrees_of_freedom(molecule, kinds=["bonds"])
    with pytest.raises(ValueError, match="distances: got"):
        degrees_of_freedom(molecule, distances=[(0, 999)])
