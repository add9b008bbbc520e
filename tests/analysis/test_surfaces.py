"""Free-energy surfaces and paths. Truth: the Mueller-Brown potential by quadrature; its stationary points as published.

K. Mueller, L. Brown, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608.
"""

import numpy as np
import pytest
from scipy.stats import norm

from molifold import Ensemble, Molecule
from molifold.analysis import free_energy_difference
from molifold.analysis.pathways import minima, minimum_energy_path
from molifold.analysis.surfaces import free_energy_surface
from molifold.analysis.two_estimators import basin_difference, smoothed_tail
from molifold.analysis.undersampling import undersampling

KT = 20.0
#: Deepest minimum, second, and the higher of the two saddles between them.
MINIMUM_A, MINIMUM_B, SADDLE = (-0.558, 1.442), (0.623, 0.028), (-0.822, 0.624)
X, Y = (-1.7, 1.3), (-0.5, 2.1)


def mueller_brown(x, y):
    terms = zip((-200, -100, -170, 15), (-1, -1, -6.5, 0.7), (0, 0, 11, 0.6), (-10, -10, -6.5, 0.7), (1, 0, -0.5, -1),
                (0, 0.5, 1.5, 1), strict=True)  # fmt: skip
    return sum(A * np.exp(a * (x - p) ** 2 + b * (x - p) * (y - q) + c * (y - q) ** 2) for A, a, b, c, p, q in terms)


def quadrature(fine=800):
    """Probability of the cells of a fine grid."""
    x, y = (np.linspace(*r, fine + 1) for r in (X, Y))
    x, y = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
    u = mueller_brown(x[:, None], y[None, :]) / KT
    p = np.exp(-(u - u.min()))
    return x, y, p / p.sum()


@pytest.fixture(scope="module")
def truth():
    return quadrature()


@pytest.fixture(scope="module")
def sample(truth):
    x, y, p = truth
    rng = np.random.default_rng(0)
    n = 200_000
    i, j = np.unravel_index(rng.choice(p.size, n, p=p.ravel()), p.shape)
    columns = {name: c[k] + (c[1] - c[0]) * (rng.random(n) - 0.5) for name, c, k in (("x", x, i), ("y", y, j))}
    return bare(n, log_q=np.zeros(n), columns=columns)


def bare(n, **more):
    return Ensemble(Molecule(elements=("X",)), np.zeros((n, 1, 3), dtype=np.float32), **more)


def coarse(p, bins):
    fine = len(p) // bins
    return p.reshape(bins, fine, bins, fine).sum((1, 3))


def test_mueller_brown_surface_is_that_of_quadrature(truth, sample):
    bins = 40
    p = coarse(truth[2], bins)
    surface = free_energy_surface(sample, ["x", "y"], bins=bins, ranges={"x": X, "y": Y})
    known = -np.log(p / (surface.axes[0].width * surface.axes[1].width)) - surface.offset
    seen = p > 1e-4  # twenty frames
    f = surface.free_energy
    inside = (f.low <= known) & (known <= f.high)
    assert 0.90 < inside[seen].mean() < 0.99
    assert np.abs(f.value - known)[p > 1e-3].max() < 0.3
    never = np.isinf(f.value)
    assert never.any()
    assert (f.low[never] <= known[never]).mean() > 0.99  # the bound where nothing was seen


def test_kernels_agree_and_choose_their_width(truth, sample):
    p = coarse(truth[2], 40)
    surface = free_energy_surface(sample, ["x", "y"], method="kde", bins=40, ranges={"x": X, "y": Y})
    known = -np.log(p / (surface.axes[0].width * surface.axes[1].width)) - surface.offset
    assert np.abs(surface.free_energy.value - known)[p > 1e-3].max() < 0.5
    few = free_energy_surface(sample[:500], ["x", "y"], method="kde", bins=40, ranges={"x": X, "y": Y})
    assert few.bandwidth[0] > surface.bandwidth[0]


