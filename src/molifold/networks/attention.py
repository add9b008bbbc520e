"""Graph attention: the network of the GAT paper, and its attention in residual blocks biased by graph distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.graph import MAX_HOPS, Graph


class GAT(nn.Module):
    """Graph attention network, as published: layers of attention over bonded atoms and nothing else.

    One layer, for heads k and atoms i, j, with j among the neighbours of i and i itself:

        e_ij = LeakyReLU(a_k . W_k h_i + b_k . W_k h_j),   alpha_i. = softmax_j e_ij,
        h_i <- concat_k ELU(sum_j alpha_ij W_k h_j + c_k) ,

    and in the last layer the mean over heads without ELU. In training mode dropout acts on the input of every layer,
    on alpha and on W h. The biases c are those of the authors' code.

    Args:
        features: channels of the input that vary with the conformation (or are all there is).
        static: channels of ``graph.nodes``; 0 to leave them out.
        out: channels of the output (classes).
        channels: per head, of the hidden layers.
        heads: of the hidden layers; ``out_heads`` of the last.
        layers: how many, with the last one.
        dropout: probability.
        max_hops: neighbours are atoms at most this many bonds away.

    In the sparse layout the edges of the graph are the neighbours. There, ``features`` may be one sparse CSR matrix
    [atoms, channels] (words of documents), which stands for a batch of one.

    Reference: Velickovic et al., Graph Attention Networks (2018), arXiv 1710.10903, eqs. 1 to 6 and section 3.3.

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> GAT(features=2, static=graph.nodes.shape[1], out=5)(torch.zeros(4, 3, 2), graph).shape
    torch.Size([4, 3, 5])
    """

    def __init__(
        self,
        *,
        features: int,
        static: int,
        out: int,
        channels: int = 8,
        heads: int = 8,
        out_heads: int = 1,
        layers: int = 2,
        dropout: float = 0.6,
        max_hops: int = 1,
    ) -> None:
        super().__init__()
        widths = [features + static, *[channels * heads] * (layers - 1)]
        self.layers = nn.ModuleList(_Heads(w, channels, heads, dropout=dropout, max_hops=max_hops) for w in widths[:-1])
        self.last = _Heads(widths[-1], out, out_heads, dropout=dropout, max_hops=max_hops)
        self.static = static

    def forward(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> Float[Tensor, "batch atoms out"]:
        """Output of every atom (logits of its class)."""
        h = features
        if self.static:
            h = torch.cat([h, graph.nodes.expand(len(h), -1, -1)], dim=-1)
        if graph.edges is not None:
            graph = graph.with_loops(h.shape[:-1].numel())
        for layer in self.layers:
            h = F.elu(layer(h, graph)).flatten(-2)
        return self.last(h, graph).mean(-2)


class _Heads(nn.Module):
    """One layer of ``GAT`` before heads are joined: [batch, atoms, heads, width]."""

    def __init__(self, inputs: int, width: int, heads: int, *, dropout: float, max_hops: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads * width, inputs)))
        self.query, self.key = (nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, width))) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(heads, width))
        self.dropout, self.max_hops = dropout, max_hops

    def forward(self, h: Tensor, graph: Graph) -> Float[Tensor, "batch atoms heads width"]:
        value = self._project(h).unflatten(-1, self.bias.shape)
        query, key = (value * self.query).sum(-1), (value * self.key).sum(-1)
        alpha = self._drop(coefficients(query, key, graph, max_hops=self.max_hops))
        return mix(alpha, self._drop(value), graph) + self.bias

    def _project(self, h: Tensor) -> Float[Tensor, "batch atoms channels"]:
        if h.layout is not torch.sparse_csr:
            return F.linear(self._drop(h), self.weight)
        # What is zero needs neither dropout nor multiplication.
        parts = h.crow_indices(), h.col_indices(), self._drop(h.values())
        return (torch.sparse_csr_tensor(*parts, size=h.shape, check_invariants=False) @ self.weight.T)[None]

    def _drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.dropout, self.training)

    def extra_repr(self) -> str:
        heads, width = self.bias.shape
        return f"{self.weight.shape[1]} -> {heads} heads x {width}, dropout {self.dropout:g}"


class GraphAttention(nn.Module):
    """Attention of ``GAT`` in residual blocks, biased by graph distance: for conditioning on conformations.

    One layer, for heads k and atoms i, j:

        e_ij = LeakyReLU(a_k . W h_i + b_k . W h_j + c_k[hops(i, j)]),   alpha_i. = softmax_j e_ij,
        h_i <- h_i + sum_j alpha_ij W h_j ,   h_i <- h_i + V silu(U h_i) .

    The bias ``c`` per graph distance lets one layer see the whole molecule while knowing who is bonded to whom; with
    ``max_hops=1`` only bonded atoms (and the atom itself) are attended to, as in the paper.

    Molecules have at most a few hundred atoms, so the attention matrix is dense: one batched matrix product in place
    of gathers and scatters.

    Args:
        features: channels of the input that vary with the conformation.
        static: channels of ``graph.nodes``.
        out: channels of the output.
        channels: width; a multiple of ``heads``.
        heads: attention heads.
        layers: attention layers.
        max_hops: attend only to atoms at most this many bonds away.
        dynamic: when False the attention coefficients come from the static features only: the same for the whole
            batch, so a layer costs little more than its matrix products.

    Reference: Velickovic et al., Graph Attention Networks (2018), arXiv 1710.10903, eqs. 1 to 6; the distance bias is
    that of Ying et al. (2021), arXiv 2106.05234.

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> net = GraphAttention(features=2, static=graph.nodes.shape[1], out=5, channels=8, heads=2)
    >>> net(torch.zeros(4, 3, 2), graph).shape
    torch.Size([4, 3, 5])
    """

    def __init__(
        self,
        *,
        features: int,
        static: int,
        out: int | None,
        channels: int = 32,
        heads: int = 4,
        layers: int = 2,
        max_hops: int | None = None,
        dynamic: bool = True,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels: got {channels}, expected a multiple of heads ({heads})")
        self.dynamic = dynamic
        self.features_in = nn.Linear(features, channels)
        self.static_in = nn.Sequential(nn.Linear(static, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))
        self.layers = nn.ModuleList(_Layer(channels, heads, max_hops=max_hops) for _ in range(layers))
        self.out = None if out is None else nn.Linear(channels, out)

    def forward(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> Float[Tensor, "batch atoms out"]:
        """New features of every atom (before the output layer where ``out`` is None)."""
        static = self.static_in(graph.nodes)
        if not self.dynamic and graph.nodes.ndim == 2 and graph.edges is None:
            return self._alike(features, static.T[:, :, None], graph)
        h = F.silu(self.features_in(features) + static)
        if graph.edges is not None:
            graph = graph.with_loops(h.shape[0] * h.shape[1])
        scored = None if self.dynamic else static.expand(h.shape)
        for layer in self.layers:
            h = layer(h, scored, graph)
        return h if self.out is None else self.out(h)

    def _alike(self, features: Tensor, static: Float[Tensor, "channels atoms 1"], graph: Graph) -> Tensor:
        h = F.silu(_linear(self.features_in, features.permute(2, 1, 0)) + static)
        for layer in self.layers:
            h = layer(h, static, graph, alike=True)
        return (h if self.out is None else _linear(self.out, h)).permute(2, 1, 0)


def _linear(layer: nn.Linear, h: Float[Tensor, "channels atoms batch"]) -> Float[Tensor, "out atoms batch"]:
    """A linear layer in channels-first, batch-last memory: one large matrix product."""
    flat = h.reshape(h.shape[0], -1)
    product = layer.weight @ flat if layer.bias is None else torch.addmm(layer.bias[:, None], layer.weight, flat)
    return product.view(-1, *h.shape[1:])


class _Layer(nn.Module):
    """One layer, in the memory order that suits its coefficients.

    Coefficients of every conformation multiply matrices of one conformation: batch first. Coefficients that all
    conformations share multiply one large matrix: channels first, batch last.
    """

    def __init__(self, channels: int, heads: int, *, max_hops: int | None) -> None:
        super().__init__()
        self.heads, self.max_hops = heads, max_hops
        self.value = nn.Linear(channels, channels, bias=False)
        self.query_score = nn.Linear(channels, heads, bias=False)
        self.key_score = nn.Linear(channels, heads, bias=False)
        self.hop_bias = nn.Parameter(-0.5 * torch.arange(MAX_HOPS + 1.0)[:, None].repeat(1, heads))
        self.update = nn.Linear(channels, channels)
        self.mix = nn.Linear(channels, channels)

    def _coefficients(self, h: Float[Tensor, "*batch atoms channels"], graph: Graph) -> Tensor:
        """How much atom i takes from atom j."""
        query, key = self.query_score(h), self.key_score(h)
        return coefficients(query, key, graph, bias=self.hop_bias, max_hops=self.max_hops)

    def forward(self, h: Tensor, scored: Tensor | None, graph: Graph, *, alike: bool = False) -> Tensor:
        """Coefficients of every conformation, or the same for all (``alike``)."""
        if alike:
            assert scored is not None
            return self.attend_alike(h, scored, graph)
        return self.attend_each(h, scored, graph)

    def attend_each(
        self, h: Float[Tensor, "batch atoms channels"], scored: Tensor | None, graph: Graph
    ) -> Float[Tensor, "batch atoms channels"]:
        """Coefficients of every conformation, from its features or from what is ``scored`` instead."""
        value = self.value(h)
        alpha = self._coefficients(value if scored is None else scored, graph)
        h = h + mix(alpha, value.unflatten(-1, (self.heads, -1)), graph).flatten(-2)
        return h + self.mix(F.silu(self.update(h)))

    def attend_alike(
        self, h: Float[Tensor, "channels atoms batch"], static: Float[Tensor, "channels atoms 1"], graph: Graph
    ) -> Float[Tensor, "channels atoms batch"]:
        """Coefficients from static features."""
        alpha = self._coefficients(static[..., 0].T, graph)
        split = _linear(self.value, h).view(self.heads, -1, *h.shape[1:])
        h = h + (alpha[:, None] @ split).view(h.shape)
        return h + _linear(self.mix, F.silu(_linear(self.update, h)))


def coefficients(
    query: Float[Tensor, "*batch atoms heads"],
    key: Float[Tensor, "*batch atoms heads"],
    graph: Graph,
    *,
    bias: Float[Tensor, "hops heads"] | None = None,
    max_hops: int | None = None,
) -> Float[Tensor, "*batch heads atoms atoms"] | Float[Tensor, "edges heads"]:
    """alpha_i. = softmax_j LeakyReLU(query_i + key_j + bias[hops_ij]) over the pairs of ``graph`` within ``max_hops``.

    In the dense layout every atom is a neighbour of its own; in the sparse one the edges say (``Graph.with_loops``).
    """
    far = None if max_hops is None else graph.hops > max_hops
    if graph.edges is not None:
        scores = query.flatten(0, 1)[graph.edges[0]] + key.flatten(0, 1)[graph.edges[1]]
        scores = F.leaky_relu(scores if bias is None else scores + bias[graph.hops], 0.2)
        scores = scores if far is None else scores.masked_fill(far[:, None], float("-inf"))
        return _softmax_over_edges(scores, graph.edges[0], rows=query.shape[0] * query.shape[1])
    scores = query.mT[..., None] if bias is None else query.mT[..., None] + bias[graph.hops].movedim(-1, -3)
    scores = F.leaky_relu(scores + key.mT[..., None, :], 0.2)
    if graph.mask is not None:
        far = ~graph.mask[..., None, :] if far is None else far | ~graph.mask[..., None, :]
    if far is not None:
        distinct = ~torch.eye(far.shape[-1], dtype=torch.bool, device=far.device)
        scores = scores.masked_fill((far & distinct)[..., None, :, :], float("-inf"))
    return torch.softmax(scores, dim=-1)


def mix(alpha: Tensor, value: Float[Tensor, "batch atoms heads width"], graph: Graph) -> Tensor:
    """sum_j alpha_ij value_j of every head, [batch, atoms, heads, width]."""
    if graph.edges is None:
        return (alpha @ value.transpose(1, 2)).transpose(1, 2)
    messages = alpha[..., None] * value.flatten(0, 1)[graph.edges[1]]
    total = torch.zeros_like(value.flatten(0, 1)).index_add(0, graph.edges[0], messages)
    return total.view(value.shape)


def _softmax_over_edges(
    scores: Float[Tensor, "edges heads"], target: Tensor, *, rows: int
) -> Float[Tensor, "edges heads"]:
    """Softmax over the edges that arrive at the same row."""
    with torch.no_grad():  # any shift gives the same result; the largest keeps it finite
        index = target[:, None].expand(scores.shape)
        top = scores.new_full((rows, scores.shape[1]), float("-inf")).scatter_reduce(0, index, scores, "amax")
    weight = torch.exp(scores - top[target])
    return weight / weight.new_zeros(top.shape).index_add(0, target, weight)[target]
