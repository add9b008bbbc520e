"""The splines of ``univariate`` in one pass over memory each way, for CPUs: values, log-slopes and analytic gradients.

PyTorch's elementwise operations read and write every spline parameter some twenty times per training step; here
each is read once forwards and once backwards. The formulas are those of ``spline.rational_quadratic``; the tests
compare the two.

A coordinate's parameters are rows of a contiguous ``[n, parameters, batch]`` array, and a vector register holds one
parameter of 16 (float32) or 8 (float64) conformations, a *chunk*. ``kind`` is 0 for real coordinates, 1 for circles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from molifold.energies.compiling import compiled
from molifold.energies.simd import floor, load, splat, sqrt, store, where_less
from molifold.energies.simd_math import exp, log, tanh
from molifold.transforms.spline import MIN_BIN, MIN_SLOPE, TAIL, UNIT_SLOPE

REAL, CIRCLE = 0, 1
TURN = 2 * math.pi


@njit(forceinline=True)
def _softplus(x):
    """``log(1 + exp(x))`` and its derivative, without overflow."""
    tail = exp(where_less(x, 0.0, x, -x))
    positive = where_less(x, 0.0, 0.0 * x, x)
    return positive + log(1.0 + tail), where_less(x, 0.0, tail, 1.0) / (1.0 + tail)


@njit(forceinline=True)
def _same(index, k):
    """One in the lanes where ``index`` (whole numbers) is ``k``, else zero."""
    return where_less(index, k - 0.5, 0.0, where_less(index, k + 0.5, splat(1.0, index), 0.0))


@njit(forceinline=True)
def _shares(raw, first, bins, out):
    """Softmax of ``bins`` rows of ``raw`` into rows of ``out``."""
    top = load(raw, first)
    for k in range(1, bins):
        v = load(raw, first + k)
        top = where_less(top, v, v, top)
    total = splat(0.0, top)
    for k in range(bins):
        e = exp(load(raw, first + k) - top)
        store(out, k, e)
        total = total + e
    inverse = 1.0 / total
    for k in range(bins):
        store(out, k, load(out, k) * inverse)


@njit(forceinline=True)
def _find(t, pw, ph, bins, by_height):
    """Bin of ``t``: index, left and lower edge, width and height."""
    zero = splat(0.0, t)
    free = 1.0 - MIN_BIN * bins
    index, x0, y0 = zero, zero, zero
    w, h = MIN_BIN + free * load(pw, 0), MIN_BIN + free * load(ph, 0)
    right, upper = w, h
    for k in range(1, bins):
        edge = upper if by_height else right
        wk, hk = MIN_BIN + free * load(pw, k), MIN_BIN + free * load(ph, k)
        index = where_less(t, edge, index, splat(1.0 * k, t))
        x0, y0 = where_less(t, edge, x0, right), where_less(t, edge, y0, upper)
        w, h = where_less(t, edge, w, wk), where_less(t, edge, h, hk)
        right, upper = right + wk, upper + hk
    return index, x0, y0, w, h


@njit(forceinline=True)
def _slopes(raw, first, bins, index, kind):
    """Slopes at the two ends of the bin and their derivatives by the raw ones."""
    zero = splat(0.0, index)
    left, right = zero, zero
    for k in range(bins - 1 if kind == REAL else bins):
        v = load(raw, first + k)
        knot = k + 1 if kind == REAL else k
        left = left + _same(index, knot) * v
        right = right + _same(index, knot - 1 if knot > 0 else bins - 1) * v
    d0, g0 = _softplus(left + UNIT_SLOPE)
    d1, g1 = _softplus(right + UNIT_SLOPE)
    d0, d1 = MIN_SLOPE + d0, MIN_SLOPE + d1
    if kind == REAL:  # the end slopes of the line are one
        start, end = _same(index, 0), _same(index, bins - 1)
        d0, g0 = d0 + start * (1.0 - d0), g0 * (1.0 - start)
        d1, g1 = d1 + end * (1.0 - d1), g1 * (1.0 - end)
    return d0, d1, g0, g1


@njit(forceinline=True)
def _position(t, x0, y0, w, h, d0, d1, inverse):
    """Where ``t`` lies in its bin, 0 to 1."""
    s = h / w
    rise = t - y0
    curve = d0 + d1 - 2.0 * s
    a, b, c = h * (s - d0) + rise * curve, h * d0 - rise * curve, -s * rise
    square = b * b - 4.0 * a * c
    root = 2.0 * c / (-b - sqrt(where_less(square, 0.0, 0.0 * square, square)))
    return root if inverse else (t - x0) / w


@njit(forceinline=True)
def _unit(angle):
    """Angles to [0, 1), periodic."""
    turns = angle / TURN + 0.5
    return turns - floor(turns)


@njit(forceinline=True)
def _enter(x, raw, kind, inverse):
    """Argument of the spline, whether it is inside, and the log-scale and its derivative by the raw one."""
    zero = splat(0.0, x)
    one = splat(1.0, x)
    if kind == CIRCLE:
        return _unit(x if inverse else x - load(raw, 0)), one, zero, zero, x
    half = tanh(0.5 * load(raw, 1))
    log_scale = 2.0 * half
    u = x if inverse else (x - load(raw, 0)) * exp(-log_scale)
    inside = where_less(u, TAIL, where_less(-u, TAIL, one, zero), zero)
    t = u / (2.0 * TAIL) + 0.5
    t = where_less(t, 0.0, zero, where_less(t, 1.0, t, one))
    return t, inside, log_scale, 1.0 - half * half, u


@njit(forceinline=True)
def _stage(raw, first, stride, rows, out):
    """Copy the parameters of one chunk side by side: their own stride would map them to one cache set."""
    for p in range(rows):
        store(out, p, load(raw, first + p * stride))


@njit(forceinline=True)
def _differentiate(z, w, h, d0, d1):
    """Value relative to the bin's height, slope, and the derivatives by z that the gradients are made of."""
    s, q = h / w, 1.0 - z
    curve = d0 + d1 - 2.0 * s
    below = s + curve * z * q
    top = s * z * z + d0 * z * q
    area = d1 * z * z + 2.0 * s * z * q + d0 * q * q
    top_z = 2.0 * s * z + d0 * (q - z)
    below_z = curve * (q - z)
    area_z = 2.0 * d1 * z + 2.0 * s * (q - z) - 2.0 * d0 * q
    return s, top, below, area, top_z, below_z, area_z, s * s * area / (below * below)


