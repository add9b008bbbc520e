"""Degrees of freedom of a molecule: what can be measured of a conformation, with names, supports and units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from molifold import geometry
from molifold.analysis.torsions import named_torsions
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.topology import chiral_centres, proper_torsions, rings

Support = Literal["circle", "interval", "positive", "real"]
Kind = Literal[
    "torsion", "improper", "angle", "bond", "distance", "pucker", "radius of gyration", "hydrogen bond", "energy"
]
#: What ``degrees_of_freedom`` enumerates; distances are chosen by hand, energies come with an ensemble.
KINDS: tuple[Kind, ...] = ("torsion", "improper", "angle", "bond", "pucker", "radius of gyration", "hydrogen bond")
#: How those that are measured on two, three or four atoms are, and how many numbers are at a time without a compiler.
MEASURED = {
    "torsion": geometry.torsions, "improper": geometry.torsions, "angle": geometry.angles, "bond": geometry.distances,
    "distance": geometry.distances, "hydrogen bond": geometry.distances,
}  # fmt: skip
PIECE = 32_768
#: Hydrogen to acceptor (nm) and angle donor-hydrogen-acceptor (radians) of a hydrogen bond, Baker and Hubbard 1984.
BAKER_HUBBARD = (0.25, 2 * np.pi / 3)


@dataclass(frozen=True)
class DegreeOfFreedom:
    """One number per conformation.

    ``atoms`` are those that it is measured on, ``unit`` is nm, rad or kT. ``component`` tells the parts of a ring
    pucker apart: "amplitude2", "phase2", "height3", ... (Cremer and Pople 1975); it is "chiral" for the improper of a
    chiral centre.
    """

    name: str
    kind: Kind
    atoms: tuple[int, ...]
    support: Support
    unit: str
    component: str = ""


def degrees_of_freedom(
    molecule: Molecule, *, kinds: Iterable[Kind] = KINDS, distances: Sequence[tuple[int, int]] = ()
) -> tuple[DegreeOfFreedom, ...]:
    """Everything that can be measured of a molecule, named so that each can be a column.

    One torsion of every rotatable bond comes first, under the name that ``named_torsions`` gives it. Impropers are the
    torsion centre-a-b-c of three neighbours: 0 for a planar centre, and of opposite sign for the two hands of a chiral
    one. Hydrogen bonds are the distances from hydrogens on N or O to N and O at least four bonds away.

    Args:
        molecule: in three dimensions.
        kinds: which.
        distances: pairs of atoms to add.

    Raises:
        ValueError: if the molecule lives in fewer than three dimensions, a kind is unknown, or an atom does not exist.

    >>> from collections import Counter
    >>> Counter(d.kind for d in degrees_of_freedom(Molecule.from_sequence("A"))).most_common(4)
    [('torsion', 41), ('angle', 36), ('bond', 21), ('improper', 5)]
    """
    kinds = tuple(kinds)
    unknown = [k for k in kinds if k not in KINDS]
    if unknown:
        raise ValueError(f"kinds: got {unknown}, expected some of {', '.join(KINDS)}")
    if molecule.dimensions != 3:
        raise ValueError(f"molecule: got {molecule!r} in {molecule.dimensions} dimensions, expected three")
    wrong = [pair for pair in distances if not all(0 <= i < molecule.n_atoms for i in pair)]
    if wrong:
        raise ValueError(f"distances: got {wrong}, expected pairs of atoms 0 to {molecule.n_atoms - 1}")
    makers = {
        "torsion": _torsions, "improper": _impropers, "angle": _angles, "bond": _bonds, "pucker": _puckers,
        "radius of gyration": _radii, "hydrogen bond": _hydrogen_bonds,
    }  # fmt: skip
    found = [freedom for kind in KINDS if kind in kinds for freedom in makers[kind](molecule)]
    found += [_length(molecule, "distance", pair) for pair in distances]
    return _with_distinct_names(found)


def _with_distinct_names(found: Sequence[DegreeOfFreedom]) -> tuple[DegreeOfFreedom, ...]:
    """Atom indices are added to names that occur twice; what is asked for twice is kept once."""
    once = list(dict.fromkeys(found))
    count = Counter(f.name for f in once)
    return tuple(f if count[f.name] == 1 else replace(f, name="_".join([f.name, *map(str, f.atoms)])) for f in once)


def _name(molecule: Molecule, kind: str, atoms: Sequence[int]) -> str:
    """``bond_ACE1_CH3_C``, ``bond_ACE1_C_ALA2_N``: residues are named where they change, and not if there is one."""
    words, last = [kind], None
    for i in atoms:
        residue = (molecule.residue_names[i], molecule.residue_ids[i])
        if residue != last and len(set(molecule.residue_ids)) > 1:
            words.append(f"{residue[0]}{residue[1]}")
        words.append(molecule.atom_names[i])
        last = residue
    return re.sub(r"\W", "_", "_".join(words))


def _length(molecule: Molecule, kind: Kind, pair: Sequence[int], label: str = "") -> DegreeOfFreedom:
    atoms = tuple(int(i) for i in pair)
    return DegreeOfFreedom(_name(molecule, label or kind, atoms), kind, atoms, "positive", "nm")


def _torsions(molecule: Molecule) -> list[DegreeOfFreedom]:
    known = named_torsions(molecule)
    found = [DegreeOfFreedom(name, "torsion", tuple(map(int, q)), "circle", "rad") for name, q in known.items()]
    seen = {f.atoms for f in found} | {f.atoms[::-1] for f in found}
    others = [q for q in map(tuple, proper_torsions(molecule).tolist()) if q not in seen]
    return found + [DegreeOfFreedom(_name(molecule, "torsion", q), "torsion", q, "circle", "rad") for q in others]


def _impropers(molecule: Molecule) -> list[DegreeOfFreedom]:
    planar = [(i, *around) for i, around in enumerate(molecule.neighbors) if len(around) == 3]
    rows = [*((q, "chiral") for q in chiral_centres(molecule).tolist()), *((q, "") for q in planar)]
    return [
        DegreeOfFreedom(_name(molecule, "improper", q), "improper", tuple(q), "circle", "rad", what) for q, what in rows
    ]


def _angles(molecule: Molecule) -> list[DegreeOfFreedom]:
    rows = [(i, j, k) for j, around in enumerate(molecule.neighbors) for i, k in combinations(around, 2)]
    return [DegreeOfFreedom(_name(molecule, "angle", q), "angle", q, "interval", "rad") for q in rows]


def _bonds(molecule: Molecule) -> list[DegreeOfFreedom]:
    return [_length(molecule, "bond", pair) for pair in molecule.bonds]


def _puckers(molecule: Molecule) -> list[DegreeOfFreedom]:
    found = []
    for ring in rings(molecule):
        components = [f"{what}{m}" for m in range(2, (len(ring) - 1) // 2 + 1) for what in ("amplitude", "phase")]
        if len(ring) % 2 == 0:
            components.append(f"height{len(ring) // 2}")
        for component in components:
            circle = component.startswith("phase")
            support: Support = "circle" if circle else "real" if component.startswith("height") else "positive"
            name = _name(molecule, f"pucker_{component}", ring)
            found.append(DegreeOfFreedom(name, "pucker", ring, support, "rad" if circle else "nm", component))
    return found


def _radii(molecule: Molecule) -> list[DegreeOfFreedom]:
    large = [part for part in molecule.components if len(part) > 1]
    names = ["radius_of_gyration"] if len(large) == 1 else [f"radius_of_gyration_{i + 1}" for i in range(len(large))]
    return [DegreeOfFreedom(n, "radius of gyration", p, "positive", "nm") for n, p in zip(names, large, strict=True)]


def _hydrogen_bonds(molecule: Molecule) -> list[DegreeOfFreedom]:
    polar = [i for i, e in enumerate(molecule.elements) if e in ("N", "O")]
    hydrogens = [h for d in polar for h in molecule.neighbors[d] if molecule.elements[h] == "H"]
    hops = molecule.hops
    pairs = [(h, a) for h in hydrogens for a in polar if hops[h, a] < 0 or hops[h, a] >= 4]
    return [_length(molecule, "hydrogen bond", pair, "hydrogen_bond") for pair in pairs]


def values(
    x: Float[ndarray, "frames atoms 3"],
    freedoms: Sequence[DegreeOfFreedom],
    *,
    molecule: Molecule,
    compiled: bool = True,
) -> Float[ndarray, "quantities frames"]:
    """Every degree of freedom of every frame (float64): nm and radians, torsions in (-pi, pi].

    ``compiled=False`` is for a few quantities, or few frames: NumPy alone is as fast there, and the compiler that is
    not loaded takes 0.4 s and 120 MB.

    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]])
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> wanted = degrees_of_freedom(butane, kinds=["torsion", "bond"])
    >>> values(x, wanted, molecule=butane)[:, 0]
    array([1.57079633, 1.        , 1.        , 1.        ])
    """
    out = np.full((len(freedoms), len(x)), np.nan)
    rows = [i for i, f in enumerate(freedoms) if f.kind in MEASURED]
    direct = out if len(rows) == len(freedoms) else np.empty((len(rows), len(x)))
    (_compiled if compiled else _plain)(direct, x, [freedoms[i] for i in rows])
    if direct is out:
        return out
    out[rows] = direct
    for i, freedom in enumerate(freedoms):
        if freedom.kind == "radius of gyration":
            out[i] = radius_of_gyration(x[:, freedom.atoms], masses=np.array(molecule.masses)[list(freedom.atoms)])
        elif freedom.kind == "pucker":
            out[i] = pucker(x[:, freedom.atoms])[freedom.component]
    return out


def _compiled(out: ndarray, x: ndarray, freedoms: Sequence[DegreeOfFreedom]) -> None:
    from molifold.analysis import kernels

    codes = {geometry.torsions: kernels.TORSION, geometry.angles: kernels.ANGLE, geometry.distances: kernels.DISTANCE}
    atoms = np.zeros((len(freedoms), 4), dtype=np.int64)
    for row, f in enumerate(freedoms):
        atoms[row, : len(f.atoms)] = f.atoms
    kinds = np.array([codes[MEASURED[f.kind]] for f in freedoms], dtype=np.int64)
    kernels.measure_into(out, np.ascontiguousarray(x), kinds, atoms)


def _plain(out: ndarray, x: ndarray, freedoms: Sequence[DegreeOfFreedom]) -> None:
    chunk = max(1, PIECE // max(1, len(freedoms)))
    for measure in set(MEASURED.values()):
        rows = [i for i, f in enumerate(freedoms) if MEASURED[f.kind] is measure]
        atoms = np.array([freedoms[i].atoms for i in rows])
        for start in range(0, len(x) if rows else 0, chunk):
            part = np.asarray(x[start : start + chunk], dtype=np.float64)
            out[rows, start : start + chunk] = measure(part, atoms).T


def radius_of_gyration(
    x: Float[ndarray, "frames atoms 3"], *, masses: Float[ndarray, " atoms"]
) -> Float[ndarray, " frames"]:
    """Root of the mass-weighted mean square distance from the centre of mass (nm).

    >>> radius_of_gyration(np.array([[[0.0, 0, 0], [2.0, 0, 0]]]), masses=np.ones(2))
    array([1.])
    """
    x, w = np.asarray(x, dtype=np.float64), masses / masses.sum()
    mean = np.einsum("a,fad->fd", w, x)
    return np.sqrt(np.einsum("a,fad->f", w, (x - mean[:, None]) ** 2))


def pucker(x: Float[ndarray, "frames atoms 3"]) -> dict[str, Float[ndarray, " frames"]]:
    """Cremer-Pople coordinates of a ring whose atoms come in order: amplitudes (nm), phases (radians).

    ``amplitude2``, ``phase2`` for m = 2 up to (n - 1) / 2, and for even n the signed ``height`` of m = n / 2. A chair
    of cyclohexane has ``amplitude2`` 0 and ``height3`` of about 0.057 nm, of either sign.

    Reference: D. Cremer and J. A. Pople, J. Am. Chem. Soc. 97, 1354 (1975), doi:10.1021/ja00839a011.

    >>> square = np.array([[[1.0, 0, 0.1], [0, 1, -0.1], [-1, 0, 0.1], [0, -1, -0.1]]])
    >>> {k: v.round(3).tolist() for k, v in pucker(square).items()}
    {'height2': [-0.2]}
    """
    x = np.asarray(x, dtype=np.float64)
    n = x.shape[1]
    x = x - x.mean(1, keepdims=True)
    turn = 2 * np.pi * np.arange(n) / n
    normal = np.cross(np.einsum("a,fad->fd", np.sin(turn), x), np.einsum("a,fad->fd", np.cos(turn), x))
    z = np.einsum("fad,fd->fa", x, normal / np.linalg.norm(normal, axis=-1, keepdims=True))
    out = {}
    for m in range(2, (n - 1) // 2 + 1):
        cosine, sine = np.sqrt(2 / n) * (z @ np.cos(m * turn)), -np.sqrt(2 / n) * (z @ np.sin(m * turn))
        out[f"amplitude{m}"], out[f"phase{m}"] = np.hypot(cosine, sine), np.arctan2(sine, cosine)
    if n % 2 == 0:
        out[f"height{n // 2}"] = z @ (-1.0) ** np.arange(n) / np.sqrt(n)
    return out


def hydrogen_bonds(ensemble: Ensemble) -> dict[str, Bool[ndarray, " frames"]]:
    """Whether every possible hydrogen bond is there, by the criterion of Baker and Hubbard.

    Hydrogen to acceptor below 0.25 nm and donor-hydrogen-acceptor above 120 degrees.

    Reference: E. N. Baker and R. E. Hubbard, Prog. Biophys. Mol. Biol. 44, 97 (1984).

    >>> x = np.random.default_rng(0).normal(size=(3, 22, 3))
    >>> list(hydrogen_bonds(Ensemble(Molecule.from_sequence("A"), x)))[0]
    'hydrogen_bond_ALA2_H_O'
    """
    molecule, (reach, straight) = ensemble.molecule, BAKER_HUBBARD
    found = {}
    for freedom in _hydrogen_bonds(molecule):
        hydrogen, acceptor = freedom.atoms
        near = geometry.distances(ensemble.x, np.array([freedom.atoms]))[:, 0] < reach
        triple = np.array([(molecule.neighbors[hydrogen][0], hydrogen, acceptor)])
        found[freedom.name] = near & (geometry.angles(ensemble.x, triple)[:, 0] > straight)
    return found
