"""An ASE calculator of a trained energy: molecular dynamics, relaxation and vibrations by ASE."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from molifold.molecule import Molecule
from molifold.networks.graph import Graph, molecular_graph
from molifold.networks.property import Property
from molifold.units import ENERGY, LENGTH


def ase_calculator(model: Property, graph: Graph | None = None) -> Any:
    """An ``ase.calculators.calculator.Calculator`` with energy (eV) and forces (eV/Angstrom) of ``model``.

    It computes in the precision of the model: ``model.double()`` for dynamics that conserve energy. Periodic cells are
    not supported.

    Args:
        model: of an energy, in any unit of ``molifold.units.ENERGY``.
        graph: of the molecule, atoms in the order of the ``Atoms``; default the elements alone, which is enough for
            models that see nothing but elements and distances (``SchNet`` without ``chemistry``).

    Raises:
        ValueError: if the unit of the model is no energy, or it needs a graph that was not passed; on calculation,
            if the atoms are periodic or are not those of the graph.

    >>> from ase import Atoms
    >>> model = Property("SchNet", options={"channels": 8, "layers": 1, "reach": 0.5}, embedding=8, unit="eV")
    >>> water = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]], calculator=ase_calculator(model))
    >>> water.get_forces().shape
    (3, 3)
    """
    from ase.calculators.calculator import Calculator, all_changes

    if model.unit not in ENERGY:
        raise ValueError(f"model: got a property in {model.unit!r}, expected an energy in one of {', '.join(ENERGY)}")
    if graph is None and (model.about["chemistry"] or model.about["network"] != "SchNet"):
        raise ValueError("graph: got None, but this model sees bonds; pass molecular_graph(molecule)")
    to_ev, to_nm = ENERGY[model.unit] / ENERGY["eV"], LENGTH["angstrom"]

    class PropertyCalculator(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            assert self.atoms is not None  # set by the line above
            whole = _graph_of(self.atoms, graph).to(model.scale.dtype).to(model.scale.device)
            x = torch.as_tensor(self.atoms.positions * to_nm)[None].to(model.scale)
            y, forces = model.with_forces(x, whole)
            energy = float(y.double() + model.reference(whole)) * to_ev
            self.results = {"energy": energy, "forces": forces[0].double().cpu().numpy() * (to_ev * to_nm)}

    return PropertyCalculator()


def _graph_of(atoms: Any, graph: Graph | None) -> Graph:
    """``graph``, or one of the elements alone, checked against the atoms."""
    if atoms.pbc.any():
        raise ValueError("atoms: got a periodic cell, expected a molecule in vacuum; set atoms.pbc = False")
    if graph is None:
        return molecular_graph(Molecule(elements=tuple(atoms.get_chemical_symbols())))
    expected = cast(torch.Tensor, graph.numbers).cpu().numpy()
    if not np.array_equal(atoms.numbers, expected):
        raise ValueError(f"atoms: got elements {atoms.numbers.tolist()}, expected those of graph, {expected.tolist()}")
    return graph
