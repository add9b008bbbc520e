"""The law of networks: pass it, and a network can condition a flow, encode, or predict, on any molecule."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from molifold.networks.graph import Graph

#: Spread of the random conformations, nm: about that of a small molecule.
SPREAD = 0.2


def check_network(
    network: nn.Module,
    features: Float[Tensor, "batch atoms channels"],
    graph: Graph,
    *,
    batched: bool = False,
    sparse: bool = False,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> None:
    """Check shape, invariances, independence of the batch, memory layouts, gradients and both precisions.

    The network sees the graph at random conformations, whether or not it uses distances.

    Args:
        network: ``network(features, graph) -> [batch, atoms, out]``; it is converted to float64, put in eval mode, and
            left so.
        features: two or more conformations of random features, float64.
        graph: of the molecule; three atoms or more.
        batched: it also takes padding and batches of different molecules (``Graph.stack``).
        sparse: it also takes edges (``Graph.sparse``), with the same result.
        tolerance: largest error relative to the largest output; float32 may differ by 1e-4.
        seed: of everything random.

    Raises:
        AssertionError: naming the law that is broken and by how much.

    >>> from molifold import Molecule
    >>> from molifold.networks import GraphAttention, molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> net = GraphAttention(features=2, static=graph.nodes.shape[1], out=5, channels=8, heads=2)
    >>> check_network(net, torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)).double(), graph)
    """
    atoms = len(graph.nodes)
    _expect(
        features.ndim == 3 and len(features) >= 2 and features.shape[1] == atoms and features.dtype == torch.float64,
        f"features: got {features.dtype} {tuple(features.shape)}, expected [2 or more, {atoms}, channels] in float64",
    )
    network.double().eval()
    graph = graph.to(torch.float64)
    generator = Generator().manual_seed(seed)
    x = SPREAD * torch.randn(len(features), atoms, 3, generator=generator, dtype=torch.float64)
    out = network(features, graph.at(x))
    _expect(
        out.ndim == 3 and out.shape[:2] == features.shape[:2] and out.dtype == torch.float64,
        f"output: {out.dtype} {tuple(out.shape)}, expected [{len(features)}, {atoms}, out] in float64",
    )
    _expect(bool(out.isfinite().all()), "output is not finite")
    _gradients(network, features, graph.at(x))
    with torch.no_grad():
        _invariances(network, features, graph, x, generator, tolerance=tolerance)
        if batched:
            _padding(network, features, graph, x, tolerance=tolerance)
        if sparse:
            pairs = torch.ones(len(features), atoms, atoms, dtype=torch.bool)
            _close(network(features, graph.at(x).sparse(pairs)) - out, out, tolerance, "edges against the dense layout")
        single = network.float()(features.float(), graph.to(torch.float32).at(x.float()))
        _expect(single.dtype == torch.float32, f"output of float32 features is {single.dtype}")
        _close(single.double() - out, out, 1e-4, "float32 against float64")
    network.double()


def _invariances(
    network: nn.Module, features: Tensor, graph: Graph, x: Tensor, generator: Generator, *, tolerance: float
) -> None:
    out = network(features, graph.at(x))
    order = torch.randperm(len(graph.nodes), generator=generator)
    moved = network(features[:, order], graph.subgraph(order.tolist()).at(x[:, order]))
    _close(moved - out[:, order], out, tolerance, "atoms relabelled together with the graph")
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=x.dtype))[0]
    _close(network(features, graph.at(x @ turn.T + 1.0)) - out, out, tolerance, "conformation rotated and moved")
    alone = torch.cat([network(f[None], graph.at(y[None])) for f, y in zip(features, x, strict=True)])
    _close(alone - out, out, tolerance, "batch of one against that of the batch")
    batch_last = features.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    _close(network(batch_last, graph.at(x)) - out, out, tolerance, "features in batch-last memory")


def _padding(network: nn.Module, features: Tensor, graph: Graph, x: Tensor, *, tolerance: float) -> None:
    """Two atoms of padding, full of ones, change nothing; nor does another molecule in the batch."""
    atoms, few = len(graph.nodes), len(graph.nodes) - 1
    out = network(features, graph.at(x))
    larger = graph.subgraph([*range(atoms), 0, 0])
    padded = replace(larger, mask=torch.arange(atoms + 2) < atoms)
    more, away = (torch.cat([v, torch.ones_like(v[:, :2])], dim=1) for v in (features, x))
    _close(network(more, padded.at(away))[:, :atoms] - out, out, tolerance, "atoms of padding added")
    part = graph.subgraph(range(few))
    mixed = Graph.stack([graph, part, *[graph] * (len(x) - 2)])
    both = network(features, mixed.at(x))
    alone = network(features[1:2, :few], part.at(x[1:2, :few]))
    _close(both[:1] - out[:1], out, tolerance, "a smaller molecule beside it in the batch")
    _close(both[1:2, :few] - alone, out, tolerance, "a larger molecule beside it in the batch")


def _gradients(network: nn.Module, features: Tensor, graph: Graph) -> None:
    inputs = features.clone().requires_grad_()
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    weights = torch.randn(network(inputs, graph).shape, generator=torch.Generator().manual_seed(0)).to(features)
    gradients = torch.autograd.grad(
        (weights * network(inputs, graph)).sum(), [inputs, *named.values()], allow_unused=True
    )
    for name, gradient in zip(["features", *named], gradients, strict=True):
        _expect(gradient is not None and bool((gradient != 0).any()), f"no gradient reaches {name}")
        _expect(gradient is not None and bool(gradient.isfinite().all()), f"the gradient of {name} is not finite")


def _expect(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise AssertionError(f"check_network: {message}")


def _close(error: Tensor, scale: Tensor, tolerance: float, what: str) -> None:
    worst = float(error.abs().max() / scale.abs().max())
    _expect(worst <= tolerance, f"{what}: off by {worst:.3g} of the largest output, expected at most {tolerance:.3g}")
