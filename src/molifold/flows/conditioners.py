"""Conditioners: known coordinates in, spline parameters of the unknown ones out; on the graph, or a plain MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molifold.networks.graph import Graph
from molifold.space import Space
from molifold.transforms.coupling import circle_parameters, real_parameters

#: Harmonics in which a circle coordinate is shown to a network.
HARMONICS = 2


def _describe(known: Float[Tensor, "known batch"], reals: int) -> Float[Tensor, "features batch"]:
    """Real coordinates as they are, circles as cosines and sines (harmonic by harmonic)."""
    circles = known[reals:]
    waves = [f(k * circles) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
    return torch.cat([known[:reals], *waves]) if len(circles) else known


class MLPConditioner(nn.Module):
    """Fully connected conditioner: the baseline that knows nothing of the molecule.

    Args:
        space, mask, given: as in ``Coupling``; known real coordinates come before known circles in the space.
        hidden: widths of the hidden layers.
        bins: spline bins.
    """

    def __init__(
        self,
        space: Space,
        mask: Bool[Tensor, " size"],
        *,
        given: Bool[Tensor, " size"] | None = None,
        hidden: Sequence[int] = (256, 256),
        bins: int = 8,
    ) -> None:
        super().__init__()
        circle = torch.tensor([s == "circle" for s in space.supports])
        known = ~mask if given is None else given
        self._known_reals = int((known & ~circle).sum())
        known_circles = int((known & circle).sum())
        self._reals, self._circles = int((mask & ~circle).sum()), int((mask & circle).sum())
        self._bins = bins
        widths = [self._known_reals + 2 * HARMONICS * known_circles, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        out = self._reals * real_parameters(bins) + self._circles * circle_parameters(bins)
        self.head = nn.Linear(widths[-1], out)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, known: Float[Tensor, "known batch"]) -> tuple[Tensor, Tensor]:
        """Parameters of the real and the circle coordinates in ``mask``."""
        h = _describe(known, self._known_reals)
        for layer in self.hidden:
            h = F.silu(torch.addmm(layer.bias[:, None], layer.weight, h))  # type: ignore[index,arg-type]
        raw = torch.addmm(self.head.bias[:, None], self.head.weight, h)
        split = self._reals * real_parameters(self._bins)
        batch = known.shape[1]
        return (
            raw[:split].view(self._reals, real_parameters(self._bins), batch),
            raw[split:].view(self._circles, circle_parameters(self._bins), batch),
        )


class GraphConditioner(nn.Module):
    """Known coordinates sit on their atoms, messages pass over the molecular graph, unknown ones read their atoms.

    Only atoms that carry a known or an unknown coordinate take part. All weights are shared over atoms (what differs between
    two atoms is their static features), so the same parameters serve another molecule.

    Args:
        space, mask, given: as in ``Coupling``; real coordinates come before circles.
        atoms: atom that carries each coordinate.
        kinds: small integer per coordinate: 0 bond, 1 angle, 2 stiff phase, 3 rotation; one slot of an atom each.
        graph: of the molecule.
        network: ``network(features=..., static=...) -> nn.Module`` builds the network; its output has ``channels``.
        channels: width of the network's output.
        bins: spline bins.
    """

    KINDS = 4

    def __init__(
        self,
        space: Space,
        mask: Bool[Tensor, " size"],
        *,
        atoms: Sequence[int],
        kinds: Sequence[int],
        graph: Graph,
        network: Callable[..., nn.Module],
        channels: int,
        given: Bool[Tensor, " size"] | None = None,
        bins: int = 8,
    ) -> None:
        super().__init__()
        circle = torch.tensor([s == "circle" for s in space.supports])
        known = ~mask if given is None else given
        nodes = sorted({a for a, used in zip(atoms, (mask | known).tolist(), strict=True) if used})
        row = torch.tensor([nodes.index(a) if a in nodes else -1 for a in atoms])
        kind = torch.tensor(list(kinds))
        self._nodes, self._bins, self._channels = len(nodes), bins, channels
        self._known_reals = int((known & ~circle).sum())
        # Where each known feature lands in [nodes x slots]; circles land once per wave.
        slots = [(row[i], int(kind[i])) for i in (known & ~circle).nonzero()[:, 0].tolist()]
        waves = 2 * HARMONICS
        circles = (known & circle).nonzero()[:, 0].tolist()
        slots += [(row[i], self.KINDS - 1 + w) for w in range(waves) for i in circles]
        width = self.KINDS - 1 + waves
        place = torch.full((self._nodes * width,), len(slots))
        for i, (r, s) in enumerate(slots):
            place[int(r) * width + s] = i
        self.register_buffer("_place", place, persistent=False)
        self._width = width
        flags = torch.zeros(self._nodes, 2 * self.KINDS)
        for i in (mask | known).nonzero()[:, 0].tolist():
            flags[row[i], int(kind[i]) + (self.KINDS if mask[i] else 0)] = 1.0
        static = graph.subgraph(nodes).with_nodes(flags)
        self.register_buffer("_static", static.nodes, persistent=False)
        self.register_buffer("_hops", static.hops, persistent=False)
        self.network = network(features=width, static=static.nodes.shape[1])
        for name, part, size in (
            ("real", mask & ~circle, real_parameters(bins)),
            ("circle", mask & circle, circle_parameters(bins)),
        ):
            index = part.nonzero()[:, 0]
            self.register_buffer(f"_{name}_row", row[index], persistent=False)
            self.register_buffer(f"_{name}_kind", kind[index], persistent=False)
            weight = nn.Parameter(torch.zeros(self.KINDS, size, channels))
            self.register_parameter(f"{name}_weight", weight)
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(self.KINDS, size)))
        self.static_head = nn.Linear(static.nodes.shape[1], channels)

    def forward(self, known: Float[Tensor, "known batch"]) -> tuple[Tensor, Tensor]:
        """Parameters of the real and the circle coordinates in ``mask``."""
        batch = known.shape[1]
        described = _describe(known, self._known_reals)
        padded = torch.cat([described, described.new_zeros(1, batch)])
        features = padded[self._place].view(self._nodes, self._width, batch).permute(2, 0, 1)
        h = self.network(features, Graph(self._static, self._hops)) * (1 + self.static_head(self._static))
        h = h.permute(1, 2, 0)  # nodes, channels, batch
        return self._head("real", h), self._head("circle", h)

    def _head(self, name: str, h: Float[Tensor, "nodes channels batch"]) -> Tensor:
        row, kind = getattr(self, f"_{name}_row"), getattr(self, f"_{name}_kind")
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return torch.baddbmm(bias[kind][:, :, None], weight[kind], h[row])
