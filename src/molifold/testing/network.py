"""The law of networks: pass it, and a network can condition a flow on any molecule."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.graph import Graph


def check_network(
    network: nn.Module,
    features: Float[Tensor, "batch atoms channels"],
    graph: Graph,
    *,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> None:
    """Check shape, relabelling of atoms, independence of the batch, memory layouts, gradients and both precisions.

    Args:
        network: ``network(features, graph) -> [batch, atoms, out]``; it is converted to float64 and left so.
        features: two or more conformations of random features, float64.
        graph: of the molecule; three atoms or more.
        tolerance: largest error relative to the largest output; float32 may differ by 1e-4.
        seed: of the relabelling.

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
    network.double()
    graph = replace(graph, nodes=graph.nodes.double())
    out = network(features, graph)
    _expect(
        out.ndim == 3 and out.shape[:2] == features.shape[:2] and out.dtype == torch.float64,
        f"output: {out.dtype} {tuple(out.shape)}, expected [{len(features)}, {atoms}, out] in float64",
    )
    _expect(bool(out.isfinite().all()), "output is not finite")
    _gradients(network, features, graph)
    with torch.no_grad():
        out = network(features, graph)
        order = torch.randperm(atoms, generator=torch.Generator().manual_seed(seed))
        relabelled = Graph(graph.nodes[order], graph.hops[order][:, order])
        moved = network(features[:, order], relabelled)
        _close(moved - out[:, order], out, tolerance, "atoms relabelled together with the graph")
        alone = torch.cat([network(f[None], graph) for f in features])
        _close(alone - out, out, tolerance, "batch of one against that of the batch")
        batch_last = features.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        _close(network(batch_last, graph) - out, out, tolerance, "features in batch-last memory")
        single = network.float()(features.float(), replace(graph, nodes=graph.nodes.float()))
        _expect(single.dtype == torch.float32, f"output of float32 features is {single.dtype}")
        _close(single.double() - out, out, 1e-4, "float32 against float64")
    network.double()


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
