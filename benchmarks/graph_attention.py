"""Dense batched graph attention against torch_geometric's GATConv: the same network, with the same weights.

Three layers of 4 heads x 16 channels, each with a residual and a feed-forward block, on 22 fully connected atoms,
batch 256, one core. Targets: at least 8 times faster forward, 4 times with backward.

The peer's messages fill tens of megabytes, which glibc hands back to the system after every call until a backward pass
has taught it otherwise; clearing the pages anew takes half of the peer's time. So the forward pass is timed in a fresh
process ("forward") and after training steps ("forward, warm").
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from measure import arguments, cpu_seconds, show
from torch import nn
from torch.nn.functional import silu

from molifold.data import example
from molifold.networks import GraphAttention, molecular_graph

ATOMS, BATCH, LAYERS, HEADS, CHANNELS, FEATURES = 22, 256, 3, 4, 64, 8
TASKS = {"forward": 8.0, "forward and backward": 4.0, "forward, warm": 8.0}


class Peer(nn.Module):
    """The layers of a ``GraphAttention`` with GATConv, on the batch as one graph of many parts."""

    def __init__(self, mine: GraphAttention, static: torch.Tensor) -> None:
        super().__init__()
        try:
            from torch_geometric.nn import GATConv
        except ImportError:
            sys.exit("graph_attention: torch_geometric is not installed; the comparison needs it")
        self.mine, self.static = mine, static
        self.convolutions = nn.ModuleList(
            GATConv(CHANNELS, CHANNELS // HEADS, heads=HEADS, bias=False) for _ in range(LAYERS)
        )
        for layer, convolution in zip(mine.layers, self.convolutions, strict=True):
            # GATConv scores one head's channels, GraphAttention all: equal where the other heads' weights are zero.
            nn.init.zeros_(layer.hop_bias)
            convolution.lin.weight.data.copy_(layer.value.weight)
            own = torch.block_diag(*torch.ones(HEADS, 1, CHANNELS // HEADS))
            for score, theirs in ((layer.query_score, convolution.att_dst), (layer.key_score, convolution.att_src)):
                score.weight.data.mul_(own)
                theirs.data.copy_(score.weight.data[own == 1].view(1, HEADS, -1))
        pairs = torch.cartesian_prod(torch.arange(ATOMS), torch.arange(ATOMS)).T
        pairs = pairs[:, pairs[0] != pairs[1]]  # GATConv adds the self-loops
        self.edges = (pairs[:, None] + ATOMS * torch.arange(BATCH)[:, None]).reshape(2, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of every atom."""
        h = silu(self.mine.features_in(x) + self.mine.static_in(self.static)).reshape(-1, CHANNELS)
        for layer, convolution in zip(self.mine.layers, self.convolutions, strict=True):
            h = h + convolution(h, self.edges)
            h = h + layer.mix(silu(layer.update(h)))
        return self.mine.out(h).view(BATCH, ATOMS, CHANNELS)


def passes(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> dict[str, Callable[[], object]]:
    def forward() -> None:
        with torch.no_grad():
            network(x)

    def backward() -> None:
        network(x).square().mean().backward()

    return {"forward": forward, "forward and backward": backward, "forward, warm": forward}


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = molecular_graph(example("alanine-dipeptide").molecule)
    sizes = {"features": FEATURES, "static": graph.nodes.shape[1], "out": CHANNELS, "channels": CHANNELS}
    ours = {d: GraphAttention(**sizes, heads=HEADS, layers=LAYERS, dynamic=d) for d in (True, False)}
    peer = Peer(ours[True], graph.nodes)
    x = torch.randn(BATCH, ATOMS, FEATURES)
    with torch.no_grad():
        difference = float((ours[True](x, graph) - peer(x)).abs().max())
    assert difference < 1e-4, f"not the same network: outputs differ by {difference}"
    rivals = {
        "molifold": passes(lambda v: ours[True](v, graph), x),
        "static": passes(lambda v: ours[False](v, graph), x),
        "GATConv": passes(peer, x),
    }
    rows: list[dict[str, object]] = []
    for task, target in TASKS.items():
        seconds = cpu_seconds({name: rival[task] for name, rival in rivals.items()}, repeats=options.repeats)
        ms = {name: 1e3 * value for name, value in seconds.items()}
        faster = {"times faster": ms["GATConv"] / ms["molifold"], "target": target}
        rows.append({"task, ms": task, **ms, **faster})
    show("Graph attention, 22 atoms fully connected, batch 256, ms", rows, to=options.json)


if __name__ == "__main__":
    main()
