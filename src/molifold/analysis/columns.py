"""Degrees of freedom as columns of an ensemble, and which pairs of torsions are worth a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molifold.analysis.freedom import KINDS, degrees_of_freedom, values
from molifold.analysis.torsions import multimodality, named_torsions, turns_hydrogens_only
from molifold.ensemble import Ensemble

#: Frames that are read from a memory map at a time (about 40 MB for 100 atoms in float32).
CHUNK = 32_768


def ramachandran_pairs(ensemble: Ensemble) -> tuple[tuple[str, str], ...]:
    """The pairs of torsions worth a map: (phi, psi) of every residue that has both, else the two that vary most.

    "Vary most" is the share of frames outside the main mode; rotors of hydrogens alone (methyl) come last. Empty for a
    molecule with fewer than two torsions.

    Args:
        ensemble: conformations; torsions are measured where they are no columns yet.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=(4, 22, 3))
    >>> ramachandran_pairs(Ensemble(Molecule.from_sequence("A"), x))
    (('phi', 'psi'),)
    """
    known = named_torsions(ensemble.molecule)
    pairs = [(name, name.replace("phi", "psi", 1)) for name in known if name.split("_")[0] == "phi"]
    pairs = [pair for pair in pairs if pair[1] in known]
    if pairs:
        return tuple(pairs)
    if len(known) < 2:
        return ()
    ensemble = measure(ensemble)
    dull = {name: turns_hydrogens_only(ensemble.molecule, q) for name, q in known.items()}
    best = sorted(known, key=lambda name: (dull[name], -multimodality(ensemble.columns[name])))[:2]
    first, second = (name for name in known if name in best)
    return ((first, second),)


def measure(ensemble: Ensemble, *, names: Sequence[str] | None = None, chunk: int = CHUNK) -> Ensemble:
    """The ensemble with degrees of freedom as columns (radians or nm, float32).

    Columns that are there already are kept as they are. Coordinates are read ``chunk`` frames at a time, so that a
    memory map is never loaded whole.

    Args:
        ensemble: conformations.
        names: which (see ``degrees_of_freedom``); the default is one torsion of every rotatable bond.
        chunk: frames at a time.

    Raises:
        KeyError: if the molecule has no degree of freedom of that name.

    >>> from molifold import Molecule
    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]])
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> measure(Ensemble(butane, x)).columns["C2_C3"]
    array([1.5707964], dtype=float32)
    """
    if names is not None and all(name in ensemble.columns for name in names):
        return ensemble
    molecule = ensemble.molecule
    wanted = [name for name in (names or named_torsions(molecule)) if name not in ensemble.columns]
    if not wanted:
        return ensemble
    kinds = ("torsion",) if set(wanted) <= named_torsions(molecule).keys() else KINDS
    known = {f.name: f for f in degrees_of_freedom(molecule, kinds=kinds)} if molecule.dimensions == 3 else {}
    for name in wanted:
        if name not in known:
            raise KeyError(
                f"names: got {name!r}, expected a column or a degree of freedom of {molecule!r}, such as "
                f"{list(known)[:8]}"
            )
    freedoms = [known[name] for name in wanted]
    found = np.empty((len(wanted), len(ensemble)), dtype=np.float32)
    for start in range(0, len(ensemble), chunk):
        part = np.asarray(ensemble.x[start : start + chunk])
        found[:, start : start + chunk] = values(part, freedoms, molecule=molecule)
    return ensemble.assign(**dict(zip(wanted, found, strict=True)))
