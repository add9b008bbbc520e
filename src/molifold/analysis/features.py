"""How conformations become vectors: torsions on their circles, columns, or superposed coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.columns import CHUNK, measure
from molifold.analysis.torsions import BACKBONE, heavy_torsions, named_torsions
from molifold.ensemble import Ensemble
from molifold.geometry import superpose


@dataclass(frozen=True)
class Features:
    """A rule that turns an ensemble into vectors ``[frames, features]``; called with another ensemble it does the same.

    Columns in ``periodic`` enter as cosine and sine, so that the distance between two angles does not see the seam.
    Coordinates (``reference`` is not None) are those of ``atoms`` superposed on it, in nm.
    """

    columns: tuple[str, ...]
    periodic: tuple[str, ...] = ()
    atoms: tuple[int, ...] = ()
    reference: Float[ndarray, "atoms 3"] | None = None

    def __call__(self, ensemble: Ensemble) -> Float[ndarray, "frames features"]:
        """Vectors of an ensemble.

        Raises:
            KeyError: if a column is missing and no torsion of that name exists.
            ValueError: if a value is not finite.
        """
        if self.reference is not None:
            return self._coordinates(ensemble, self.reference)
        ensemble = measure(ensemble, names=self.columns)
        parts: list[ndarray] = []
        for name in self.columns:
            value = np.asarray(ensemble.columns[name], dtype=np.float64).reshape(len(ensemble), -1)
            if not np.isfinite(value).all():
                broken = int((~np.isfinite(value).all(axis=1)).sum())
                raise ValueError(
                    f"{name}: got {broken} frames with NaN or infinite values, expected numbers; leave them out first"
                )
            parts += [np.cos(value), np.sin(value)] if name in self.periodic else [value]
        return np.concatenate(parts, axis=1)

    def _coordinates(self, ensemble: Ensemble, reference: ndarray) -> Float[ndarray, "frames features"]:
        atoms = list(self.atoms)
        out = np.empty((len(ensemble), 3 * len(atoms)))
        for start in range(0, len(ensemble), CHUNK):
            x = np.asarray(ensemble.x[start : start + CHUNK], dtype=np.float64)[:, atoms]
            out[start : start + CHUNK] = superpose(x, reference).reshape(len(x), -1)
        return out

    def __repr__(self) -> str:
        if self.reference is not None:
            return f"Features({len(self.atoms)} superposed atoms)"
        return f"Features({', '.join(self.columns)})"


def features(
    ensemble: Ensemble, of: str | Sequence[str] = "torsions", *, periodic: Sequence[str] | None = None
) -> Features:
    """The rule for vectors of an ensemble: its torsions, its columns, or its heavy atoms superposed.

    Args:
        ensemble: conformations; the first frame is what "coordinates" are superposed on.
        of: "torsions" (of every rotatable bond that moves more than hydrogens), "coordinates" (of heavy atoms), or
            names of columns or torsions.
        periodic: which columns are angles in radians; None takes the torsions of the molecule.

    Raises:
        ValueError: if the molecule has no such torsions.
        KeyError: if a name is neither a column nor a torsion.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule.from_sequence("A"), np.random.default_rng(0).normal(size=(5, 22, 3)))
    >>> features(e), features(e)(e).shape, features(e, "coordinates")
    (Features(phi, psi, omega_ALA2, omega_NME3), (5, 8), Features(10 superposed atoms))
    """
    if of == "coordinates":
        heavy = tuple(i for i, element in enumerate(ensemble.molecule.elements) if element != "H")
        atoms = heavy or tuple(range(ensemble.molecule.n_atoms))
        return Features((), atoms=atoms, reference=np.asarray(ensemble.x[0], dtype=np.float64)[list(atoms)])
    if of == "torsions":
        columns = heavy_torsions(ensemble.molecule)
        if not columns:
            raise ValueError(f"of: {ensemble.molecule!r} has no torsion that moves heavy atoms; use of='coordinates'")
    else:
        columns = (of,) if isinstance(of, str) else tuple(of)
    known = named_torsions(ensemble.molecule)
    for name in columns:
        if name not in known and name not in ensemble.columns:
            raise KeyError(f"of: got {name!r}, expected a column {list(ensemble.columns)} or a torsion {list(known)}")
    return Features(columns, periodic=periodic_columns(ensemble, columns, periodic=periodic))


def periodic_columns(
    ensemble: Ensemble, names: Sequence[str], *, periodic: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Which of ``names`` are angles: those in ``periodic``, or else torsions of the molecule and protein names.

    >>> from molifold import Molecule
    >>> periodic_columns(Ensemble(Molecule(elements=("X",)), np.zeros((1, 1, 3))), ["phi", "energy"])
    ('phi',)
    """
    if periodic is not None:
        return tuple(name for name in names if name in periodic)
    known = named_torsions(ensemble.molecule)
    return tuple(name for name in names if name in known or name.split("_")[0] in BACKBONE)


def subsample(frames: int, limit: int, *, seed: int = 0) -> ndarray:
    """At most ``limit`` frames, chosen evenly at random, in order.

    >>> subsample(3, 10)
    array([0, 1, 2])
    """
    if frames <= limit:
        return np.arange(frames)
    return np.sort(np.random.default_rng(seed).choice(frames, limit, replace=False))
