"""Comparison of ensembles whose truth is known: broken generators are named, and nothing is said of good ones."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import dipeptide
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from molifold import Ensemble, Molecule
from molifold.analysis import compare_ensembles, verdict
from molifold.analysis.columns import CHUNK

QUICK = {"samples": 120, "repeats": 4}


@pytest.fixture(scope="module")
def reference():
    return dipeptide.reference(6000)


@pytest.fixture(scope="module")
def good():
    return dipeptide.draws(3000)


def judged(generated, reference, **options):
    found = compare_ensembles(generated, reference, **QUICK, **options)
    return found, verdict(found)


def test_of_a_perfect_generator_nothing_is_said(good, reference):
    found, said = judged(good, reference)
    assert said.status == "good", str(said)
    assert found.mode_coverage.value == 1
    assert found.copies.value == 0
    assert 0.5 < found.maps[0].divergence.ratio < 1.5
    shares = sorted(basin.reference.value for basin in found.maps[0].basins)
    np.testing.assert_allclose(shares, [0.1, 0.45, 0.45], atol=0.02)


def test_a_lost_basin_is_named_although_the_effective_sample_size_is_blind(reference):
    found, said = judged(dipeptide.draws(3000, shares=(0.5, 0.5, 0.0)), reference)
    assert found.ess.fraction == pytest.approx(1)
    assert said.status == "bad"
    first = said.findings[0]
    assert first.title.startswith("lost basin at phi 5")  # 57 degrees
    assert "certain" in first.title
    assert found.mode_coverage.value == pytest.approx(2 / 3)
    assert [f.freedom.name for f in found.relevant[:2]] == ["phi", "psi"]
    assert re.fullmatch(r"0 instead of 9\.\d+ % near 5\d degrees", found.relevant[0].words)


def test_a_wrong_width_names_the_torsion_and_both_widths(reference):
    found, said = judged(dipeptide.draws(3000, omega_kappa=20.0), reference)
    worst = found.relevant[0]
    assert worst.freedom.name == "omega_NME3"
    assert worst.words == "wider: standard deviation 13 instead of 8 near 180 degrees"  # 1 / sqrt(20), 1 / sqrt(60)
    assert said.findings[0].title == f"torsion omega_NME3 {worst.words} (certain)"
    assert sum("torsion" in f.title for f in said.findings) == 1, "torsions about the same bond repeat it"


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_swapped_chirality_is_named_before_what_follows_from_it(share, good, reference):
    mirrored = np.arange(len(good)) % 10 < 10 * share
    x = np.where(mirrored[:, None, None], good.x * [-1, 1, 1], good.x)
    found, said = judged(replace(good, x=x), reference)
    assert said.findings[0].title == "swapped chirality at ALA2_CA (certain)"
    assert found.hands[0][1].value == pytest.approx(share)


@pytest.mark.parametrize(("scale", "offset"), [(1.15, 0.0), (1.0, 4.0)])
def test_a_shifted_energy_scale_is_named(scale, offset, good, reference):
    log_p = scale * good.log_p + offset
    found, said = judged(replace(good, log_p=log_p, log_q=log_p), reference)
    assert said.findings[0].title == "shifted energy scale (certain)"
    assert found.energies.shift.value == pytest.approx(33 * (scale - 1) - offset, abs=0.5)
    assert found.energies.spread.value == pytest.approx(scale, abs=0.06)


def test_leaked_training_frames_are_found_however_they_are_turned(good, reference):
    x = good.x.copy()
    stolen = np.random.default_rng(0).choice(len(reference), 60, replace=False)
    turns = Rotation.random(60, random_state=0).as_matrix()
    x[::50] = (np.einsum("fij,faj->fai", turns, reference.x[stolen]) + 0.7).astype(np.float32)
    found, said = judged(replace(good, x=x), reference)
    assert found.copies.value == pytest.approx(0.02, abs=0.002)
    assert said.findings[0].title == "copies of the reference (certain)"
    assert found.copies.low > 0.01


def test_repeated_frames_are_found(good, reference):
    _, said = judged(good[np.arange(len(good)) % 1500], reference)
    assert "repeated frames" in [f.title for f in said.findings]


def test_weights_count(reference):
    """Draws with a third of the frames in every basin, reweighted to the truth, agree with it; raw, they do not."""
    x, _, _, u = dipeptide.frames(4000, 5, shares=(1 / 3, 1 / 3, 1 / 3))
    phi, psi = (np.degrees(v) for v in _angles(x))
    right = phi > 0
    log_w = np.log(np.where(right, 0.1, np.where(psi > 60, 0.45, 0.45)) * 3)
    draws = Ensemble(dipeptide.system().molecule, x, log_p=-u, log_q=-u - log_w)
    found, said = judged(draws, reference)
    assert found.generated.weighted
    assert 0.7 < found.ess.fraction < 0.9
    assert said.status == "good", str(said)
    assert judged(draws, reference, weighted=False)[1].status == "bad"


def _angles(x):
    from molifold import geometry
    from molifold.analysis import named_torsions

    known = named_torsions(dipeptide.system().molecule)
    return geometry.torsions(x, np.array([known["phi"], known["psi"]])).T


@pytest.fixture(scope="module")
def large():
    """More than one chunk a side, trajectories interleaved, a few frames of the draws broken."""
    n = CHUNK + 2000
    butane = Molecule.from_smiles("CCCC")
    rng = np.random.default_rng(0)
    base = rng.normal(size=(1, 14, 3))
    a, b = (base + 0.1 * rng.normal(size=(n, 14, 3)) for _ in range(2))
    a[7] = np.nan
    log_p = rng.normal(size=n)
    draws = Ensemble(butane, a.astype(np.float32), log_p=log_p, log_q=log_p - 0.3 * rng.normal(size=n))
    columns = {"trajectory": np.arange(n) % 5}
    return draws, Ensemble(butane, b.astype(np.float32), log_p=rng.normal(size=n), columns=columns)


def numbers(found):
    return np.array([v for row in found.rows() for v in asdict(row).values() if isinstance(v, float)])


def test_a_stream_from_disk_and_several_processes_give_the_same_numbers(large, tmp_path):
    from dask.distributed import Client, LocalCluster

    in_memory = compare_ensembles(*large, **QUICK)
    stored = [Ensemble.load(e.save(tmp_path / name)) for e, name in zip(large, "ab", strict=True)]
    assert isinstance(stored[0].x, np.memmap)
    np.testing.assert_allclose(numbers(compare_ensembles(*stored, **QUICK)), numbers(in_memory), rtol=1e-10)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        np.testing.assert_allclose(
            numbers(compare_ensembles(*stored, **QUICK, client=client)), numbers(in_memory), rtol=1e-10
        )
    assert in_memory.generated.broken == 1


def test_streamed_histograms_are_those_of_numpy(large):
    generated, reference = large
    found = compare_ensembles(*large, **QUICK)
    w = np.exp(generated.log_w - generated.log_w.max())
    w[7] = 0
    for f in found.freedoms[::9]:
        if f.freedom.kind != "bond":
            continue
        i, j = f.freedom.atoms
        for histogram, e, weights in ((f.generated, generated, w), (f.reference, reference, np.ones(len(w)))):
            x = np.nan_to_num(e.x.astype(float))
            r = np.linalg.norm(x[:, i] - x[:, j], axis=1)
            counts = np.histogram(r, histogram.edges, weights=weights)[0]
            np.testing.assert_allclose(
                histogram.density, counts / weights.sum() / np.diff(histogram.edges), rtol=1e-10, atol=1e-12
            )


def test_what_cannot_be_compared_is_named(good, reference):
    with pytest.raises(ValueError, match="generated: got 10 frames"):
        compare_ensembles(good[:10], reference)
    other = Molecule.from_smiles("CCCC")
    with pytest.raises(ValueError, match="expected the molecule of the other ensemble"):
        compare_ensembles(Ensemble(other, np.zeros((100, 14, 3))), reference)
    x = reference.x.copy()
    x[3] = np.nan
    with pytest.raises(ValueError, match="reference: got 1 frames that are not finite"):
        compare_ensembles(good, replace(reference, x=x), **QUICK)
    found = compare_ensembles(replace(good, log_p=None, log_q=None), reference, **QUICK)
    assert found.skipped["energies"] == "generated has no energies"
    assert found.energies is None
