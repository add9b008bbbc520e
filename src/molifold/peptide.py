"""Peptides of the standard amino acids: atoms, names, charges, double bonds and handedness of every residue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molifold.perception import openmm_fields

if TYPE_CHECKING:
    from molifold.molecule import Molecule

#: Residue name and atoms other than the backbone's C and O, with PDB names in the order of AMBER's ff14SB templates.
RESIDUES = {
    "A": ("ALA", "N H CA HA CB HB1 HB2 HB3"),
    "R": ("ARG", "N H CA HA CB HB2 HB3 CG HG2 HG3 CD HD2 HD3 NE HE CZ NH1 HH11 HH12 NH2 HH21 HH22"),
    "N": ("ASN", "N H CA HA CB HB2 HB3 CG OD1 ND2 HD21 HD22"),
    "D": ("ASP", "N H CA HA CB HB2 HB3 CG OD1 OD2"),
    "C": ("CYS", "N H CA HA CB HB2 HB3 SG HG"),
    "Q": ("GLN", "N H CA HA CB HB2 HB3 CG HG2 HG3 CD OE1 NE2 HE21 HE22"),
    "E": ("GLU", "N H CA HA CB HB2 HB3 CG HG2 HG3 CD OE1 OE2"),
    "G": ("GLY", "N H CA HA2 HA3"),
    "H": ("HIS", "N H CA HA CB HB2 HB3 CG ND1 CE1 HE1 NE2 HE2 CD2 HD2"),
    "I": ("ILE", "N H CA HA CB HB CG2 HG21 HG22 HG23 CG1 HG12 HG13 CD1 HD11 HD12 HD13"),
    "L": ("LEU", "N H CA HA CB HB2 HB3 CG HG CD1 HD11 HD12 HD13 CD2 HD21 HD22 HD23"),
    "K": ("LYS", "N H CA HA CB HB2 HB3 CG HG2 HG3 CD HD2 HD3 CE HE2 HE3 NZ HZ1 HZ2 HZ3"),
    "M": ("MET", "N H CA HA CB HB2 HB3 CG HG2 HG3 SD CE HE1 HE2 HE3"),
    "F": ("PHE", "N H CA HA CB HB2 HB3 CG CD1 HD1 CE1 HE1 CZ HZ CE2 HE2 CD2 HD2"),
    "P": ("PRO", "N CD HD2 HD3 CG HG2 HG3 CB HB2 HB3 CA HA"),
    "S": ("SER", "N H CA HA CB HB2 HB3 OG HG"),
    "T": ("THR", "N H CA HA CB HB CG2 HG21 HG22 HG23 OG1 HG1"),
    "W": ("TRP", "N H CA HA CB HB2 HB3 CG CD1 HD1 NE1 HE1 CE2 CZ2 HZ2 CH2 HH2 CZ3 HZ3 CE3 HE3 CD2"),
    "Y": ("TYR", "N H CA HA CB HB2 HB3 CG CD1 HD1 CE1 HE1 CZ OH HH CE2 HE2 CD2 HD2"),
    "V": ("VAL", "N H CA HA CB HB CG1 HG11 HG12 HG13 CG2 HG21 HG22 HG23"),
}
ACE = ("ACE", ["CH3", "H1", "H2", "H3", "C", "O"])
NME = ("NME", ["N", "H", "C", "H1", "H2", "H3"])

CHARGES = {("LYS", "NZ"): 1, ("ARG", "NH2"): 1, ("ASP", "OD2"): -1, ("GLU", "OE2"): -1}

#: One Kekule structure of every side chain (C=O of the backbone is everywhere).
DOUBLE_BONDS = {
    "ARG": ["CZ NH2"], "ASN": ["CG OD1"], "ASP": ["CG OD1"], "GLN": ["CD OE1"], "GLU": ["CD OE1"],
    "HIS": ["CG CD2", "ND1 CE1"], "PHE": ["CG CD1", "CE1 CZ", "CE2 CD2"], "TYR": ["CG CD1", "CE1 CZ", "CE2 CD2"],
    "TRP": ["CG CD1", "CD2 CE2", "CZ2 CH2", "CZ3 CE3"],
}  # fmt: skip

#: Sign of (a x b) . c, vectors from the centre, in L-amino acids with the IUPAC names of prochiral groups
#: (IUPAC-IUB, Biochemistry 9, 3471 (1970); Markley et al., Pure Appl. Chem. 70, 117 (1998)); for the hydrogens of
#: CH2 groups, ``handedness`` has the rule.
STEREO = {
    ("ILE", "CB"): ("CA CG1 CG2", 1), ("THR", "CB"): ("CA CG2 OG1", -1),
    ("LEU", "CG"): ("CB CD1 CD2", -1), ("VAL", "CB"): ("CA CG1 CG2", -1),
}  # fmt: skip

Triple = tuple[int, int, int]


def peptide_fields(sequence: str, *, caps: bool) -> dict[str, Any]:
    """Fields of a Molecule; see ``Molecule.from_sequence``."""
    from openmm import app

    topology = app.Topology()
    chain = topology.addChain()
    for name, atoms in _residues(sequence, caps=caps):
        residue = topology.addResidue(name, chain)
        for atom in atoms:
            ammonium = atom == "N" and "H3" in atoms and "CA" in atoms
            charge = CHARGES.get((name, atom), 0) + ammonium - (atom == "OXT")
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue, formalCharge=charge)
    topology.createStandardBonds()
    return openmm_fields(topology)


def double_bonds(peptide: Molecule) -> list[tuple[int, int]]:
    """Double bonds of a peptide made by ``Molecule.from_sequence``, as in its Kekule structure."""
    found = []
    for residue, index in by_residue(peptide):
        pairs = ["C O", *DOUBLE_BONDS.get(residue, [])] if residue != "NME" else []
        found += [(index[a], index[b]) for a, b in map(str.split, pairs)]
    return found


def handedness(peptide: Molecule) -> dict[int, tuple[Triple, int]]:
    """Per tetrahedral centre: three of its neighbours (a, b, c) and the sign of (a x b) . c.

    Chiral centres are L; the numbers of prochiral hydrogens and methyls follow IUPAC.
    """
    found = {}
    for residue, index in by_residue(peptide):
        rules = {atom: rule for (name, atom), rule in STEREO.items() if name == residue}
        if "CB" in index:
            rules["CA"] = ("N C CB", 1)
        for two in (n for n in index if n[0] == "H" and n.endswith("2") and n[:-1] + "3" in index):
            carbon = "C" + two[1:-1]
            if carbon in index and n_hydrogens(peptide, index[carbon]) == 2:
                rules[carbon] = (f"{_outer(peptide, index[carbon])} {two} {two[:-1]}3", 1)
        for atom, (names, sign) in rules.items():
            a, b, c = (index[n] for n in names.split())
            found[index[atom]] = ((a, b, c), sign)
    return found


def by_residue(molecule: Molecule) -> list[tuple[str, dict[str, int]]]:
    """Name, and index of every atom by its name, of every residue in order."""
    found: dict[int, tuple[str, dict[str, int]]] = {}
    for i, number in enumerate(molecule.residue_ids):
        found.setdefault(number, (molecule.residue_names[i], {}))[1][molecule.atom_names[i]] = i
    return list(found.values())


def n_hydrogens(molecule: Molecule, atom: int) -> int:
    """Number of hydrogens on an atom."""
    return sum(molecule.elements[j] == "H" for j in molecule.neighbors[atom])


def _outer(peptide: Molecule, carbon: int) -> str:
    """The heavy neighbour of a CH2 farther along the side chain; the backbone's N and C come last."""
    heavy = [peptide.atom_names[j] for j in peptide.neighbors[carbon] if peptide.elements[j] != "H"]
    return max(heavy, key=lambda name: 7 + "NC".index(name) if len(name) == 1 else "ABGDEZH".index(name[1]))


def _residues(sequence: str, *, caps: bool) -> list[tuple[str, list[str]]]:
    unknown = [f"{letter!r} at position {i + 1}" for i, letter in enumerate(sequence) if letter not in RESIDUES]
    if unknown or not sequence:
        got = ", ".join(unknown[:5]) or "an empty sequence"
        raise ValueError(
            f"sequence: got {got}, expected capital one-letter codes of the twenty standard amino acids "
            f"({''.join(sorted(RESIDUES))}); for anything else use a SMILES string or a file"
        )
    chain = [(name, [*atoms.split(), "C", "O"]) for name, atoms in (RESIDUES[letter] for letter in sequence)]
    if caps:
        return [ACE, *chain, NME]
    first, last = chain[0][1], chain[-1][1]
    first[1:1] = ["H2", "H3"]
    if "H" in first:  # proline's nitrogen has no third hydrogen
        first.remove("H")
        first.insert(1, "H")
    last.append("OXT")
    return chain
