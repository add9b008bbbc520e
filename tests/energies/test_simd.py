"""Vector functions against NumPy in extended precision, over the whole range that the kernels use."""

import numpy as np
import pytest
from numba import njit

from molifold.energies import simd
from molifold.energies.simd import angle, exp, lanes, load, log, rsqrt, store, tanh, where_less


@njit
def evaluate(x, y, out):
    for i in range(x.shape[0]):
        a, b = load(x, i), load(y, i)
        store(out, 6 * i, exp(a))
        store(out, 6 * i + 1, log(exp(0.9 * a)))
        store(out, 6 * i + 2, tanh(a))
        store(out, 6 * i + 3, angle(where_less(a, 0.0, -a, a), b))
        store(out, 6 * i + 4, rsqrt(a * a + b * b))
        store(out, 6 * i + 5, (2.0 - a) / 3 + (-b))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 4e-7), ("float64", 2e-15)])
def test_functions(dtype, tolerance):
    rng = np.random.default_rng(0)
    shape = (2000, lanes(dtype))
    x = (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 1.3, shape)).astype(dtype)
    y = (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 1.3, shape)).astype(dtype)
    out = np.empty((6 * len(x), shape[1]), dtype)
    evaluate(x, y, out)
    got = out.reshape(len(x), 6, -1).astype(np.longdouble).swapaxes(0, 1)
    a, b = x.astype(np.longdouble), y.astype(np.longdouble)
    usable = np.abs(a) < 80
    # exp of a rounded argument: exact to the rounding of the argument, which the reduction does not add to.
    assert np.max(np.abs(got[0] / np.exp(a) - 1)[usable]) < tolerance
    assert np.max((np.abs(got[1] - 0.9 * a) / (1 + np.abs(a)))[usable]) < 2 * tolerance
    assert np.max(np.abs(got[2] - np.tanh(a))) < tolerance
    assert np.max(np.abs(got[3] - np.arctan2(np.abs(a), b))) < 3 * tolerance
    assert np.max(np.abs(got[4] * np.hypot(a, b) - 1)) < tolerance
    assert np.max(np.abs(got[5] - ((2 - a) / 3 - b)) / (1 + np.abs(a) + np.abs(b))) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype):
    x = np.zeros((1, lanes(dtype)), dtype)
    x[0, :5] = [-np.inf, np.inf, -1e30, np.nan, 0.0]
    out = np.empty((6, lanes(dtype)), dtype)
    evaluate(x, np.ones_like(x), out)
    assert 0 <= out[0, 0] < 1e-30 < 1e30 < out[0, 1]
    assert out[2, :2].tolist() == [-1.0, 1.0]
    assert np.isnan(out[[0, 2, 3, 4, 5], 3]).all()  # log promises nothing of NaN
    assert out[0, 4] == 1.0
    assert out[3, 4] == 0.0


def test_vectors_are_registers_not_loops():
    """The compiled code multiplies whole vectors: no scalar multiplications of the data remain."""

    @njit
    def product(x, out):
        store(out, 0, load(x, 0) * load(x, 1))

    x = np.ones((2, lanes("float32")), np.float32)
    product(x, x)
    (code,) = product.inspect_llvm().values()
    assert "fmul" in code
    assert f"<{simd.lanes('float32')} x float>" in code
