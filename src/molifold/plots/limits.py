"""How far marks reach along an axis."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.plots.marks import Bars, Mark, Points, Steps, arrays


def reach(which: Literal["x", "y"], mark: Mark) -> Float[ndarray, " values"]:
    """Every value of a mark along one axis; of histograms and bars also where they stand.

    >>> from molifold.plots.marks import Line
    >>> reach("y", Line(x=[0, 1], y=[2, 3])), reach("y", Steps(edges=[0, 1, 2], values=[4, 5]))
    (array([2, 3]), array([4., 5., 0.]))
    """
    named = arrays(mark)
    across = "y" if isinstance(mark, Bars) and mark.horizontal else "x"  # along which `at` lies
    keys = [which, *(("edges",) if which == "x" else ())]
    if isinstance(mark, Points):
        keys += ["low", "high"] if mark.along == which else []
    elif which != across:
        keys += ["low", "high"]
    found = [named[key].ravel() for key in keys if key in named]
    if isinstance(mark, Steps) and which == "y":
        found += [mark.base + mark.values, np.array([mark.base])]
    if isinstance(mark, Bars) and which == across:
        found += [mark.at - mark.thickness / 2, mark.at + mark.thickness / 2]
    return np.concatenate(found) if found else np.empty(0)