@compiled()
def forward(x, raw, value, log_det, kind, inverse, bins, chunks, first_chunk, last_chunk):
    """Fill ``value [n, batch]`` and add up ``log_det [batch]`` over the coordinates."""
    n, rows = raw.shape[0], raw.shape[1]
    lanes = raw.shape[3]
    own = np.empty((rows, lanes), raw.dtype)
    pw, ph = np.empty((bins, lanes), raw.dtype), np.empty((bins, lanes), raw.dtype)
    offset = 2 if kind == REAL else 1
    for c in range(first_chunk, last_chunk):
        total = splat(0.0, load(x, c))
        for i in range(n):
            _stage(raw, i * rows * chunks + c, chunks, rows, own)
            t, inside, log_scale, _, u = _enter(load(x, i * chunks + c), own, kind, inverse)
            _shares(own, offset, bins, pw)
            _shares(own, offset + bins, bins, ph)
            index, x0, y0, w, h = _find(t, pw, ph, bins, inverse)
            d0, d1, _, _ = _slopes(own, offset + 2 * bins, bins, index, kind)
            z = _position(t, x0, y0, w, h, d0, d1, inverse)
            _, top, below, _, _, _, _, slope = _differentiate(z, w, h, d0, d1)
            log_slope = log(slope)
            v = z * w + x0 if inverse else y0 + h * top / below
            if kind == CIRCLE:
                v = (v - 0.5) * TURN
                if inverse:
                    v = (_unit(v + load(own, 0)) - 0.5) * TURN
            else:
                v = inside * (v - 0.5) * (2.0 * TAIL) + (1.0 - inside) * u
                log_slope = inside * log_slope - log_scale
                if inverse:
                    v = v * exp(log_scale) + load(own, 0)
            store(value, i * chunks + c, v)
            total = total + (-log_slope if inverse else log_slope)
        store(log_det, c, load(log_det, c) + total)


@njit(forceinline=True)
def _store_bin_gradients(g_raw, row, stride, bins, shares, index, g_edge, g_size):
    """Through softmax and cumulative sum: bins before the chosen one moved its edge, the chosen one its size."""
    one = splat(1.0, index)
    mean = 0.0 * index
    for k in range(bins):
        g = where_less(splat(k + 0.5, index), index, one, 0.0) * g_edge + _same(index, k) * g_size
        mean = mean + load(shares, k) * g
    for k in range(bins):
        g = where_less(splat(k + 0.5, index), index, one, 0.0) * g_edge + _same(index, k) * g_size
        store(g_raw, row + k * stride, (1.0 - MIN_BIN * bins) * load(shares, k) * (g - mean))


