"""Sites: the layers of any network as rows of what they see, what the loss asks of them, and what they could see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from molifold.interfaces import ExampleLoss
from molifold.probes.expressivity.products import Edit, Product, Recorder
from molifold.probes.expressivity.score import Masks

#: Named candidate sources of a micro-batch: [examples, c], [examples, positions, c] or [rows, c]; or one such array for
#: every prefix of parameter names whose layers may see it.
Sources = Callable[[Any], Mapping[str, Tensor | Mapping[str, Tensor]]]

#: The source that the layer before sees.
UPSTREAM = "upstream"
#: Random nonlinear functions of it.
NONLINEAR = "nonlinear"

#: An example that asks for more than this many times what is typical counts as if it asked for so much: where
#: directions are proposed, and where layers are suspected. Narrow bins of a spline make gradients hundreds of times the
#: typical one in a percent of the examples, which would decide alone; and noise grows with what is asked for. Any
#: direction may be proposed: it is verified on other examples, as they are.
PROPOSING, SUSPECTING = 1.0, 5.0

#: Positions per example beyond which rows of two layers are taken to correspond by their order alone.
TRACED = 256

#: Elementwise functions that are recognised between two layers, with their kink at 0 (left and right slopes differ).
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "softplus": F.softplus, "relu": F.relu, "leaky_relu": F.leaky_relu,
    "leaky_relu_0.2": lambda z: F.leaky_relu(z, 0.2), "elu": F.elu, "selu": F.selu,
    "sigmoid": torch.sigmoid, "none": lambda z: z,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Where the examples are among the rows: rows are [``before``, examples, ``after``].

    ``shared``: no rows of single examples (static features; or nobody knows): all belong to the whole micro-batch.
    """

    before: int = 1
    after: int = 1
    shared: bool = False

    def canonical(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "examples positions d"]:
        """Rows by example and position; shared rows are those of one example."""
        if self.shared:
            return rows[None]
        apart = rows.reshape(self.before, -1, self.after, rows.shape[1]).transpose(0, 1)
        return apart.reshape(len(apart), -1, rows.shape[1])

    def rows(self, canonical: Float[Tensor, "examples positions d"]) -> Float[Tensor, "rows d"]:
        """The inverse of ``canonical``."""
        if self.shared:
            return canonical[0]
        n, _, d = canonical.shape
        return canonical.reshape(n, self.before, self.after, d).transpose(0, 1).reshape(-1, d)


