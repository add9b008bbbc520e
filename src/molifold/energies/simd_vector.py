"""Vectors of numbers inside numba functions: one lane per conformation, guaranteed to become SIMD instructions.

``load(array, row)`` reads one row of a C-contiguous array whose last axis has ``lanes(dtype)`` entries (16 for float32,
8 for float64: 512 bits; LLVM splits them on narrower machines) into a vector, ``store`` writes one. Vectors know
``+ - * /`` among themselves and with scalars, and the functions below. Nothing here relies on LLVM's loop vectoriser,
which gives up on the many possibly overlapping pointers of a force field, nor on an external vector-math library.

``simd_math`` builds exp, log, tanh and angles from these.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

#: Untyped, because the functions below are called without their first argument.
intrinsic: Any = extending.intrinsic

#: Width of a vector in bits: one AVX-512 register.
BITS = 512

#: Fast-math flags that keep NaN, infinities and the order of additions (the two-part ln 2 in ``exp`` needs the latter).
FAST = ("nsz", "arcp", "contract", "afn")


def lanes(dtype: Any) -> int:
    """Conformations per vector.

    >>> lanes("float32"), lanes("float64")
    (16, 8)
    """
    return BITS // (8 * np.dtype(dtype).itemsize)


class Vector(types.Type):
    """Numba type of a vector of float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = BITS // dtype.bitwidth
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.lanes))


def _splat(context: Any, builder: Any, value: Any, source: types.Type, target: Vector) -> Any:
    """``value`` in every lane."""
    if isinstance(source, Vector):
        return value
    scalar = context.cast(builder, value, source, target.dtype)
    vector = context.get_value_type(target)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), target.lanes), None))


def _register(op: Callable[..., Any], instruction: str) -> None:
    def typing(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            vector = a if isinstance(a, Vector) else b
            other = b if vector is a else a
            fits = other == vector or isinstance(other, (types.Float, types.Integer))
            return vector if isinstance(vector, Vector) and fits else None

        return typer

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = (_splat(context, builder, v, t, sig.return_type) for v, t in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(a, b, flags=FAST)

    type_callable(op)(typing)
    for left, right in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, left, right)(lower)


for _op, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_op, _instruction)


@type_callable(operator.neg)
def _type_neg(context: Any) -> Any:
    return lambda a: a if isinstance(a, Vector) else None


@lower_builtin(operator.neg, Vector)
def _lower_neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0], flags=FAST)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, row: Any, row_type: Any) -> Any:
    """Address of the first lane of ``row``."""
    width = BITS // array_type.dtype.bitwidth
    data = context.make_array(array_type)(context, builder, array).data
    row = context.cast(builder, row, row_type, types.intp)
    offset = builder.mul(row, ir.Constant(row.type, width))
    return cgutils.gep_inbounds(builder, data, offset)


def _check_array(array: Any) -> None:
    if not (isinstance(array, types.Array) and array.layout == "C" and isinstance(array.dtype, types.Float)):
        raise TypeError(f"array: got {array}, expected a C-contiguous array of float32 or float64")


@intrinsic
def load(typing: Any, array: Any, row: Any) -> Any:
    """One row of ``array`` (all axes but the last flattened) as a vector."""
    _check_array(array)
    vector = Vector(array.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], args[1], row)
        address = builder.bitcast(pointer, context.get_value_type(vector).as_pointer())
        return builder.load(address, align=array.dtype.bitwidth // 8, typ=context.get_value_type(vector))

    return vector(array, row), codegen


@intrinsic
def store(typing: Any, array: Any, row: Any, value: Any) -> Any:
    """Write a vector (or one number in all lanes) into a row of ``array``."""
    _check_array(array)
    vector = Vector(array.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], args[1], row)
        address = builder.bitcast(pointer, context.get_value_type(vector).as_pointer())
        builder.store(_splat(context, builder, args[2], value, vector), address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, value), codegen


@intrinsic
def splat(typing: Any, value: Any, like: Any) -> Any:
    """The number ``value`` in all lanes of a vector like ``like``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(context, builder, args[0], value, like)

    return like(value, like), codegen


def _call(builder: Any, name: str, kind: Any, args: Any) -> Any:
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, args, fastmath=FAST)


@intrinsic
def sqrt(typing: Any, a: Any) -> Any:
    """Square root."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "sqrt", args[0].type, args)

    return a(a), codegen


@intrinsic
def rsqrt(typing: Any, a: Any) -> Any:
    """1 / square root; in float32 LLVM refines the hardware's estimate."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = _splat(context, builder, ir.Constant(args[0].type.element, 1.0), a.dtype, a)
        return builder.fdiv(one, _call(builder, "sqrt", args[0].type, args), flags=FAST)

    return a(a), codegen


@intrinsic
def floor(typing: Any, a: Any) -> Any:
    """Largest integer not above."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "floor", args[0].type, args)

    return a(a), codegen


@intrinsic
def where_less(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """``yes`` in the lanes where ``a < b``, else ``no`` (also where either is NaN)."""
    vector = next(t for t in (a, b, yes, no) if isinstance(t, Vector))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a_, b_, yes_, no_ = (_splat(context, builder, v, t, vector) for v, t in zip(args, sig.args, strict=True))
        return builder.select(builder.fcmp_ordered("<", a_, b_), yes_, no_)

    return vector(a, b, yes, no), codegen


@intrinsic
def split_exponent(typing: Any, a: Any) -> Any:
    """``(m, e)`` with ``a = m 2**e`` and ``sqrt(1/2) <= m < sqrt(2)``, for positive normal numbers."""
    mantissa = 23 if a.dtype.bitwidth == 32 else 52
    # Subtracting the bits of sqrt(1/2) puts the step of the exponent field where m wraps round.
    start = 0x3F3504F3 if mantissa == 23 else 0x3FE6A09E667F3BCD

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(a.dtype.bitwidth), kind.count)
        bits = builder.bitcast(args[0], whole)
        shift = ir.Constant(whole, [mantissa] * kind.count)
        exponent = builder.ashr(builder.sub(bits, ir.Constant(whole, [start] * kind.count)), shift)
        m = builder.bitcast(builder.sub(bits, builder.shl(exponent, shift)), kind)
        return context.make_tuple(builder, sig.return_type, (m, builder.sitofp(exponent, kind)))

    return types.UniTuple(a, 2)(a), codegen


@intrinsic
def scale_exponent(typing: Any, a: Any, n: Any) -> Any:
    """``a * 2**n`` for whole numbers ``n`` within the range of normal exponents."""
    mantissa = 23 if a.dtype.bitwidth == 32 else 52
    bias = 127 if mantissa == 23 else 1023

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(a.dtype.bitwidth), kind.count)
        n_ = builder.add(builder.fptosi(args[1], whole), ir.Constant(whole, [bias] * kind.count))
        power = builder.bitcast(builder.shl(n_, ir.Constant(whole, [mantissa] * kind.count)), kind)
        return builder.fmul(args[0], power, flags=FAST)

    return a(a, n), codegen
