"""Torsion angles of an ensemble as columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold import geometry
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule

#: Frames that are read from a memory map at a time (about 70 MB for 100 atoms).
CHUNK = 32_768


def named_torsions(molecule: Molecule) -> dict[str, tuple[int, int, int, int]]:
    """Every rotatable torsion by name, backbone first.

    A backbone angle is ``phi``, ``psi``, ``omega`` (``phi_1``, ``phi_2`` ... along the chain where there are several);
    any other rotatable bond is named by its four atoms.

    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> named_torsions(butane)
    {'C1_C2_C3_C4': (0, 1, 2, 3)}
    """
    from molifold.topology import backbone_torsions, rotatable_torsions

    found: dict[str, tuple[int, int, int, int]] = {}
    for name, rows in backbone_torsions(molecule).items():
        for i, row in enumerate(rows):
            found[f"{name}_{i + 1}" if len(rows) > 1 else name] = _quadruple(row)
    axes = {frozenset(q[1:3]) for q in found.values()}
    for row in rotatable_torsions(molecule):
        q = _quadruple(row)
        if frozenset(q[1:3]) in axes:
            continue
        name = re.sub(r"\W", "", "_".join(molecule.atom_names[i] for i in q))
        # Two residues may use the same atom names; column names start with a letter (see ``molifold.store``).
        name = name if name not in found else f"{name}_{molecule.residue_ids[q[1]]}"
        name = name if name[:1].isalpha() else f"torsion_{name}"
        found[name if name not in found else "torsion_" + "_".join(map(str, q))] = q
    return found


def _quadruple(row: Sequence[int]) -> tuple[int, int, int, int]:
    a, b, c, d = (int(i) for i in row)
    return a, b, c, d


def measure(ensemble: Ensemble, *, names: Sequence[str] | None = None, chunk: int = CHUNK) -> Ensemble:
    """The ensemble with its torsion angles as columns (radians, float32).

    Columns that are there already are kept as they are. Coordinates are read ``chunk`` frames at a time, so that a
    memory map is never loaded whole.

    Args:
        ensemble: conformations.
        names: which torsions (see ``named_torsions``); the default is all.
        chunk: frames at a time.

    Raises:
        KeyError: if the molecule has no torsion of that name.

    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]])
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> measure(Ensemble(butane, x)).columns["C1_C2_C3_C4"]
    array([1.5707964], dtype=float32)
    """
    if names is not None and all(name in ensemble.columns for name in names):
        return ensemble
    known = named_torsions(ensemble.molecule)
    wanted = [name for name in (names or known) if name not in ensemble.columns]
    for name in wanted:
        if name not in known:
            raise KeyError(
                f"names: got {name!r}, expected a column or a torsion of {ensemble.molecule!r}: {list(known)}"
            )
    if not wanted:
        return ensemble
    quadruples = np.array([known[name] for name in wanted])
    angle = np.empty((len(wanted), len(ensemble)), dtype=np.float32)
    for start in range(0, len(ensemble), chunk):
        part = np.asarray(ensemble.x[start : start + chunk])
        angle[:, start : start + chunk] = geometry.torsions(part, quadruples).T
    return ensemble.assign(**dict(zip(wanted, angle, strict=True)))


def multimodality(angle: Float[ndarray, " frames"], *, bins: int = 72, width: float = 0.2) -> float:
    """Share of the frames outside the main mode of an angle: 0 for one mode, 2/3 for three equal ones.

    The main mode reaches from the highest point of the histogram, smoothed by a Gaussian of ``width`` (radians), down
    to the next minimum on either side. Used to choose what to show of a molecule without a protein backbone.

    >>> rng = np.random.default_rng(0)
    >>> one, two = rng.normal(0, 0.2, 10_000), np.concatenate([rng.normal(c, 0.2, 5_000) for c in (-1.5, 1.5)])
    >>> multimodality(one) < 0.01, round(multimodality(two), 1)
    (True, 0.5)
    """
    counts = np.histogram(geometry.wrap(np.asarray(angle, dtype=float)), bins, range=(-np.pi, np.pi))[0]
    centres = np.arange(bins) * 2 * np.pi / bins
    kernel = np.exp(-0.5 * (geometry.wrap(centres) / width) ** 2)
    smooth = np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(kernel), bins)
    # With the main peak in the middle, walk down on both sides.
    shift = bins // 2 - int(smooth.argmax())
    smooth, counts = np.roll(smooth, shift), np.roll(counts, shift)
    rising = np.diff(smooth) > 1e-3 * smooth.max() / bins
    right = bins // 2 + int(np.argmax(np.append(rising[bins // 2 :], True)))
    left = bins // 2 - int(np.argmax(np.append(~rising[: bins // 2][::-1], True)))
    return float(1 - counts[left : right + 1].sum() / counts.sum())


def most_multimodal(ensemble: Ensemble, names: Sequence[str], *, count: int = 2) -> tuple[str, ...]:
    """The ``count`` torsions of ``names`` with the most frames outside their main mode, in the order of ``names``.

    >>> angles = {"a": np.zeros(6), "b": np.array([0, 0, 0, 2, 2, 2.0]), "c": np.array([0, 0, 2, 2, -2, -2.0])}
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((6, 1, 3)), columns=angles)
    >>> most_multimodal(e, ["a", "b", "c"])
    ('b', 'c')
    """
    score = {name: multimodality(ensemble.columns[name]) for name in names}
    best = sorted(names, key=lambda name: -score[name])[:count]
    return tuple(name for name in names if name in best)
