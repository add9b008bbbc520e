"""The compiled splines against the plain torch formulas: values, first and second derivatives, both directions."""

import pytest
import torch

from molifold.transforms.fused import univariate
from molifold.transforms.univariate import UNIVARIATE, parameter_count


def inputs(support, dtype, batch=37, bins=6):
    g = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(4, batch, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()
    raw = torch.randn(4, parameter_count(support, bins), batch, generator=g, dtype=torch.float64).to(dtype)
    return x, raw.requires_grad_()


@pytest.mark.parametrize("support", ["real", "circle"])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-3)])
def test_compiled_equals_plain(support, inverse, dtype, tolerance):
    x, raw = inputs(support, dtype)
    plain, log_slope = UNIVARIATE[support](x, raw, inverse=inverse)
    value, log_det = univariate(x, raw, support=support, inverse=inverse)
    weights = torch.randn_like(value), torch.randn_like(log_det)
    expected = torch.autograd.grad((plain, log_slope.sum(0)), (x, raw), weights)
    got = torch.autograd.grad((value, log_det), (x, raw), weights)
    pairs = [(value, plain), (log_det, log_slope.sum(0)), *zip(got, expected, strict=True)]
    for a, b in pairs:
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.detach().abs().max()))


@pytest.mark.parametrize("support", ["real", "circle"])
@pytest.mark.parametrize("inverse", [False, True])
def test_second_derivatives(support, inverse):
    x, raw = inputs(support, torch.float64, batch=3, bins=3)
    assert torch.autograd.gradgradcheck(lambda a, b: univariate(a, b, support=support, inverse=inverse), (x, raw))
    data = x.detach()  # the first coupling of a flow is given data, no function of any parameter
    assert torch.autograd.gradgradcheck(lambda b: univariate(data, b, support=support, inverse=inverse), raw)


def test_the_result_does_not_depend_on_the_number_of_threads():
    x, raw = inputs("real", torch.float32, batch=100)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = univariate(x, raw, support="real", inverse=False)
        torch.set_num_threads(2)
        two = univariate(x, raw, support="real", inverse=False)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("support", ["real", "circle"])
def test_not_a_number_stays_one(support):
    x, raw = inputs(support, torch.float32)
    bad = x.detach().clone()
    bad[1, 2] = float("nan")
    value, log_det = univariate(bad, raw, support=support, inverse=False)
    assert torch.isnan(value[1, 2])
    assert torch.isfinite(value[1, 3])
