"""GAT against the formulas of its paper written out; the law of networks; sparse features; dropout."""

import numpy as np
import pytest
import torch
from written_out import array

from molifold import Molecule
from molifold.networks import GAT, Graph, molecular_graph
from molifold.testing import check_network

ETHANOL = molecular_graph(Molecule.from_smiles("CCO"))
OPTIONS = [{}, {"max_hops": 2, "layers": 3}, {"out_heads": 3}, {"static": 0}]


def build(**options):
    torch.manual_seed(0)
    net = GAT(**{"features": 3, "static": ETHANOL.nodes.shape[1], "out": 4, "channels": 2, "heads": 3, **options})
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p)
    return net


def numpy_gat(net, features, graph):
    """Eqs. 1 to 6 of arXiv 1710.10903 for one conformation, head by head, with loops over i and j."""

    hops, nodes = graph.hops.numpy(), graph.nodes.numpy()
    atoms = range(len(nodes))
    h = [np.concatenate([features[i], nodes[i]]) if net.static else features[i] for i in atoms]
    for layer in [*net.layers, net.last]:
        heads, width = layer.bias.shape
        new = []
        for i in atoms:
            out = []
            for k in range(heads):
                w, a, b = array(layer.weight)[k * width :][:width], array(layer.query)[k], array(layer.key)[k]
                seen = [j for j in atoms if hops[i, j] <= layer.max_hops]
                e = np.array([a @ (w @ h[i]) + b @ (w @ h[j]) for j in seen])
                e = np.exp(np.where(e > 0, e, 0.2 * e))
                total = sum(alpha * (w @ h[j]) for alpha, j in zip(e / e.sum(), seen, strict=True))
                out.append(total + array(layer.bias)[k])
            if layer is net.last:
                new.append(np.mean(out, axis=0))
            else:
                joined = np.concatenate(out)
                new.append(np.where(joined > 0, joined, np.exp(joined) - 1))
        h = new
    return np.stack(h)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_output_is_that_of_the_formulas(options):
    graph, net = ETHANOL.to(torch.float64), build(**options).double().eval()
    f = torch.randn(2, 9, 3, dtype=torch.float64)
    expected = np.stack([numpy_gat(net, v, graph) for v in f.numpy()])
    assert np.allclose(net(f, graph).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_law(options):
    f = torch.randn(3, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_network(build(**options), f, ETHANOL, batched=True, sparse=True)


def test_a_sparse_matrix_of_features_is_a_batch_of_one():
    graph = Graph(torch.zeros(9, 0), ETHANOL.hops).sparse(ETHANOL.hops[None] == 1)
    words = (torch.rand(9, 20) < 0.2) * torch.rand(9, 20)
    net = build(features=20, static=0).eval()
    assert torch.allclose(net(words.to_sparse_csr(), graph), net(words[None], graph), atol=1e-6)


def test_dropout_acts_on_inputs_features_and_coefficients_in_training_only():
    f = torch.randn(1, 9, 3)
    net = build(dropout=0.6)
    assert not torch.equal(net(f, ETHANOL), net(f, ETHANOL))
    torch.manual_seed(0)
    ones = net.last._drop(torch.ones(100_000))
    assert set(ones.unique().tolist()) == {0.0, 2.5}
    assert abs(float((ones > 0).float().mean()) - 0.4) < 0.01  # six standard errors
    net.eval()
    assert torch.equal(net(f, ETHANOL), net(f, ETHANOL))
