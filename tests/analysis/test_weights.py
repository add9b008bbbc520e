import numpy as np
import pytest

from molifold.analysis import (
    effective_fraction_by_size,
    effective_sample_size,
    forward_effective_sample_size,
    independence_acceptance,
    log_z,
    pareto_k,
    reweighted_mean,
)
from molifold.analysis.weights import checked_log_weights, clipped

ALL = [effective_sample_size, forward_effective_sample_size, independence_acceptance, log_z, pareto_k]


def shifted_gaussian(n, shift, seed=0):
    """Draws of N(0, 1) and log weights towards N(shift, 1): log w = shift x - shift^2 / 2."""
    x = np.random.default_rng(seed).normal(size=n)
    return x, shift * x - 0.5 * shift**2


def test_ess_of_a_shifted_gaussian_is_exp_of_minus_shift_squared():
    for shift in (0.2, 0.5, 0.8):
        e = effective_sample_size(shifted_gaussian(200_000, shift)[1])
        assert abs(e.fraction - np.exp(-(shift**2))) < 4 * e.error
        assert e.ess == pytest.approx(e.fraction * 200_000)


def test_ess_of_a_wider_gaussian_in_many_dimensions():
    # q = N(0, s^2), p = N(0, 1) in d dimensions: E w^2 = (s^2 / sqrt(2 s^2 - 1))^d
    d, s = 10, 1.2
    x = np.random.default_rng(1).normal(size=(200_000, d)) * s
    log_w = (-0.5 * x**2 + 0.5 * (x / s) ** 2 + np.log(s)).sum(1)
    exact = (s * s / np.sqrt(2 * s * s - 1)) ** -d
    e = effective_sample_size(log_w)
    assert abs(e.fraction - exact) < 4 * e.error
    assert abs(log_z(log_w).value) < 4 * log_z(log_w).error
    f = forward_effective_sample_size((-0.5 * (x / s) ** 2 + 0.5 * (x / s / s) ** 2 + np.log(s)).sum(1))
    assert abs(f.value - exact) < 5 * f.error


def test_forward_ess_equals_reverse_ess_and_sees_the_lost_mode_that_reverse_ess_cannot():
    rng = np.random.default_rng(0)
    x, log_w = shifted_gaussian(100_000, 0.5)
    f = forward_effective_sample_size(0.5 * (x + 0.5) - 0.125)
    assert abs(f.value - np.exp(-0.25)) < 4 * f.error
    # p: two equal Gaussians 10 apart. q: one of them plus a trace of the other.
    at_data = np.where(rng.random(10_000) < 0.5, np.log(0.5), np.log(0.5 / 1e-4))
    assert effective_sample_size(np.zeros(1000)).fraction == 1.0
    assert forward_effective_sample_size(at_data).value < 0.01


def test_constants_added_to_log_w_change_nothing_but_log_z():
    _, log_w = shifted_gaussian(5_000, 1.0)
    moved = log_w + 12_345.0
    assert effective_sample_size(moved).fraction == pytest.approx(effective_sample_size(log_w).fraction)
    assert effective_sample_size(moved).error == pytest.approx(effective_sample_size(log_w).error)
    assert forward_effective_sample_size(moved).value == pytest.approx(forward_effective_sample_size(log_w).value)
    assert pareto_k(moved).k == pytest.approx(pareto_k(log_w).k, abs=1e-6)
    assert independence_acceptance(moved).expected == pytest.approx(independence_acceptance(log_w).expected)
    assert log_z(moved).value - log_z(log_w).value == pytest.approx(12_345.0)


def test_clipping_cuts_the_top_fraction_as_ta_bg_and_is_printed_beside():
    log_w = np.zeros(50_000)
    log_w[7] = 12.0
    e = effective_sample_size(log_w)
    assert e.fraction < 0.15
    assert e.clipped_fraction == 1.0
    assert "clipped: 100.00 %" in repr(e)
    assert e.max_weight == pytest.approx(np.exp(12) / (np.exp(12) + 49_999))
    # int(n * clip) > 1 is TA-BG's condition
    assert (clipped(log_w[:15_000]) == log_w[:15_000]).all()


def test_fraction_by_size_ends_at_the_effective_fraction():
    _, log_w = shifted_gaussian(10_000, 1.0)
    n, fraction = effective_fraction_by_size(log_w)
    assert n[-1] == 10_000
    assert fraction[-1] == pytest.approx(effective_sample_size(log_w).fraction)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 0.9])
