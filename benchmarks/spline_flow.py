"""Spline coupling flow against nflows: sampling with log q, and one maximum-likelihood training step.

Twelve couplings of 60 real dimensions, 8 bins, a conditioner with two hidden layers of 256, batch 1024, one core.
Targets: at most 0.45 (sampling) and 0.6 (training step) of the CPU time of nflows in the same run.
"""

from __future__ import annotations

import sys

import torch
from measure import arguments, cpu_seconds, show
from torch import nn

from molifold import Block, Space
from molifold.flows import Flow
from molifold.flows.conditioners import MLPConditioner
from molifold.transforms import Chain, Coupling

LAYERS, SIZE, BINS, HIDDEN, BATCH = 12, 60, 8, 256, 1024
TARGETS = {"sample and log q": 0.45, "training step": 0.6}


def ours() -> Flow:
    space = Space((Block("x", SIZE, "real"),))
    even = torch.arange(SIZE) % 2 == 0
    masks = [even if layer % 2 else ~even for layer in range(LAYERS)]
    couplings = [
        Coupling(space, m, conditioner=MLPConditioner(space, m, hidden=(HIDDEN, HIDDEN), bins=BINS)) for m in masks
    ]
    return Flow(Chain(couplings))


def peer() -> nn.Module:
    try:
        from nflows.distributions.normal import StandardNormal
        from nflows.flows.base import Flow as PeerFlow
        from nflows.transforms.base import CompositeTransform
        from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform
    except ImportError:
        sys.exit("spline_flow: nflows is not installed; the comparison needs it: pip install nflows")

    class Conditioner(nn.Sequential):
        def __init__(self, size: int, out: int) -> None:
            super().__init__(
                nn.Linear(size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out)
            )
            self.hidden_features = HIDDEN  # nflows divides widths and heights by its square root

        def forward(self, x: torch.Tensor, context: None = None) -> torch.Tensor:
            return super().forward(x)

    even = torch.arange(SIZE) % 2 == 0
    layers = [
        PiecewiseRationalQuadraticCouplingTransform(
            (even if layer % 2 else ~even).long(), Conditioner, num_bins=BINS, tails="linear", tail_bound=5.0
        )
        for layer in range(LAYERS)
    ]
    return PeerFlow(CompositeTransform(layers), StandardNormal([SIZE]))


def perturb(flow: nn.Module) -> nn.Module:
    """Away from the identity, so that every bin is used."""
    torch.manual_seed(0)
    for p in flow.parameters():
        p.data.add_(0.03 * torch.randn_like(p))
    return flow


def training_step(flow: nn.Module, x: torch.Tensor) -> object:
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        (-flow.log_prob(x).mean()).backward()
        optimizer.step()

    return step


def sampling(draw: object) -> object:
    def call() -> None:
        with torch.no_grad():
            draw(BATCH)

    return call


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    mine, other = perturb(ours()), perturb(peer())
    x = torch.randn(BATCH, SIZE)
    pairs = {
        "sample and log q": (sampling(mine.sample), sampling(other.sample_and_log_prob)),
        "training step": (training_step(mine, x), training_step(other, x)),
    }
    rows: list[dict[str, object]] = []
    for name, (a, b) in pairs.items():
        seconds = cpu_seconds({"molifold": a, "nflows": b}, repeats=options.repeats)
        us = {k: v / BATCH * 1e6 for k, v in seconds.items()}
        rows.append(
            {
                "task": name,
                "molifold, us": us["molifold"],
                "nflows, us": us["nflows"],
                "ratio": us["molifold"] / us["nflows"],
                "target": TARGETS[name],
            }
        )
    sizes = [sum(p.numel() for p in flow.parameters()) / 1e6 for flow in (mine, other)]
    title = f"Per sample; {sizes[0]:.2f} M parameters against {sizes[1]:.2f} M"
    show(title, rows, to=options.json)


if __name__ == "__main__":
    main()
