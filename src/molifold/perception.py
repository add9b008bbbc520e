"""Molecules from what other programs know, and back: topologies of OpenMM, mdtraj and RDKit, missing bonds.

``Molecule`` is the public door; these functions do the work of its constructors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    import mdtraj
    import openmm.app
    from rdkit import Chem

    from molifold.molecule import Molecule

Bonds = tuple[tuple[int, int], ...]
Fields = dict[str, Any]

#: Bonded if closer than the sum of covalent radii plus this, nm (E. C. Meng, R. A. Lewis, J. Comput. Chem. 12, 891
#: (1991): 0.45 angstrom with older radii; 0.4 with those of B. Cordero et al., Dalton Trans. 2832 (2008), as in RDKit).
BOND_TOLERANCE = 0.04


def openmm_fields(topology: openmm.app.Topology) -> Fields:
    """Fields of a Molecule from an OpenMM topology."""
    atoms = list(topology.atoms())
    numbers = residue_numbers([r.id for r in topology.residues()])
    return {
        "elements": tuple(_symbol(a.element and a.element.symbol, a.name, a.residue.name) for a in atoms),
        "bonds": bond_pairs((b.atom1.index, b.atom2.index) for b in topology.bonds()),
        "atom_names": tuple(a.name for a in atoms),
        "residue_names": tuple(a.residue.name for a in atoms),
        "residue_ids": tuple(numbers[a.residue.index] for a in atoms),
        "formal_charges": tuple(int(getattr(a, "formalCharge", None) or 0) for a in atoms),
    }


def mdtraj_fields(topology: mdtraj.Topology) -> Fields:
    """Fields of a Molecule from an mdtraj topology."""
    atoms = list(topology.atoms)
    numbers = residue_numbers([r.resSeq for r in topology.residues])
    # mdtraj calls a particle without chemistry a virtual site, "VS"
    symbols = [a.element and (a.element.symbol if a.element.symbol != "VS" else None) for a in atoms]
    return {
        "elements": tuple(_symbol(s, a.name, a.residue.name) for s, a in zip(symbols, atoms, strict=True)),
        "bonds": bond_pairs((b[0].index, b[1].index) for b in topology.bonds),
        "atom_names": tuple(a.name for a in atoms),
        "residue_names": tuple(a.residue.name for a in atoms),
        "residue_ids": tuple(numbers[a.residue.index] for a in atoms),
        "formal_charges": tuple(int(getattr(a, "formal_charge", None) or 0) for a in atoms),
    }


def rdkit_fields(mol: Chem.Mol) -> Fields:
    """Fields of a Molecule from an RDKit molecule with explicit hydrogens."""
    implicit = sum(a.GetTotalNumHs() for a in mol.GetAtoms())
    if implicit:
        raise ValueError(f"mol: got {implicit} implicit hydrogens, expected all atoms; use Chem.AddHs(mol) first")
    atoms = list(mol.GetAtoms())
    fields: Fields = {
        "elements": tuple(_symbol(a.GetSymbol() if a.GetAtomicNum() else None, str(a.GetIdx()), "MOL") for a in atoms),
        "bonds": bond_pairs((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()),
        "formal_charges": tuple(a.GetFormalCharge() for a in atoms),
    }
    residues = [a.GetPDBResidueInfo() for a in atoms]
    if all(residues):
        fields["atom_names"] = tuple(r.GetName().strip() for r in residues)
        fields["residue_names"] = tuple(r.GetResidueName().strip() for r in residues)
        fields["residue_ids"] = tuple(r.GetResidueNumber() for r in residues)
    return fields


def read_smiles(smiles: str) -> Chem.Mol:
    """RDKit molecule with explicit hydrogens.

    Raises:
        ValueError: if RDKit cannot read the string.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles.strip() else None
        why = "" if mol else "; ".join(p.Message() for p in Chem.DetectChemistryProblems(_unchecked(smiles)))
    if mol is None:
        raise ValueError(f"smiles: got {smiles!r}, expected a SMILES string such as 'CCO'{why and ': ' + why}")
    return Chem.AddHs(mol)


def _unchecked(smiles: str) -> Chem.Mol:
    from rdkit import Chem

    return Chem.MolFromSmiles(smiles, sanitize=False) or Chem.Mol()