def test_pareto_k_of_pareto_weights(k):
    rng = np.random.default_rng(2)
    found = pareto_k(k * rng.standard_exponential(100_000))
    assert abs(found.k - k) < 4 * found.error
    assert found.verdict == ("good" if found.k <= 0.5 else "usable" if found.k <= 0.7 else "unreliable")


def test_pareto_k_agrees_with_arviz_psislw():
    from arviz_stats.base import array_stats

    for shift in (0.3, 1.0, 2.0):
        log_w = shifted_gaussian(4_000, shift, seed=5)[1]
        assert pareto_k(log_w).k == pytest.approx(float(array_stats.psislw(-log_w)[1]), abs=1e-12)
        # arviz's other entry point, on the weights themselves
        direct = float(array_stats.pareto_khat(np.exp(log_w), chain_axis=None, r_eff=1.0, tail="right"))
        assert pareto_k(log_w).k == pytest.approx(direct, abs=1e-6)


def test_pareto_k_of_equal_weights_is_bounded_and_of_few_is_an_error():
    assert pareto_k(np.full(1000, 3.0)).k == -np.inf
    with pytest.raises(ValueError, match="at least 25"):
        pareto_k(np.zeros(10))


def test_zero_weights_are_allowed():
    _, log_w = shifted_gaussian(4_000, 0.5)
    log_w[::2] = -np.inf
    half = effective_sample_size(log_w)
    assert half.fraction == pytest.approx(0.5 * effective_sample_size(log_w[1::2]).fraction)
    assert np.isfinite(pareto_k(log_w).k)
    assert independence_acceptance(log_w).rate < 0.55


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(("bad", "message"), [(np.nan, "1 NaN and 0"), (np.inf, "0 NaN and 1")])
def test_nan_and_infinite_weights_are_errors_that_say_where(function, bad, message):
    log_w = np.zeros(100)
    log_w[42] = bad
    with pytest.raises(ValueError, match=message + ".*frame 42"):
        function(log_w)


def test_empty_flat_and_matrix_weights_are_errors():
    for bad in (np.zeros(0), np.zeros((2, 2)), np.full(3, -np.inf)):
        with pytest.raises(ValueError, match="log_w: got"):
            checked_log_weights(bad)


def test_reweighted_mean_refuses_nan_only_where_it_counts():
    values, log_w = np.array([1.0, np.nan, 3.0]), np.array([0.0, -np.inf, 0.0])
    assert reweighted_mean(values, log_w).value == 2.0
    with pytest.raises(ValueError, match="values: got 1 NaN"):
        reweighted_mean(values, None)
    with pytest.raises(ValueError, match="values: got shape"):
        reweighted_mean(values[:2], log_w)


def test_intervals_of_reweighted_means_cover_the_truth():
    hits, errors, values = [], [], []
    for seed in range(200):
        x, log_w = shifted_gaussian(2_000, 0.7, seed=seed)
        e = reweighted_mean(x, log_w, repeats=200, seed=seed)
        hits.append(0.7 in e)
        errors.append(e.error)
        values.append(e.value)
    assert 0.90 <= np.mean(hits) <= 0.99
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_intervals_of_log_z_cover_the_truth():
    hits = [0.0 in log_z(shifted_gaussian(2_000, 0.7, seed=s)[1], repeats=200) for s in range(200)]
    assert 0.90 <= np.mean(hits) <= 0.99


def test_ess_error_is_the_spread_over_repeats():
    runs = [effective_sample_size(shifted_gaussian(4_000, 0.5, seed=s)[1], repeats=200) for s in range(100)]
    assert np.mean([r.error for r in runs]) == pytest.approx(np.std([r.fraction for r in runs]), rel=0.25)


def test_acceptance_of_a_chain_is_its_equilibrium_value_and_the_closed_form():
    # q = N(0, 1), p = N(m, 1): w is monotonic, log w'/w = m (x' - x), x' - x ~ N(-m, 2), so the rate is 2 Phi(-m / sqrt 2)
    from scipy.stats import norm

    m = 0.8
    a = independence_acceptance(shifted_gaussian(100_000, m)[1])
    exact = 2 * norm.cdf(-m / np.sqrt(2))
    assert a.expected == pytest.approx(exact, abs=0.006)
    assert abs(a.rate - exact) < 4 * a.error
    assert a.error < 0.01


def test_longest_wait_counts_the_rejections_after_a_heavy_frame():
    log_w = np.zeros(60)
    log_w[10] = 50.0
    assert independence_acceptance(log_w).longest_wait == 49
