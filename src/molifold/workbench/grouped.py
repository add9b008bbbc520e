"""Clusters of an ensemble as one more column of the map: found in some frames, and a rule for all others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from molifold.analysis.features import features
from molifold.analysis.methods import DensityPeaks
from molifold.ensemble import Ensemble

#: Frames in which clusters are looked for: every other frame goes to the cluster of the nearest of them.
LOOKED_AT = 4000


def clusters(sample: Ensemble) -> Callable[[Ensemble], Int[ndarray, " frames"]]:
    """A rule that gives frames the number of their cluster (density peaks over torsions); 0 is the largest.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).vonmises(np.repeat([[-2.0], [1.0]], [300, 600], axis=0), 40.0, (900, 2))
    >>> molecule = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> e = Ensemble(molecule, np.zeros((900, 4, 3)), columns={"C2_C3": x[:, 0]})
    >>> rule = clusters(e)
    >>> rule(e)[[0, 899]].tolist()
    [1, 0]
    """
    vectors = features(sample, "torsions")
    points = vectors(sample)
    found = DensityPeaks()(points, np.ones(len(points)), 0)
    sizes = np.bincount(found.labels[found.labels >= 0])
    rank = np.argsort(np.argsort(-sizes, kind="stable"))
    rule = found.renamed(rank)
    return lambda part: rule(vectors(part))