@njit(forceinline=True)
def _store_slope_gradients(g_raw, row, stride, bins, index, g_left, g_right, kind):
    for k in range(bins - 1 if kind == REAL else bins):
        knot = k + 1 if kind == REAL else k
        right = _same(index, knot - 1 if knot > 0 else bins - 1)
        store(g_raw, row + k * stride, _same(index, knot) * g_left + right * g_right)


@compiled()
def backward(x, raw, g_value, g_log_det, g_x, g_raw, kind, inverse, bins, chunks, first_chunk, last_chunk):
    """Fill the gradients ``g_x [n, batch]`` and ``g_raw [n, parameters, batch]``."""
    n, rows, lanes = raw.shape[0], raw.shape[1], raw.shape[3]
    own = np.empty((rows, lanes), raw.dtype)
    pw, ph = np.empty((bins, lanes), raw.dtype), np.empty((bins, lanes), raw.dtype)
    offset = 2 if kind == REAL else 1
    span = 2.0 * TAIL if kind == REAL else TURN
    for c in range(first_chunk, last_chunk):
        for i in range(n):
            base = i * rows * chunks + c
            _stage(raw, base, chunks, rows, own)
            t, inside, log_scale, g_scale, u = _enter(load(x, i * chunks + c), own, kind, inverse)
            _shares(own, offset, bins, pw)
            _shares(own, offset + bins, bins, ph)
            index, x0, y0, w, h = _find(t, pw, ph, bins, inverse)
            d0, d1, r0, r1 = _slopes(own, offset + 2 * bins, bins, index, kind)
            z = _position(t, x0, y0, w, h, d0, d1, inverse)
            s, top, below, area, top_z, below_z, area_z, slope = _differentiate(z, w, h, d0, d1)
            out, log_out = load(g_value, i * chunks + c), load(g_log_det, c)
            scale = exp(log_scale)
            # g_v, g_l: gradients by the spline's own value and log-slope, whichever direction was asked for.
            if inverse:
                # f(z) = t defines z: implicit differentiation turns the inverse's gradients into the forward's.
                by_u = out * scale
                g_t = (by_u * span - log_out * (area_z / area - 2.0 * below_z / below) / w) / slope
                g_v, g_l = -g_t * inside, -log_out * inside
            else:
                by_u = out
                g_v, g_l = out * span * inside, log_out * inside
            g_top, g_area = g_v * h / below, g_l / area
            g_below = -(g_v * h * top / below + 2.0 * g_l) / below
            g_z = g_area * area_z + g_top * top_z + g_below * below_z
            zz, m, qq = z * z, z * (1.0 - z), (1.0 - z) * (1.0 - z)
            g_s = 2.0 * g_l / s + 2.0 * g_area * m + g_top * zz + g_below * (1.0 - 2.0 * m)
            row = base + offset * chunks
            g_w = -(g_z * z + g_s * s) / w
            _store_bin_gradients(g_raw, row, chunks, bins, pw, index, -g_z / w, g_w)
            row += bins * chunks
            _store_bin_gradients(g_raw, row, chunks, bins, ph, index, g_v, g_v * top / below + g_s / w)
            row += bins * chunks
            g_left, g_right = r0 * (g_area * qq + (g_top + g_below) * m), r1 * (g_area * zz + g_below * m)
            _store_slope_gradients(g_raw, row, chunks, bins, index, g_left, g_right, kind)
            if not inverse:
                g_t = g_z / w
            g_in = inside * g_t / span + (1.0 - inside) * by_u
            if kind == CIRCLE:
                store(g_raw, base, out if inverse else -g_in)
            elif inverse:
                v = inside * (z * w + x0 - 0.5) * span + (1.0 - inside) * u
                store(g_raw, base, out)
                store(g_raw, base + chunks, (by_u * v + log_out) * g_scale)
            else:
                store(g_raw, base + chunks, -(g_in * u + log_out) * g_scale)
                g_in = g_in / scale
                store(g_raw, base, -g_in)
            store(g_x, i * chunks + c, g_in)