def test_one_axis_is_the_projection(truth, sample):
    p = truth[2].sum(1).reshape(20, -1).sum(1)
    surface = free_energy_surface(sample, "x", bins=20, ranges={"x": X})
    known = -np.log(p / surface.axes[0].width) - surface.offset
    seen = p > 1e-3
    assert np.abs((surface.free_energy.value - known) / surface.free_energy.error)[seen].max() < 4


def test_basin_difference_is_that_of_quadrature(truth, sample):
    x, y, p = truth
    exact = -np.log(p[:, y > 0.7].sum() / p[:, y <= 0.7].sum())
    found = free_energy_difference(sample, sample.columns["y"] > 0.7)
    assert found.low < exact < found.high


def test_minima_saddle_and_path(sample):
    surface = free_energy_surface(sample, ["x", "y"], method="kde", bins=60, ranges={"x": X, "y": Y})
    found = minima(surface)
    assert [
        np.hypot(*(np.array(m.position) - known)) < 0.12
        for m, known in zip(found, (MINIMUM_A, MINIMUM_B), strict=False)
    ] == [True, True]
    path = minimum_energy_path(surface, found[0].position, end=found[1].position)
    assert np.hypot(*(np.array(path.saddle) - SADDLE)) < 0.15
    barrier = (mueller_brown(*SADDLE) - mueller_brown(*MINIMUM_A)) / KT
    assert path.barrier.value == pytest.approx(barrier, abs=0.4)
    assert path.barrier.value - path.reverse.value == pytest.approx(
        found[1].free_energy - found[0].free_energy, abs=1e-9
    )
    assert (path.free_energy.value <= path.barrier.value + 1e-9).all()  # nothing above the saddle
    steps = np.abs(np.diff(path.points, axis=0)) / [a.width for a in surface.axes]
    assert steps.max() < 1.01  # from a bin to its neighbour


def test_a_path_may_cross_the_seam():
    rng = np.random.default_rng(0)
    phi = np.concatenate([rng.vonmises(2.6, 8, 4000), rng.vonmises(-2.6, 8, 4000)])
    e = bare(8000, log_q=np.zeros(8000), columns={"phi": phi})
    path = minimum_energy_path(free_energy_surface(e, "phi", method="kde"), [2.6], end=[-2.6])
    assert abs(abs(path.saddle[0]) - np.pi) < 0.15
    assert path.barrier.value < 1.5


def test_no_path_over_the_never_seen():
    x = np.concatenate([np.random.default_rng(0).normal(c, 0.1, 500) for c in (-2, 2)])
    e = bare(1000, log_q=np.zeros(1000), columns={"x": x})
    with pytest.raises(ValueError, match="no path of visited bins"):
        minimum_energy_path(free_energy_surface(e, "x"), [-2.0], end=[2.0])
    with pytest.raises(ValueError, match="inside the surface"):
        minimum_energy_path(free_energy_surface(e, "x"), [-9.0], end=[2.0])


def correlated(repeats, walkers, steps, memory=0.9, seed=0):
    """Stationary normal series with memory: [repeats, walkers * steps]."""
    rng = np.random.default_rng(seed)
    x = np.empty((repeats, walkers, steps))
    x[..., 0] = rng.normal(size=(repeats, walkers))
    for t in range(1, steps):
        x[..., t] = memory * x[..., t - 1] + np.sqrt(1 - memory**2) * rng.normal(size=(repeats, walkers))
    return x.reshape(repeats, -1)


