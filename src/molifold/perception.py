"""Molecules from what other programs know: topologies, files, chemical notation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    import openmm.app
    from molifold.molecule import Molecule


def openmm_fields(topology: openmm.app.Topology) -> dict[str, Any]:
    """Fields of a Molecule from an OpenMM topology."""
    atoms = list(topology.atoms())
    return {
        "elements": tuple(_symbol(a.element, a.name, a.residue.name) for a in atoms),
        "bonds": bond_pairs((b.atom1.index, b.atom2.index) for b in topology.bonds()),
        "atom_names": tuple(a.name for a in atoms),
        "residue_names": tuple(a.residue.name for a in atoms),
        "residue_ids": tuple(a.residue.index for a in atoms),
        "formal_charges": tuple(int(getattr(a, "formalCharge", None) or 0) for a in atoms),
    }


def bond_pairs(pairs: Any) -> tuple[tuple[int, int], ...]:
    """Sorted unique pairs i < j."""
    return tuple(sorted({(min(i, j), max(i, j)) for i, j in pairs}))


def _symbol(element: Any, atom: str, residue: str) -> str:
    if element is None:
        raise ValueError(
            f"element: atom {atom!r} of residue {residue!r} has no chemical element; write it in the element column of "
            "the file (columns 77-78 of a PDB line), and remove virtual sites"
        )
    return element.symbol
