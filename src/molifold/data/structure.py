"""A molecule and one conformation of it: from a file, a SMILES string or a sequence."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.molecule import Molecule
from molifold.pdb import MMCIF, PDB, read_pdb
from molifold.peptide import by_residue, double_bonds, handedness
from molifold.perception import complete_bonds, existing, read_smiles

if TYPE_CHECKING:
    from rdkit import Chem

Structure = tuple[Molecule, Float[ndarray, "1 atoms 3"]]

#: phi and psi of a strand, degrees; extended, so that no part of a chain of any length meets another.
STRAND = (-135.0, 135.0)


def structure(
    path: str | Path | None = None,
    *,
    smiles: str | None = None,
    sequence: str | None = None,
    caps: bool = True,
    alternate: str | None = None,
    seed: int = 0,
) -> Structure:
    """A molecule and one conformation, [1, atoms, 3] in nm; name exactly one of the three sources.

    Args:
        path: PDB or mmCIF (first model), SDF, MOL, MOL2 or XYZ file, as it stands.
        smiles: SMILES string; the conformation is RDKit's (ETKDGv3, relaxed with MMFF94 without
            electrostatics).
        sequence: one-letter amino-acid codes, see ``Molecule.from_sequence``; an extended strand of L residues,
            trans peptide bonds.
        caps: with ``sequence``, Ace-...-Nme or charged termini.
        alternate: with a PDB or mmCIF file, which place to take ("A", "B", ...) of atoms that have several; by default
            the first of each, and a warning says which.
        seed: of the conformation of a SMILES string or of side chains.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if no source or several are given, one cannot be read or is cut short, it has no place of the label
            ``alternate``, or no conformation is found.

    Reference: S. Wang et al., J. Chem. Inf. Model. 60, 2044 (2020), doi:10.1021/acs.jcim.0c00025 (ETKDGv3).

    >>> molecule, x = structure(sequence="A")
    >>> molecule, x.shape
    (Molecule('Ace-A-Nme': 22 atoms C6H12N2O2, 21 bonds), (1, 22, 3))
    """
    given = [
        name for name, value in {"path": path, "smiles": smiles, "sequence": sequence}.items() if value is not None
    ]
    if len(given) != 1:
        raise ValueError(f"got {', '.join(given) or 'nothing'}, expected exactly one of path, smiles, sequence")
    if path is not None:
        return _from_file(path, alternate=alternate)
    if alternate is not None:
        raise ValueError(f"alternate: got {alternate!r} with {given[0]}, expected it with a PDB or mmCIF file only")
    if smiles is not None:
        return _from_smiles(smiles, seed=seed)
    return _from_sequence(sequence or "", caps=caps, seed=seed)


def _from_file(path: str | Path, *, alternate: str | None) -> Structure:
    path = existing(path, expected="a structure file; for chemical notation use smiles= or sequence=")
    if path.suffix.lower() in (*PDB, *MMCIF):
        fields, x = read_pdb(path, alternate=alternate)
        return Molecule(**fields, name=path.stem), x
    if alternate is not None:
        raise ValueError(f"alternate: got {alternate!r} for {path}, expected it with a PDB or mmCIF file only")
    mol = _rdkit_file(path)
    if mol is None or mol.GetNumConformers() == 0:
        raise ValueError(f"path: {path} cannot be read as a structure with coordinates")
    x = mol.GetConformer().GetPositions()[None] / 10
    elements = tuple(a.GetSymbol() for a in mol.GetAtoms())
    if path.suffix.lower() == ".xyz":
        return Molecule(elements, bonds=complete_bonds(elements, (), x=x[0]), name=path.stem), x
    return Molecule.from_rdkit(mol, name=path.stem), x


def _rdkit_file(path: Path) -> Chem.Mol | None:
    from rdkit import Chem, rdBase

    readers = {
        ".sdf": lambda p: next(iter(Chem.SDMolSupplier(p, removeHs=False)), None),
        ".mol": lambda p: Chem.MolFromMolFile(p, removeHs=False),
        ".mol2": lambda p: Chem.MolFromMol2File(p, removeHs=False),
        ".xyz": Chem.MolFromXYZFile,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"path: got {path}, expected one of .pdb, .cif, {', '.join(readers)}")
    with rdBase.BlockLogs():
        try:
            return reader(str(path))
        except (OSError, RuntimeError):
            return None


def _from_smiles(smiles: str, *, seed: int) -> Structure:
    from rdkit import Chem

    mol = read_smiles(smiles)
    unassigned = [i for i, label in Chem.FindMolChiralCenters(mol, includeUnassigned=True) if label == "?"]
    if unassigned:
        atoms = ", ".join(f"{mol.GetAtomWithIdx(i).GetSymbol()}{i + 1}" for i in unassigned)
        warnings.warn(f"smiles: {smiles} leaves the handedness of {atoms} open; the seed decides", stacklevel=3)
    _embed(mol, seed=seed, what=f"smiles {smiles!r}")
    return Molecule.from_rdkit(mol, name=smiles), mol.GetConformer().GetPositions()[None] / 10


def _from_sequence(sequence: str, *, caps: bool, seed: int) -> Structure:
    molecule = Molecule.from_sequence(sequence, caps=caps)
    mol = _peptide_mol(molecule)
    _embed(mol, seed=seed, what=f"sequence {sequence!r}", extended=molecule)
    x = mol.GetConformer().GetPositions()[None] / 10
    wrong = [c for c, (triple, sign) in handedness(molecule).items() if _triple_product(x[0], c, triple) * sign < 0]
    if wrong:
        raise ValueError(f"sequence: {sequence!r} came out with the wrong hand at atoms {wrong}; try another seed")
    return molecule, x


def _peptide_mol(molecule: Molecule) -> Chem.Mol:
    """RDKit molecule with Kekule bonds and every handedness that the names imply."""
    from rdkit import Chem

    mol = Chem.RWMol()
    for element, charge in zip(molecule.elements, molecule.formal_charges, strict=True):
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)  # noqa: FBT003
        mol.AddAtom(atom)
    double = {tuple(sorted(b)) for b in double_bonds(molecule)}
    for bond in molecule.bonds:
        mol.AddBond(*bond, Chem.BondType.DOUBLE if bond in double else Chem.BondType.SINGLE)
    Chem.SanitizeMol(mol)
    for centre, (triple, sign) in handedness(molecule).items():
        atom = mol.GetAtomWithIdx(centre)
        order = [n.GetIdx() for n in atom.GetNeighbors()]
        first = next(i for i in order if i not in triple)
        # Counter-clockwise, seen from the first neighbour, means a negative triple product of the other three.
        odd = _permutation_sign([order.index(i) for i in (first, *triple)]) < 0
        counter_clockwise = (sign < 0) != odd
        tags = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
        atom.SetChiralTag(tags[counter_clockwise])
    return mol


def _embed(mol: Chem.Mol, *, seed: int, what: str, extended: Molecule | None = None) -> None:
    """Give ``mol`` one conformation; of a peptide, an extended one."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed  # type: ignore[assignment]
    settings.maxIterations = 20  # type: ignore[assignment]
    if rdDistGeom.EmbedMolecule(mol, settings) < 0:
        settings.useRandomCoords = True  # type: ignore[assignment]
        if rdDistGeom.EmbedMolecule(mol, settings) < 0:
            raise ValueError(f"{what}: RDKit found no conformation; give a file with coordinates instead")
    if extended is not None:
        _extend(mol, extended)
    parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    if parameters is not None:
        # Without solvent, electrostatics would fold charged groups onto each other.
        parameters.SetMMFFEleTerm(False)  # noqa: FBT003
        rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters).Minimize(maxIts=500)


