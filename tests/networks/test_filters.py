"""Graph filters against their formula written out, atom by atom; and the law of networks."""

import numpy as np
import pytest
import torch
from written_out import array, linear, silu

from molifold import Molecule
from molifold.networks import GraphFilters, molecular_graph
from molifold.testing import check_network

MOLECULES = {
    "water": Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))),
    "ethanol": Molecule.from_smiles("CCO"),
    "benzene": Molecule.from_smiles("c1ccccc1"),
}


def build(graph, **options):
    torch.manual_seed(0)
    return GraphFilters(features=3, static=graph.nodes.shape[1], **{"channels": 6, "layers": 2, "rank": 2, **options})


def numpy_filters(net, features, graph):
    """The docstring's formula for one conformation, with loops over i and j."""

    def atom_linear(layer, v, s):
        weight = array(layer.weight)
        mixed = weight[0] + sum(m * w for m, w in zip(linear(layer.mixing, s), weight[1:], strict=True))
        return mixed @ v + linear(layer.bias, s)

    nodes, hops = graph.nodes.double().numpy(), graph.hops.numpy()
    atoms = range(len(nodes))
    static = [linear(net.static_in[2], silu(linear(net.static_in[0], nodes[i]))) for i in atoms]
    h = [silu(atom_linear(net.features_in, features[i], static[i])) for i in atoms]
    for layer in net.layers:
        new = []
        for i in atoms:
            message = 0
            near = [j for j in atoms if hops[i, j] <= net.max_hops]
            for j in near:
                pair = linear(layer.target, static[i]) + linear(layer.source, static[j])
                message = message + linear(layer.filters, silu(pair + array(layer.distance.weight)[hops[i, j]])) * h[j]
            seen = np.concatenate([h[i], message / np.sqrt(len(near))])
            new.append(h[i] + atom_linear(layer.mix, silu(atom_linear(layer.update, seen, static[i])), static[i]))
        h = new
    return np.stack(h)


@pytest.mark.parametrize("max_hops", [None, 2])
@pytest.mark.parametrize("molecule", ["water", "ethanol"])
def test_output_is_that_of_the_formula(molecule, max_hops):
    graph = molecular_graph(MOLECULES[molecule])
    graph = graph.to(torch.float64)
    net = build(graph, max_hops=max_hops).double()
    x = torch.randn(3, len(graph.nodes), 3, dtype=torch.float64)
    expected = np.stack([numpy_filters(net, v.numpy(), graph) for v in x])
    assert np.allclose(net(x, graph).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"layers": 1, "rank": 1}], ids=str)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_law(molecule, options):
    graph = molecular_graph(MOLECULES[molecule])
    x = torch.randn(4, len(graph.nodes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_network(build(graph, **options), x, graph)


def test_with_a_limit_an_atom_cannot_tell_how_large_the_molecule_is():
    """The first methyl group of nonane and of decane, two layers of three bonds away from where they differ."""
    nonane, decane = (molecular_graph(Molecule.from_smiles("C" * n), max_hops=3) for n in (9, 10))
    net = build(nonane, max_hops=3).double().eval()
    out = [net(torch.zeros(1, len(g.nodes), 3).double(), g.to(torch.float64))[0, 0] for g in (nonane, decane)]
    assert torch.allclose(*out, atol=1e-12)
    far = build(nonane).double().eval()
    out = [far(torch.zeros(1, len(g.nodes), 3).double(), g.to(torch.float64))[0, 0] for g in (nonane, decane)]
    assert not torch.allclose(*out, atol=1e-3)
