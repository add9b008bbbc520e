"""Conditioners: known coordinates in, spline parameters of the unknown ones out; on the graph, or a plain MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molifold.networks.graph import Graph
from molifold.space import Space
from molifold.transforms.partial import PartialGeometry
from molifold.transforms.univariate import UNIVARIATE, parameter_count

#: Harmonics in which a circle coordinate is shown to a network.
HARMONICS = 2

#: Kinds of coordinates an atom may carry, at most one of each; a rotation is shown to networks as its waves.
KINDS = ("bond", "angle", "phase", "rotation")


def _moved(space: Space, mask: Bool[Tensor, " size"]) -> dict[str, Tensor]:
    """Indices of the coordinates to transform, by support."""
    index = {s: (mask & torch.from_numpy(space.has(s))).nonzero()[:, 0] for s in UNIVARIATE}
    return {s: i for s, i in index.items() if len(i)}


def _describe(known: Float[Tensor, "known batch"], plain: Tensor, circles: Tensor) -> Float[Tensor, "features batch"]:
    """Plain coordinates as they are, then circles as cosines and sines, harmonic by harmonic."""
    angle = known[circles]
    waves = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
    return torch.cat([known[plain], *waves])


class MLPConditioner(nn.Module):
    """Fully connected conditioner: the baseline that knows nothing of the molecule.

    Args:
        space, mask, given: as in ``Coupling``.
        hidden: widths of the hidden layers.
        bins: spline bins.
    """

    _plain: Tensor
    _circle: Tensor

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
        circle = torch.from_numpy(space.has("circle"))[~mask if given is None else given]
        self.register_buffer("_plain", (~circle).nonzero()[:, 0], persistent=False)
        self.register_buffer("_circle", circle.nonzero()[:, 0], persistent=False)
        self._shapes = {s: (len(i), parameter_count(s, bins)) for s, i in _moved(space, mask).items()}
        widths = [int((~circle).sum() + 2 * HARMONICS * circle.sum()), *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.head = nn.Linear(widths[-1], sum(n * p for n, p in self._shapes.values()))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, known: Float[Tensor, "known batch"]) -> dict[str, Float[Tensor, "n parameters batch"]]:
        """Parameters of the coordinates in ``mask``, by support."""
        h = _describe(known, self._plain, self._circle)
        for layer in self.hidden:
            h = F.silu(torch.addmm(layer.bias[:, None], layer.weight, h))  # type: ignore[index,arg-type]
        raw = torch.addmm(self.head.bias[:, None], self.head.weight, h)
        parts = raw.split([n * p for n, p in self._shapes.values()])
        return {s: part.view(*shape, -1) for (s, shape), part in zip(self._shapes.items(), parts, strict=True)}


class GraphConditioner(nn.Module):
    """Known coordinates sit on their atoms, messages pass over the molecular graph, unknown ones read their atoms.

    Only atoms that carry a known or an unknown coordinate take part. All weights are shared over atoms (what differs
    between two atoms is their static features), so the same parameters serve another molecule.

    Args:
        space, mask, given: as in ``Coupling``.
        atoms: atom that carries each coordinate.
        kinds: index into ``KINDS`` of each coordinate.
        graph: of the molecule.
        network: ``network(features=..., static=...)`` builds the network; its output has ``channels``.
        channels: width of the network's output.
        geometry: hands the network the distances between the atoms, as far as they follow from what is known.
        bins: spline bins.
    """

    _plain: Tensor
    _circle: Tensor
    _place: Tensor
    _nodes: Tensor

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
        geometry: PartialGeometry | None = None,
        bins: int = 8,
    ) -> None:
        super().__init__()
        given = ~mask if given is None else given
        nodes = sorted({a for a, used in zip(atoms, (mask | given).tolist(), strict=True) if used})
        self.nodes = tuple(nodes)
        row = {a: i for i, a in enumerate(nodes)}
        circle = torch.from_numpy(space.has("circle"))[given]
        self.register_buffer("_plain", (~circle).nonzero()[:, 0], persistent=False)
        self.register_buffer("_circle", circle.nonzero()[:, 0], persistent=False)
        # Where each known feature lands in [slots x nodes]: one slot per plain kind, then one per wave of a rotation.
        seen = given.nonzero()[:, 0]
        waves = len(KINDS) - 1 + torch.arange(2 * HARMONICS)
        landing = [kinds[i] * len(nodes) + row[atoms[i]] for i in seen[~circle].tolist()]
        landing += [int(w) * len(nodes) + row[atoms[i]] for w in waves for i in seen[circle].tolist()]
        self._width = len(KINDS) - 1 + 2 * HARMONICS
        place = torch.full((self._width * len(nodes),), len(landing))
        place[torch.tensor(landing)] = torch.arange(len(landing))
        self.register_buffer("_place", place, persistent=False)
        flags = torch.zeros(len(nodes), 2 * len(KINDS))
        for i in (mask | given).nonzero()[:, 0].tolist():
            flags[row[atoms[i]], kinds[i] + (len(KINDS) if mask[i] else 0)] = 1.0
        part = graph.subgraph(nodes).with_nodes(flags)
        self._fields = [f.name for f in fields(part) if getattr(part, f.name) is not None]
        for name in self._fields:
            self.register_buffer(f"_graph_{name}", getattr(part, name), persistent=False)
        self.register_buffer("_nodes", torch.tensor(nodes), persistent=False)
        self.geometry = geometry
        static = part.nodes.shape[1]
        self.network = network(features=self._width, static=static)
        self.gain = nn.Linear(static, channels)
        self.heads = nn.ParameterDict()
        self._moved = _moved(space, mask)
        for support, index in self._moved.items():
            self.register_buffer(f"_{support}_row", torch.tensor([row[atoms[i]] for i in index]), persistent=False)
            self.register_buffer(f"_{support}_kind", torch.tensor([kinds[i] for i in index]), persistent=False)
            # One head per kind of coordinate; the last column is the bias.
            self.heads[support] = nn.Parameter(torch.zeros(len(KINDS), parameter_count(support, bins), channels + 1))

    def forward(self, known: Float[Tensor, "known batch"]) -> dict[str, Float[Tensor, "n parameters batch"]]:
        """Parameters of the coordinates in ``mask``, by support."""
        graph = self.graph
        if self.geometry is not None:
            graph = graph.at(self.geometry(known)[:, self._nodes])
        h = self.network(self.features(known), graph) * (1 + self.gain(graph.nodes))
        h = h.permute(1, 2, 0)
        return {support: self._read(support, h) for support in self._moved}

    @property
    def graph(self) -> Graph:
        """The atoms that take part (``nodes``, indices in the molecule), without distances."""
        return Graph(**{name: getattr(self, f"_graph_{name}") for name in self._fields})

    def features(self, known: Float[Tensor, "known batch"]) -> Float[Tensor, "batch atoms features"]:
        """The known coordinates on their atoms, 0 where an atom has none."""
        described = _describe(known, self._plain, self._circle)
        padded = torch.cat([described, described.new_zeros(1, known.shape[1])])
        return padded[self._place].view(self._width, -1, known.shape[1]).permute(2, 1, 0)

    def share(self, other: GraphConditioner) -> None:
        """Use the weights of another conditioner from now on: one with the same options, on another molecule.

        Raises:
            ValueError: if its weights do not fit.
        """
        own, theirs = ({n: tuple(p.shape) for n, p in c.named_parameters()} for c in (self, other))
        if own != theirs:
            name = min(n for n in own.keys() | theirs.keys() if own.get(n) != theirs.get(n))
            raise ValueError(
                f"other: its weights {name!r} have shape {theirs.get(name)}, expected {own.get(name)}; build both with "
                "the same options"
            )
        self.network, self.gain, self.heads = other.network, other.gain, other.heads

    def _read(self, support: str, h: Float[Tensor, "atoms channels batch"]) -> Float[Tensor, "n parameters batch"]:
        head = self.heads[support][getattr(self, f"_{support}_kind")]
        return torch.baddbmm(head[:, :, -1:], head[:, :, :-1], h[getattr(self, f"_{support}_row")])
