"""Molecule: what is simulated, as an immutable labelled graph. No coordinates, no force field."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    import openmm.app

#: Standard atomic weights (IUPAC 2021, conventional values), dalton.
MASSES = {
    "H": 1.008, "He": 4.0026, "Li": 6.94, "Be": 9.0122, "B": 10.81, "C": 12.011, "N": 14.007, "O": 15.999,
    "F": 18.998, "Ne": 20.180, "Na": 22.990, "Mg": 24.305, "Al": 26.982, "Si": 28.085, "P": 30.974, "S": 32.06,
    "Cl": 35.45, "Ar": 39.948, "K": 39.098, "Ca": 40.078, "Fe": 55.845, "Cu": 63.546, "Zn": 65.38, "Se": 78.971,
    "Br": 79.904, "I": 126.90,
}  # fmt: skip


@dataclass(frozen=True)
class Molecule:
    """Atoms and bonds of one or more molecules; immutable and hashable.

    Args:
        elements: chemical symbol of every atom ("X" for a particle without chemistry).
        bonds: pairs of atom indices, each once, smaller index first, sorted.
        masses: dalton; the default is the standard atomic weight of the element.
        atom_names, residue_names, residue_ids: per atom; default "C1", "MOL", 0.
        formal_charges: per atom, in elementary charges; default 0.
        dimensions: spatial dimensions of a conformation: 3, or 2 or 1 for toy systems.

    Raises:
        ValueError: if lengths differ, a bond names an atom that does not exist, or a mass is not positive.

    >>> Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    Molecule('water': 3 atoms H2O, 2 bonds)
    """

    elements: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...] = ()
    masses: tuple[float, ...] = ()
    atom_names: tuple[str, ...] = ()
    residue_names: tuple[str, ...] = ()
    residue_ids: tuple[int, ...] = ()
    formal_charges: tuple[int, ...] = ()
    name: str = "molecule"
    dimensions: int = 3

    def __post_init__(self) -> None:
        n = len(self.elements)
        fill = object.__setattr__
        if not self.masses:
            fill(self, "masses", tuple(MASSES.get(e, 1.0) for e in self.elements))
        if not self.atom_names:
            fill(self, "atom_names", tuple(f"{e}{i + 1}" for i, e in enumerate(self.elements)))
        if not self.residue_names:
            fill(self, "residue_names", ("MOL",) * n)
        if not self.residue_ids:
            fill(self, "residue_ids", (0,) * n)
        if not self.formal_charges:
            fill(self, "formal_charges", (0,) * n)
        for field in ("masses", "atom_names", "residue_names", "residue_ids", "formal_charges"):
            if len(getattr(self, field)) != n:
                raise ValueError(f"{field}: got {len(getattr(self, field))} entries, expected one per atom ({n})")
        bad = [b for b in self.bonds if not 0 <= b[0] < b[1] < n]
        if bad or tuple(sorted(set(self.bonds))) != self.bonds:
            raise ValueError(
                f"bonds: got {bad[:3] or 'unsorted or repeated pairs'}, expected sorted unique pairs i < j of "
                f"atoms 0 to {n - 1}"
            )
        if min(self.masses, default=1.0) <= 0:
            raise ValueError("masses: expected positive numbers (dalton); got a massless or negative one")

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.elements)

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order.

        >>> Molecule(elements=("C", "H", "O", "H")).formula
        'CH2O'
        """
        counts = {e: self.elements.count(e) for e in sorted(set(self.elements))}
        order = ["C", "H"] if "C" in counts else []
        order = [e for e in order if e in counts] + [e for e in counts if e not in order]
        return "".join(e + (str(counts[e]) if counts[e] > 1 else "") for e in order)

    @cached_property
    def neighbors(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of every atom, ascending."""
        found: list[list[int]] = [[] for _ in self.elements]
        for i, j in self.bonds:
            found[i].append(j)
            found[j].append(i)
        return tuple(tuple(sorted(f)) for f in found)

    @cached_property
    def hops(self) -> ndarray:
        """Number of bonds between every two atoms [atoms, atoms]; -1 where no path exists."""
        n = self.n_atoms
        out = np.full((n, n), -1, dtype=np.int64)
        for start in range(n):
            out[start, start] = 0
            frontier = [start]
            while frontier:
                reached = {b for a in frontier for b in self.neighbors[a] if out[start, b] < 0}
                for b in reached:
                    out[start, b] = out[start, frontier[0]] + 1
                frontier = sorted(reached)
        return out

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Atoms of every connected component, ascending."""
        labels = [int(np.flatnonzero(row >= 0)[0]) for row in self.hops]
        return tuple(tuple(i for i, lab in enumerate(labels) if lab == root) for root in sorted(set(labels)))

    @classmethod
    def from_openmm(cls, topology: openmm.app.Topology, *, name: str = "molecule") -> Molecule:
        """The molecule of an OpenMM topology; residues are numbered from 0 in their order.

        Raises:
            ValueError: if an atom has no element.
        """
        from molifold.perception import openmm_fields

        return cls(**openmm_fields(topology), name=name)

    def to_json(self) -> str:
        """One line of JSON; ``from_json`` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Molecule:
        """The molecule that ``to_json`` wrote.

        >>> m = Molecule(elements=("H", "H"), bonds=((0, 1),))
        >>> Molecule.from_json(m.to_json()) == m
        True
        """
        raw = json.loads(text)
        raw["bonds"] = [tuple(b) for b in raw["bonds"]]
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})

    def __repr__(self) -> str:
        return f"Molecule({self.name!r}: {self.n_atoms} atoms {self.formula}, {len(self.bonds)} bonds)"