def _extend(mol: Chem.Mol, peptide: Molecule) -> None:
    """Set the backbone to a strand with trans peptide bonds; a proline's phi stays as its ring has it."""
    from rdkit.Chem import rdMolTransforms

    phi, psi = STRAND
    conformer = mol.GetConformer()
    for (_, left), (name, right) in pairwise(by_residue(peptide)):
        # Ace has CH3 and Nme has C where an amino acid has CA.
        ca_left, ca_right = left["CA" if "CA" in left else "CH3"], right["CA" if "CA" in right else "C"]
        rdMolTransforms.SetDihedralDeg(conformer, ca_left, left["C"], right["N"], ca_right, 180.0)
        if "CA" in left:
            rdMolTransforms.SetDihedralDeg(conformer, left["N"], left["CA"], left["C"], right["N"], psi)
        if "CA" in right and name != "PRO":
            rdMolTransforms.SetDihedralDeg(conformer, left["C"], right["N"], right["CA"], right["C"], phi)


def _triple_product(x: ndarray, centre: int, triple: tuple[int, int, int]) -> float:
    return float(np.linalg.det(x[list(triple)] - x[centre]))


def _permutation_sign(order: list[int]) -> int:
    return int(np.prod([np.sign(b - a) for i, a in enumerate(order) for b in order[i + 1 :]]))
