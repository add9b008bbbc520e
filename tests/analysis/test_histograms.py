import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import vonmises

from molifold import Ensemble, Molecule
from molifold.analysis import circular_histogram, jensen_shannon, kl_divergence, ramachandran, total_variation
from molifold.analysis.histograms import cells

ATOM = Molecule(elements=("X",))


def mixture(n, seed=0):
    """0.7 VM(-1.2, 8) + 0.3 VM(1, 20)."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.7, rng.vonmises(-1.2, 8, n), rng.vonmises(1.0, 20, n))


def density(x):
    return 0.7 * vonmises.pdf(x, 8, loc=-1.2) + 0.3 * vonmises.pdf(x, 20, loc=1.0)


def bin_average(edges, k=64):
    x = edges[:-1, None] + (np.arange(k) + 0.5) / k * np.diff(edges)[:, None]
    return density(x).mean(1)


def test_histogram_of_a_von_mises_mixture_is_its_integral_over_bins():
    h = circular_histogram(mixture(200_000))
    exact = bin_average(h.edges)
    seen = h.error > 0
    z = (h.density - exact)[seen] / h.error[seen]
    assert (h.density * np.diff(h.edges)).sum() == pytest.approx(1)
    assert np.abs(z[exact[seen] > 1e-3]).max() < 4.5
    assert 0.7 < z[exact[seen] > 1e-3].std() < 1.4


def test_weights_turn_a_uniform_angle_into_the_mixture():
    x = np.random.default_rng(1).uniform(-np.pi, np.pi, 200_000)
    h = circular_histogram(x, log_w=np.log(density(x)) + 50.0)
    exact = bin_average(h.edges)
    assert np.abs((h.density - exact) / h.error).max() < 4.5
    weight = density(x)
    assert h.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_angles_wrap_and_nan_is_an_error():
    np.testing.assert_array_equal(cells(np.array([0.3, 0.3 + 2 * np.pi, 0.3 - 4 * np.pi]), bins=64), [35] * 3)
    np.testing.assert_array_equal(cells(np.float32([np.pi, -np.pi]), bins=64), [0, 0])
    with pytest.raises(ValueError, match="phi: got 1 NaN"):
        cells(np.array([0.0, np.nan]), name="phi")


def test_jensen_shannon_is_the_square_of_scipys_distance():
    rng = np.random.default_rng(0)
    p, q = rng.random((2, 5, 40))
    for base in (2, np.e):
        np.testing.assert_allclose(
            jensen_shannon(p, q, base=base), jensenshannon(p, q, base=base, axis=1) ** 2, rtol=1e-10
        )


def test_jensen_shannon_of_known_distributions():
    assert jensen_shannon(np.array([1, 1, 0, 0]), np.array([0, 0, 5, 5])) == pytest.approx(1.0)
    assert jensen_shannon(np.array([1, 1]), np.array([1, 1])) == 0
    # by hand: p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4)
    by_hand = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5 * np.log2(2))
    assert jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="q: got a histogram"):
        jensen_shannon(np.ones(3), np.zeros(3))


def test_kl_is_fabs_formula_and_closed_form_of_von_mises():
    edges = np.linspace(-np.pi, np.pi, 4097)
    x = 0.5 * (edges[1:] + edges[:-1])
    p, q = vonmises.pdf(x, 4.0, loc=0.0), vonmises.pdf(x, 2.0, loc=0.5)
    from scipy.special import i0, i1

    exact = np.log(i0(2) / i0(4)) + i1(4) / i0(4) * (4 - 2 * np.cos(0.5))
    assert kl_divergence(p, q, area=edges[1] - edges[0]) == pytest.approx(exact, rel=1e-6)
    # FAB's and TA-BG's expression with densities of numpy.histogram2d
    rng = np.random.default_rng(0)
    a, b = (
        np.histogram2d(*rng.vonmises(0, 2, (2, n)), 64, range=[[-np.pi, np.pi]] * 2, density=True)[0]
        for n in (5000, 7000)
    )
    theirs = np.sum(a * np.log((a + 1e-10) / (b + 1e-10))) * (2 * np.pi / 64) ** 2
    assert kl_divergence(a.ravel(), b.ravel(), area=(2 * np.pi / 64) ** 2) == pytest.approx(theirs)


def test_total_variation_of_two_laws():
    assert total_variation(np.array([0.2, 0.8]), np.array([0.6, 0.4])) == pytest.approx(0.4)


def test_map_is_the_outer_product_of_independent_angles_and_keeps_its_axes():
    rng = np.random.default_rng(0)
    n = 400_000
    angles = {"phi": rng.vonmises(-1.2, 8, n), "psi": rng.vonmises(2.0, 3, n)}
    m = ramachandran(Ensemble(ATOM, np.zeros((n, 1, 3)), columns=angles), bins=32)
    p, q = (np.histogram(angles[k], 32, range=(-np.pi, np.pi), density=True)[0] for k in ("phi", "psi"))
    assert np.abs(m.density - np.outer(p, q)).max() < 0.02
    assert m.free_energy.min() == 0
    assert np.isinf(m.free_energy[m.density == 0]).all()
    area = (2 * np.pi / 32) ** 2
    assert m.density.sum() * area == pytest.approx(1)
