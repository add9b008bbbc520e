"""Graph: what a network may know of a molecule, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molifold.molecule import Molecule

#: Elements with a channel of their own; all others share the last one.
ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")

#: Graph distances are counted up to here; farther pairs (and unconnected ones) count as this far.
MAX_HOPS = 8

#: Channels of a node before anything is added to it.
NODE_CHANNELS = len(ELEMENTS) + 1 + 5 + 1 + 1 + MAX_HOPS + len(ELEMENTS) + 1


@dataclass(frozen=True)
class Graph:
    """A molecule for networks: static node features and graph distances. Nothing in it depends on a conformation.

    ``nodes`` [atoms, channels]; ``hops`` [atoms, atoms] bonds between two atoms, clipped at ``MAX_HOPS``.
    """

    nodes: Float[Tensor, "atoms channels"]
    hops: Int[Tensor, "atoms atoms"]

    def with_nodes(self, extra: Float[Tensor, "atoms extra"]) -> Graph:
        """The same graph with more static node features."""
        return replace(self, nodes=torch.cat([self.nodes, extra.to(self.nodes)], dim=1))

    def subgraph(self, atoms: Sequence[int]) -> Graph:
        """Only these atoms; distances remain those of the whole molecule."""
        index = torch.as_tensor(list(atoms))
        return Graph(self.nodes[index], self.hops[index][:, index])

    def __repr__(self) -> str:
        return f"Graph({self.nodes.shape[0]} atoms, {self.nodes.shape[1]} static channels)"


def molecular_graph(molecule: Molecule) -> Graph:
    """Static features of every atom: element, degree, ring membership, charge, shells, bonded elements.

    *Shells* are the number of atoms at 1, 2, ... bonds, which tell apart most atoms that elements and degrees do not,
    so that one shared set of weights can treat chemically different atoms differently.

    >>> molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    Graph(3 atoms, 37 static channels)
    """
    n = molecule.n_atoms
    hops = torch.from_numpy(molecule.hops).clone()
    hops[(hops < 0) | (hops > MAX_HOPS)] = MAX_HOPS
    kind = torch.tensor([ELEMENTS.index(e) if e in ELEMENTS else len(ELEMENTS) for e in molecule.elements])
    element = torch.nn.functional.one_hot(kind, len(ELEMENTS) + 1).float()
    adjacency = (hops == 1).float()
    degree = torch.nn.functional.one_hot(adjacency.sum(1).long().clamp(max=4), 5).float()
    ring = torch.tensor([float(_in_ring(molecule, a)) for a in range(n)])[:, None]
    charge = torch.tensor(molecule.formal_charges, dtype=torch.float32)[:, None]
    shells = torch.stack([(hops == d).float().sum(1) for d in range(1, MAX_HOPS + 1)], dim=1) / 4
    nodes = torch.cat([element, degree, ring, charge, shells, adjacency @ element / 2], dim=1)
    return Graph(nodes.to(torch.get_default_dtype()), hops)


def _in_ring(molecule: Molecule, atom: int) -> bool:
    """Whether some bond of the atom lies on a cycle: its other end is reachable without that bond."""
    for start in molecule.neighbors[atom]:
        seen, frontier = {start}, [start]
        while frontier:
            frontier = [
                b
                for a in frontier
                for b in molecule.neighbors[a]
                if {a, b} != {start, atom} and b not in seen and not seen.add(b)  # type: ignore[func-returns-value]
            ]
        if atom in seen:
            return True
    return False
