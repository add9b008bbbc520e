"""SchNet: continuous-filter convolutions over the distances between atoms."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.graph import Graph


class SchNet(nn.Module):
    """Messages between atoms, filtered channel by channel by a learned function of their distance.

    With x^0 = A s + B f of static features s and features f (an embedding of the element in the paper), one layer is

        x_i <- x_i + W_3 ssp(W_2 sum_{j != i} (W_1 x_j) o w(d_ij)) ,
        w(d) = c(d) ssp(V_2 ssp(V_1 e(d))) ,   e_k(d) = exp(-gamma (d - mu_k)^2) ,   ssp(x) = ln(e^x / 2 + 1 / 2) ,

    and the output is U_2 ssp(U_1 x). The envelope c is 1 as in the paper, or, given a cutoff, half a cosine that
    takes messages and their derivative to zero there.

    Args:
        features: channels of the input that vary with the conformation (or an embedding).
        static: channels of ``graph.nodes``; 0 to leave them out.
        out: channels of the output; None for the ``channels`` of the last layer.
        channels: width of atoms and filters.
        layers: interaction blocks; 3 in the paper, 6 in its released scripts.
        cutoff: nm; None for messages between all atoms.
        reach: nm, where the centres mu_k end; they begin at 0. No farther than the cutoff is ever needed.
        spacing: nm, between two centres.
        gamma: 1/nm^2.

    Needs ``graph.distances`` (``graph.at(x)``); in the sparse layout, edges up to the cutoff (``graph.neighbours``).

    Reference: Schuett et al. (2017), arXiv 1706.08566; the cutoff is that of Behler (2011), doi:10.1063/1.3553717.

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> net = SchNet(features=2, static=graph.nodes.shape[1], out=5, channels=8, reach=0.5)
    >>> net(torch.zeros(4, 3, 2), graph.at(torch.randn(4, 3, 3))).shape
    torch.Size([4, 3, 5])
    """

    def __init__(
        self,
        *,
        features: int,
        static: int,
        out: int | None = None,
        channels: int = 64,
        layers: int = 3,
        cutoff: float | None = None,
        reach: float = 3.0,
        spacing: float = 0.01,
        gamma: float = 1000.0,
    ) -> None:
        super().__init__()
        reach = reach if cutoff is None else min(reach, cutoff)
        centres = max(2, round(reach / spacing))
        self.features_in = nn.Linear(features, channels, bias=False)
        self.static_in = nn.Linear(static, channels, bias=False) if static else None
        self.gaussians = Gaussians(centres, spacing=spacing, gamma=gamma)
        self.layers = nn.ModuleList(_Interaction(channels, centres) for _ in range(layers))
        self.out = None if out is None else _dense(channels, channels // 2, out)
        self.cutoff = cutoff

    def forward(
        self, features: Float[Tensor, "batch atoms channels"], graph: Graph
    ) -> Float[Tensor, "batch atoms out"]:
        """New features of every atom."""
        h = self.features_in(features)
        if self.static_in is not None:
            h = h + self.static_in(graph.nodes)
        convolve = (_Halves if graph.edges is None else _Edges)(graph)
        basis = self.gaussians(convolve.distances)
        envelope = convolve.weight
        if self.cutoff is not None:
            end = _cosine(convolve.distances, self.cutoff)
            envelope = end if envelope is None else end * envelope
        for layer, filters in zip(self.layers, self._filters(basis, envelope), strict=True):
            h = layer(h, filters, convolve)
        return h if self.out is None else self.out(h)

    def _filters(
        self, basis: Float[Tensor, "*pairs centres"], envelope: Float[Tensor, "*pairs"] | None
    ) -> tuple[Tensor, ...]:
        """Filters of every layer [*pairs, channels]: one product and one activation for all layers at once."""
        first, second = zip(*((layer.filters[0][0], layer.filters[0][2]) for layer in self.layers), strict=True)  # type: ignore[index]
        h = F.linear(basis.flatten(0, -2), torch.cat([m.weight for m in first]), torch.cat([m.bias for m in first]))
        h = ssp(h).unflatten(-1, (len(first), -1)).transpose(0, 1)
        bias = torch.stack([m.bias for m in second])[:, None]
        h = ssp(torch.baddbmm(bias, h, torch.stack([m.weight.T for m in second])))
        if envelope is not None:
            h = h * envelope.reshape(-1, 1)
        return h.view(-1, *basis.shape[:-1], h.shape[-1]).unbind()

    def extra_repr(self) -> str:
        """How far messages reach."""
        return "no cutoff" if self.cutoff is None else f"cutoff {self.cutoff:g} nm"


class Gaussians(nn.Module):
    """e_k(d) = exp(-gamma (d - k spacing)^2), k = 0, 1, ... ."""

    centres: Tensor

    def __init__(self, n: int, *, spacing: float, gamma: float) -> None:
        super().__init__()
        self.register_buffer("centres", spacing * torch.arange(n), persistent=False)
        self.gamma = gamma

    def forward(self, d: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs centres"]:
        """Every distance on every centre."""
        return torch.exp(-self.gamma * (d[..., None] - self.centres).square())

    def extra_repr(self) -> str:
        """Number, reach and width."""
        return f"{len(self.centres)} centres up to {float(self.centres[-1]):g} nm, gamma {self.gamma:g} / nm^2"


class ShiftedSoftplus(nn.Module):
    """ssp(x) = ln(e^x / 2 + 1 / 2), which vanishes at 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return ssp(x)


