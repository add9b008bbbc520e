"""Growth keeps its promises: the function, the measured decrease, the optimiser, and the run that goes on."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from molifold import Molecule
from molifold.networks import GraphFilters, molecular_graph
from molifold.probes import expressivity
from molifold.training.growth import grow_module, growable

DOUBLE = {"dtype": torch.float64}


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().flatten(1).sum(1)


@pytest.mark.parametrize("act", [nn.Tanh, nn.SiLU, nn.GELU, nn.Softplus, nn.ReLU])
def test_growth_lowers_the_loss_by_as_much_as_it_says(act):
    """Also the constant of softplus, the kink of ReLU, and what the layer knows already are accounted for."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2, **DOUBLE), act(), nn.Linear(2, 3, **DOUBLE))
    x = normal(2000, 6, seed=1)
    y = torch.tanh(x @ normal(6, 3, seed=2))
    verdict = expressivity(model, squared, (x, y), features=0)["2.weight"]
    assert verdict.kind == "under-powered"
    assert growable(model, verdict)
    assert verdict.check.ratio == pytest.approx(1, abs=0.01)
    held_out = torch.from_numpy(verdict.examples)

    def losses(model):
        return squared(model, (x[held_out], y[held_out]))

    same = copy.deepcopy(model)
    assert grow_module(same, verdict, losses=losses, steps=(0.0,)).measured == pytest.approx(0, abs=1e-12)
    assert torch.allclose(same(x), model(x), atol=1e-12)
    before, usual = losses(model).mean(), model[0].weight.norm(dim=1).square().mean()
    growth = grow_module(model, verdict, losses=losses)
    assert (before - losses(model).mean()).item() == pytest.approx(growth.measured, rel=1e-8)
    assert growth.measured > max(5 * growth.error, 0.5 * verdict.check.measured)
    assert model[0].out_features == model[2].in_features == 2 + growth.units
    # Units as long as those that were there work where their activation bends.
    assert torch.allclose(model[0].weight[2:].norm(dim=1).square(), usual)


def test_a_small_step_saves_what_the_verdict_promised():
    """A pair of ReLU units is linear whatever its fan-in, so that the slope of the loss is the verdict's own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2, **DOUBLE), nn.ReLU(), nn.Linear(2, 3, **DOUBLE))
    x = normal(2000, 6, seed=1)
    y = torch.tanh(x @ normal(6, 3, seed=2))
    verdict = expressivity(model, squared, (x, y), features=0)["2.weight"]
    held_out = torch.from_numpy(verdict.examples)
    growth = grow_module(model, verdict, losses=lambda m: squared(m, (x[held_out], y[held_out])), steps=(1e-6,))
    assert growth.measured == pytest.approx(1e-6 * verdict.check.amplitude * verdict.test.slope, rel=1e-4)


class OnGraph(nn.Module):
    """A graph network whose hidden layers have one unit."""

    def __init__(self, hidden):
        super().__init__()
        self.graph = molecular_graph(Molecule(elements=("C", "O", "H", "H"), bonds=((0, 1), (0, 2), (0, 3))))
        static = self.graph.nodes.shape[1]
        self.network = GraphFilters(features=3, static=static, channels=6, layers=1, rank=2)
        layer = self.network.layers[0]
        layer.update.weight = nn.Parameter(layer.update.weight.detach()[:, :hidden])
        layer.update.bias.weight = nn.Parameter(layer.update.bias.weight.detach()[:hidden])
        layer.update.bias.bias = nn.Parameter(layer.update.bias.bias.detach()[:hidden])
        layer.update.bias.out_features = hidden
        layer.mix.weight = nn.Parameter(layer.mix.weight.detach()[:, :, :hidden])
        self.double()

    def forward(self, x):
        return self.network(x, replace(self.graph, nodes=self.graph.nodes.double()))


def test_layers_that_mix_matrices_per_atom_grow_too():
    torch.manual_seed(0)
    teacher, model = OnGraph(6), OnGraph(6)
    with torch.no_grad():
        teacher.network.layers[0].update.weight.mul_(3)
    model.load_state_dict(teacher.state_dict())
    layer = model.network.layers[0]
    layer.update.weight = nn.Parameter(layer.update.weight.detach()[:, :1])
    layer.update.bias.weight = nn.Parameter(layer.update.bias.weight.detach()[:1])
    layer.update.bias.bias = nn.Parameter(layer.update.bias.bias.detach()[:1])
    layer.update.bias.out_features = 1
    layer.mix.weight = nn.Parameter(layer.mix.weight.detach()[:, :, :1])
    x = normal(600, 4, 3, seed=3)
    y = teacher(x).detach()
    report = expressivity(model, squared, (x, y), features=0)
    assert report.alarms[0].site == "network.layers.0.mix.weight"
    verdict = report.alarms[0]
    held_out = torch.from_numpy(verdict.examples)

    def losses(model):
        return squared(model, (x[held_out], y[held_out]))

    before = losses(model).mean()
    same = copy.deepcopy(model)
    grow_module(same, verdict, losses=losses, steps=(0.0,))
    assert torch.allclose(same(x), model(x), atol=1e-12)
    growth = grow_module(model, verdict, losses=losses)
    assert growth.measured > max(5 * growth.error, 0.5 * verdict.check.measured)
    assert (before - losses(model).mean()).item() == pytest.approx(growth.measured, rel=1e-8)


def test_a_verdict_without_units_is_refused():
    model = nn.Sequential(nn.Linear(3, 3, **DOUBLE))
    x = normal(100, 3, seed=4)
    report = expressivity(model, squared, (x, x), features=0)
    with pytest.raises(ValueError, match="no units between two linear layers"):
        grow_module(model, report.verdicts[0], losses=lambda model: squared(model, (x, x)))
