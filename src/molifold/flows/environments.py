"""Environments: statistics of internal coordinates by chemical environment, from some molecules for others."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from molifold import geometry
from molifold.ensemble import Ensemble
from molifold.molecule import Molecule
from molifold.transforms.internal import InternalCoordinates

#: Environments are compared within this many bonds of a coordinate's atoms, then within fewer until one is known.
RADIUS = 6

#: A torsion that spreads more than this (circular standard deviation, radians) is drawn as it was seen, not as normal.
STIFF = 0.5

#: Kinds of coordinates that have no handedness; the others are torsions that hold a centre or a ring in shape.
FREE = ("bonds", "angles", "rotations")

#: Frames kept of every molecule.
FRAMES = 10_000

#: A coordinate, as seen within some radius: its kind, its handedness and the colours of its atoms.
Label = tuple[str, int, tuple[str, ...]]


@dataclass(frozen=True)
class _Chart:
    """The internal coordinates of one molecule: atoms and earlier neighbours of each, and its label at every radius."""

    internal: InternalCoordinates
    neighbours: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[Label, ...], ...]
    names: tuple[str, ...]

    def surroundings(self, i: int, radius: int) -> tuple[tuple[Label, tuple[Label, ...]], tuple[int, ...]]:
        """Label of coordinate ``i`` and of its neighbours, and these in the order of their labels."""
        known = self.labels[radius]
        order = tuple(sorted(self.neighbours[i], key=lambda j: known[j]))
        return (known[i], tuple(known[j] for j in order)), order


class Environments:
    """What bonds, angles and torsions look like in every chemical environment of some molecules.

    The environment of a coordinate is the molecular graph within a number of bonds of its atoms (as colours of
    Weisfeiler and Leman), its kind, and on which side a phase lies. For a molecule that was never simulated, every
    coordinate is looked up in the widest environment that is known. Then ``draw`` makes frames that have the right
    means, widths and torsion marginals, and the right linear correlations between coordinates that share two atoms.
    They are no Boltzmann ensemble (torsions are drawn independently) but all that ``Standardize`` needs.

    Rings are not closed by statistics of single coordinates; a molecule with rings should bring its own frames.

    Args:
        ensembles: conformations of one molecule each, at the target temperature.

    Reference: B. Weisfeiler and A. Leman, NTI 2 (9), 12 (1968).

    >>> from molifold.data import structure
    >>> butane, x = structure(smiles="CCCC")
    >>> pentane, y = structure(smiles="CCCCC")
    >>> noise = 0.003 * np.random.default_rng(0).normal(size=(500, 14, 3))
    >>> environments = Environments([Ensemble(butane, x + noise)])
    >>> environments.draw(pentane, y, n=100, seed=0).x.shape
    (100, 17, 3)
    """

    def __init__(self, ensembles: Sequence[Ensemble]) -> None:
        if not ensembles:
            raise ValueError("ensembles: got none, expected at least one molecule's frames")
        self.molecules = tuple(e.molecule for e in ensembles)
        self._frames: list[Float[ndarray, "frames size"]] = []
        self._seen: list[dict[object, list[tuple[int, int, tuple[int, ...]]]]] = [
            defaultdict(list) for _ in range(RADIUS + 1)
        ]
        charts = []
        for m, ensemble in enumerate(ensembles):
            x = np.array(ensemble.x[:: max(1, len(ensemble) // FRAMES)], dtype=np.float64)
            chart = _chart(ensemble.molecule, x[:1])
            self._frames.append(_measured(chart.internal, x))
            for radius in range(RADIUS + 1):
                for i, label in enumerate(chart.labels[radius]):
                    key, order = chart.surroundings(i, radius)
                    self._seen[radius][key].append((m, i, order))
                    self._seen[radius][label].append((m, i, ()))
            charts.append(chart)
        self._deviations = [
            _deviations(y, np.array([self._centre(chart, i)[0] for i in range(y.shape[1])]), chart)
            for y, chart in zip(self._frames, charts, strict=True)
        ]

    def radii(self, molecule: Molecule, x: Float[ndarray, "1 atoms 3"]) -> Int[ndarray, " size"]:
        """Within how many bonds the environment of every coordinate of ``molecule`` is known; at most ``RADIUS``.

        In the order of ``InternalCoordinates(molecule)``; arguments and errors as in ``draw``.
        """
        chart = _chart(molecule, x)
        return np.array([self._known(chart, i)[0] for i in range(len(chart.names))])

    def draw(self, molecule: Molecule, x: Float[ndarray, "1 atoms 3"], *, n: int, seed: int) -> Ensemble:
        """``n`` frames of a molecule whose coordinates follow what is known of their environments.

        Args:
            molecule: any; nothing of it needs to have been simulated.
            x: one structure, nm, which says how the molecule is handed.
            n: number of frames.
            seed: of the draws.

        Raises:
            ValueError: if a coordinate has no like in the molecules that were learnt from.
        """
        chart = _chart(molecule, x)
        rng = np.random.default_rng(seed)
        out = np.empty((n, len(chart.names)))
        deviation = np.zeros_like(out)
        for i in range(out.shape[1]):
            centre, spread, seen = self._centre(chart, i)
            if _turns(chart.names[i], spread):
                out[:, i] = rng.choice(seen, size=n)
                continue
            slope, order, width = self._regression(chart, i)
            deviation[:, i] = deviation[:, list(order)] @ slope + width * rng.normal(size=n)
            out[:, i] = centre + deviation[:, i]
        with torch.no_grad():
            placed = chart.internal.double().inverse(torch.from_numpy(out))[0].numpy()
        return Ensemble(molecule, placed, meta={"drawn from environments of": [m.name for m in self.molecules]})

    def _known(self, chart: _Chart, i: int) -> tuple[int, list[tuple[int, int, tuple[int, ...]]], tuple[int, ...]]:
        """The widest known environment of coordinate ``i`` with its neighbours: radius, where it was seen, neighbours.

        Without neighbours if no such set of neighbours was ever seen.
        """
        for with_neighbours in (True, False):
            for radius in range(RADIUS, -1, -1):
                key, order = chart.surroundings(i, radius)
                found = self._seen[radius].get(key if with_neighbours else key[0])
                if found:
                    return radius, found, order if with_neighbours else ()
        atom = chart.internal.atoms[i]
        raise ValueError(
            f"molecule: no coordinate like the {chart.names[i].rstrip('s')} of atom {atom} "
            f"({chart.internal.molecule.atom_names[atom]}) of {chart.internal.molecule!r} in "
            f"{', '.join(m.name for m in self.molecules)}; learn from a molecule that has one, or give its own frames"
        )

    def _centre(self, chart: _Chart, i: int) -> tuple[float, float, Float[ndarray, " seen"]]:
        """Mean, spread, and all values of a coordinate in its widest known environment."""
        self._known(chart, i)
        found = next(f for r in range(RADIUS, -1, -1) if (f := self._seen[r].get(chart.labels[r][i])))
        values = np.concatenate([self._frames[m][:, k] for m, k, _ in found])
        if chart.names[i] in ("bonds", "angles"):
            return float(values.mean()), float(values.std()), values
        resultant = np.exp(1j * values).mean()
        spread = np.sqrt(-2 * np.log(np.clip(np.abs(resultant), 1e-12, 1.0)))
        return float(np.angle(resultant)), float(spread), values

    def _regression(self, chart: _Chart, i: int) -> tuple[Float[ndarray, " order"], tuple[int, ...], float]:
        """Slopes on the neighbours, these, and what is left: from all places where the environment was seen."""
        _, found, order = self._known(chart, i)
        moments, count = np.zeros((len(order) + 1,) * 2), 0
        for m, k, neighbours in found:
            part = self._deviations[m][:, [*neighbours, k]]
            moments += part.T @ part
            count += len(part)
        among, on = moments[:-1, :-1], moments[:-1, -1]
        slope = np.linalg.solve(among + 1e-6 * np.diag(np.diag(among)) + 1e-12 * np.eye(len(on)), on)
        return slope, order, float(np.sqrt(max(moments[-1, -1] - slope @ on, 0.0) / count))


def _chart(molecule: Molecule, x: Float[ndarray, "1 atoms 3"]) -> _Chart:
    internal = InternalCoordinates(molecule)
    tree = internal.tree
    names = tuple(b.name for b in internal.codomain.blocks for _ in range(b.size))
    # The atoms that define a coordinate, the one that carries it first.
    atoms: list[tuple[int, ...]] = []
    for name, a in zip(names, internal.atoms, strict=True):
        chain = {"bonds": (a, tree.parent[a]), "angles": (a, tree.parent[a], tree.parent[tree.parent[a]])}
        atoms.append(chain[name] if name in chain else tree.quadruple(a))
    y = _measured(internal, np.asarray(x, dtype=np.float64)[:1])[0]
    handed = [0 if name in FREE else _side(v) for name, v in zip(names, y, strict=True)]
    labels = tuple(
        tuple(
            (name, side, tuple(colours[a] for a in chain))
            for name, side, chain in zip(names, handed, atoms, strict=True)
        )
        for colours in _colours(molecule)
    )
    sets = [set(chain) for chain in atoms]
    stiff = [name != "rotations" for name in names]
    neighbours = tuple(
        tuple(j for j in range(i) if stiff[i] and stiff[j] and len(sets[i] & sets[j]) > 1) for i in range(len(names))
    )
    return _Chart(internal, neighbours, labels, names)


def _side(phase: float) -> int:
    """Handedness: the sign of a phase that is neither near 0 nor near a half turn."""
    return int(np.sign(phase)) if np.pi / 6 < abs(phase) < 5 * np.pi / 6 else 0


def _colours(molecule: Molecule) -> list[list[str]]:
    """Colours of all atoms within 0, 1, ..., ``RADIUS`` bonds: equal where the graph around them is."""
    colours = [
        f"{e}{q:+d}/{len(n)}"
        for e, q, n in zip(molecule.elements, molecule.formal_charges, molecule.neighbors, strict=True)
    ]
    rounds = [colours]
    for _ in range(RADIUS):
        around = [(c, *sorted(colours[b] for b in molecule.neighbors[a])) for a, c in enumerate(colours)]
        colours = [hashlib.sha256(repr(seen).encode()).hexdigest()[:16] for seen in around]
        rounds.append(colours)
    return rounds


def _measured(internal: InternalCoordinates, x: Float[ndarray, "frames atoms 3"]) -> Float[ndarray, "frames size"]:
    with torch.no_grad():
        return internal.double()(torch.from_numpy(x))[0].numpy()


def _turns(name: str, spread: float) -> bool:
    return name == "rotations" or (name not in FREE and spread > STIFF)


def _deviations(y: Float[ndarray, "frames size"], centre: Float[ndarray, " size"], chart: _Chart) -> ndarray:
    circle = np.array([name not in ("bonds", "angles") for name in chart.names])
    return np.where(circle, geometry.wrap(y - centre), y - centre)
