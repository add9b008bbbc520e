"""What a network does with single atoms, drawn on the molecular graph: attention, and any value per atom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.molecule import Molecule
from molifold.plots.marks import Bars, Heatmap, Line, Mark, Points, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.workbench.inside import shortened

#: Heads that are drawn, arrows of every atom, points of an arrow, and classes of width.
HEADS, ARROWS, POINTS, CLASSES = 4, 2, 14, 4
#: An arrow carries at least this many times what each atom would get if all got the same.
CHOSEN = 1.5
#: Atoms that are listed.
WORST = 12
#: Inches along x of one head.
SIDE = 3.3
#: Colours of elements on the graph; every other is purple.
COLOURS = {"H": "muted", "C": "ink", "N": "blue", "O": "bad", "S": "fair", "P": "orange", "X": "muted"}


def attention(
    weights: Float[ndarray, "heads atoms atoms"], molecule: Molecule, *, names: Sequence[str] = ()
) -> Picture:
    """The strongest arrows from the atom that is looked at to the one that looks, and all weights.

    Drawn are the heads that are farthest from looking at all atoms alike.

    ``weights[h, i, j]`` is how much atom i takes from atom j; nodes beyond the molecule's atoms are left out.

    Raises:
        ValueError: if the weights are not those of the molecule's atoms.

    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)))
    >>> len(attention(np.full((2, 3, 3), 1 / 3), water).panels)
    4
    """
    n = molecule.n_atoms
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 3 or min(weights.shape[1:]) < n:
        raise ValueError(f"weights: got shape {weights.shape}, expected [heads, {n}, {n}] for {molecule!r}")
    weights = np.nan_to_num(weights[:, :n, :n])
    entropy = -(weights * np.log(np.maximum(weights, 1e-12))).sum((1, 2))
    chosen = np.sort(np.argsort(entropy, kind="stable")[:HEADS])
    heads = len(chosen)
    places = layout(molecule)
    top = float(weights[chosen].max(initial=1e-12))
    panels = []
    for k, h in enumerate(chosen):
        title = shortened(str(names[h])) if len(names) else f"head {h + 1}"
        panels.append(_graph(weights[h], molecule, places, title=title, cell=(0, k, 1, 1)))
        panels.append(_matrix(weights[h], molecule, top=top, first=k == 0, cell=(1, k, 1, 1)))
    # One bond length is as long along y as along x.
    reach = np.abs(places).max(0) + 0.8
    tall = float(np.clip(SIDE * reach[1] / reach[0], 0.8, 1.3 * SIDE)) + 0.4
    return Picture(
        name="attention", panels=tuple(panels), size=(SIDE * heads + 0.6, tall + SIDE), widths=(1.0,) * heads,
        heights=(tall, SIDE),
    )  # fmt: skip


def formula(values: Float[ndarray, " atoms"], molecule: Molecule, *, label: str) -> Picture:
    """The structural formula with atoms in the colour of their value, and the largest values by atom."""
    each = np.nan_to_num(np.asarray(values, dtype=float))
    places, top = layout(molecule), float(np.abs(each).max(initial=1e-12))
    signed = bool((each < 0).any())
    bonds = _lines([np.stack([places[i], places[j]]) for i, j in molecule.bonds], colour="line", width=4.0)
    atoms = Points(
        x=places[:, 0], y=places[:, 1], values=each, colormap="difference" if signed else "error", bar=label, size=15.0,
        limits=(-top if signed else 0.0, top),
    )  # fmt: skip
    words = [
        Text(
            x=float(x),
            y=float(y),
            text=e,
            across="center",
            up="center",
            colour="paper" if abs(v) > 0.6 * top else "ink",
        )
        for (x, y), e, v in zip(places, molecule.elements, each, strict=True)
    ]
    reach = np.abs(places).max() + 0.7
    hidden = Axis(ticks=(), line=False, limits=(-reach, reach))
    worst = np.argsort(-np.abs(each), kind="stable")[:WORST]
    worst = worst[each[worst] != 0]
    at = np.arange(len(worst), dtype=float)[::-1]
    ticks = tuple((float(y), f"{molecule.atom_names[i]} {i}") for y, i in zip(at, worst, strict=True))
    along = Axis(label=label, limits=(-1.05 * top if signed else 0.0, 1.05 * top))
    bars = Bars(at=at, low=np.zeros(len(at)), high=each[worst], horizontal=True, colour="bad")
    return Picture(
        name="formula", size=(6.6, 3.6), widths=(1.35, 1.0), heights=(1.0,), panels=(
            Panel(marks=(bonds, atoms, *words), x=hidden, y=hidden, equal=True),
            Panel(
                marks=(bars,), cell=(0, 1, 1, 1), x=along,
                y=Axis(ticks=ticks, line=False),
            ),
        ),
    )  # fmt: skip


def _graph(
    weights: Float[ndarray, "atoms atoms"],
    molecule: Molecule,
    places: Float[ndarray, "atoms 2"],
    *,
    title: str,
    cell: tuple[int, int, int, int],
) -> Panel:
    marks: list[Mark] = [
        _lines([np.stack([places[i], places[j]]) for i, j in molecule.bonds], colour="fill", width=5.0)
    ]
    off = np.where(np.eye(len(weights), dtype=bool), 0.0, weights)
    least = CHOSEN / len(off)
    pairs = [(int(i), int(j)) for i in range(len(off)) for j in np.argsort(-off[i])[:ARROWS] if off[i, j] > least]
    strength = np.array([off[i, j] for i, j in pairs])
    shares = strength / strength.max(initial=1e-12)
    ways = [_arc(places[j], places[i]) for i, j in pairs]
    for c in range(CLASSES):  # one mark for all arrows of about the same weight
        chosen = [k for k, s in enumerate(shares) if c < CLASSES * s <= c + 1]
        if chosen:
            share = (c + 1) / CLASSES
            marks.append(
                _lines([ways[k] for k in chosen], colour="vermilion", width=3.2 * share, opacity=0.25 + 0.6 * share)
            )
    strong = [k for k, s in enumerate(shares) if s > 1 / CLASSES]
    if strong:
        ends = np.array([ways[k][-1] for k in strong])
        marks.append(Points(x=ends[:, 0], y=ends[:, 1], colour="vermilion", size=3.5))
    marks += _atoms(molecule, places)
    x, y = (Axis(ticks=(), line=False, limits=(-float(r), float(r))) for r in np.abs(places).max(0) + 0.8)
    return Panel(marks=tuple(marks), title=title, x=x, y=y, cell=cell)


def _matrix(
    weights: Float[ndarray, "atoms atoms"],
    molecule: Molecule,
    *,
    top: float,
    first: bool,
    cell: tuple[int, int, int, int],
) -> Panel:
    n = len(weights)
    thin = max(1, -(-n // 11))
    names = [f"{e}{i}" for i, e in enumerate(molecule.elements)]
    ticks = tuple((i + 0.5, names[i]) for i in range(0, n, thin))
    heat = Heatmap(
        x=np.arange(n + 1.0), y=np.arange(n + 1.0), values=weights.T, limits=(0.0, top), colormap="density",
        bar="weight",
    )  # fmt: skip
    whole = (0.0, float(n))
    return Panel(
        marks=(heat,), x=Axis(label="atom that looks", ticks=ticks[::2], line=False, limits=whole),
        y=Axis(label="looked at" if first else "", ticks=ticks, line=False, limits=whole), cell=cell, equal=True,
    )  # fmt: skip


def _atoms(molecule: Molecule, places: Float[ndarray, "atoms 2"]) -> list[Mark]:
    small = molecule.n_atoms > 40
    marks: list[Mark] = []
    for element in dict.fromkeys(molecule.elements):
        i = np.array([e == element for e in molecule.elements])
        size = (7.0 if element == "H" else 10.0) / (1.6 if small else 1.0)
        marks.append(Points(x=places[i, 0], y=places[i, 1], colour=COLOURS.get(element, "purple"), size=size))
    if not small:
        marks += [
            Text(x=float(x), y=float(y), text=str(i), across="center", up="center", colour="paper", size=5.5)
            for i, (x, y) in enumerate(places)
        ]
    return marks


def _lines(ways: list[ndarray], *, colour: str, width: float, opacity: float = 1.0) -> Line:
    """Many polylines as one mark: NaN is a gap."""
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([part for way in ways for part in (way, gap)] or [gap])
    return Line(x=points[:, 0], y=points[:, 1], colour=colour, width=width, opacity=opacity)


def _arc(a: Float[ndarray, " 2"], b: Float[ndarray, " 2"]) -> Float[ndarray, "points 2"]:
    """A bow from a to b that ends before b; the way back bends to the other side."""
    t = np.linspace(0.08, 0.86, POINTS)[:, None]
    aside = np.array([a[1] - b[1], b[0] - a[0]])
    return a + t * (b - a) + 0.9 * t * (1 - t) * 0.6 * aside


def layout(molecule: Molecule) -> Float[ndarray, "atoms 2"]:
    """Places of the atoms of a structural formula, in bond lengths, centred."""
    from rdkit import Chem, Geometry
    from rdkit.Chem import rdDepictor

    mol = Chem.RWMol()
    for element in molecule.elements:
        mol.AddAtom(Chem.Atom("*" if element == "X" else element))
    for i, j in molecule.bonds:
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    for atom in mol.GetAtoms():
        atom.SetNoImplicit(True)  # noqa: FBT003
    mol.UpdatePropertyCache(strict=False)
    rdDepictor.Compute2DCoords(mol)
    points: list[Geometry.Point3D] = [mol.GetConformer().GetAtomPosition(i) for i in range(molecule.n_atoms)]
    places = np.array([[p.x, p.y] for p in points]).reshape(-1, 2)
    return (places - (places.min(0) + places.max(0)) / 2) / 1.5
