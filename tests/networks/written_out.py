"""Pieces of networks in NumPy, for formulas written out atom by atom."""

import numpy as np


def array(p):
    return p.detach().double().numpy()


def silu(v):
    return v / (1 + np.exp(-v))


def linear(layer, v):
    return array(layer.weight) @ v + (0 if layer.bias is None else array(layer.bias))
