import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.sampling import resample

POINT = Molecule(elements=("X",), name="point")


def weighted(log_w, seed=0):
    x = np.random.default_rng(seed).normal(size=(len(log_w), 1, 3)).astype(np.float32)
    return Ensemble(POINT, x, log_p=np.asarray(log_w, float), log_q=np.zeros(len(log_w)))


def test_counts_are_the_floor_or_the_ceiling():
    log_w = np.random.default_rng(1).normal(0, 2, 500)
    expected = 10_000 * np.exp(log_w) / np.exp(log_w).sum()
    counts = np.bincount(resample(weighted(log_w), 10_000, seed=2).columns["parent"], minlength=500)
    assert counts.sum() == 10_000
    assert (np.abs(counts - expected) < 1).all()


def test_frames_follow_their_parent_and_lose_log_q():
    e = weighted([0.0, 1.0, -np.inf])
    out = resample(e, 50, seed=3)
    parent = out.columns["parent"]
    assert np.array_equal(out.x, e.x[parent])
    assert 2 not in parent
    assert out.log_q is None
    assert out.meta["resampled"] == {"from": 3, "seed": 3}


def test_a_constant_in_the_weights_changes_nothing():
    log_w = np.random.default_rng(4).normal(size=100)
    a, b = (resample(weighted(log_w + c), 300, seed=1).columns["parent"] for c in (0.0, -5000.0))
    assert np.array_equal(a, b)


def test_errors():
    with pytest.raises(ValueError, match="no frame with a finite weight"):
        resample(weighted([-np.inf, -np.inf]), 5, seed=1)
    with pytest.raises(ValueError, match="n: got 0"):
        resample(weighted([0.0]), 0, seed=1)
