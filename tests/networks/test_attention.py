"""Graph attention against its formula written out, atom by atom; and the law of networks."""

import numpy as np
import pytest
import torch
from torch import nn
from written_out import array, linear, silu

from molifold import Molecule
from molifold.data import example
from molifold.networks import GraphAttention, molecular_graph
from molifold.networks.graph import MAX_HOPS
from molifold.testing import check_network

MOLECULES = {
    "water": Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))),
    "ethanol": Molecule.from_smiles("CCO"),
    "alanine dipeptide": example("alanine-dipeptide").molecule,
    "benzene": Molecule.from_smiles("c1ccccc1"),
}
OPTIONS = [
    {"dynamic": True},
    {"dynamic": False},
    {"dynamic": True, "max_hops": 1},
    {"dynamic": False, "max_hops": 2},
    {"dynamic": True, "out": None, "layers": 1},
]


def build(graph, *, features=3, seed=0, **options):
    torch.manual_seed(seed)
    options = {"out": 5, "channels": 12, "heads": 3, "layers": 2, **options}
    return GraphAttention(features=features, static=graph.nodes.shape[1], **options)


def numpy_attention(net, features, graph):
    """The docstring's formula for one conformation, with loops over i and j."""

    nodes, hops = graph.nodes.double().numpy(), graph.hops.numpy()
    atoms = range(len(nodes))
    static = [linear(net.static_in[2], silu(linear(net.static_in[0], nodes[i]))) for i in atoms]
    h = [silu(linear(net.features_in, features[i]) + static[i]) for i in atoms]
    for layer in net.layers:
        value = [linear(layer.value, h[i]) for i in atoms]
        scored = value if net.dynamic else static
        heads, width = layer.heads, len(h[0]) // layer.heads
        new = []
        for i in atoms:
            gathered = []
            for k in range(heads):
                seen = [j for j in atoms if layer.max_hops is None or hops[i, j] <= layer.max_hops]
                e = {}
                for j in seen:
                    a, b = array(layer.query_score.weight)[k] @ scored[i], array(layer.key_score.weight)[k] @ scored[j]
                    s = a + b + array(layer.hop_bias)[hops[i, j], k]
                    e[j] = np.exp(s if s > 0 else 0.2 * s)
                gathered += [sum(e[j] * value[j][k * width : (k + 1) * width] for j in seen) / sum(e.values())]
            new.append(h[i] + np.concatenate(gathered))
        h = [v + linear(layer.mix, silu(linear(layer.update, v))) for v in new]
    return np.stack(h if net.out is None else [linear(net.out, v) for v in h])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("molecule", ["water", "ethanol"])
