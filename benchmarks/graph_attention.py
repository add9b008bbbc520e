"""Dense batched graph attention against torch_geometric's GATConv: forward, and forward with backward.

Three layers of 4 heads x 16 channels on 22 fully connected atoms, batch 256, one core.
Targets: at least 8 times faster forward, 4 times with backward, in the same run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from measure import arguments, cpu_seconds, show
from torch import nn

from molifold.data import example
from molifold.networks import GraphAttention, molecular_graph

ATOMS, BATCH, LAYERS, HEADS, CHANNELS, FEATURES = 22, 256, 3, 4, 64, 8
TARGETS = {"forward": 8.0, "forward and backward": 4.0}


class Peer(nn.Module):
    """The same stack of GATConv, on the batch as one disconnected graph."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from torch_geometric.nn import GATConv
        except ImportError:
            sys.exit("graph_attention: torch_geometric is not installed: pip install torch_geometric")
        self.embed = nn.Linear(FEATURES, CHANNELS)
        self.layers = nn.ModuleList(GATConv(CHANNELS, CHANNELS // HEADS, heads=HEADS) for _ in range(LAYERS))
        self.out = nn.Linear(CHANNELS, CHANNELS)
        i, j = torch.cartesian_prod(torch.arange(ATOMS), torch.arange(ATOMS)).T
        pairs = torch.stack([i, j])[:, i != j]  # GATConv adds the self-loops
        self.edges = (pairs[:, None] + ATOMS * torch.arange(BATCH)[:, None]).reshape(2, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of every atom."""
        h = self.embed(x.reshape(-1, FEATURES))
        for layer in self.layers:
            h = torch.nn.functional.silu(layer(h, self.edges))
        return self.out(h)


def passes(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> dict[str, Callable[[], object]]:
    def forward() -> None:
        with torch.no_grad():
            network(x)

    def backward() -> None:
        network(x).square().mean().backward()

    return {"forward": forward, "forward and backward": backward}


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = molecular_graph(example("alanine-dipeptide").molecule)
    mine = GraphAttention(
        features=FEATURES,
        static=graph.nodes.shape[1],
        out=CHANNELS,
        channels=CHANNELS,
        heads=HEADS,
        layers=LAYERS,
        dynamic=True,
    )
    shared = GraphAttention(
        features=FEATURES, static=graph.nodes.shape[1], out=CHANNELS, channels=CHANNELS, heads=HEADS, layers=LAYERS,
        dynamic=False,
    )  # fmt: skip
    x = torch.randn(BATCH, ATOMS, FEATURES)
    rivals = {
        "molifold": passes(lambda v: mine(v, graph), x),
        "molifold, static": passes(lambda v: shared(v, graph), x),
        "torch_geometric": passes(Peer(), x),
    }
    rows: list[dict[str, object]] = []
    for task, target in TARGETS.items():
        ms = {
            k: 1e3 * v for k, v in cpu_seconds({k: r[task] for k, r in rivals.items()}, repeats=options.repeats).items()
        }
        rows.append(
            {
                "task": task,
                **{f"{k}, ms": v for k, v in ms.items()},
                "times faster": ms["torch_geometric"] / ms["molifold"],
                "target": target,
            }
        )
    show("Graph attention, 22 atoms fully connected, batch 256", rows, to=options.json)


if __name__ == "__main__":
    main()
