"""Label-free quality against DADApy's numbers; the doctor on cases whose trouble is known."""

import numpy as np
import pytest

from molifold import Ensemble
from molifold.analysis.integrity import integrity
from molifold.analysis.map_doctor import diagnose
from molifold.analysis.map_quality import information_imbalance, map_quality, neighbourhood_overlap, rival_maps
from molifold.analysis.map_reading import associations, committor_separation
from molifold.data import example


def hidden(n=6000, *, seed=0):
    """A slow two-state jump process and a fast one, seen through five features."""
    rng = np.random.default_rng(seed)
    slow = np.where(np.cumsum(rng.random(n) < 0.01) % 2, 1.0, -1.0) + 0.2 * rng.normal(size=n)
    fast = rng.normal(size=n)
    return slow, fast


@pytest.fixture(scope="module")
def known():
    x = np.random.default_rng(7).normal(size=(400, 5))
    x[:, 1] *= 0.1
    return x


def test_information_imbalance_is_dadapys(known):
    """DADApy 0.3.4: MetricComparisons.return_inf_imb_two_selected_coords([0, 1], all, k=1) and k=5."""
    a = known[:, :2]
    ours = [
        [information_imbalance(a, known, neighbours=k), information_imbalance(known, a, neighbours=k)] for k in (1, 5)
    ]
    assert np.allclose(ours, DADAPY, atol=2e-3)


DADAPY = [[0.7108, 0.2563], [0.7439, 0.3348]]


def test_overlap_is_dadapys(known):
    """DADApy 0.3.4: return_data_overlap(k=30)."""
    assert neighbourhood_overlap(known[:, :2], known, neighbours=30) == pytest.approx(OVERLAP, abs=1e-3)


OVERLAP = 0.1889


def test_a_map_that_keeps_everything_beats_one_that_keeps_nothing():
    x = np.random.default_rng(0).normal(size=(600, 2))
    whole, none = (
        map_quality(z, x) for z in (x @ np.array([[0, 1.0], [-1, 0]]), np.random.default_rng(1).normal(size=(600, 2)))
    )
    assert whole.imbalance.value < 0.01
    assert whole.overlap.value == 1
    assert whole.trustworthiness.value == 1
    assert none.imbalance.value == pytest.approx(1, abs=0.1)
    assert none.overlap.value == pytest.approx(none.chance, abs=0.02)


def test_rivals_find_what_they_are_made_for():
    """TICA the slow feature, PCA the large one."""
    slow, fast = hidden(2000)
    x = np.stack([slow, 10 * fast, 0.1 * np.random.default_rng(2).normal(size=len(slow))], axis=1)
    maps = rival_maps(x, dimensions=1, pairs=(np.arange(len(x) - 5), np.arange(5, len(x))))
    assert abs(np.corrcoef(maps["TICA"][:, 0], slow)[0, 1]) > 0.99
    assert abs(np.corrcoef(maps["PCA"][:, 0], fast)[0, 1]) > 0.99
    assert maps["MLP autoencoder"].shape == (len(x), 1)


def subjects(diagnosis, level="error"):
    return [f.subject for f in diagnosis.findings if f.level == level]


def test_a_healthy_map():
    slow, _ = hidden(20_000)
    found = diagnose(slow[:, None], sigma=np.full((len(slow), 1), 0.1), lag=10)
    assert [f.level for f in found.findings] == ["ok"]
    assert found.timescale == pytest.approx(-1 / np.log(1 - 2 * 0.01), rel=0.25)


def test_a_collapsed_vae():
    """q(z|x) is the prior for every frame: no information at all."""
    z = 1e-3 * np.random.default_rng(0).normal(size=(2000, 2))
    found = diagnose(z, sigma=np.ones_like(z))
    assert "collapse" in subjects(found)
    assert np.all(found.information < 0.01)
    assert any("free_bits" in f.remedy for f in found.findings)


def test_latents_that_stand_still():
    """Every frame at one place: collapse, and nothing can be said about time."""
    found = diagnose(np.full((2000, 2), 3.0), sigma=np.ones((2000, 2)), lag=5)
    assert subjects(found) == ["collapse"]
    assert np.isnan(found.eigenvalue)


def test_two_disconnected_trajectories():
    slow = np.concatenate([np.full(3000, -1.0), np.full(3000, 1.0)]) + 0.1 * np.random.default_rng(0).normal(size=6000)
    found = diagnose(slow[:, None], trajectory=np.repeat([0, 1], 3000), lag=10)
    assert subjects(found) == ["disconnected"]
    assert found.eigenvalue > 0.95
    assert found.crossings == 0


def test_a_duplicated_output():
    slow, _ = hidden()
    found = diagnose(np.stack([slow, 1 - 2 * slow], axis=1))
    assert subjects(found) == ["rank"]
    assert found.effective_rank == pytest.approx(1, abs=0.01)


def test_a_lag_that_is_too_long_or_too_short():
    slow, _ = hidden()
    z = slow[:, None]
    assert subjects(diagnose(z, lag=1500)) == ["lag too long"]
    smooth = np.convolve(np.random.default_rng(0).normal(size=8000), np.ones(800) / 800, mode="valid")[:, None]
    assert "lag too short" in subjects(diagnose(smooth, lag=1), "warning")


@pytest.fixture(scope="module")
def turning():
    """Alanine dipeptide with phi and psi turned at random: what the coordinates are is known."""
    from molifold.analysis import measure

    system = example("alanine-dipeptide")
    rng = np.random.default_rng(0)
    x = system.x + 0.02 * rng.normal(size=(600, system.molecule.n_atoms, 3))
    return measure(Ensemble(system.molecule, x), names=["phi", "psi"])


def test_associations_name_the_coordinate(turning):
    found = associations(
        np.stack([turning.columns["psi"], np.sin(turning.columns["phi"])], axis=1),
        turning,
        circular=np.array([True, False]),
    )
    assert found.strongest(0)[0][0] == "psi"
    assert found.strongest(1)[0][0] == "phi"
    assert found.strongest(0)[0][1] == pytest.approx(1, abs=1e-6)


def test_separation_of_a_committor_and_of_noise():
    """A random walk between two walls: its place is the committor; AUC by chance is 0.5."""
    rng = np.random.default_rng(0)
    place = np.zeros(20_000)
    for t in range(1, len(place)):
        place[t] = np.clip(place[t - 1] + rng.choice([-1, 1]), -10, 10)
    a, b, trajectory = place <= -10, place >= 10, np.repeat(np.arange(4), 5000)
    good = committor_separation(place[:, None] + 0.1 * rng.normal(size=(20_000, 1)), a, b, trajectory=trajectory)
    bad = committor_separation(rng.normal(size=(20_000, 1)), a, b, trajectory=trajectory)
    assert good.auc.value > 0.75
    assert abs(bad.auc.value - 0.5) < 0.05


def test_integrity_sees_each_fault():
    system = example("alanine-dipeptide")
    x = system.x + 0.002 * np.random.default_rng(0).normal(size=(500, system.molecule.n_atoms, 3))
    sound = Ensemble(system.molecule, x)
    assert integrity(sound, sound).whole.mean() > 0.9
    mirrored = integrity(Ensemble(system.molecule, x[:3] * np.array([1, 1, -1])), sound)
    assert (mirrored.inversions == 1).all()
    folded = x[:3].copy()
    folded[:, 0] = folded[:, -1] + 0.02
    assert (integrity(Ensemble(system.molecule, folded), sound).clashes > 0).all()
    stretched = integrity(Ensemble(system.molecule, 1.2 * x[:3]), sound)
    assert (stretched.bond_deviation > 3).all()