def test_output_is_that_of_the_formula(molecule, options):
    graph = molecular_graph(MOLECULES[molecule])
    graph = graph.to(torch.float64)
    net = build(graph, **options).double()
    for layer in net.layers:
        nn.init.normal_(layer.hop_bias)
    x = torch.randn(3, len(graph.nodes), 3, dtype=torch.float64)
    expected = np.stack([numpy_attention(net, v.numpy(), graph) for v in x])
    assert np.allclose(net(x, graph).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_law(molecule, options):
    graph = molecular_graph(MOLECULES[molecule])
    x = torch.randn(4, len(graph.nodes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_network(build(graph, **options), x, graph, batched=True, sparse=True)


@pytest.mark.parametrize("dynamic", [True, False])
def test_with_one_hop_nothing_arrives_from_atoms_that_are_not_bonded(dynamic):
    graph = molecular_graph(MOLECULES["ethanol"])
    net = build(graph, dynamic=dynamic, max_hops=1, layers=1).double()
    graph = graph.to(torch.float64)
    x = torch.randn(1, len(graph.nodes), 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v, graph), x)[0, :, :, 0].abs().amax((1, 3))
    assert torch.equal(jacobian > 0, graph.hops <= 1)


def test_coefficients_are_positive_sum_to_one_and_vanish_beyond_max_hops():
    graph = molecular_graph(MOLECULES["alanine dipeptide"])
    (layer,) = build(graph, layers=1, max_hops=1).layers
    alpha = layer._coefficients(torch.randn(2, 22, 12), graph)
    assert alpha.shape == (2, 3, 22, 22)
    assert torch.allclose(alpha.sum(-1), torch.ones(2, 3, 22))
    assert torch.equal(alpha > 0, (graph.hops <= 1).expand(2, 3, -1, -1))


def test_static_attention_is_dynamic_attention_with_features_that_do_not_vary():
    """Both orders of memory compute the same layer where the coefficients are the same."""
    graph = molecular_graph(MOLECULES["ethanol"])
    layer = build(graph, layers=1).layers[0].double()
    nn.init.zeros_(layer.query_score.weight)
    nn.init.zeros_(layer.key_score.weight)
    h = torch.randn(4, 9, 12, dtype=torch.float64)
    alike = layer.attend_alike(h.permute(2, 1, 0), torch.zeros(12, 9, 1, dtype=torch.float64), graph)
    assert torch.allclose(layer.attend_each(h, None, graph), alike.permute(2, 1, 0))


def test_channels_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="channels: got 10, expected a multiple of heads"):
        GraphAttention(features=1, static=1, out=1, channels=10, heads=4)


class Mean(nn.Module):
    """A broken network in every way that a keyword asks for."""

    def __init__(self, flaw):
        super().__init__()
        self.flaw, self.weight, self.unused = flaw, nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))

    def forward(self, features, graph):
        out = features * self.weight + 0 * self.unused + self.unused.square() * features.sum(1, keepdim=True)
        if self.flaw == "labels":
            out = out * torch.arange(features.shape[1])[:, None]
        if self.flaw == "batch":
            out = out - out.mean(0)
        if self.flaw == "gradient":
            out = features * self.weight
        if self.flaw == "shape":
            out = out.sum(1)
        if self.flaw == "precision":
            out = out.double()
        return out


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("labels", "atoms relabelled together with the graph: off by"),
        ("batch", "batch of one against that of the batch: off by"),
        ("gradient", "no gradient reaches unused"),
        ("shape", r"output: torch.float64 \(4, 3\), expected \[4, 9, out\]"),
        ("precision", "output of float32 features is torch.float64"),
    ],
)
def test_the_law_names_what_is_broken(flaw, message):
    graph = molecular_graph(MOLECULES["ethanol"])
    with pytest.raises(AssertionError, match=message):
        check_network(Mean(flaw), torch.randn(4, 9, 3, dtype=torch.float64), graph)


def test_static_features_tell_atoms_apart_as_chemistry_does():
    nodes = molecular_graph(MOLECULES["alanine dipeptide"]).nodes
    names = list(MOLECULES["alanine dipeptide"].atom_names)
    carbonyls = [i for i, e in enumerate(MOLECULES["alanine dipeptide"].elements) if e == "O"]
    assert not torch.equal(*nodes[carbonyls])  # the two caps differ in their shells
    methyl = [i for i, n in enumerate(names) if n.startswith("HB")]
    assert all(torch.equal(nodes[i], nodes[methyl[0]]) for i in methyl)


def test_graph_distances_and_rings():
    benzene, ethanol = (molecular_graph(MOLECULES[m]) for m in ("benzene", "ethanol"))
    ring = 11 + 5  # after elements and degrees
    carbons = torch.tensor([e == "C" for e in MOLECULES["benzene"].elements])
    assert torch.equal(benzene.nodes[:, ring] == 1, carbons)
    assert not ethanol.nodes[:, ring].any()
    chain = molecular_graph(Molecule.from_smiles("CCCCCCCCCCCC"))
    assert chain.hops.max() == MAX_HOPS
    part = chain.subgraph([0, 5, 11])
    assert part.hops.tolist() == [[0, 5, 8], [5, 0, 6], [8, 6, 0]]
