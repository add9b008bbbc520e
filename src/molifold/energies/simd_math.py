"""Exponential, logarithm, hyperbolic tangent and angles of ``simd`` vectors: polynomials that need no math library.

Errors, tested against NumPy in extended precision: below 4e-7 in float32, 2e-15 in float64 (relative, or absolute
where a function passes through zero).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload
from numpy.polynomial import Chebyshev, Polynomial

from molifold.energies.simd_vector import floor, scale_exponent, splat, split_exponent, where_less


def _fit(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients, highest power first, of the Chebyshev interpolant of ``function`` on [low, high]."""
    series = Chebyshev.interpolate(function, degree, domain=[low, high])
    plain = series.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1])
    return tuple(float(c) for c in plain.coef[::-1])


def _atanh_ratio(z: np.ndarray) -> np.ndarray:
    """atanh(s) / s with z = s**2, by its series (exact to rounding for z < 0.04)."""
    return np.polyval([1 / (2 * k + 1) for k in range(13, -1, -1)], z)


def _log1p_ratio(t: np.ndarray) -> np.ndarray:
    return np.where(np.abs(t) < 1e-8, 1 - t / 2, np.log1p(t) / np.where(t == 0, 1, t))


def _atan_ratio(z: np.ndarray) -> np.ndarray:
    """atan(t) / t with z = t**2."""
    t = np.sqrt(np.abs(z))
    return np.where(t < 1e-8, 1 - z / 3, np.arctan(t) / np.where(t == 0, 1, t))


_EXP = {bits: tuple(1 / math.factorial(k) for k in range(degree, -1, -1)) for bits, degree in ((32, 6), (64, 13))}
_LOG32 = _fit(_log1p_ratio, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 8)
_LOG64 = _fit(_atanh_ratio, 0.0, (3 - 2 * math.sqrt(2)) ** 2, 7)
_ATAN = {bits: _fit(_atan_ratio, 0.0, math.tan(math.pi / 8) ** 2, degree) for bits, degree in ((32, 5), (64, 11))}
#: ln 2 in two parts: the first has few bits, so that its product with an exponent is exact.
_LN2 = {32: (0.693359375, math.log(2) - 0.693359375), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_EXP_RANGE = {32: 87.0, 64: 708.0}


def _polynomial(coefficients: tuple[float, ...]) -> Callable[[Any], Any]:
    """Horner's scheme as a numba function."""
    first, rest = coefficients[0], coefficients[1:]

    @njit
    def evaluate(x: Any) -> Any:
        value = splat(first, x)
        for c in rest:
            value = value * x + c
        return value

    return evaluate


def exp(x: Any) -> Any:
    """Exponential; saturates outside the range of normal numbers."""


@overload(exp)
def _exp(x: Any) -> Any:
    bits = x.dtype.bitwidth
    (high, low), limit, polynomial = _LN2[bits], _EXP_RANGE[bits], _polynomial(_EXP[bits])

    def implementation(x: Any) -> Any:
        x = where_less(x, -limit, -limit, where_less(limit, x, limit, x))
        n = floor(x * 1.4426950408889634 + 0.5)
        return scale_exponent(polynomial((x - n * high) - n * low), n)

    return implementation


def log(x: Any) -> Any:
    """Natural logarithm of positive normal numbers."""


@overload(log)
def _log(x: Any) -> Any:
    bits = x.dtype.bitwidth
    high, low = _LN2[bits]
    if bits == 32:
        ratio = _polynomial(_LOG32)

        def implementation(x: Any) -> Any:
            m, e = split_exponent(x)
            t = m - 1.0
            return e * high + (e * low + t * ratio(t))

    else:
        ratio = _polynomial(_LOG64)

        def implementation(x: Any) -> Any:
            m, e = split_exponent(x)
            s = (m - 1.0) / (m + 1.0)
            return e * high + (e * low + 2.0 * s * ratio(s * s))

    return implementation


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""


@overload(tanh)
def _tanh(x: Any) -> Any:
    def implementation(x: Any) -> Any:
        return 1.0 - 2.0 / (exp(2.0 * x) + 1.0)

    return implementation


def angle(y: Any, x: Any) -> Any:
    """Angle of the point (x, y) with y >= 0, in [0, pi]."""


@overload(angle)
def _angle(y: Any, x: Any) -> Any:
    ratio = _polynomial(_ATAN[x.dtype.bitwidth])
    eighth, quarter, half = math.tan(math.pi / 8), math.pi / 4, math.pi / 2

    def implementation(y: Any, x: Any) -> Any:
        size = where_less(x, 0.0, -x, x)
        near = where_less(y, size, y, size)
        far = where_less(y, size, size, y) + 1e-30
        # tan(a - pi/4) = (t - 1) / (t + 1) halves the interval twice.
        t = where_less(near, eighth * far, near / far, (near - far) / (near + far))
        a = where_less(near, eighth * far, 0.0, quarter) + t * ratio(t * t)
        a = where_less(y, size, a, half - a)
        return where_less(x, 0.0, math.pi - a, a)

    return implementation