def openmm_topology(molecule: Molecule) -> openmm.app.Topology:
    """Topology for OpenMM: same atoms in the same order, one chain per run of residues of one connected molecule."""
    from openmm import app

    topology = app.Topology()
    atoms: list[Any] = []
    chain = None
    for starts_chain, name, number, members in _residues(molecule):
        chain = topology.addChain() if starts_chain else chain
        residue = topology.addResidue(name, chain, id=str(number))
        for i in members:
            symbol = molecule.elements[i]
            element = None if symbol == "X" else app.Element.getBySymbol(symbol)
            atoms.append(topology.addAtom(molecule.atom_names[i], element, residue))
            if molecule.formal_charges[i]:
                atoms[-1].formalCharge = molecule.formal_charges[i]
    for i, j in molecule.bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def mdtraj_topology(molecule: Molecule) -> mdtraj.Topology:
    """Topology for mdtraj: same atoms in the same order, one chain per run of residues of one connected molecule."""
    import mdtraj

    topology = mdtraj.Topology()
    atoms: list[Any] = []
    chain = None
    for starts_chain, name, number, members in _residues(molecule):
        chain = topology.add_chain() if starts_chain else chain
        residue = topology.add_residue(name, chain, resSeq=number)
        for i in members:
            symbol = molecule.elements[i]
            element = mdtraj.element.virtual if symbol == "X" else mdtraj.element.get_by_symbol(symbol)
            charge = molecule.formal_charges[i] or None
            atoms.append(topology.add_atom(molecule.atom_names[i], element, residue, formal_charge=charge))
    for i, j in molecule.bonds:
        topology.add_bond(atoms[i], atoms[j])
    return topology


def complete_bonds(
    elements: Sequence[str],
    bonds: Bonds,
    *,
    x: Float[ndarray, "atoms 3"],
    residues: Sequence[int] | None = None,
) -> Bonds:
    """``bonds``, and for atoms that have none, those that distances (nm) suggest.

    An atom that is a residue by itself (``residues``: number of every atom's) is an ion or a bead, and stays alone
    however near its neighbours are.

    >>> complete_bonds(["O", "H", "H"], (), x=np.array([[0.0, 0, 0], [0.096, 0, 0], [-0.024, 0.093, 0]]))
    ((0, 1), (0, 2))
    """
    from rdkit import Chem

    sizes = Counter(residues or ())
    single = np.array([sizes[r] == 1 for r in residues]) if residues else np.zeros(len(elements), dtype=bool)
    known = {i for bond in bonds for i in bond}
    lone = [i for i in range(len(elements)) if i not in known and not single[i]]
    if not lone:
        return bonds
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(e) / 10 for e in elements])
    found = set(bonds)
    for i in lone:
        reach = radii + radii[i] + BOND_TOLERANCE
        near = (np.linalg.norm(x - x[i], axis=1) < reach) & ~single
        found |= {(min(i, int(j)), max(i, int(j))) for j in np.flatnonzero(near) if j != i}
    return tuple(sorted(found))


def bond_pairs(pairs: Iterable[tuple[int, int]]) -> Bonds:
    """Sorted unique pairs i < j."""
    return tuple(sorted({(min(i, j), max(i, j)) for i, j in pairs}))


def residue_numbers(labels: Sequence[Any]) -> list[int]:
    """The file's own residue numbers where they are distinct integers, else 1, 2, 3, ...

    >>> residue_numbers(["10", "11"]), residue_numbers(["1", "1"]), residue_numbers(["1", "1A"])
    ([10, 11], [1, 2], [1, 2])
    """
    try:
        numbers = [int(label) for label in labels]
    except (TypeError, ValueError):
        numbers = []
    return numbers if len(set(numbers)) == len(labels) else list(range(1, len(labels) + 1))


def existing(path: str | Path, *, expected: str) -> Path:
    """``path``, if it is a file.

    Raises:
        FileNotFoundError: if it is not.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}, expected {expected}")
    return Path(path)


def _residues(molecule: Molecule) -> Iterator[tuple[bool, str, int, list[int]]]:
    """(starts a chain, name, number, atoms) of every run of atoms with one residue name, number and component."""
    component = {i: k for k, members in enumerate(molecule.components) for i in members}
    keys = [(molecule.residue_names[i], molecule.residue_ids[i], component[i]) for i in range(molecule.n_atoms)]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        name, number, part = keys[start]
        yield start == 0 or part != keys[start - 1][2], name, number, list(range(start, end))


def _symbol(symbol: str | None, atom: str, residue: str) -> str:
    if not symbol:
        raise ValueError(
            f"elements: atom {atom!r} of residue {residue!r} has no known chemical element; write it in the element "
            "column of the file (columns 77-78 of a PDB line), and remove virtual sites"
        )
    return symbol
