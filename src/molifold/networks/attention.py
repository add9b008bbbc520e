"""Graph attention on the dense molecular graph: every atom attends to every other, biased by graph distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.graph import MAX_HOPS, Graph


class GraphAttention(nn.Module):
    """Multi-head graph attention (GAT) on dense batches.

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

    def forward(self, features: Float[Tensor, "batch atoms channels"], graph: Graph) -> Tensor:
        """New features of every atom (before the output layer where ``out`` is None)."""
        static = self.static_in(graph.nodes)
        if self.dynamic:
            h = F.silu(self.features_in(features) + static)
            for layer in self.layers:
                h = layer.attend_each(h, graph.hops)  # type: ignore[operator]
            return h if self.out is None else self.out(h)
        static = static.T[:, :, None]
        h = F.silu(_linear(self.features_in, features.permute(2, 1, 0)) + static)
        for layer in self.layers:
            h = layer.attend_alike(h, static, graph.hops)  # type: ignore[operator]
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

    def _coefficients(
        self, h: Float[Tensor, "*batch atoms channels"], hops: Tensor
    ) -> Float[Tensor, "*batch heads atoms atoms"]:
        """How much atom i takes from atom j."""
        bias = self.hop_bias[hops].permute(2, 0, 1)
        if self.max_hops is not None:
            bias = bias.masked_fill(hops > self.max_hops, float("-inf"))
        target, source = self.query_score(h).mT, self.key_score(h).mT
        scores = (target[..., None] + bias).add_(source[..., None, :])
        return torch.softmax(F.leaky_relu(scores, 0.2, inplace=True), dim=-1)

    def attend_each(self, h: Float[Tensor, "batch atoms channels"], hops: Tensor) -> Tensor:
        """Coefficients from the features themselves."""
        value = self.value(h)
        split = value.view(*h.shape[:2], self.heads, -1).transpose(1, 2)
        h = h + (self._coefficients(value, hops) @ split).transpose(1, 2).reshape(h.shape)
        return h + self.mix(F.silu(self.update(h)))

    def attend_alike(
        self, h: Float[Tensor, "channels atoms batch"], static: Float[Tensor, "channels atoms 1"], hops: Tensor
    ) -> Float[Tensor, "channels atoms batch"]:
        """Coefficients from static features."""
        alpha = self._coefficients(static[..., 0].T, hops)
        split = _linear(self.value, h).view(self.heads, -1, *h.shape[1:])
        h = h + (alpha[:, None] @ split).view(h.shape)
        return h + _linear(self.mix, F.silu(_linear(self.update, h)))
