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
from molifold.topology import Quadruple, rotatable_torsions

#: Frames that are read from a memory map at a time (about 70 MB for 100 atoms).
CHUNK = 32_768
#: In the order in which they are shown.
BACKBONE = ("phi", "psi", "omega")


def named_torsions(molecule: Molecule) -> dict[str, Quadruple]:
    """One torsion of every rotatable bond, backbone first, under names that can be columns.

    The names of ``topology.rotatable_torsions`` with anything but letters and digits turned into ``_``;
    the residue is left out where it is not needed: ``phi``, ``psi``, but ``phi_ALA2``, ``phi_ALA3`` in a longer chain.

    >>> list(named_torsions(Molecule.from_sequence("A")))
    ['phi', 'psi', 'omega_ALA2', 'omega_NME3', 'ACE1_CH3_ACE1_C', 'ALA2_CA_ALA2_CB', 'NME3_N_NME3_C']
    """
    kinds = [name.split()[0] for name in rotatable_torsions(molecule)]
    found: dict[str, Quadruple] = {}
    for name, quadruple in rotatable_torsions(molecule).items():
        kind = name.split()[0]
        short = kind if kind in BACKBONE and kinds.count(kind) == 1 else re.sub(r"\W+", "_", name).strip("_")
        short = short if short[:1].isalpha() else f"torsion_{short}"
        found[short if short not in found else f"{short}_{'_'.join(map(str, quadruple))}"] = quadruple
    rank = {kind: i for i, kind in enumerate(BACKBONE)}
    return dict(sorted(found.items(), key=lambda item: rank.get(item[0].split("_")[0], len(rank))))


def ramachandran_pairs(ensemble: Ensemble) -> tuple[tuple[str, str], ...]:
    """The pairs of torsions worth a map: (phi, psi) of every residue that has both, else the two that vary most.

    "Vary most" is the share of frames outside the main mode; rotors of hydrogens alone (methyl) come last. Empty for a
    molecule with fewer than two torsions.

    Args:
        ensemble: conformations; torsions are measured where they are no columns yet.

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
    dull = {name: _turns_hydrogens_only(ensemble.molecule, q) for name, q in known.items()}
    best = sorted(known, key=lambda name: (dull[name], -multimodality(ensemble.columns[name])))[:2]
    first, second = (name for name in known if name in best)
    return ((first, second),)


def _turns_hydrogens_only(molecule: Molecule, quadruple: Quadruple) -> bool:
    _, b, c, _ = quadruple
    ends = [{molecule.elements[i] for i in molecule.neighbors[end] if i not in (b, c)} for end in (b, c)]
    return {"H"} in ends


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
    >>> measure(Ensemble(butane, x)).columns["C2_C3"]
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
