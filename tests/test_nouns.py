"""Units, geometry, spaces and ensembles. References: CODATA, closed forms, scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import constants
from scipy.spatial.transform import Rotation

from molifold.ensemble import Ensemble
from molifold.geometry import angles, distances, superpose, torsions, wrap
from molifold.molecule import Molecule
from molifold.space import Block, Space
from molifold.units import BOLTZMANN, ENERGY, LENGTH, energy_factor, kT, length_factor

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
HYDROGEN = Molecule(elements=("H", "H"), bonds=((0, 1),), name="hydrogen")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------------- units


def test_constants_are_those_of_codata():
    mole = constants.N_A / 1000  # J per particle to kJ/mol
    assert pytest.approx(constants.k * mole, rel=1e-12) == BOLTZMANN
    assert ENERGY["eV"] == pytest.approx(constants.e * mole, rel=1e-12)
    assert ENERGY["hartree"] == pytest.approx(constants.physical_constants["Hartree energy"][0] * mole, rel=1e-8)
    assert LENGTH["bohr"] == pytest.approx(constants.physical_constants["Bohr radius"][0] * 1e9, rel=1e-8)
    assert ENERGY["kcal/mol"] == 4.184


def test_thermal_energy():
    assert kT(298.15) == pytest.approx(2.479, abs=5e-4)  # the textbook's RT at 25 degrees
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature: got"):
            kT(wrong)


def test_unknown_units():
    with pytest.raises(ValueError, match="length unit: got 'A', expected one of nm, angstrom"):
        length_factor("A")
    with pytest.raises(ValueError, match="energy unit: got 'kT'"):
        energy_factor("kT")


# ---------------------------------------------------------------------------------------------------- geometry


def chain(bond, angle, torsion):
    """Four atoms with given internal coordinates: the first three in a plane, the last turned about the middle bond."""
    a = np.array([np.sin(angle), 0, np.cos(angle)]) * bond
    d = np.array([np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion), -np.cos(angle)]) * bond
    return np.array([[a, [0, 0, 0], [0, 0, bond], d + [0, 0, bond]]])


@pytest.mark.parametrize("torsion", [-3.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 2.0, np.pi])
@pytest.mark.parametrize("angle", [0.3, 1.2, 1.9, 3.0])
def test_internal_coordinates_of_a_known_chain(torsion, angle):
    x = chain(0.15, angle, torsion)
    assert distances(x, np.array([[0, 1], [1, 2], [2, 3]]))[0] == pytest.approx([0.15] * 3, abs=1e-15)
    assert angles(x, np.array([[0, 1, 2], [1, 2, 3]]))[0] == pytest.approx([angle] * 2, abs=1e-12)
    found = torsions(x, np.array([[0, 1, 2, 3], [3, 2, 1, 0]]))[0]
    assert np.cos(found - torsion) == pytest.approx(1, abs=1e-15)
    mirrored = torsions(x * [1, -1, 1], np.array([[0, 1, 2, 3]]))[0]
    assert np.cos(mirrored + torsion) == pytest.approx(1, abs=1e-15)


def test_internal_coordinates_do_not_move_with_the_molecule(rng):
    x = rng.normal(size=(20, 6, 3))
    moved = x @ Rotation.random(random_state=1).as_matrix().T + rng.normal(size=3)
    quadruples = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [5, 0, 3, 1]])
    assert torsions(moved, quadruples) == pytest.approx(torsions(x, quadruples), abs=1e-10)
    assert angles(moved, quadruples[:, :3]) == pytest.approx(angles(x, quadruples[:, :3]), abs=1e-10)


def test_angles_near_the_poles_keep_their_digits():
    """The arc cosine of the dot product has lost half of them."""
    for small in (1e-3, 1e-6, 1e-8):
        x = np.array([[[1.0, 0, 0], [0, 0, 0], [np.cos(small), np.sin(small), 0]]])
        assert angles(x, np.array([[0, 1, 2]]))[0, 0] == pytest.approx(small, rel=1e-9)


def test_superposition_is_scipys(rng):
    reference = rng.normal(size=(9, 3))
    x = rng.normal(size=(5, 9, 3))
    weights = rng.uniform(1, 16, 9)
    ours = superpose(x, reference, weights=weights)
    centre = (weights[:, None] * reference).sum(0) / weights.sum()
    for frame, moved in zip(x, ours, strict=True):
        here = (weights[:, None] * frame).sum(0) / weights.sum()
        rotation, _ = Rotation.align_vectors(reference - centre, frame - here, weights=weights)
        assert moved == pytest.approx(rotation.apply(frame - here) + centre, abs=1e-9)


def test_superposition_never_mirrors(rng):
    reference = rng.normal(size=(6, 3))
    mirror = (reference * [1, 1, -1])[None]
    moved = superpose(mirror, reference)
    volume = [np.linalg.det(v[1:4] - v[0]) for v in (mirror[0], moved[0])]
    assert volume[0] == pytest.approx(volume[1])
    assert not np.allclose(moved[0], reference, atol=0.1)


def test_wrap(rng):
    angle = rng.uniform(-20, 20, 100)
    wrapped = wrap(angle)
    assert ((wrapped >= -np.pi) & (wrapped < np.pi)).all()
    assert np.cos(wrapped - angle) == pytest.approx(1)
    assert wrap(np.array(np.pi)) == -np.pi


# ------------------------------------------------------------------------------------------------------ spaces


def test_space_knows_its_blocks():
    space = Space((Block("bonds", 3, "positive"), Block("torsions", 2, "circle")))
    assert (space.size, space.dof) == (5, 5)
    assert space.slice("torsions") == slice(3, 5)
    assert space.supports == ("positive",) * 3 + ("circle",) * 2
    assert Space(space.blocks, dof=4).dof == 4
    assert Space((Block("bonds", 3, "positive"), Block("torsions", 2, "circle"))) == space
    with pytest.raises(KeyError, match="expected one of bonds, torsions"):
        space.slice("angles")


# --------------------------------------------------------------------------------------------------- ensembles


@pytest.fixture
def water(rng):
    return Ensemble(
        WATER, rng.normal(size=(10, 3, 3)), log_p=rng.normal(size=10), log_q=rng.normal(size=10),
        columns={"time": np.arange(10.0), "box": rng.normal(size=(10, 2))}, meta={"from": "a test"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "index",
    [slice(2, 8, 3), slice(None, None, -1), [4, 4, 0], np.array([True, False] * 5), np.array([], dtype=int)],
    ids=str,
)
def test_slices_take_everything_along(water, index):
    part = water[index]
    assert np.array_equal(part.x, water.x[index])
    assert np.array_equal(part.log_w, water.log_w[index])
    for name in water.columns:
        assert np.array_equal(part.columns[name], water.columns[name][index])
    assert part.meta == water.meta
    assert len(part) == len(part.x)


def test_a_single_frame_stays_an_ensemble(water):
    with pytest.raises(TypeError, match=r"index: got the single integer 3, expected a slice"):
        water[3]


def test_parts_make_the_whole(water):
    again = Ensemble.concat([water[:3], water[3:4], water[4:]])
    assert np.array_equal(again.x, water.x)
    assert np.array_equal(again.log_w, water.log_w)
    assert all(np.array_equal(again.columns[k], water.columns[k]) for k in water.columns)


def test_concat_keeps_what_every_part_has(water):
    bare = Ensemble(WATER, water.x, log_q=water.log_q, columns={"time": water.columns["time"]})
    both = Ensemble.concat([water, bare])
    assert both.log_p is None
    assert len(both.log_q) == 20
    assert list(both.columns) == ["time"]
    with pytest.raises(ValueError, match="parts: got none"):
        Ensemble.concat([])
    with pytest.raises(ValueError, match="parts: got different molecules"):
        Ensemble.concat([water, Ensemble(HYDROGEN, np.zeros((1, 2, 3)))])


def test_assign_makes_a_copy_that_shares_coordinates(water):
    more = water.assign(phi=np.zeros(10), time=np.ones(10))
    assert more.x is water.x
    assert more.columns["time"].tolist() == [1.0] * 10
    assert water.columns["time"][3] == 3.0
    assert "phi" not in water.columns


def test_nothing_can_be_replaced(water):
    with pytest.raises(dataclasses.FrozenInstanceError):
        water.x = None
    with pytest.raises(TypeError):
        water.columns["time"] = None


def test_weights_are_differences_in_double_precision(water):
    single = dataclasses.replace(water, log_p=np.float32([1e4] * 10), log_q=np.float32([1e4 - 1] * 10))
    assert single.log_w.dtype == np.float64
    assert single.log_w.tolist() == [1.0] * 10
    for name in ("log_p", "log_q"):
        with pytest.raises(ValueError, match=f"{name}: missing, so these frames have no importance weights"):
            _ = dataclasses.replace(water, **{name: None}).log_w


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((10, 4, 3))}, r"x: got shape \(10, 4, 3\), expected \[frames, 3, 3\].*topology of another"),
        ({"x": np.zeros((3, 3))}, r"x: got shape \(3, 3\)"),
        ({"log_p": np.zeros(9)}, r"log_p: got 9 entries, expected one per frame \(10\)"),
        ({"columns": {"time": np.zeros(11)}}, "time: got 11 entries"),
    ],
)
def test_what_does_not_fit(water, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(water, **change)


def test_memory_maps_stay_memory_maps(water, tmp_path):
    np.save(tmp_path / "x.npy", water.x)
    mapped = Ensemble(WATER, np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert isinstance(mapped[2:5].x, np.memmap)


def test_store_round_trip(water, tmp_path):
    again = Ensemble.load(water.save(tmp_path / "water"))
    assert again.molecule == water.molecule
    assert again.x == pytest.approx(water.x, rel=1e-6)
    assert np.array_equal(again.log_w, water.log_w)


def test_toys_have_fewer_dimensions():
    particle = Molecule(elements=("X",), dimensions=2)
    assert len(Ensemble(particle, np.zeros((4, 1, 2)))) == 4
    with pytest.raises(ValueError, match=r"expected \[frames, 1, 2\]"):
        Ensemble(particle, np.zeros((4, 1, 3)))