@dataclass(frozen=True)
class Wire:
    """How one product hangs together with those before it, as learnt from one micro-batch.

    ``upstream``: position of a product that feeds it, and which of its positions belongs to each position here (None:
    the same). ``activation``: the function of ``ACTIVATIONS`` that turns its only feeder's output into its input.
    ``typical``: median size of what an example asks for (infinite where rows are shared). ``masks``: of a masked layer,
    or of one that reads one.
    """

    site: str
    layout: Layout
    static: bool
    upstream: tuple[tuple[int, Tensor | None], ...] = ()
    activation: str | None = None
    centre: Tensor | None = None
    spread: Tensor | None = None
    frequencies: Tensor | None = None
    phases: Tensor | None = None
    typical: float = math.inf
    masks: Masks | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of one site from one micro-batch: ``b`` seen, ``v`` desired update, ``sources``, all [groups, positions, *].

    ``sizes`` [groups]: how many examples a group holds (1, or all of them where rows are shared). ``asked`` [groups]:
    size of what a group asks for, in units of the typical one (0 where rows are shared).
    """

    site: str
    position: int
    b: Tensor
    v: Tensor
    sources: dict[str, Tensor]
    sizes: Tensor
    asked: Tensor

    def bounds(self, bound: float) -> Float[Tensor, " groups"]:
        """Factors that limit what every group asks for to ``bound`` times the typical."""
        return bound / self.asked.clamp(min=bound)


class Sites:
    """Every product of a parameter with activations in ``model``, wired once and then read micro-batch by micro-batch.

    Nothing is registered in the module and no gradient is written. Wiring runs the model on a micro-batch and on the
    same one rolled by one example: how rows move says where examples are, whatever the layout in memory.

    Args:
        model: any module, in eval mode, deterministic.
        loss: ``loss(model, batch) -> [examples]``, what every example contributes.
        batch: a small micro-batch; tensors with examples first, in any nesting of tuples and dicts. One that cannot be
            rolled (``rolls=False``) has its rows taken as one group.
        sources: candidate sources by name, computed from a micro-batch by the caller.
        blocks: prefixes of parameter names; layers of different blocks never offer each other what they see (the
            conditioners of a flow: one must not see what another may).
        features: number of random nonlinear functions of every layer's upstream input; 0 for none.
        seed: of these functions.
        edit: adds something to the output of products; for verification.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: ExampleLoss,
        batch: Any,
        *,
        sources: Sources | None = None,
        blocks: Sequence[str] = (),
        features: int = 64,
        seed: int = 0,
        rolls: bool = True,
    ) -> None:
        self.model, self.loss, self.sources = model, loss, sources
        self._blocks = sorted(blocks, key=len, reverse=True)
        self._mixtures: dict[int, tuple[str, Tensor]] = {}
        recorder, losses, desired = self._run(batch)
        n = len(losses)
        direct, _ = self._record(batch, cut=True)
        rolled = None
        if rolls and n > 1:
            order = torch.arange(1, n + 1) % n
            again, _, desired_again = self._run(take(batch, order, n))
            rolled = (again, desired_again)
        generator = torch.Generator().manual_seed(seed)
        self.wires: list[Wire] = []
        for i, product in enumerate(recorder.products):
            layout, static = Layout(shared=True), False
            if rolled is not None:
                layout, static = _layout(
                    _signature(product, desired[i]), _signature(rolled[0].products[i], rolled[1][i]), n
                )
            wire = self._wire(i, layout, static, direct, features, generator)
            self.wires.append(replace(wire, typical=_typical(layout, product, desired[i])))

    @property
    def names(self) -> list[str]:
        """Names of the sites, in the order of first use."""
        return list(dict.fromkeys(wire.site for wire in self.wires))

    @property
    def uncovered(self) -> list[str]:
        """Matrices among the parameters that no site uses: nothing is known of them."""
        known = set(self.names)
        return [n for n, p in self.model.named_parameters() if p.ndim > 1 and p.requires_grad and n not in known]

    def masks(self, site: str) -> Masks | None:
        """What outputs of a layer may depend on in all of its uses; None if on everything."""
        found = [wire.masks for wire in self.wires if wire.site == site and wire.masks is not None]
        return reduce(Masks.shared, found) if found else None

    def rows(self, batch: Any) -> tuple[Float[Tensor, " examples"], list[Rows]]:
        """Losses and the rows of all sites for one micro-batch."""
        recorder, losses, desired = self._run(batch)
        if len(recorder.products) != len(self.wires):
            raise ValueError(
                f"model: made {len(recorder.products)} products of parameters and activations, {len(self.wires)} on "
                "the first micro-batch; expected the same sequence of operations for every micro-batch"
            )
        extra = {} if self.sources is None else self.sources(batch)
        found = []
        for i, (wire, v) in enumerate(zip(self.wires, desired, strict=True)):
            if v is not None:
                found.append(self._rows_of(i, wire, recorder.products, v, len(losses), extra))
        return losses.detach(), found

    def losses(self, batch: Any, edit: Edit | None = None) -> Float[Tensor, " examples"]:
        """Losses, with something added to the outputs of products; differentiable in that."""
        return self._record(batch, edit=edit)[1]

    def seen(
        self, i: int, products: Sequence[Product], extra: Mapping[str, Tensor | Mapping[str, Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What product ``i`` sees, and its sources, as [groups, positions, features]."""
        wire = self.wires[i]
        b = wire.layout.canonical(products[i].seen())
        sources: dict[str, Tensor] = {}
        ups = [self._gathered(u, gather, products, b) for u, gather in wire.upstream]
        if ups:
            sources[UPSTREAM] = torch.cat(ups, dim=-1)
        if not (wire.frequencies is None or wire.phases is None or wire.spread is None or wire.centre is None):
            z = (self._raw(i, products) - wire.centre) / wire.spread
            waves = torch.cos(z @ wire.frequencies + wire.phases)
            sources[NONLINEAR] = torch.cat([sources.get(UPSTREAM, b), waves], dim=-1)
        for name, given in extra.items() if wire.masks is None else ():
            values = _within(given, wire.site) if isinstance(given, Mapping) else given
            aligned = None if values is None else _aligned(values.to(b), b, shared=wire.layout.shared)
            if aligned is not None:
                sources[name] = torch.cat([aligned, torch.ones_like(aligned[..., :1])], dim=-1)
        return b, sources

    def _record(self, batch: Any, *, edit: Edit | None = None, cut: bool = False) -> tuple[Recorder, Tensor]:
        with torch.enable_grad(), Recorder(self.model, edit=edit, cut=cut, mixtures=self._mixtures) as recorder:
            losses = self.loss(self.model, batch)
        if losses.ndim != 1:
            raise ValueError(
                f"loss: got shape {tuple(losses.shape)}, expected [examples]: what every example contributes, not "
                "their mean"
            )
        return recorder, losses

    def _run(self, batch: Any) -> tuple[Recorder, Tensor, list[Tensor | None]]:
        recorder, losses = self._record(batch)
        if not recorder.products:
            raise ValueError("model: no product of a parameter matrix with activations was seen; see Recorder")
        outs = [product.out for product in recorder.products]
        gradients = torch.autograd.grad(losses.sum(), outs, allow_unused=True, retain_graph=True)
        return recorder, losses, [None if g is None else -g for g in gradients]

    def _rows_of(
        self,
        i: int,
        wire: Wire,
        products: Sequence[Product],
        v: Tensor,
        n: int,
        extra: Mapping[str, Tensor | Mapping[str, Tensor]],
    ) -> Rows:
        b, sources = self.seen(i, products, extra)
        wanted = wire.layout.canonical(products[i].rows(v))
        scale = 1.0
        if wire.static:
            # Every example applies the same rows: as if each were repeated n times, of which v holds the sum.
            scale = math.sqrt(n)
        sizes = b.new_full((1,), float(n)) if wire.layout.shared else b.new_ones(n)
        scaled = {name: c * scale for name, c in sources.items()}
        asked = wanted.square().sum((1, 2)).sqrt() / wire.typical
        return Rows(wire.site, i, b * scale, wanted / scale, scaled, sizes, asked)

    def _gathered(self, u: int, gather: Tensor | None, products: Sequence[Product], b: Tensor) -> Tensor:
        rows = self.wires[u].layout.canonical(products[u].seen())
        rows = rows if gather is None else rows[:, gather]
        return rows.expand(len(b), -1, -1)

    def _raw(self, i: int, products: Sequence[Product]) -> Tensor:
        """The inputs that random functions read: of the layers before, or its own."""
        wire = self.wires[i] if i < len(self.wires) else None
        own = products[i]
        if wire is None or not wire.upstream:
            layout = wire.layout if wire is not None else Layout(shared=True)
            return layout.canonical(own.rows(own.x.detach()))
        b = wire.layout.canonical(own.rows(own.x.detach()))
        parts = []
        for u, gather in wire.upstream:
            rows = self.wires[u].layout.canonical(products[u].rows(products[u].x.detach()))
            parts.append((rows if gather is None else rows[:, gather]).expand(len(b), -1, -1))
        return torch.cat(parts, dim=-1)

    def _wire(
        self,
        i: int,
        layout: Layout,
        static: bool,  # noqa: FBT001
        recorder: Recorder,
        features: int,
        generator: torch.Generator,
    ) -> Wire:
        product = recorder.products[i]
        block = self._block(product.site)
        ups = [u for u in recorder.feeding(product.x) if self._block(self.wires[u].site) == block]
        found = []
        for u in ups:
            correspondence = _correspondence(product, layout, recorder, u, self.wires[u].layout)
            if correspondence is not None:
                found.append((u, correspondence[0]))
        activation = None
        if len(ups) == len(found) == 1 and found[0][1] is None:
            activation = _between(recorder.products[found[0][0]], self.wires[found[0][0]].layout, product, layout)
        masks = None
        if product.mask is not None or any(recorder.products[u].mask is not None for u in ups):
            # Only where units stand one to one is it known what an output may depend on.
            found = found if activation else []
            masks = _masks(product, recorder.products[found[0][0]] if found else None)
        wire = Wire(product.site, layout, static, tuple(found), activation, masks=masks)
        if features == 0 or masks is not None:
            return wire
        self.wires.append(wire)
        z = self._raw(i, recorder.products).flatten(0, 1)
        self.wires.pop()
        spread, centre = z.std(0, correction=0), z.mean(0)
        count = z.shape[1]
        frequencies = torch.randn(count, features, generator=generator, dtype=torch.float64) * (2.0 / math.sqrt(count))
        phases = torch.rand(features, generator=generator, dtype=torch.float64) * (2 * math.pi)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return Wire(
            product.site, layout, static, tuple(found), activation, centre, spread, frequencies.to(z), phases.to(z)
        )

    def _block(self, site: str) -> str:
        return next((b for b in self._blocks if site == b or site.startswith(f"{b}.")), "")


def take(batch: Any, index: Tensor, n: int) -> Any:
    """Examples of a micro-batch: every tensor in it whose first axis has ``n`` entries is indexed.

    >>> take({"x": torch.arange(6).view(3, 2), "scale": 2.0}, torch.tensor([2]), 3)
    {'x': tensor([[4, 5]]), 'scale': 2.0}
    """

    def pick(leaf: Any) -> Any:
        return leaf[index.to(leaf.device)] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == n else leaf

    return pytree.tree_map(pick, batch)


def count(batch: Any) -> int:
    """Number of examples: the length of the first tensor in ``batch``; 0 if there is none."""
    return next((len(leaf) for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 0)


def _typical(layout: Layout, product: Product, v: Tensor | None) -> float:
    """Median size of what an example asks for; no bound where nothing is known of single examples."""
    if v is None or layout.shared:
        return math.inf
    size = float(layout.canonical(product.rows(v)).square().sum((1, 2)).sqrt().median())
    return size if size > 0 else math.inf


def _signature(product: Product, v: Tensor | None) -> Tensor:
    x = product.rows(product.x.detach())
    return x if v is None else torch.cat([x, product.rows(v)], dim=1)


def _layout(rows: Tensor, rolled: Tensor, n: int) -> tuple[Layout, bool]:
    """The layout under which rolling the examples moved the rows as it did; and whether they did not move at all."""
    tolerance = 1e-9 if rows.dtype == torch.float64 else 1e-3
    bound = tolerance * rows.abs().amax(0).clamp(min=1e-30)

    def equal(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and bool(((a - b).abs() <= bound).all())

    if len(rows) % n:
        return Layout(shared=True), equal(rows, rolled)
    positions = len(rows) // n
    for before in (k for k in range(1, positions + 1) if positions % k == 0):
        layout = Layout(before, positions // before)
        moved = torch.roll(layout.canonical(rows), -1, 0)
        if not equal(rows, rolled) and equal(layout.rows(moved), rolled):
            return layout, False
    return Layout(shared=True), equal(rows, rolled)


def _correspondence(
    product: Product, layout: Layout, recorder: Recorder, u: int, up_layout: Layout
) -> tuple[Tensor | None] | None:
    """Which position of ``u`` every position stands on, by differentiation; None if on no single one."""
    if layout.shared and not up_layout.shared:
        return None
    up, passed = recorder.products[u], recorder.passed[u]
    x = layout.canonical(product.rows(product.x))
    same = x.shape[1] == up_layout.canonical(up.rows(passed)).shape[1]
    if layout.shared or x.shape[1] > TRACED:
        return (None,) if same else None
    places = []
    for p in range(x.shape[1]):
        (slope,) = torch.autograd.grad(x[0, p].sum(), passed, retain_graph=True, allow_unused=True)
        touched = [] if slope is None else up_layout.canonical(up.rows(slope))[0].abs().sum(-1).nonzero()[:, 0].tolist()
        if same and (p in touched or not touched):  # a dead unit passes no gradient
            places.append(p)
        elif len(touched) == 1:
            places.append(touched[0])
        else:
            return None
    return (None,) if same and places == list(range(len(places))) else (torch.tensor(places, device=x.device),)


def _between(up: Product, up_layout: Layout, product: Product, layout: Layout) -> str | None:
    before = up_layout.canonical(up.rows(up.out.detach()))
    after = layout.canonical(product.rows(product.x.detach()))
    if before.shape != after.shape:
        return None
    scale = float(after.abs().max())
    for name, function in ACTIVATIONS.items():
        if float((function(before) - after).abs().max()) <= 1e-5 * scale:
            return name
    return None


def _masks(product: Product, up: Product | None) -> Masks:
    """What outputs may depend on: entries of the matrix, and inputs of the layer before on some way to the output."""
    x, out = product.rows(product.x), product.rows(product.out)
    entries = x.new_ones(out.shape[1], x.shape[1]) if product.mask is None else product.mask.to(x.dtype)
    always = torch.ones(out.shape[1], 1, dtype=torch.bool, device=x.device)
    inputs = torch.cat([entries > 0, always], 1)
    if up is None:
        return Masks(inputs, {})
    before = x.new_ones(entries.shape[1], up.rows(up.x).shape[1]) if up.mask is None else up.mask.to(x.dtype)
    return Masks(inputs, {UPSTREAM: torch.cat([entries @ before > 0, always], 1)})


def _within(given: Mapping[str, Tensor], site: str) -> Tensor | None:
    return next((values for prefix, values in given.items() if site.startswith(f"{prefix}.")), None)


def _aligned(values: Tensor, b: Float[Tensor, "groups positions d"], *, shared: bool) -> Tensor | None:
    """A source of the user on the rows of a site, or None if it has no place there."""
    groups, positions, _ = b.shape
    if shared:
        return values[None] if values.ndim == 2 and len(values) == positions else None
    if values.ndim == 2 and len(values) == groups:
        return values[:, None].expand(-1, positions, -1)
    return values if values.ndim == 3 and values.shape[:2] == (groups, positions) else None
