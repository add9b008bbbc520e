import numpy as np
import pytest

from molifold.analysis.uncertainty import (
    block_sums,
    bootstrap,
    estimate,
    independent_blocks,
    jackknife,
    trajectory_blocks,
)


def mean(s):
    return s[..., 0] / s[..., 1]


def features(x):
    return np.stack([x, np.ones_like(x)], axis=1)


def test_error_of_independent_frames_is_sigma_over_root_n():
    x = np.random.default_rng(0).normal(3, 2, 40_000)
    e = estimate(features(x), mean)
    assert e.error == pytest.approx(2 / np.sqrt(40_000), rel=0.12)
    assert e.block_error == pytest.approx(e.error, rel=0.5)


def autoregressive(n, phi, seed, chains=1):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, chains))
    x[0] = rng.normal(size=chains) / np.sqrt(1 - phi**2)
    noise = rng.normal(size=(n, chains))
    for t in range(1, n):
        x[t] = phi * x[t - 1] + noise[t]
    return x


def test_blocks_find_the_correlation_that_independent_resampling_misses():
    phi, n = 0.9, 40_000
    x = autoregressive(n, phi, 1)[:, 0]
    exact = 1 / (1 - phi) / np.sqrt(n)  # standard error of the mean of a long AR(1) series
    assert estimate(features(x), mean).error < 0.5 * exact
    assert estimate(features(x), mean).block_error == pytest.approx(exact, rel=0.45)
    assert estimate(features(x), mean, correlated=True).error == pytest.approx(exact, rel=0.45)


def test_interleaved_trajectories_give_the_same_blocks_as_sorted_ones():
    trajectory = np.repeat([4, 9], [60, 40])
    # keep the order in time within each trajectory, interleave the two
    order = np.argsort(np.r_[np.linspace(0, 1, 60), np.linspace(0, 1, 40)], kind="stable")
    a = trajectory_blocks(100, trajectory=trajectory, blocks=10)
    b = trajectory_blocks(100, trajectory=trajectory[order], blocks=10)
    np.testing.assert_array_equal(a[order], b)
    assert np.bincount(a).tolist() == [10] * 10


def test_many_trajectories_are_merged_whole():
    label = trajectory_blocks(6000, trajectory=np.repeat(np.arange(3000), 2))
    assert label.max() == 255
    np.testing.assert_array_equal(label[::2], label[1::2])


@pytest.mark.parametrize("n", [1, 2, 31, 33, 1000])
def test_blocks_are_numbered_without_gaps(n):
    for label in (trajectory_blocks(n), independent_blocks(n)):
        assert set(np.unique(label)) == set(range(label.max() + 1))


def test_trajectory_of_another_length_is_named():
    with pytest.raises(ValueError, match="trajectory: got 3 entries"):
        trajectory_blocks(4, trajectory=np.zeros(3))


def test_block_sums_add_up():
    rng = np.random.default_rng(0)
    label, x = rng.integers(0, 7, 100), rng.normal(size=(100, 3))
    np.testing.assert_allclose(block_sums(label, x).sum(0), x.sum(0))


def test_jackknife_and_bootstrap_of_a_mean_are_the_textbook_error():
    x = np.random.default_rng(0).normal(size=400)
    expected = x.std(ddof=1) / 20
    assert jackknife(features(x), mean) == pytest.approx(expected)
    assert bootstrap(features(x), mean, repeats=4000).std() == pytest.approx(expected, rel=0.05)


def test_one_frame_has_no_error_bar():
    e = estimate(np.array([[2.0, 1.0]]), mean)
    assert e.value == 2
    assert np.isnan(e.error)
    assert (e.low, e.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("correlated", [False, True])
def test_intervals_of_short_correlated_series_cover_the_truth(correlated):
    x = autoregressive(1600, 0.8, 3, chains=200)
    hits = [0.0 in estimate(features(x[:, k]), mean, correlated=correlated, repeats=200) for k in range(200)]
    assert (0.90 <= np.mean(hits) <= 0.99) == correlated  # treating them as independent must be seen to fail
