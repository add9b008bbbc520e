"""Torsions by name, and how many modes an angle has."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold import geometry
from molifold.molecule import Molecule
from molifold.topology import Quadruple, rotatable_torsions

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


def heavy_torsions(molecule: Molecule) -> tuple[str, ...]:
    """Names of the torsions of rotatable bonds with more than hydrogens at both ends.

    >>> heavy_torsions(Molecule.from_sequence("A"))
    ('phi', 'psi', 'omega_ALA2', 'omega_NME3')
    """
    return tuple(name for name, q in named_torsions(molecule).items() if not turns_hydrogens_only(molecule, q))


def turns_hydrogens_only(molecule: Molecule, quadruple: Quadruple) -> bool:
    """Whether one end of a torsion holds nothing but hydrogens, as a methyl group does.

    >>> butane = Molecule.from_smiles("CCCC")
    >>> turns_hydrogens_only(butane, (4, 0, 1, 2)), turns_hydrogens_only(butane, (0, 1, 2, 3))
    (True, False)
    """
    _, b, c, _ = quadruple
    ends = [{molecule.elements[i] for i in molecule.neighbors[end] if i not in (b, c)} for end in (b, c)]
    return {"H"} in ends


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
