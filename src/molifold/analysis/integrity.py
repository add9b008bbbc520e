"""Whether conformations are chemically whole: bonds, clashes, chirality, judged by frames that are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold import geometry
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

#: Van der Waals radii (nm), Bondi (1964), doi:10.1021/j100785a001; 0.17 for others.
RADII = {"H": 0.120, "C": 0.170, "N": 0.155, "O": 0.152, "F": 0.147, "P": 0.180, "S": 0.180, "Cl": 0.175}
#: Atoms three or more bonds apart that come closer than this share of the sum of their radii clash. A strong hydrogen
#: bond (H...O at 0.165 nm) stays above it.
CLASH = 0.6
#: Constrained bonds have no spread; rounding in a trajectory file has this one (nm).
LEAST_SPREAD = 1e-4


@dataclass(frozen=True)
class Integrity:
    """Per frame: largest deviation of a bond in standard deviations, number of clashes, number of inverted centres."""

    bond_deviation: Float[ndarray, " frames"]
    clashes: Int[ndarray, " frames"]
    inversions: Int[ndarray, " frames"]
    tolerance: float = 3.0

    @property
    def whole(self) -> Bool[ndarray, " frames"]:
        """Frames without any fault."""
        return (self.bond_deviation <= self.tolerance) & (self.clashes == 0) & (self.inversions == 0)

    def __repr__(self) -> str:
        worst = self.bond_deviation.max(initial=0.0)
        return (
            f"{self.whole.sum()} of {len(self.whole)} frames whole: {(self.clashes > 0).sum()} with clashes, "
            f"{(self.inversions > 0).sum()} with inverted centres, {(self.bond_deviation > self.tolerance).sum()} with "
            f"a bond beyond {self.tolerance:g} sigma (largest {worst:.1f})"
        )


def integrity(ensemble: Ensemble, reference: Ensemble, *, tolerance: float = 3.0) -> Integrity:
    """Check every frame: bond lengths near those of the reference, no clash, every centre as handed as there.

    A bond may deviate by ``tolerance`` standard deviations. Of 21 bonds, one is beyond 3 standard deviations in some
    5 % of all healthy frames: compare with ``integrity(reference, reference)``.

    Args:
        ensemble: what to check.
        reference: sound conformations of the same molecule.
        tolerance: in standard deviations.

    Raises:
        ValueError: if the molecules differ, or the reference has fewer than 2 frames.

    >>> from molifold import Molecule
    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)))
    >>> x = np.array([[0.1, 0, 0], [0, 0, 0], [0, 0.1, 0]]) + 0.001 * np.random.default_rng(0).normal(size=(500, 3, 3))
    >>> integrity(Ensemble(water, 1.5 * x[:2]), Ensemble(water, x))
    0 of 2 frames whole: 0 with clashes, 0 with inverted centres, 2 with a bond beyond 3 sigma (largest 3...)
    """
    if ensemble.molecule.bonds != reference.molecule.bonds or len(reference) < 2:
        raise ValueError(f"reference: got {reference!r}, expected frames of {ensemble.molecule!r}")
    molecule = ensemble.molecule
    bonds = np.array([b[:2] for b in molecule.bonds])
    lengths = geometry.distances(np.asarray(reference.x, dtype=float), bonds)
    spread = np.maximum(lengths.std(axis=0), LEAST_SPREAD)
    x = np.asarray(ensemble.x, dtype=float)
    deviation = np.abs(geometry.distances(x, bonds) - lengths.mean(axis=0)) / spread
    pairs, closest = _apart(molecule)
    centres = _centres(molecule)
    right = np.sign(np.sign(_handedness(np.asarray(reference.x, dtype=float), centres)).sum(axis=0))
    return Integrity(
        bond_deviation=deviation.max(axis=1, initial=0.0),
        clashes=(geometry.distances(x, pairs) < closest).sum(axis=1),
        inversions=(np.sign(_handedness(x, centres)) == -right).sum(axis=1),
        tolerance=tolerance,
    )


def _apart(molecule: Molecule) -> tuple[Int[ndarray, "pairs 2"], Float[ndarray, " pairs"]]:
    """Pairs of atoms three or more bonds apart, and the distance below which they clash."""
    hops = np.asarray(molecule.hops)
    i, j = np.triu_indices(molecule.n_atoms, k=1)
    far = (hops[i, j] >= 3) | (hops[i, j] < 0)
    radius = np.array([RADII.get(e, 0.17) for e in molecule.elements])
    return np.stack([i[far], j[far]], axis=1), CLASH * (radius[i] + radius[j])[far]


def _centres(molecule: Molecule) -> Int[ndarray, "centres 4"]:
    """Atoms with four neighbours of which at most one is hydrogen, each with three of them, heavy ones first."""
    rows = []
    for atom, neighbours in enumerate(molecule.neighbors):
        heavy = [n for n in neighbours if molecule.elements[n] != "H"]
        if len(neighbours) == 4 and len(heavy) >= 3:
            rows.append([atom, *heavy[:3]])
    return np.array(rows, dtype=int).reshape(-1, 4)


def _handedness(x: Float[ndarray, "frames atoms 3"], centres: Int[ndarray, "centres 4"]) -> ndarray:
    a, b, c = (x[:, centres[:, k]] - x[:, centres[:, 0]] for k in (1, 2, 3))
    return (np.cross(a, b) * c).sum(-1)
