"""Graph filters: messages between all pairs of atoms, weighted by learned functions of the molecular graph alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from molifold.networks.graph import MAX_HOPS, Graph


class GraphFilters(nn.Module):
    """Edge-conditioned convolution on the dense molecular graph, channel by channel.

    One layer, for channels c and atoms i, j, with static features s of the atoms and d_ij bonds between them:

        m_ic = sum_j f_c(s_i, s_j, d_ij) h_jc / sqrt(n_i) ,   h_i <- h_i + W_i silu(U_i [h_i, m_i]) .

    j runs over the n_i atoms at most ``max_hops`` bonds away, i itself included. The filters f and the weights W_i, U_i
    (a shared matrix plus ``rank`` others mixed by s_i) depend on the graph alone. They are computed once per batch, so
    a layer costs its matrix products and nothing else, yet every pair of atoms has its own signed coupling in every
    channel. All parameters are shared over atoms and serve any molecule.

    Args:
        features: channels of the input that vary with the conformation.
        static: channels of ``graph.nodes``.
        channels: width, of the output too.
        layers: number of layers.
        rank: matrices that are mixed into the weights of every atom.
        max_hops: how far messages go; None for all atoms. With a limit, and static features that have it too
            (``molecular_graph``), an atom cannot tell how large the rest of its molecule is.

    Reference: Simonovsky and Komodakis (2017), arXiv 1704.02901 (edge-conditioned filters); Schuett et al. (2017),
    arXiv 1706.08566 (channel-wise filters); Ha et al. (2016), arXiv 1609.09106 (weights from another network).

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> GraphFilters(features=2, static=graph.nodes.shape[1], channels=8)(torch.zeros(4, 3, 2), graph).shape
    torch.Size([4, 3, 8])
    """

    def __init__(
        self,
        *,
        features: int,
        static: int,
        channels: int = 32,
        layers: int = 2,
        rank: int = 4,
        max_hops: int | None = None,
    ) -> None:
        super().__init__()
        self.static_in = nn.Sequential(nn.Linear(static, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))
        self.features_in = AtomLinear(features, channels, static=channels, rank=rank)
        self.layers = nn.ModuleList(_Layer(channels, rank) for _ in range(layers))
        self.max_hops = MAX_HOPS if max_hops is None else max_hops

    def forward(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> Float[Tensor, "batch atoms out"]:
        """New features of every atom.

        Raises:
            ValueError: for a batch of different molecules, padding, or edges.
        """
        if graph.nodes.ndim != 2 or graph.mask is not None or graph.edges is not None:
            raise ValueError(
                f"graph: got {graph}, expected one molecule in the dense layout: its filters serve a batch"
            )
        static = self.static_in(graph.nodes)
        near = (graph.hops <= self.max_hops).to(static.dtype)
        share = near / near.sum(1, keepdim=True).sqrt()
        h = F.silu(self.features_in(features.permute(1, 2, 0), static))
        for layer in self.layers:
            h = layer(h, static, graph.hops, share)
        return h.permute(2, 0, 1)


class AtomLinear(nn.Module):
    """A linear layer whose matrix differs from atom to atom: a shared one plus ``rank`` mixed by static features."""

    def __init__(self, inputs: int, outputs: int, *, static: int, rank: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(1 + rank, outputs, inputs).uniform_(-bound, bound))
        self.mixing = nn.Linear(static, rank)
        self.bias = nn.Linear(static, outputs)

    def forward(
        self, h: Float[Tensor, "atoms inputs batch"], static: Float[Tensor, "atoms static"]
    ) -> Float[Tensor, "atoms outputs batch"]:
        """Every atom's own matrix and constant, applied to its channels."""
        weight = self.weight[0] + torch.einsum("ar,roi->aoi", self.mixing(static), self.weight[1:])
        return torch.baddbmm(self.bias(static)[:, :, None], weight, h)


class _Layer(nn.Module):
    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.target = nn.Linear(channels, channels)
        self.source = nn.Linear(channels, channels, bias=False)
        self.distance = nn.Embedding(MAX_HOPS + 1, channels)
        self.filters = nn.Linear(channels, channels)
        self.update = AtomLinear(2 * channels, channels, static=channels, rank=rank)
        self.mix = AtomLinear(channels, channels, static=channels, rank=rank)

    def forward(
        self,
        h: Float[Tensor, "atoms channels batch"],
        static: Float[Tensor, "atoms channels"],
        hops: Int[Tensor, "atoms atoms"],
        share: Float[Tensor, "atoms atoms"],
    ) -> Float[Tensor, "atoms channels batch"]:
        pairs = self.target(static)[:, None] + self.source(static)[None] + self.distance(hops)
        filters = self.filters(F.silu(pairs)).permute(2, 0, 1) * share
        message = (filters @ h.transpose(0, 1)).transpose(0, 1)
        return h + self.mix(F.silu(self.update(torch.cat([h, message], dim=1), static)), static)