def test_intervals_of_correlated_frames_cover_the_truth():
    walkers, steps = 20, 400
    trajectory = np.repeat(np.arange(walkers), steps)
    edges = np.linspace(-2, 2, 9)
    inside = np.diff(norm.cdf(edges))
    difference = -np.log(norm.cdf(-1) / norm.cdf(1))
    bins, deltas = [], []
    for x in correlated(200, walkers, steps):
        e = bare(len(x), columns={"x": x, "trajectory": trajectory})
        s = free_energy_surface(e, "x", bins=8, ranges={"x": (-2, 2)})
        known = -np.log(inside / s.axes[0].width) - s.offset
        bins.append((s.free_energy.low <= known) & (known <= s.free_energy.high))
        d = free_energy_difference(e, x < -1, repeats=100)
        deltas.append(d.low <= difference <= d.high)
    assert 0.90 <= np.mean(bins) <= 0.99
    assert 0.90 <= np.mean(deltas) <= 0.99


def test_two_estimators_agree_only_when_starts_do_not_decide():
    rng = np.random.default_rng(0)
    hop = np.cumsum(rng.random((16, 3000)) < 0.02, axis=1)
    fair = (hop + (np.arange(16) % 2)[:, None]) % 2
    columns = {"trajectory": np.repeat(np.arange(16), 3000)}
    both = basin_difference(bare(48_000, columns=columns), fair.ravel() == 1, lag=5, repeats=40)
    assert both.agree
    assert abs(both.value) < 3 * both.combined.error
    # short trajectories, fifteen of sixteen started in the rare state: counting follows the starts, transitions do not
    hop = np.cumsum(rng.random((640, 10)) < 0.02, axis=1)
    biased = (hop + (np.arange(640) % 16 > 0)[:, None]) % 2
    columns = {"trajectory": np.repeat(np.arange(640), 10)}
    both = basin_difference(bare(6400, columns=columns), biased.ravel() == 1, lag=1, repeats=40)
    assert not both.agree
    with pytest.raises(ValueError, match="no single number is given"):
        _ = both.value


def test_smoothed_weights_agree_with_plain_ones_unless_few_draws_carry_the_answer():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)  # weights turn N(0, 1) into N(0.5, 1)
    e = bare(len(x), log_q=np.zeros(len(x)))
    both = basin_difference(e, x > 0.5, log_w=0.5 * x - 0.125, repeats=40)
    assert both.agree
    assert abs(both.value) < 4 * both.combined.error  # half of the mass is on each side
    log_w = 0.5 * x - 0.125
    log_w[int(x.argmax())] += 12.0  # one draw outweighs all
    moved = smoothed_tail(log_w)
    changed = ~np.isclose(moved, log_w)
    assert 0 < changed.sum() <= 3 * np.sqrt(len(x)) + 1
    assert log_w[changed].min() >= np.quantile(log_w, 0.97)
    assert moved.max() < log_w.max() - 5


def test_unseen_mass_is_what_the_next_walker_finds_new():
    # exact: a walker stays in its bin with probability, and the chance that bin k is new to a next one is known
    p = np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.02])
    found, exact = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        homes = rng.choice(6, 24, p=p)  # 24 walkers that never leave where they start
        e = bare(2400, columns={"x": np.repeat(homes, 100) + 0.5, "trajectory": np.repeat(np.arange(24), 100)})
        found.append(undersampling(e, "x", bins=6).unseen)
        exact.append(1 - p[np.unique(homes)].sum())
    assert np.mean([u.value for u in found]) == pytest.approx(np.mean(exact), abs=0.02)
    assert np.mean([u.low <= t <= u.high for u, t in zip(found, exact, strict=True)]) > 0.85


def test_frames_of_one_walker_do_not_make_a_bin_known():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 20_000)
    trajectory = np.arange(20_000) // 1000
    x[trajectory == 7] += 8.0  # one trajectory of twenty was elsewhere
    e = bare(20_000, columns={"x": x, "trajectory": trajectory})
    found = undersampling(e, "x", bins=12)
    away = np.array([a.centres for a in found.axes])[0] > 5
    assert found.poor[away & (found.visits > 0)].all()
    assert not found.poor[np.abs(found.axes[0].centres) < 1].any()
    assert found.worst(1)[0]["blocks"] <= 2
    assert found.unseen.high > 0.05
