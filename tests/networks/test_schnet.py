"""SchNet against its formula written out, pair by pair; the law of networks; smoothness at the cutoff."""

import numpy as np
import pytest
import torch
from written_out import array, linear

from molifold import Molecule
from molifold.networks import SchNet, molecular_graph
from molifold.testing import check_network

MOLECULES = {
    "water": Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))),
    "ethanol": Molecule.from_smiles("CCO"),
    "benzene": Molecule.from_smiles("c1ccccc1"),
}
OPTIONS = [{}, {"cutoff": 0.3}, {"out": None, "layers": 1}, {"static": 0}]


def build(graph, **options):
    torch.manual_seed(0)
    options = {"static": graph.nodes.shape[1], "out": 5, "channels": 6, "layers": 2, "reach": 0.5, **options}
    return SchNet(features=3, **options)


def ssp(v):
    return np.log(0.5 * np.exp(v) + 0.5)


def numpy_schnet(net, features, graph, x):
    """The docstring's formula for one conformation, with loops over i and j."""

    def dense(layers, v):
        return linear(layers[2], ssp(linear(layers[0], v)))

    nodes, centres = graph.nodes.numpy(), array(net.gaussians.centres)
    atoms = range(len(nodes))
    h = [linear(net.features_in, features[i]) for i in atoms]
    if net.static_in is not None:
        h = [v + linear(net.static_in, nodes[i]) for i, v in zip(atoms, h, strict=True)]
    for layer in net.layers:
        message = []
        for i in atoms:
            m = np.zeros(len(h[i]))
            for j in atoms:
                d = np.linalg.norm(x[i] - x[j])
                if i == j or (net.cutoff and d > net.cutoff):
                    continue
                w = ssp(dense(layer.filters[0], np.exp(-net.gaussians.gamma * (d - centres) ** 2)))
                if net.cutoff:
                    w = w * (np.cos(np.pi * d / net.cutoff) + 1) / 2
                m = m + linear(layer.project, h[j]) * w
            message.append(m)
        h = [h[i] + dense(layer.update, message[i]) for i in atoms]
    return np.stack(h if net.out is None else [dense(net.out, v) for v in h])


def conformations(n, atoms):
    return 0.15 * torch.randn(n, atoms, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_output_is_that_of_the_formula(options):
    graph = molecular_graph(MOLECULES["ethanol"]).to(torch.float64)
    net = build(graph, **options).double()
    f, x = torch.randn(2, 9, 3, dtype=torch.float64), conformations(2, 9)
    expected = np.stack([numpy_schnet(net, v, graph, y) for v, y in zip(f.numpy(), x.numpy(), strict=True)])
    assert np.allclose(net(f, graph.at(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_law(molecule, options):
    graph = molecular_graph(MOLECULES[molecule])
    f = torch.randn(4, len(graph.nodes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_network(build(graph, **options), f, graph, batched=True, sparse=True)


def test_a_neighbour_list_up_to_the_cutoff_is_enough():
    graph = molecular_graph(MOLECULES["ethanol"]).to(torch.float64)
    net = build(graph, cutoff=0.25).double()
    f, x = torch.randn(3, 9, 3, dtype=torch.float64), conformations(3, 9)
    listed = graph.neighbours(x, cutoff=0.25)
    assert listed.edges.shape[1] < 3 * 9 * 8
    assert torch.allclose(net(f, listed), net(f, graph.at(x)), atol=1e-12)


def test_without_distances_it_says_what_to_pass():
    graph = molecular_graph(MOLECULES["water"])
    with pytest.raises(ValueError, match=r"graph.at\(x\)"):
        build(graph)(torch.zeros(1, 3, 3), graph)
