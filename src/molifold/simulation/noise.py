"""Normal deviates inside numba: one xoshiro128++ generator per lane, so that a compiler can run all lanes at once.

References: D. Blackman and S. Vigna, ACM Trans. Math. Softw. 47, 36 (2021), doi:10.1145/3460772 (generator);
G. Box and M. Muller, Ann. Math. Stat. 29, 610 (1958) (normals); S. Moshier, Cephes (polynomials, relative error 1e-7).
"""

# Numba infers types itself; annotations on its inner functions would only mislead.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs, no-check-untyped-defs
from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt32
from numba import njit, types
from numba.extending import intrinsic
from numpy import ndarray

# Single-precision constants as NumPy scalars: a bare literal would turn the whole expression into float64.
_F = np.float32
_I = np.int32
_U = np.uint32
_HALF, _ONE, _MINUS_TWO, _LN2 = _F(0.5), _F(1), _F(-2), _F(np.log(2))
_LOG = tuple(_F(c) for c in (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
))  # fmt: skip
_SIN = tuple(_F(c) for c in (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
_COS = tuple(_F(c) for c in (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
#: From 31 random bits to (0, 1), and from 30 signed bits, shifted up by two, to [-pi/4, pi/4).
_TO_UNIT, _TO_ANGLE = _F(2.0**-31), _F(np.pi / 4 * 2.0**-31)
_SQRT_HALF_BITS, _MANTISSA = _I(0x3F3504F3), _I(23)


def seed_lanes(seed: int, *, lanes: int) -> UInt32[ndarray, "4 lanes"]:
    """Independent generator states, one per lane.

    >>> seed_lanes(1, lanes=3).shape
    (4, 3)
    """
    children = [np.random.SeedSequence(seed, spawn_key=(lane,)) for lane in range(lanes)]
    return np.ascontiguousarray(np.stack([child.generate_state(4, np.uint32) for child in children], axis=1))


@intrinsic
def _as_int(typing: Any, value: Any) -> Any:
    """The bits of a float32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def _as_float(typing: Any, value: Any) -> Any:
    """The float32 with these bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


# Every integer operation is cast back: numba widens to 64 bits, which would change the results and halve the lanes.
@njit(inline="always")
def _rotate(x, k):
    return _U(_U(x << k) | _U(x >> _U(_U(32) - k)))


@njit(inline="always")
def _advance(s0, s1, s2, s3):
    out = _U(_rotate(_U(s0 + s3), _U(7)) + s0)
    t = _U(s1 << _U(9))
    s2 = _U(s2 ^ s0)
    s3 = _U(s3 ^ s1)
    s1 = _U(s1 ^ s2)
    s0 = _U(s0 ^ s3)
    s2 = _U(s2 ^ t)
    return out, s0, s1, s2, _rotate(s3, _U(11))


@njit(inline="always")
def _log(x):
    b = _as_int(x)
    # Subtracting the bits of sqrt(1/2) leaves a mantissa in [sqrt(1/2), sqrt(2)).
    k = _I(_I(b - _SQRT_HALF_BITS) >> _MANTISSA)
    m = _as_float(_I(b - _I(k << _MANTISSA))) - _ONE
    p = _LOG[0]
    for c in _LOG[1:]:
        p = p * m + c
    return _F(k) * _LN2 + (m + m * m * (m * p - _HALF))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "nnan", "ninf"})
def fill_normal(state: UInt32[ndarray, "4 lanes"], out: Float[ndarray, "rows lanes"]) -> None:
    """Fill ``out`` (float32, an even number of rows) with independent standard normals; advances ``state``.

    Two rows per pair of 32-bit numbers. The largest deviate is sqrt(2 ln 2^32) = 6.66.
    """
    rows, lanes = out.shape
    for r in range(0, rows, 2):
        for i in range(lanes):
            a, s0, s1, s2, s3 = _advance(state[0, i], state[1, i], state[2, i], state[3, i])
            b, s0, s1, s2, s3 = _advance(s0, s1, s2, s3)
            state[0, i], state[1, i], state[2, i], state[3, i] = s0, s1, s2, s3
            radius = _F(np.sqrt(_MINUS_TWO * _log((_F(_I(_U(a >> _U(1)))) + _HALF) * _TO_UNIT)))
            # An eighth of the circle from 30 bits; the other two choose a reflection at the diagonal and a sign.
            y = _F(_I(_U(b << _U(2)))) * _TO_ANGLE
            z = y * y
            sin = ((_SIN[0] * z + _SIN[1]) * z + _SIN[2]) * z * y + y
            cos = ((_COS[0] * z + _COS[1]) * z + _COS[2]) * z * z - _HALF * z + _ONE
            swap = _U(b & _U(1 << 30)) != _U(0)
            radius = -radius if _U(b & _U(1 << 31)) != _U(0) else radius
            out[r, i] = radius * (sin if swap else cos)
            out[r + 1, i] = radius * (cos if swap else sin)
