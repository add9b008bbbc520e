"""Molecule: what is simulated, as an immutable labelled graph. No coordinates, no force field."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    import mdtraj
    import openmm.app
    from rdkit import Chem

#: Standard atomic weights (IUPAC 2021, abridged; conventional or, for radioactive elements, the longest-lived isotope),
#: dalton; "X" is a particle without chemistry.
MASSES = {
    "X": 1.0, "H": 1.008, "D": 2.0141, "He": 4.0026, "Li": 6.94, "Be": 9.0122, "B": 10.81, "C": 12.011, "N": 14.007,
    "O": 15.999, "F": 18.998, "Ne": 20.180, "Na": 22.990, "Mg": 24.305, "Al": 26.982, "Si": 28.085, "P": 30.974,
    "S": 32.06, "Cl": 35.45, "Ar": 39.95, "K": 39.098, "Ca": 40.078, "Sc": 44.956, "Ti": 47.867, "V": 50.942,
    "Cr": 51.996, "Mn": 54.938, "Fe": 55.845, "Co": 58.933, "Ni": 58.693, "Cu": 63.546, "Zn": 65.38, "Ga": 69.723,
    "Ge": 72.630, "As": 74.922, "Se": 78.971, "Br": 79.904, "Kr": 83.798, "Rb": 85.468, "Sr": 87.62, "Y": 88.906,
    "Zr": 91.224, "Nb": 92.906, "Mo": 95.95, "Tc": 98.0, "Ru": 101.07, "Rh": 102.91, "Pd": 106.42, "Ag": 107.87,
    "Cd": 112.41, "In": 114.82, "Sn": 118.71, "Sb": 121.76, "Te": 127.60, "I": 126.90, "Xe": 131.29, "Cs": 132.91,
    "Ba": 137.33, "La": 138.91, "Ce": 140.12, "Pr": 140.91, "Nd": 144.24, "Pm": 145.0, "Sm": 150.36, "Eu": 151.96,
    "Gd": 157.25, "Tb": 158.93, "Dy": 162.50, "Ho": 164.93, "Er": 167.26, "Tm": 168.93, "Yb": 173.05, "Lu": 174.97,
    "Hf": 178.49, "Ta": 180.95, "W": 183.84, "Re": 186.21, "Os": 190.23, "Ir": 192.22, "Pt": 195.08, "Au": 196.97,
    "Hg": 200.59, "Tl": 204.38, "Pb": 207.2, "Bi": 208.98,
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
        ValueError: if lengths differ, an element is unknown and has no mass given, a bond names an atom that does not
            exist, or a mass is not positive.

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
            unknown = sorted(set(self.elements) - MASSES.keys())
            if unknown:
                raise ValueError(f"elements: got {unknown}, expected chemical symbols such as 'C' or 'Cl', or 'X'")
            fill(self, "masses", tuple(MASSES[e] for e in self.elements))
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

    @cached_property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Atoms of every connected component, ascending.

        >>> Molecule(elements=("H", "O", "H"), bonds=((0, 2),)).components
        ((0, 2), (1,))
        """
        # Not from ``hops``, whose table of all pairs is too large for a molecule in a box of water.
        found: list[tuple[int, ...]] = []
        unseen = set(range(self.n_atoms))
        for start in range(self.n_atoms):
            if start in unseen:
                members, frontier = {start}, [start]
                while frontier:
                    frontier = [j for i in frontier for j in self.neighbors[i] if j not in members]
                    members.update(frontier)
                unseen -= members
                found.append(tuple(sorted(members)))
        return tuple(found)

    @classmethod
    def from_pdb(cls, path: str | Path, *, alternate: str | None = None) -> Molecule:
        """The molecule of a PDB or mmCIF file, with all its atoms (``data.structure`` gives the coordinates as well).

        Bonds come from residue templates and CONECT records; atoms that get none there are joined by distance.
        Of several models the first is taken; a warning says so, and likewise if the file may be cut short.

        Args:
            path: the file.
            alternate: which place to take ("A", "B", ...) of atoms that have several; by default the first of each,
                and a warning says which.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is empty, cut short or cannot be read, has a coordinate that is not finite, no place of
                the label ``alternate``, or an atom without known element.
        """
        from molifold.pdb import read_pdb

        return cls(**read_pdb(path, alternate=alternate)[0], name=Path(path).stem)

    @classmethod
    def from_smiles(cls, smiles: str) -> Molecule:
        """The molecule of a SMILES string, hydrogens added after the heavy atoms. Stereo marks are not kept.

        Raises:
            ValueError: if RDKit cannot read the string.

        >>> Molecule.from_smiles("CCCC")
        Molecule('CCCC': 14 atoms C4H10, 13 bonds)
        """
        from molifold.perception import rdkit_fields, read_smiles

        return cls(**rdkit_fields(read_smiles(smiles)), name=smiles)

    @classmethod
    def from_sequence(cls, sequence: str, *, caps: bool = True) -> Molecule:
        """The peptide of a one-letter sequence, with the atoms and PDB names that AMBER force fields expect.

        Args:
            sequence: the twenty standard amino acids as capital letters; protonated as at pH 7 (histidine neutral,
                H on NE2; cysteines reduced).
            caps: Ace-...-Nme; otherwise charged termini.

        Raises:
            ValueError: if the sequence is empty or has an unknown letter.

        >>> Molecule.from_sequence("AAA")
        Molecule('Ace-AAA-Nme': 42 atoms C12H22N4O4, 41 bonds)
        """
        from molifold.peptide import peptide_fields

        name = f"Ace-{sequence}-Nme" if caps else sequence
        return cls(**peptide_fields(sequence, caps=caps), name=name)

    @classmethod
    def from_openmm(cls, topology: openmm.app.Topology, *, name: str = "molecule") -> Molecule:
        """The molecule of an OpenMM topology.

        Residue numbers are the topology's where these are distinct integers, else 1, 2, 3, ...

        Raises:
            ValueError: if an atom has no element.
        """
        from molifold.perception import openmm_fields

        return cls(**openmm_fields(topology), name=name)

    @classmethod
    def from_mdtraj(cls, topology: mdtraj.Topology, *, name: str = "molecule") -> Molecule:
        """The molecule of an mdtraj topology; residue numbers as in ``from_openmm``.

        Raises:
            ValueError: if an atom has no element.
        """
        from molifold.perception import mdtraj_fields

        return cls(**mdtraj_fields(topology), name=name)

    @classmethod
    def from_rdkit(cls, mol: Chem.Mol, *, name: str = "molecule") -> Molecule:
        """The molecule of an RDKit molecule; names from its PDB residue information if every atom has it.

        Raises:
            ValueError: if there are implicit hydrogens or an atom without element.
        """
        from molifold.perception import rdkit_fields

        return cls(**rdkit_fields(mol), name=name)

    def to_openmm(self) -> openmm.app.Topology:
        """Topology for OpenMM with the same atoms, order, names, residues, bonds and formal charges."""
        from molifold.perception import openmm_topology

        return openmm_topology(self)

    def to_mdtraj(self) -> mdtraj.Topology:
        """Topology for mdtraj with the same atoms, order, names, residues, bonds and formal charges."""
        from molifold.perception import mdtraj_topology

        return mdtraj_topology(self)

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
        raw: dict[str, Any] = json.loads(text)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return cls(**{**fields, "bonds": tuple((i, j) for i, j in raw["bonds"])})

    def __repr__(self) -> str:
        return f"Molecule({self.name!r}: {self.n_atoms} atoms {self.formula}, {len(self.bonds)} bonds)"
