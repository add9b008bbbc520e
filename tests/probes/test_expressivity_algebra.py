"""Statistics, proposals and scores against independent least squares; calibration under the null."""

import numpy as np
import pytest
import torch
from expressivity_cases import normal

from molifold.probes.expressivity.score import Verification, bottleneck, propose, score
from molifold.probes.expressivity.statistics import Moments, pseudo_inverse


def problem(seed, rows=400, d=5, c=7, out=3):
    b = torch.cat([normal(rows, d, seed=seed), torch.ones(rows, 1, dtype=torch.float64)], 1)
    source = torch.cat([normal(rows, c, seed=seed + 1) + 0.3 * b[:, :1], b[:, -1:]], 1)
    v = normal(rows, out, seed=seed + 2) + source[:, :2] @ normal(2, out, seed=seed + 3)
    return b, v, source


def moments_of(b, v, source, pieces=1):
    moments = Moments()
    for rows in torch.arange(len(b)).chunk(pieces):
        moments.add(b[rows], v[rows], {"c": source[rows]}, examples=len(rows))
    return moments


@pytest.mark.parametrize("seed", range(20))
def test_proposals_agree_with_least_squares(seed):
    b, v, source = problem(10 * seed)
    moments = moments_of(b, v, source)
    proposal = propose(moments)
    best = np.linalg.lstsq(b.numpy(), v.numpy(), rcond=None)[0]
    residual = v.numpy() - b.numpy() @ best
    assert np.allclose(proposal.weights, best, rtol=1e-8, atol=1e-10)
    assert bottleneck(moments) == pytest.approx((residual**2).sum() / len(b), rel=1e-8)
    # New units: the best fit of V by [B, C] at full rank is D and the units together.
    everything = propose(moments, max_units=99).units["c"]
    clean = source.numpy() - b.numpy() @ np.linalg.lstsq(b.numpy(), source.numpy(), rcond=None)[0]
    q, _ = np.linalg.qr(clean[:, :-1])
    u, strengths, right = np.linalg.svd(q.T @ residual, full_matrices=False)
    assert np.allclose(everything.strengths[: len(strengths)], strengths, rtol=1e-8)
    units = len(everything.omega)
    expected = q @ (u[:, :units] * strengths[:units]) @ right[:units]
    assert np.allclose(everything.direction(b, source), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_streaming_is_the_same_as_at_once():
    b, v, source = problem(1)
    whole, pieces = moments_of(b, v, source), moments_of(b, v, source, pieces=8)
    for a, c in ((whole.bb, pieces.bb), (whole.bv, pieces.bv), (whole.sources["c"].cb, pieces.sources["c"].cb)):
        assert torch.allclose(a, c, rtol=1e-10, atol=1e-10)
    assert whole.vv == pytest.approx(pieces.vv, rel=1e-12)
    assert (whole.examples, whole.rows) == (pieces.examples, pieces.rows)


def test_singular_inputs_are_left_out_whatever_their_unit():
    b, v, source = problem(2)
    scaled = torch.cat([1e5 * b, b[:, :2] + b[:, 1:3]], 1)
    ours = scaled @ propose(moments_of(scaled, v, source)).weights
    assert torch.allclose(ours, b @ propose(moments_of(b, v, source)).weights, rtol=1e-8, atol=1e-8)
    assert torch.allclose(pseudo_inverse(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_prediction_is_the_decrease_of_a_quadratic_loss():
    """Of |V - amplitude * direction|^2, at the amplitude that least squares finds."""
    b, v, source = problem(5)
    proposal = propose(moments_of(b[:200], v[:200], source[:200]))
    check = Verification.of(proposal)
    check.add(b[200:, None], v[200:, None], {"c": source[200:, None]}, sizes=torch.ones(200))
    found = score(check.units["c"])
    left = v[200:] - b[200:] @ proposal.weights
    direction = proposal.units["c"].direction(b[200:], source[200:])
    best = np.linalg.lstsq(direction.reshape(-1, 1).numpy(), left.reshape(-1).numpy(), rcond=None)[1].item()
    assert found.share == pytest.approx(1 - best / float(left.square().sum()), rel=1e-9)
    assert found.groups == 200
    assert found.t > 5


def test_error_is_between_groups_not_rows():
    """Rows of a group that repeat each other add nothing: the t of 4 equal positions is that of one."""
    b, v, source = problem(7)
    proposal = propose(moments_of(b[:200], v[:200], source[:200]))
    t = []
    for repeats in (1, 4):
        check = Verification.of(proposal)
        args = [a[200:, None].expand(-1, repeats, -1) for a in (b, v)]
        check.add(*args, {"c": source[200:, None].expand(-1, repeats, -1)}, sizes=torch.ones(200))
        t.append(score(check.units["c"]).t)
    assert t[0] == pytest.approx(t[1], rel=1e-9)


def test_t_is_standard_normal_where_there_is_nothing_to_find():
    """Heteroscedastic noise, 300 nulls. The mean of t has error .058, its deviation .041."""
    t = []
    for seed in range(300):
        b, _, source = problem(1000 + 10 * seed, rows=800)
        v = normal(800, 3, seed=seed) * (0.3 + b[:, :1].abs())
        proposal = propose(moments_of(b[:400], v[:400], source[:400]))
        check = Verification.of(proposal)
        check.add(b[400:, None], v[400:, None], {"c": source[400:, None]}, sizes=torch.ones(400))
        t.append(score(check.units["c"]).t)
    assert abs(np.mean(t)) < 0.15
    assert 0.9 < np.std(t) < 1.1


def test_a_direction_that_is_fitted_to_noise_too_is_too_long_but_found():
    """Three hundred outputs, as the parameters of splines: at full length the proposal explains less than nothing."""
    rows, outputs = 2000, 300
    b = torch.ones(rows, 1, dtype=torch.float64)
    source, noise = normal(rows, 40, seed=1), normal(rows, outputs, seed=2)
    signal = 0.6 * source[:, :1] @ torch.nn.functional.normalize(normal(1, outputs, seed=3))
    v, half = signal + noise, rows // 2
    check = Verification.of(propose(moments_of(b[:half], v[:half], source[:half])))
    check.add(b[half:, None], v[half:, None], {"c": source[half:, None]}, sizes=torch.ones(half))
    tally = check.units["c"]
    found = score(tally)
    assert found.t > 4
    assert 2 * float(torch.cat(tally.scores).sum()) < tally.norm
    # No longer than what the signal itself is of all that was asked for, and more than nothing.
    assert 0 < found.share < 1.2 * float(signal.square().sum() / v.square().sum())
