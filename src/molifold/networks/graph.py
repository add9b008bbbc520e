"""Graph: what a network may know of a molecule and its geometry, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from molifold.molecule import Molecule
from molifold.networks.neighbours import neighbour_pairs

#: Elements with a channel of their own; all others share the last one.
ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")

#: Graph distances are counted up to here; farther pairs (and unconnected ones) count as this far.
MAX_HOPS = 8

#: Channels of a node before anything is added to it.
NODE_CHANNELS = len(ELEMENTS) + 1 + 5 + 1 + 1 + MAX_HOPS + len(ELEMENTS) + 1

#: Channels of a pair of atoms: whether they are bonded, and by a bond of a ring.
BOND_CHANNELS = 2

#: How many axes of every field belong to atoms or pairs of atoms, and how many come after those.
_ATOM_AXES = {"nodes": (1, 1), "numbers": (1, 0), "mask": (1, 0), "hops": (2, 0), "bonds": (2, 1), "distances": (2, 0)}


@dataclass(frozen=True)
class Graph:
    """A molecule for networks, or a padded batch of different ones; with distances, once it is ``at`` coordinates.

    Two layouts hold what belongs to pairs of atoms (``hops``, ``bonds``, ``distances``):

    * dense, the default: axes ``[atoms, atoms]``, target first, source second. Fastest up to about a hundred atoms.
    * sparse, where ``edges`` is given: one axis ``[edges]``. Numbers in ``edges`` count the rows of
      ``features.flatten(0, 1)``, so a batch is one large graph of many parts. No atom is its own neighbour.

    The leading axis of ``nodes``, ``hops``, ``bonds``, ``numbers`` and ``mask`` is absent for a single molecule, and
    stands for the members of the batch after ``Graph.stack``.

    Args:
        nodes: [*batch, atoms, channels] static features.
        hops: [*batch, atoms, atoms] or [edges] bonds between two atoms, clipped at ``MAX_HOPS``.
        bonds: [*batch, atoms, atoms, 2] or [edges, 2] features of pairs: bonded, bond in a ring.
        numbers: [*batch, atoms] atomic numbers; 0 for padding and for particles without chemistry.
        mask: [*batch, atoms] True for atoms, False for padding; None where there is no padding.
        state: [batch, channels] or [channels] features of the whole molecule or its surroundings (temperature, ...).
        distances: [batch, atoms, atoms] or [edges] symmetric, nm; the only thing that depends on the conformation.
        edges: [2, edges] rows of target and source.
    """

    nodes: Float[Tensor, "*batch atoms channels"]
    hops: Int[Tensor, "*batch atoms atoms"]
    bonds: Float[Tensor, "*batch atoms atoms 2"] | None = None
    numbers: Int[Tensor, "*batch atoms"] | None = None
    mask: Bool[Tensor, "*batch atoms"] | None = None
    state: Float[Tensor, "*batch channels"] | None = None
    distances: Float[Tensor, "batch atoms atoms"] | None = None
    edges: Int[Tensor, "2 edges"] | None = None

    # ------------------------------------------------------------------ geometry

    def at(self, x: Float[Tensor, "batch atoms 3"]) -> Graph:
        """The graph with the distances between all atoms of the conformations ``x`` (nm), differentiable.

        >>> water = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
        >>> water.at(torch.tensor([[[0.1, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]]))
        Graph(3 atoms, 37 static channels, distances of 1 conformation)
        """
        self._check_conformations(x)
        return replace(self, distances=_norm(x[:, :, None] - x[:, None]))

    def neighbours(self, x: Float[Tensor, "batch atoms 3"], *, cutoff: float) -> Graph:
        """The graph in the sparse layout: edges between atoms closer than ``cutoff`` (nm), with their distances."""
        self._check_conformations(x)
        if not cutoff > 0:
            raise ValueError(f"cutoff: got {cutoff!r}, expected a positive length in nm")
        member, target, source = neighbour_pairs(x, cutoff=cutoff, mask=self.mask)
        part = self._listed(member, target, source, atoms=x.shape[1])
        rows = x.flatten(0, 1)
        assert part.edges is not None
        return replace(part, distances=_norm(rows[part.edges[0]] - rows[part.edges[1]]))

    def sparse(self, pairs: Bool[Tensor, "batch atoms atoms"]) -> Graph:
        """The graph in the sparse layout with the chosen pairs (of distinct atoms) as edges."""
        distinct = ~torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
        member, target, source = (pairs & distinct).nonzero().unbind(1)
        part = self._listed(member, target, source, atoms=pairs.shape[1])
        if self.distances is None:
            return part
        return replace(part, distances=self.distances[member, target, source])

    @property
    def geometry(self) -> Tensor:
        """``distances``, for networks that need them.

        Raises:
            ValueError: if there are none.
        """
        if self.distances is None:
            raise ValueError(
                "graph: got one without distances, which this network needs; pass graph.at(x) or "
                "graph.neighbours(x, cutoff=...) with x [batch, atoms, 3] in nm"
            )
        return self.distances

    # ------------------------------------------------------------------ messages, in either layout

    def targets(self, h: Float[Tensor, "batch atoms channels"]) -> Tensor:
        """``h`` at the target of every pair: [batch, atoms, 1, channels] to broadcast, or [edges, channels]."""
        return h[..., :, None, :] if self.edges is None else h.flatten(0, 1)[self.edges[0]]

    def sources(self, h: Float[Tensor, "batch atoms channels"]) -> Tensor:
        """``h`` at the source of every pair: [batch, 1, atoms, channels] to broadcast, or [edges, channels]."""
        return h[..., None, :, :] if self.edges is None else h.flatten(0, 1)[self.edges[1]]

    def total(self, messages: Tensor, like: Float[Tensor, "batch atoms channels"]) -> Tensor:
        """Sum of the messages that arrive at every atom, [batch, atoms, channels]; ``like`` gives batch and atoms."""
        if self.edges is None:
            return messages.sum(-2)
        zero = messages.new_zeros(like.shape[0] * like.shape[1], messages.shape[-1])
        return zero.index_add(0, self.edges[0], messages).view(*like.shape[:2], -1)

    def with_loops(self, rows: int) -> Graph:
        """In the sparse layout, every one of the ``rows`` of the batch as a neighbour of its own, after the edges."""
        assert self.edges is not None
        own = torch.arange(rows, device=self.edges.device)

        def longer(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(rows, *values.shape[1:])])

        return replace(
            self,
            hops=longer(self.hops),
            bonds=None if self.bonds is None else longer(self.bonds),
            distances=None if self.distances is None else longer(self.distances),
            edges=torch.cat([self.edges, own.expand(2, rows)], dim=1),
        )

    @property
    def pairs(self) -> Bool[Tensor, "*batch atoms atoms"]:
        """Pairs of distinct real atoms, in the dense layout."""
        atoms = self.nodes.shape[-2]
        distinct = ~torch.eye(atoms, dtype=torch.bool, device=self.nodes.device)
        return distinct if self.mask is None else distinct & self.mask[..., :, None] & self.mask[..., None, :]

    # ------------------------------------------------------------------ other graphs

    def with_nodes(self, extra: Float[Tensor, "*batch atoms extra"]) -> Graph:
        """The same graph with more static node features."""
        return replace(self, nodes=torch.cat([self.nodes, extra.to(self.nodes)], dim=-1))

    def subgraph(self, atoms: Sequence[int]) -> Graph:
        """Only these atoms, in this order; graph distances remain those of the whole molecule. Dense layout only."""
        if self.edges is not None:
            raise ValueError("graph: got the sparse layout; take the subgraph first, then its neighbours")
        index = torch.as_tensor(atoms, device=self.nodes.device)
        new = {}
        for name, (axes, after) in _ATOM_AXES.items():
            value = getattr(self, name)
            for axis in range(-axes - after, -after) if value is not None else ():
                value = value.index_select(axis, index)
            new[name] = value
        return replace(self, **new)

    def members(self, rows: Int[Tensor, " rows"]) -> Graph:
        """The graph of these members of a batch of different molecules; itself, if it is of a single one."""
        if self.nodes.ndim == 2:
            return self
        chosen: dict[str, Any] = {k: v if v is None else v[rows.to(v.device)] for k, v in vars(self).items()}
        return Graph(**chosen)

    def to(self, like: torch.dtype | torch.device) -> Graph:
        """The same graph with floating-point fields of another precision, or everything on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        keep_integers = isinstance(like, torch.dtype)
        return Graph(
            **{
                k: v if v is None or (keep_integers and not v.is_floating_point()) else v.to(like)
                for k, v in moved.items()
            }
        )

    @staticmethod
    def stack(graphs: Sequence[Graph]) -> Graph:
        """One graph for a batch of different molecules, padded to the largest; ``mask`` tells the atoms.

        Coordinates are padded by ``torch.nn.utils.rnn.pad_sequence(xs, batch_first=True)``; whatever their padding
        holds changes nothing.

        >>> sizes = (Molecule(elements=("H",) * n) for n in (1, 3))
        >>> Graph.stack([molecular_graph(m) for m in sizes])
        Graph(2 molecules of up to 3 atoms, 37 static channels)
        """
        if not graphs or any(g.nodes.ndim != 2 or g.edges is not None or g.distances is not None for g in graphs):
            raise ValueError("graphs: expected one or more of single molecules, dense and without distances")
        most = max(len(g.nodes) for g in graphs)
        fill = {"hops": MAX_HOPS, "mask": False}

        def padded(name: str) -> Tensor | None:
            axes, after = _ATOM_AXES[name]
            values = [getattr(g, name) for g in graphs]
            if name == "mask":
                values = [
                    v if v is not None else torch.ones(len(g.nodes), dtype=torch.bool)
                    for g, v in zip(graphs, values, strict=True)
                ]
            if any(v is None for v in values):
                return None
            rooms = [[0, 0] * after + [0, most - len(g.nodes)] * axes for g in graphs]
            return torch.stack([F.pad(v, r, value=fill.get(name, 0)) for v, r in zip(values, rooms, strict=True)])

        states = [g.state for g in graphs if g.state is not None]
        state = torch.stack(states) if len(states) == len(graphs) else None
        return Graph(**{name: padded(name) for name in _ATOM_AXES}, state=state)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        atoms, channels = self.nodes.shape[-2:]
        what = f"{atoms} atoms" if self.nodes.ndim == 2 else f"{len(self.nodes)} molecules of up to {atoms} atoms"
        parts = [what, f"{channels} static channels"]
        if self.edges is not None:
            parts.append(f"{self.edges.shape[1]} edges{'' if self.distances is None else ' with distances'}")
        elif self.distances is not None:
            n = len(self.distances)
            parts.append(f"distances of {n} conformation{'s' * (n != 1)}")
        return f"Graph({', '.join(parts)})"

    # ------------------------------------------------------------------ pieces

    @property
    def _real(self) -> Bool[Tensor, "*batch atoms"]:
        whole = torch.ones(self.nodes.shape[:-1], dtype=torch.bool, device=self.nodes.device)
        return whole if self.mask is None else self.mask

    def _check_conformations(self, x: Tensor) -> None:
        atoms, members = self.nodes.shape[-2], None if self.nodes.ndim == 2 else len(self.nodes)
        if x.ndim != 3 or x.shape[1] != atoms or (members is not None and len(x) != members):
            raise ValueError(
                f"x: got shape {list(x.shape)}, expected [{'batch' if members is None else members}, {atoms}, 3]"
            )
        if self.edges is not None:
            raise ValueError("graph: got the sparse layout already; start from the dense graph")

    def _listed(self, member: Tensor, target: Tensor, source: Tensor, *, atoms: int) -> Graph:
        """Sparse layout with these pairs as edges, without distances."""
        at = (target, source) if self.hops.ndim == 2 else (member, target, source)
        return replace(
            self,
            hops=self.hops[at],
            bonds=None if self.bonds is None else self.bonds[at],
            distances=None,
            edges=torch.stack([member * atoms + target, member * atoms + source]),
        )


def _norm(v: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
    """Length of vectors; its gradient is zero, not nan, where they vanish."""
    square = v.square().sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def molecular_graph(molecule: Molecule, *, max_hops: int = MAX_HOPS) -> Graph:
    """Static features of every atom: element, degree, ring membership, charge, shells, bonded elements; bonds.

    *Shells* are the number of atoms at 1, 2, ..., ``max_hops`` bonds, which tell apart most atoms that elements and
    degrees do not, so that one shared set of weights can treat chemically different atoms differently; the fewer, the
    more alike are atoms of different molecules. Bond orders and aromaticity are not among the features, since a
    ``Molecule`` does not know them.

    >>> molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    Graph(3 atoms, 37 static channels)
    """
    hops = torch.from_numpy(molecule.hops).clone()
    hops[(hops < 0) | (hops > MAX_HOPS)] = MAX_HOPS
    kind = torch.tensor([ELEMENTS.index(e) if e in ELEMENTS else len(ELEMENTS) for e in molecule.elements])
    element = F.one_hot(kind, len(ELEMENTS) + 1).float()
    adjacency = (hops == 1).float()
    cyclic = torch.zeros_like(adjacency)
    for i, j in molecule.bonds:
        cyclic[i, j] = cyclic[j, i] = float(_on_cycle(molecule, i, j))
    degree = F.one_hot(adjacency.sum(1).long().clamp(max=4), 5).float()
    charge = torch.tensor(molecule.formal_charges, dtype=torch.float32)[:, None]
    counts = [(hops == d).float().sum(1) * float(d <= max_hops) for d in range(1, MAX_HOPS + 1)]
    shells = torch.stack(counts, dim=1) / 4
    nodes = torch.cat([element, degree, cyclic.amax(1, keepdim=True), charge, shells, adjacency @ element / 2], dim=1)
    dtype = torch.get_default_dtype()
    bonds = torch.stack([adjacency, cyclic], dim=-1)
    return Graph(nodes.to(dtype), hops, bonds=bonds.to(dtype), numbers=torch.tensor(_atomic_numbers(molecule)))


def _atomic_numbers(molecule: Molecule) -> list[int]:
    from ase.data import atomic_numbers

    return [{"D": 1, **atomic_numbers}[e] for e in molecule.elements]


def _on_cycle(molecule: Molecule, i: int, j: int) -> bool:
    """Whether the bond i-j lies on a cycle: its other end is reachable without it."""
    seen, frontier = {i}, [i]
    while frontier and j not in seen:
        reached = {b for a in frontier for b in molecule.neighbors[a] if {a, b} != {i, j}} - seen
        seen |= reached
        frontier = list(reached)
    return j in seen
