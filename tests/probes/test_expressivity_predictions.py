"""Predicted against measured decrease at a small step, on the networks that molifold conditions flows with."""

import pytest
import torch
from expressivity_cases import normal

from molifold import Block, Molecule, Space
from molifold.flows.conditioners import MLPConditioner
from molifold.flows.flow import Flow
from molifold.networks import GAT, GraphAttention, GraphFilters, MEGNet, SchNet, molecular_graph
from molifold.probes import expressivity
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Chain

MOLECULE = Molecule(elements=("C", "O", "H", "H", "H", "H"), bonds=((0, 1), (0, 2), (0, 3), (0, 4), (1, 5)))


@pytest.mark.parametrize("build", [GraphFilters, GraphAttention, GAT, SchNet, MEGNet], ids=lambda b: b.__name__)
def test_graph_networks(build):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        graph = molecular_graph(MOLECULE)
        extra = {"out": 2} if build in (GraphAttention, GAT) else {}
        network = build(features=3, static=graph.nodes.shape[1], channels=8, **extra)
    finally:
        torch.set_default_dtype(torch.float32)
    x = normal(400, 6, 3, seed=1)
    y = torch.stack([x.prod(2), x.sum((1, 2))[:, None] * x[..., 0]], 2)
    places = 0.15 * normal(400, 6, 3, seed=2)

    def loss(model, batch):
        features, wanted, at = batch
        return (model(features, graph.at(at))[..., :2] - wanted).square().sum((1, 2))

    found = expressivity(network, loss, (x, y, places), features=0, chunk=400, checks=4)
    ratios = [v.check.ratio for v in found.verdicts if v.check is not None]
    assert len(ratios) >= 2
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.01)


def test_conditioners_of_spline_flows():
    torch.manual_seed(0)
    space, mask = Space((Block("x", 4, "real"),)), torch.arange(4) % 2 == 0
    steps = [Coupling(space, m, conditioner=MLPConditioner(space, m, hidden=(3,), bins=5)) for m in (mask, ~mask)]
    flow = Flow(Chain(steps)).double()
    for step in steps:
        torch.nn.init.normal_(step.conditioner.head.weight, std=0.2)
    x = normal(1000, 4, seed=2)
    x = torch.stack([x[:, 0], x[:, 1] + x[:, 0].square(), x[:, 2] * (1 + x[:, 1].tanh() / 2), x[:, 3]], 1)
    found = expressivity(flow, lambda m, b: -m.log_prob(b[0]), (x,), blocks=["transform.steps.0", "transform.steps.1"])
    ratios = [v.check.ratio for v in found.verdicts if v.check is not None]
    assert len(ratios) >= 2
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.01)
