"""Products are seen in any network, whatever its layers are called and however their rows lie in memory."""

import pytest
import torch
from expressivity_cases import mlp, normal, squared
from torch import nn

from molifold.probes.expressivity.products import Recorder
from molifold.probes.expressivity.sites import Layout, Sites, take


class Foreign(nn.Module):
    """A linear layer that is no ``nn.Linear``, in every way of writing a product."""

    def __init__(self, a, b, way):
        super().__init__()
        self.weight, self.bias, self.way = nn.Parameter(normal(b, a, seed=a)), nn.Parameter(normal(b, seed=b)), way

    def forward(self, x):
        return {
            "linear": lambda: nn.functional.linear(x, self.weight, self.bias),
            "keywords": lambda: nn.functional.linear(input=x, weight=self.weight) + self.bias,
            "matmul": lambda: x @ self.weight.T + self.bias,
            "left": lambda: (self.weight @ x.mT).mT + self.bias,
            "addmm": lambda: torch.addmm(self.bias, x, self.weight.T),
            "turned": lambda: torch.addmm(self.bias[:, None], self.weight, x.T).T,
        }[self.way]()


@pytest.mark.parametrize("way", ["linear", "keywords", "matmul", "left", "addmm", "turned"])
def test_every_way_of_writing_a_product_gives_the_same_rows(way):
    model = nn.Sequential(Foreign(3, 5, way), nn.ReLU(inplace=True), Foreign(5, 2, way))
    batch = normal(16, 3, seed=0), normal(16, 2, seed=1)
    sites = Sites(model, squared, batch, features=0)
    _, rows = sites.rows(batch)
    assert sites.names == ["0.weight", "2.weight"]
    assert torch.allclose(rows[0].b[:, 0, :3], batch[0])
    hidden = model[0](batch[0])
    out = model[2](hidden.relu())
    assert torch.allclose(rows[1].v[:, 0], -2 * (out - batch[1]))
    assert torch.allclose(rows[1].b[:, 0, :5], hidden.relu())
    assert torch.allclose(rows[0].v[:, 0], rows[1].v[:, 0] @ model[2].weight * (hidden > 0))
    assert torch.equal(rows[1].sources["upstream"], rows[0].b)
    fused = way in ("linear", "addmm", "turned")  # a bias that is added later hides the function
    assert sites.wires[1].activation == ("relu" if fused else None)


class Apart(nn.Module):
    """Atoms first, channels in the middle, examples last; a hidden layer per atom, mixed from shared matrices."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(normal(3, 6, 2, seed=1))
        self.second = nn.Parameter(normal(1, 6, seed=2))
        self.register_buffer("mix", normal(4, 3, seed=3))

    def forward(self, x):
        weight = torch.einsum("ar,roi->aoi", self.mix, self.first)
        h = torch.tanh(torch.baddbmm(x.new_zeros(1, 1, 1), weight, x.permute(1, 2, 0)))
        order = torch.tensor([2, 0, 1, 3])
        return (self.second @ h[order].transpose(0, 1).reshape(6, -1)).view(4, -1).T


def test_rows_are_found_whatever_the_layout():
    model, x = Apart(), normal(8, 4, 2, seed=4)
    sites = Sites(model, lambda m, b: m(b).square().sum(1), x, features=0)
    assert [w.layout for w in sites.wires] == [Layout(4, 1), Layout(4, 1)]
    _, (first, second) = sites.rows(x)
    ones = torch.cat([x, torch.ones(8, 4, 1, dtype=x.dtype)], -1)
    assert torch.allclose(first.b, (model.mix[:, :, None] * ones[:, :, None, :]).flatten(2))
    # The second layer reads the atoms in another order, which is found by differentiation.
    assert sites.wires[1].upstream[0][1].tolist() == [2, 0, 1, 3]
    assert torch.allclose(second.sources["upstream"], first.b[:, [2, 0, 1, 3]])
    assert torch.allclose(second.v[..., 0], -2 * model(x))


def test_the_networks_of_molifold_are_covered():
    from molifold import Molecule
    from molifold.networks import GraphAttention, GraphFilters, molecular_graph

    graph = molecular_graph(
        Molecule(elements=("C", "O", "H", "H", "H", "H"), bonds=((0, 1), (0, 2), (0, 3), (0, 4), (1, 5)))
    )
    common = {"features": 3, "static": graph.nodes.shape[1], "channels": 8}
    for network in (
        GraphFilters(**common),
        GraphAttention(**common, out=4, dynamic=True),
        GraphAttention(**common, out=4, dynamic=False),
    ):
        batch = torch.randn(10, 6, 3, generator=torch.Generator().manual_seed(0))
        sites = Sites(network, lambda m, b: m(b, graph).square().sum((1, 2)), batch)
        tables = [name for name in sites.uncovered if "distance" not in name and "hop_bias" not in name]
        assert tables == [], type(network).__name__
        wires = {w.site: w for w in sites.wires}
        assert wires["layers.1.mix.weight"].activation == "silu"
        assert wires["layers.1.mix.weight"].layout.canonical(torch.zeros(60, 1)).shape == (10, 6, 1)
        assert wires["static_in.0.weight"].static


def test_a_layer_that_is_used_twice_has_all_its_rows():
    layer = nn.Linear(3, 3, dtype=torch.float64)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    batch = normal(6, 3, seed=0), normal(6, 3, seed=1)
    _, rows = Sites(model, squared, batch).rows(batch)
    assert [r.site for r in rows] == ["0.weight", "0.weight"]
    assert torch.allclose(rows[1].b[:, 0, :3], layer(batch[0]).tanh())


def test_blocks_keep_what_they_see_to_themselves():
    model, batch = mlp(3, 4, 4, 2), (normal(6, 3, seed=0), normal(6, 2, seed=1))
    sites = Sites(model, squared, batch, blocks=["0", "2"])
    assert [len(w.upstream) for w in sites.wires] == [0, 0, 0]
    assert [len(w.upstream) for w in Sites(model, squared, batch).wires] == [0, 1, 1]


def test_matrices_that_are_not_products_are_said_to_be_uncovered():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))
            self.last = nn.Linear(2, 2)

        def forward(self, x):
            return self.last(nn.functional.linear(x, self.weight.relu() ** 2 * torch.tensor([[1.0, 0.0], [1.0, 1.0]])))

    batch = torch.randn(6, 2), torch.randn(6, 2)
    assert Sites(Squared(), squared, batch).uncovered == ["weight"]


def test_recording_leaves_no_trace():
    model, x = mlp(3, 4, 2), normal(5, 3, seed=0)
    before = model(x)
    with Recorder(model) as recorder:
        during = model(x)
    assert torch.equal(before, during)
    assert len(recorder.products) == 2
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())
    assert take({"a": x, "k": 3}, torch.tensor([1, 0]), 5)["a"].shape == (2, 3)


def test_errors_say_what_to_do():
    model, batch = mlp(3, 2), (normal(5, 3, seed=0), normal(5, 2, seed=1))
    with pytest.raises(ValueError, match=r"loss: got shape \(\), expected \[examples\]"):
        Sites(model, lambda m, b: squared(m, b).mean(), batch)
    with pytest.raises(ValueError, match="no product of a parameter"):
        Sites(model, lambda m, b: b[0].sum(1), batch)
