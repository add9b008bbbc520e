"""Bijections with exact log-determinants."""

from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.marginal import Marginal
from molifold.transforms.spline import rational_quadratic
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Chain, Inverse, Transform
from molifold.transforms.zmatrix import ZMatrix, zmatrix

__all__ = [
    "Chain",
    "Coupling",
    "InternalCoordinates",
    "Inverse",
    "Marginal",
    "Standardize",
    "Transform",
    "ZMatrix",
    "rational_quadratic",
    "zmatrix",
]