def ssp(x: Tensor) -> Tensor:
    """ln(e^x / 2 + 1 / 2)."""
    return F.softplus(x) - math.log(2.0)


class _Interaction(nn.Module):
    def __init__(self, channels: int, centres: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels, bias=False)
        self.filters = nn.Sequential(_dense(centres, channels, channels), ShiftedSoftplus())
        self.update = _dense(channels, channels, channels)

    def forward(
        self,
        h: Float[Tensor, "batch atoms channels"],
        filters: Float[Tensor, "*pairs channels"],
        convolve: _Halves | _Edges,
    ) -> Float[Tensor, "batch atoms channels"]:
        return h + self.update(convolve(self.project(h), filters))


def _dense(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), ShiftedSoftplus(), nn.Linear(hidden, outputs))


def _cosine(d: Tensor, cutoff: float) -> Tensor:
    """1 at 0, 0 from the cutoff on, with a continuous derivative."""
    return 0.5 * (torch.cos(d.clamp(max=cutoff) * (math.pi / cutoff)) + 1)


class _Halves:
    """Convolution in the dense layout. Filters are symmetric, so each is computed once per pair of atoms."""

    def __init__(self, graph: Graph) -> None:
        device, atoms = graph.nodes.device, graph.nodes.shape[-2]
        i, j = torch.triu_indices(atoms, atoms, 1, device=device)
        self.distances = graph.geometry[:, i, j]
        self.weight = None  # all pairs are of real atoms
        if graph.mask is not None:
            self.weight = graph.pairs[..., i, j].to(self.distances.dtype).expand(self.distances.shape)
        # Row of the pair in every entry of the square; the diagonal points at a row of zeros past the end.
        square = torch.full((atoms, atoms), len(i), device=device)
        square[i, j] = square[j, i] = torch.arange(len(i), device=device)
        self._square = square.flatten()

    def __call__(
        self, h: Float[Tensor, "batch atoms channels"], filters: Float[Tensor, "batch pairs channels"]
    ) -> Tensor:
        atoms = h.shape[1]
        square = F.pad(filters, (0, 0, 0, 1)).index_select(1, self._square).unflatten(1, (atoms, atoms))
        return (square * h[:, None]).sum(2)


class _Edges:
    """Convolution in the sparse layout."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self.distances = graph, graph.geometry
        self.weight = None

    def __call__(
        self, h: Float[Tensor, "batch atoms channels"], filters: Float[Tensor, "edges channels"]
    ) -> Float[Tensor, "batch atoms channels"]:
        """What arrives at every atom."""
        return self._graph.total(filters * self._graph.sources(h), h)
