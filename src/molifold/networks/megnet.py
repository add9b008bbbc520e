"""MEGNet: atoms, bonds and the state of the molecule are updated in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.graph import BOND_CHANNELS, Graph
from molifold.networks.schnet import Gaussians, ShiftedSoftplus


class MEGNet(nn.Module):
    """MatErials Graph Network: a full graph network with attributes of atoms v, of pairs e and of the state u.

    One block, for the target i and the source j of every pair, || meaning concatenation:

        e'_ij = phi_e(v_i || v_j || e_ij || u) ,
        v'_i = phi_v(mean_j e'_ij || v_i || u) ,
        u' = phi_u(mean_ij e'_ij || mean_i v'_i || u) ,

    where before every block v, e and u pass through dense layers, and the input of those is added to the result (the
    first block adds what comes after them). Every dense layer, the last ones too, is followed by
    ssp(x) = ln((e^x + 1) / 2). Pairs start as Gaussians of their distance.

    Args:
        features: channels of the input that vary with the conformation (or an embedding).
        static: channels of ``graph.nodes``; 0 to leave them out.
        out: channels of the output of every atom, linear in v_i || u of the last block; None for v_i || u itself.
        channels: of v, e and u between blocks; dense layers are twice as wide inside.
        blocks: how many.
        reach: nm, where the centres of the Gaussians end; they begin at 0.
        centres: how many.
        width: nm, of a Gaussian exp(-(d - mu)^2 / width^2).
        cutoff: nm; pairs are atoms closer than this; None for all. There is no smooth end, as in the paper.
        bonds: show ``graph.bonds`` as well.
        state: channels of ``graph.state``; a graph without state has ones there (the paper's zeros say as little, and
            keep the weights behind them from learning).

    Needs ``graph.distances``.

    Reference: Chen et al. (2019), arXiv 1812.05055, eqs. 1 to 6 and the molecular model of its section on QM9.

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> net = MEGNet(features=2, static=graph.nodes.shape[1], out=5)
    >>> net(torch.zeros(4, 3, 2), graph.at(torch.randn(4, 3, 3))).shape
    torch.Size([4, 3, 5])
    """

    def __init__(
        self,
        *,
        features: int,
        static: int,
        out: int | None = None,
        channels: int = 32,
        blocks: int = 3,
        reach: float = 0.4,
        centres: int = 20,
        width: float = 0.05,
        cutoff: float | None = None,
        bonds: bool = False,
        state: int = 2,
    ) -> None:
        super().__init__()
        self.channels, self.static, self.state, self.bonds, self.cutoff = channels, static, state, bonds, cutoff
        self.gaussians = Gaussians(centres, spacing=reach / (centres - 1), gamma=width**-2)
        inputs = (features + static, centres + BOND_CHANNELS * bonds, state)
        self.blocks = nn.ModuleList(MEGNetBlock(channels, inputs=inputs if k == 0 else None) for k in range(blocks))
        self.out = None if out is None else nn.Linear(2 * channels, out)

    def forward(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> Float[Tensor, "batch atoms out"]:
        """New features of every atom, which know of the state."""
        v, _, u = self.attributes(features, graph)
        both = torch.cat([v, u[:, None].expand(-1, v.shape[1], -1)], dim=-1)
        return both if self.out is None else self.out(both)

    def attributes(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> tuple[Tensor, Tensor, Float[Tensor, "batch channels"]]:
        """Atoms v [batch, atoms, channels], pairs e [batch, atoms, atoms, channels] or [edges, channels], state u."""
        distances = graph.geometry
        v, e = features, self.gaussians(distances)
        if self.static:
            v = torch.cat([v, graph.nodes.expand(*v.shape[:2], -1)], dim=-1)
        if self.bonds:
            if graph.bonds is None:
                raise ValueError(
                    "graph: got one without bonds, which this network shows; take molecular_graph(molecule)"
                )
            e = torch.cat([e, graph.bonds.expand(*e.shape[:-1], -1)], dim=-1)
        u = v.new_ones(self.state) if graph.state is None else graph.state.to(v)
        u = u.expand(len(v), -1)
        weight = self.pairs(graph)
        for block in self.blocks:
            v, e, u = block(v, e, u, graph, weight)
        return v, e, u

    def pairs(self, graph: Graph) -> Tensor:
        """1 for pairs that count and 0 for others, [batch, atoms, atoms, 1] or [edges, 1]."""
        near = torch.ones_like(graph.geometry)
        if self.cutoff is not None:
            near = (graph.geometry < self.cutoff).to(near)
        return (near if graph.edges is not None else near * graph.pairs)[..., None]

    def extra_repr(self) -> str:
        """Channels of the state, and how far pairs reach."""
        return f"state of {self.state}, " + ("no cutoff" if self.cutoff is None else f"cutoff {self.cutoff:g} nm")


class MEGNetBlock(nn.Module):
    """Dense layers, then the updates of pairs, atoms and state in turn, then the block's input added.

    Args:
        channels: of v, e and u.
        inputs: channels of v, e and u in the first block, which adds what comes after its dense layers instead.
    """

    def __init__(self, channels: int, *, inputs: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        self.first = inputs is not None
        before = (_Dense([n], 2 * channels, channels) for n in inputs or (channels,) * 3)
        self.before = nn.ModuleDict(dict(zip("veu", before, strict=True)))
        updates = {"e": 4, "v": 3, "u": 3}
        self.phi = nn.ModuleDict(
            {k: _Dense([channels] * n, 2 * channels, 2 * channels, channels) for k, n in updates.items()}
        )

    def forward(self, v: Tensor, e: Tensor, u: Tensor, graph: Graph, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """New v, e and u; ``weight`` says which pairs count."""
        old = v, e, u
        v, e, u = self.before["v"](v), self.before["e"](e), self.before["u"](u)
        if self.first:
            old = v, e, u
        everywhere = u[:, None].expand(-1, v.shape[1], -1)
        e = self.phi["e"](v, v, e, everywhere, places=(graph.targets, graph.sources, None, graph.targets))
        arrived, count = graph.total(weight * e, v), graph.total(weight, v)
        v = self.phi["v"](arrived / count.clamp(min=1), v, everywhere)
        real = v.new_ones(v.shape[1], 1) if graph.mask is None else graph.mask[..., None].to(v)
        mean_e = arrived.sum(1) / count.sum(1).clamp(min=1)
        u = self.phi["u"](mean_e, (real * v).sum(1) / real.sum(-2), u)
        return v + old[0], e + old[1], u + old[2]


class _Dense(nn.Module):
    """Dense layers, ssp after each, of the concatenation of ``parts``; parts may have axes of 1 to broadcast."""

    def __init__(self, parts: list[int], *widths: int) -> None:
        super().__init__()
        self.parts = parts
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip([sum(parts), *widths], widths, strict=False))
        self.activation = ShiftedSoftplus()

    def forward(self, *parts: Tensor, places: Sequence[Callable[[Tensor], Tensor] | None] | None = None) -> Tensor:
        """The layers of the parts; ``places`` takes the share of a part from atoms to pairs, once it is computed."""
        first, *rest = self.layers
        # A sum of products instead of a product of the concatenation: no part is copied to every pair.
        weights = first.weight.split(self.parts, dim=1)  # type: ignore[operator]
        shares = [F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)]
        if places is not None:
            shares = [s if place is None else place(s) for s, place in zip(shares, places, strict=True)]
        h = shares[0] + first.bias  # type: ignore[operator]
        for share in shares[1:]:
            h = h + share
        h = self.activation(h)
        for layer in rest:
            h = self.activation(layer(h))
        return h


class Set2Set(nn.Module):
    """An order-free summary of a set: T steps of an LSTM whose query q attends to the members, then q || r.

        q = LSTM(q || r) ,   a_k = softmax_k(m_k . q) ,   r = sum_k a_k m_k ,   m_k = M x_k + c .

    Reference: Vinyals, Bengio and Kudlur (2016), arXiv 1511.06391.
    """

    def __init__(self, channels: int, hidden: int = 16, *, steps: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.memory = nn.Linear(channels, hidden)
        self.lstm = nn.LSTMCell(2 * hidden, hidden)

    def forward(
        self,
        x: Float[Tensor, "items channels"],
        owner: Tensor,
        weight: Float[Tensor, " items"],
        *,
        sets: int,
    ) -> Float[Tensor, "sets out"]:
        """Summaries of all sets; item k belongs to set ``owner[k]``, and counts where ``weight[k]`` is 1, not 0."""
        m = self.memory(x)
        q = m.new_zeros(sets, m.shape[1])
        cell, summary = q, m.new_zeros(sets, 2 * m.shape[1])
        for _ in range(self.steps):
            q, cell = self.lstm(summary, (q, cell))
            score = (m * q[owner]).sum(-1)
            with torch.no_grad():  # any shift gives the same result; the largest keeps it finite
                top = score.new_full((sets,), float("-inf")).scatter_reduce(0, owner, score, "amax")[owner]
            a = weight * torch.exp(score - top)
            # 1e-30: a set without members has the summary 0.
            total = a.new_zeros(sets).index_add(0, owner, a).clamp(min=1e-30)
            r = torch.zeros_like(q).index_add(0, owner, a[:, None] * m) / total[:, None]
            summary = torch.cat([q, r], dim=-1)
        return summary

    def extra_repr(self) -> str:
        """How often it looks."""
        return f"{self.steps} steps"


class Set2SetReadout(nn.Module):
    """The readout of MEGNet: Set2Set over atoms and over pairs, with the state through dense layers to one number."""

    def __init__(self, network: MEGNet) -> None:
        super().__init__()
        self.network = network
        self.atoms, self.pairs = Set2Set(network.channels), Set2Set(network.channels)
        self.dense = _Dense([32, 32, network.channels], 32, 16)
        self.last = nn.Linear(16, 1)

    def forward(self, features: Float[Tensor, "batch atoms channels"], graph: Graph) -> Float[Tensor, " batch"]:
        """One number per conformation."""
        v, e, u = self.network.attributes(features, graph)
        batch, atoms = v.shape[:2]
        owner = torch.arange(batch, device=v.device)
        real = v.new_ones(batch, atoms) if graph.mask is None else graph.mask.to(v).expand(batch, atoms)
        of_atom = owner.repeat_interleave(atoms)
        of_pair = owner.repeat_interleave(atoms * atoms) if graph.edges is None else graph.edges[0] // atoms
        from_atoms = self.atoms(v.flatten(0, 1), of_atom, real.flatten(), sets=batch)
        weight = self.network.pairs(graph).flatten()
        from_pairs = self.pairs(e.reshape(len(weight), -1), of_pair, weight, sets=batch)
        return self.last(self.dense(from_atoms, from_pairs, u))[..., 0]
