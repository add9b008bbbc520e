"""SIMD vectors for numba functions and their mathematics: everything of ``simd_vector`` and ``simd_math`` in one place.

A kernel written with them reads like arithmetic on single numbers and becomes vector instructions by construction.
"""

from molifold.energies.simd_math import angle, exp, log, tanh
from molifold.energies.simd_vector import (
    BITS,
    FAST,
    Vector,
    floor,
    lanes,
    load,
    rsqrt,
    scale_exponent,
    splat,
    split_exponent,
    sqrt,
    store,
    where_less,
)

__all__ = [
    "BITS",
    "FAST",
    "Vector",
    "angle",
    "exp",
    "floor",
    "lanes",
    "load",
    "log",
    "rsqrt",
    "scale_exponent",
    "splat",
    "split_exponent",
    "sqrt",
    "store",
    "tanh",
    "where_less",
]
