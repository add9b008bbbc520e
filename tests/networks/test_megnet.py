"""MEGNet against the formulas of its paper written out; the law of networks; its readout in both layouts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from written_out import array

from molifold import Molecule
from molifold.networks import MEGNet, molecular_graph
from molifold.networks.megnet import Set2SetReadout
from molifold.testing import check_network

MOLECULES = {
    "water": Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))),
    "ethanol": Molecule.from_smiles("CCO"),
}
OPTIONS = [{}, {"cutoff": 0.4, "bonds": True}, {"out": None, "blocks": 1}, {"static": 0}]


def build(graph, **options):
    torch.manual_seed(0)
    options = {"static": graph.nodes.shape[1], "out": 5, "channels": 4, "centres": 6, **options}
    return MEGNet(features=3, **options)


def conformations(n, atoms):
    return 0.15 * torch.randn(n, atoms, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def dense(module, *parts):
    v = np.concatenate(parts)
    for layer in module.layers:
        v = np.log((np.exp(array(layer.weight) @ v + array(layer.bias)) + 1) / 2)
    return v


def numpy_block(block, v, e, u, near):
    """Eqs. 1 to 6 of arXiv 1812.05055, with loops; ``e`` and ``near`` by pair (target, source)."""
    old = v, e, u
    v, e, u = [dense(block.before["v"], a) for a in v], {k: dense(block.before["e"], b) for k, b in e.items()}, u
    u = dense(block.before["u"], u)
    if block.first:
        old = v, e, u
    new_e = {(i, j): dense(block.phi["e"], v[i], v[j], e[i, j], u) for i, j in e}
    nothing = np.zeros(len(u))
    new_v = []
    for i, own in enumerate(v):
        arrived = [new_e[k] for k in near if k[0] == i]
        new_v.append(dense(block.phi["v"], np.mean(arrived, axis=0) if arrived else nothing, own, u))
    all_e = np.mean([new_e[k] for k in near], axis=0) if near else nothing
    new_u = dense(block.phi["u"], all_e, np.mean(new_v, axis=0), u)
    return [a + b for a, b in zip(new_v, old[0], strict=True)], {k: new_e[k] + old[1][k] for k in e}, new_u + old[2]


def numpy_megnet(net, features, graph, x):
    nodes, centres, bonds = graph.nodes.numpy(), array(net.gaussians.centres), graph.bonds.numpy()
    d = {(i, j): np.linalg.norm(x[i] - x[j]) for i in range(len(x)) for j in range(len(x)) if i != j}
    near = [k for k in d if net.cutoff is None or d[k] < net.cutoff]
    e = {k: np.exp(-((d[k] - centres) ** 2) / 0.05**2) for k in d}
    e = {k: np.concatenate([e[k], bonds[k]]) if net.bonds else e[k] for k in d}
    v = [np.concatenate([features[i], nodes[i]]) if net.static else features[i] for i in range(len(x))]
    u = np.ones(2) if graph.state is None else graph.state.numpy()
    for block in net.blocks:
        v, e, u = numpy_block(block, v, e, u, near)
    both = [np.concatenate([a, u]) for a in v]
    return np.stack(both if net.out is None else [array(net.out.weight) @ b + array(net.out.bias) for b in both])


@pytest.mark.parametrize("state", [None, [0.3, -1.0]], ids=["no state", "state"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_output_is_that_of_the_formulas(options, state):
    graph = molecular_graph(MOLECULES["ethanol"]).to(torch.float64)
    graph = replace(graph, state=None if state is None else torch.tensor(state, dtype=torch.float64))
    net = build(graph, **options).double()
    f, x = torch.randn(2, 9, 3, dtype=torch.float64), conformations(2, 9)
    expected = np.stack([numpy_megnet(net, v, graph, y) for v, y in zip(f.numpy(), x.numpy(), strict=True)])
    assert np.allclose(net(f, graph.at(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_law(molecule, options):
    graph = molecular_graph(MOLECULES[molecule])
    f = torch.randn(4, len(graph.nodes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_network(build(graph, **options), f, graph, batched=True, sparse=True)


@pytest.mark.parametrize("cutoff", [None, 0.25])
def test_readout_is_the_same_in_both_layouts_and_beside_a_larger_molecule(cutoff):
    graph = molecular_graph(MOLECULES["ethanol"]).to(torch.float64)
    readout = Set2SetReadout(build(graph, out=None, cutoff=cutoff)).double()
    f, x = torch.randn(3, 9, 3, dtype=torch.float64), conformations(3, 9)
    y = readout(f, graph.at(x))
    assert y.std() > 1e-6
    assert torch.allclose(readout(f, graph.neighbours(x, cutoff=cutoff or 9.0)), y, atol=1e-12)
    few = graph.subgraph(range(4))
    mixed = type(graph).stack([few, graph, graph])
    alone = readout(f[:1, :4], few.at(x[:1, :4]))
    assert torch.allclose(readout(f, mixed.at(x)), torch.cat([alone, y[1:]]), atol=1e-12)
    order = torch.randperm(9)
    assert torch.allclose(readout(f[:, order], graph.subgraph(order.tolist()).at(x[:, order])), y, atol=1e-12)


def test_an_atom_alone_has_a_readout():
    graph = molecular_graph(Molecule(elements=("H",), bonds=()))
    y = Set2SetReadout(build(graph, out=None))(torch.zeros(2, 1, 3), graph.at(torch.zeros(2, 1, 3)))
    assert y.isfinite().all()


def test_without_bonds_it_says_what_to_pass():
    graph = replace(molecular_graph(MOLECULES["water"]), bonds=None)
    with pytest.raises(ValueError, match="molecular_graph"):
        build(graph, bonds=True)(torch.zeros(1, 3, 3), graph.at(torch.zeros(1, 3, 3)))
