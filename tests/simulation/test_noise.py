import numpy as np
from scipy import stats

from molifold.simulation.noise import fill_normal, seed_lanes


def draw(seed, fills, *, rows=60, lanes=16):
    state, out = seed_lanes(seed, lanes=lanes), np.empty((rows, lanes), np.float32)
    draws = []
    for _ in range(fills):
        fill_normal(state, out)
        draws.append(out.copy())
    return np.array(draws, dtype=np.float64)


def test_moments_and_distribution_are_normal():
    a = draw(0, 2000).ravel()
    # Standard errors of the first moments of n standard normals: var(x^k) = E[x^2k] - E[x^k]^2.
    for moment, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((a**moment).mean() - expected) < 4 * np.sqrt(variance / a.size), moment
    assert stats.kstest(a, "norm").pvalue > 1e-3
    tail = (np.abs(a) > 4).sum()
    assert abs(tail - a.size * 2 * stats.norm.sf(4)) < 4 * np.sqrt(a.size * 2 * stats.norm.sf(4))


def test_rows_lanes_and_times_are_uncorrelated():
    a = draw(1, 4000, rows=6)
    n = len(a)
    by_row, by_lane = a.reshape(n, -1), np.concatenate([a[:-1], a[1:]], axis=1).reshape(n - 1, -1)
    for sample in (by_row, by_row**2, by_lane):
        c = np.corrcoef(sample.T)
        off = c[np.triu_indices_from(c, 1)]
        assert np.abs(off).max() < 5.5 / np.sqrt(n)
        assert abs(off.mean()) < 4 / np.sqrt(n * off.size)


def test_the_two_deviates_of_a_pair_are_independent():
    a = draw(2, 4000, rows=2)
    angle = np.arctan2(a[:, 1], a[:, 0]).ravel()
    assert stats.kstest(angle, "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-3
    assert stats.kstest((a**2).sum(1).ravel() / 2, "expon").pvalue > 1e-3


def test_the_integers_are_xoshiro128plusplus():
    # Published first outputs of xoshiro128++ from the state 1, 2, 3, 4 (the test vector of Rust's rand_xoshiro).
    from molifold.simulation.noise import _advance

    words, out = [np.uint32(n) for n in (1, 2, 3, 4)], []
    for _ in range(10):
        value, *words = _advance(*words)
        out.append(int(value))
    assert out == [641, 1573767, 3222811527, 3517856514, 836907274, 4247214768, 3867114732, 1355841295, 495546011, 621204420]  # fmt: skip


def test_seeds_and_lanes_differ_and_repeat():
    assert np.array_equal(draw(5, 1), draw(5, 1))
    assert not np.array_equal(draw(5, 1), draw(6, 1))
    assert len(np.unique(seed_lanes(0, lanes=64), axis=1).T) == 64
