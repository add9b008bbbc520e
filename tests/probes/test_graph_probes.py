"""Probes of graph networks against what is known of theirs: linear propagation, uniform and copying attention, sums."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molifold import Molecule
from molifold.interfaces import Moment
from molifold.networks import GAT, GraphAttention, GraphFilters, MEGNet, SchNet, molecular_graph
from molifold.probes import attention, smoothing, squashing
from molifold.probes.view import View, layer_states
from molifold.testing import check_probe

ETHANOL = Molecule.from_smiles("CCO")
GRAPH = molecular_graph(ETHANOL).to(torch.float64)
BATCH, ATOMS, STATIC = 7, ETHANOL.n_atoms, GRAPH.nodes.shape[1]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def path(n):
    """Graph distances of n atoms in a row."""
    place = torch.arange(n)
    return (place[:, None] - place).abs()


def view_of(network, features, hops, **options):
    return View(network, features, network, hops, **options)


class Propagation(nn.Module):
    """x <- P x in every layer, for a fixed matrix P: message passing without anything learnt."""

    def __init__(self, matrix, layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in range(layers))
        self.matrix = matrix

    def forward(self, x):
        for layer in self.layers:
            x = layer(self.matrix @ x)
        return x


def normalised(hops):
    """(D + 1)^-1/2 (A + 1) (D + 1)^-1/2, the propagation of graph convolutions (Kipf and Welling 2017)."""
    near = (hops <= 1).double()
    scale = near.sum(1).rsqrt()
    return scale[:, None] * near * scale


# ---------------------------------------------------------------------------------------------------- oversmoothing


def test_alike_unrelated_and_opposite_atoms():
    hops = path(2)
    same, unrelated = torch.ones(BATCH, 2, 400).double(), normal(BATCH, 2, 400)
    opposite = torch.stack([same[:, 0], -same[:, 0]], 1)
    found = [smoothing.smoothing(view_of(nn.Identity(), x, hops)) for x in (same, unrelated, opposite)]
    assert [f.roughness[0] for f in found] == pytest.approx([0, 1, 2], abs=0.05)
    assert [f.mad[0] for f in found] == pytest.approx([0, 1, 2], abs=0.05)
    # (1/2) (|x_0 - x_1|^2 + |x_1 - x_0|^2) of vectors of 400 ones
    assert [found[0].dirichlet[0], found[2].dirichlet[0]] == [0, 1600]
    assert abs(found[1].roughness[0] - 1) < 5 * found[1].roughness_error[0]


def test_energy_of_an_eigenvector_decays_by_the_square_of_its_eigenvalue():
    """Linear propagation by P = 1 - L/4 of a path: the Dirichlet energy falls by lambda^2 per layer, exactly."""
    hops = path(6)
    near = (hops == 1).double()
    p = torch.eye(6).double() - (near.sum(1).diag() - near) / 4
    values, vectors = torch.linalg.eigh(p)
    x = vectors[:, -2].expand(BATCH, -1)[..., None] * torch.ones(1, 1, 3)
    found = smoothing.smoothing(view_of(Propagation(p, 5), x, hops))
    ratio = found.dirichlet[2:6] / found.dirichlet[1:5]
    assert ratio == pytest.approx(values[-2].item() ** 2, rel=1e-9)
    assert found.layers == ("input", *(f"layers.{k}" for k in range(5)), "output")


def test_roughness_does_not_depend_on_the_scale():
    x = normal(BATCH, 5, 3)
    a, b = (smoothing.smoothing(view_of(nn.Identity(), s * x, path(5))) for s in (1.0, 1000.0))
    assert a.roughness == pytest.approx(b.roughness)
    assert b.dirichlet == pytest.approx(1e6 * a.dirichlet)


def test_deep_propagation_is_told_and_a_shallow_one_is_not():
    hops = path(6)
    near = (hops <= 1).double()
    mean = near / near.sum(1, keepdim=True)
    x = normal(BATCH, 6, 4)
    deep, shallow = (view_of(Propagation(mean, n), x, hops, name="net") for n in (80, 1))
    (told,) = smoothing.findings([(v, smoothing.smoothing(v)) for v in (deep, shallow)])
    assert (told.level, told.severity) == ("warning", 0.5)
    assert "net.layers." in told.message
    assert smoothing.findings([(shallow, smoothing.smoothing(shallow))])[0].level == "ok"


def networks():
    torch.manual_seed(0)
    sizes = {"features": 3, "static": STATIC}
    return {
        "filters": GraphFilters(**sizes, channels=8),
        "attention": GraphAttention(**sizes, out=5, channels=8, heads=2),
        "attention alike": GraphAttention(**sizes, out=5, channels=8, heads=2, dynamic=False),
        "gat": GAT(**sizes, out=5, channels=4, heads=2, dropout=0.0),
        "schnet": SchNet(**sizes, out=5, channels=8, layers=2, reach=0.5),
        "megnet": MEGNet(**sizes, out=5, channels=8, blocks=2),
    }


@pytest.mark.parametrize("name", list(networks()))
def test_the_layers_of_every_network_are_found(name):
    network = networks()[name].double().eval()
    graph = GRAPH.at(normal(BATCH, ATOMS, 3, seed=1))
    view = View(network, normal(BATCH, ATOMS, 3), lambda f: network(f, graph), graph.hops)
    states = layer_states(view)
    inside = (
        ["layers.0"] if name == "gat" else ["blocks.0", "blocks.1"] if name == "megnet" else ["layers.0", "layers.1"]
    )
    assert list(states) == ["input", *inside, "output"]
    assert all(s.shape[:2] == (BATCH, ATOMS) for s in states.values())
    if name not in ("megnet", "gat"):  # what comes out of the last layer goes through the output layer, if any
        last = states["layers.1"]
        out = last if name == "filters" else network.out(last)
        assert torch.allclose(out, states["output"])


class Convolution(nn.Module):
    """A layer in the manner of torch_geometric: x [nodes, channels], edges [2, edges], source first."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs).double()

    def forward(self, x, edges):
        return self.linear(x.new_zeros(x.shape).index_add(0, edges[1], x[edges[0]]))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = Convolution(3, 8), Convolution(8, 2)

    def forward(self, x, edges):
        return self.conv2(self.conv1(x, edges).relu(), edges)


def joined_edges():
    """Bonds of ``BATCH`` copies of ethanol in one large graph, source first."""
    i, j = np.array(ETHANOL.bonds).T
    both = np.concatenate([[i, j], [j, i]], 1)
    return torch.from_numpy(np.concatenate([both + k * ATOMS for k in range(BATCH)], 1))


def test_layers_of_a_network_on_one_large_graph():
    torch.manual_seed(0)
    network, edges = Stack(), joined_edges()
    view = View(network, normal(BATCH, ATOMS, 3), lambda f: network(f.flatten(0, 1), edges), GRAPH.hops)
    states = layer_states(view)
    assert list(states) == ["input", "conv1", "conv2", "output"]
    assert torch.equal(states["conv2"], states["output"])


# ---------------------------------------------------------------------------------------------------- oversquashing


def test_linear_convolutions_have_the_power_of_their_matrix_as_sensitivity():
    """out = P^3 x (Topping et al. 2022, the bound is an equality); exactly 0 beyond three bonds."""
    hops = path(6)
    p = normalised(hops)
    found = squashing.squashing(view_of(Propagation(p, 3), normal(2, 6, 1), hops))
    cube = np.linalg.matrix_power(p.numpy(), 3)
    assert found.sensitivity == pytest.approx(cube, abs=1e-12)
    assert found.mean[3] == pytest.approx(np.mean([cube[i, i + 3] for i in range(3)]))
    assert found.reach == 3
    assert (found.mean[4:] == 0).all()
    told = squashing.findings([(view_of(nn.Identity(), normal(2, 6, 1), hops), found)])
    assert [f.subject for f in told] == ["reach"]
    assert "none more than 3 bonds away, of 5" in told[0].message


def test_random_combinations_estimate_the_norm_of_the_whole_jacobian():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 20)).double()
    mix = normal(4, 4)
    x = normal(2, 4, 3)

    def run(x):
        return network(mix @ x)

    whole = torch.autograd.functional.jacobian(run, x)  # [2, 4, 20, 2, 4, 3]
    exact = torch.einsum("bicbjd->bijcd", whole).square().sum((3, 4)).mean(0).sqrt()
    view = View(network, x, run, path(4))
    assert squashing.squashing(view, draws=20).sensitivity == pytest.approx(exact.numpy(), rel=1e-10)
    estimates = np.mean([squashing.squashing(view, draws=8, seed=s).sensitivity ** 2 for s in range(30)], axis=0)
    assert estimates == pytest.approx(exact.square().numpy(), rel=0.25)


def test_a_faint_influence_of_far_atoms_is_told():
    hops = path(5)
    weak = torch.where(hops <= 4, 1e-2 ** hops.double(), 0.0)
    view = view_of(Propagation(weak, 1), normal(2, 5, 2), hops)
    (told,) = squashing.findings([(view, squashing.squashing(view))])
    assert (told.level, told.subject) == ("warning", "oversquashing")
    strong = view_of(Propagation(torch.ones(5, 5).double(), 1), normal(2, 5, 2), hops)
    assert squashing.findings([(strong, squashing.squashing(strong))])[0].level == "ok"


# -------------------------------------------------------------------------------------------------------- attention


class Heads(nn.Module):
    """Softmax attention with given scores [heads, atoms, atoms]."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, x):
        return torch.softmax(self.scores, -1)[None] @ x[:, None]


def test_uniform_and_copying_heads():
    far = torch.full((ATOMS, ATOMS), -1e4).double().fill_diagonal_(0)
    scores = torch.stack([torch.zeros(ATOMS, ATOMS).double(), far])
    (found,) = attention.attention(view_of(Heads(scores), normal(BATCH, ATOMS, 3), GRAPH.hops))
    assert found.entropy == pytest.approx([1, 0], abs=1e-12)
    assert found.weights[0] == pytest.approx(1 / ATOMS)
    assert found.weights[1] == pytest.approx(np.eye(ATOMS))


def test_masked_atoms_do_not_count_for_the_bound():
    """Uniform over bonded atoms and itself is uniform, whatever the number of atoms out of reach."""
    scores = torch.zeros(1, ATOMS, ATOMS).double().masked_fill(GRAPH.hops > 1, -torch.inf)
    (found,) = attention.attention(view_of(Heads(scores), normal(BATCH, ATOMS, 3), GRAPH.hops))
    assert found.entropy == pytest.approx([1])


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("name", ["attention", "gat"])
def test_attention_of_our_networks_is_their_formula(name, layout):
    """Entropies and weights from the coefficients that the layer computes; the sparse layout attends to bonds only."""
    options = {"max_hops": 1} if name == "attention" else {}
    torch.manual_seed(2)
    sizes = {"features": 3, "static": STATIC, "out": 5, "channels": 8, "heads": 2}
    network = (GraphAttention(**sizes, **options) if name == "attention" else GAT(**sizes, dropout=0.0)).double().eval()
    x = normal(BATCH, ATOMS, 3)
    graph = GRAPH if layout == "dense" else GRAPH.sparse((GRAPH.hops == 1).expand(BATCH, -1, -1))
    found = attention.attention(View(network, x, lambda f: network(f, graph), GRAPH.hops, name="net"))
    assert [a.layer for a in found] == (
        ["net.layers.0", "net.layers.1"] if name == "attention" else ["net.layers.0", "net.last"]
    )
    first = network.layers[0]
    if name == "attention":
        h = F.silu(network.features_in(x) + network.static_in(GRAPH.nodes))
        value = first.value(h)
        query, key, bias = first.query_score(value), first.key_score(value), first.hop_bias[GRAPH.hops]
    else:
        value = F.linear(torch.cat([x, GRAPH.nodes.expand(BATCH, -1, -1)], -1), first.weight).unflatten(-1, (2, 8))
        query, key, bias = (value * first.query).sum(-1), (value * first.key).sum(-1), 0.0
    scores = F.leaky_relu(query[:, :, None] + key[:, None] + bias, 0.2)
    alpha = scores.masked_fill((GRAPH.hops > 1)[..., None], -torch.inf).softmax(2)
    share = torch.special.entr(alpha).sum(2) / (GRAPH.hops <= 1).sum(1).log()[:, None]
    assert found[0].entropy == pytest.approx(share.mean((0, 1)).detach().numpy(), rel=1e-6)
    assert found[0].weights == pytest.approx(alpha.mean(0).permute(2, 0, 1).detach().numpy(), rel=1e-5)


class SparseAttention(nn.Module):
    """Attention in the manner of torch_geometric: exponentials over their scattered sums, messages gathered first."""

    def __init__(self):
        super().__init__()
        self.linear, self.score = nn.Linear(3, 4).double(), nn.Linear(8, 2).double()

    def forward(self, x, edges):
        x = self.linear(x)
        source, target = x.index_select(0, edges[0]), x.index_select(0, edges[1])
        score = self.score(torch.cat([source, target], -1)).exp()
        index = edges[1].view(-1, 1).expand_as(score)
        total = score.new_zeros(len(x), 2).scatter_add_(0, index, score) + 1e-16
        alpha = score / total.index_select(0, edges[1])
        message = alpha.unsqueeze(-1) * source[:, None]
        return x.new_zeros(len(x), 2, 4).index_add(0, edges[1], message), alpha


def test_attention_over_edges_of_a_foreign_network():
    torch.manual_seed(3)
    network, edges, x = SparseAttention(), joined_edges(), normal(BATCH, ATOMS, 3)
    (found,) = attention.attention(View(network, x, lambda f: network(f.flatten(0, 1), edges), GRAPH.hops))
    alpha = network(x.flatten(0, 1), edges)[1].detach()
    dense = torch.zeros(BATCH, ATOMS, ATOMS, 2).double()
    dense[edges[1] // ATOMS, edges[1] % ATOMS, edges[0] % ATOMS] = alpha
    assert found.weights == pytest.approx(dense.mean(0).permute(2, 0, 1).numpy(), rel=1e-6)


@pytest.mark.parametrize("kind", ["module", "function"])
def test_dot_product_attention(kind):
    torch.manual_seed(4)
    layer = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    x = normal(BATCH, ATOMS, 6)
    if kind == "module":
        weights = layer(x, x, x, average_attn_weights=False)[1]
        run = lambda x: layer(x, x, x, need_weights=False)  # noqa: E731
    else:
        weights = (x @ x.mT / 6**0.5).softmax(-1)[:, None]
        run = lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]  # noqa: E731
    (found,) = attention.attention(View(layer, x, run, GRAPH.hops))
    assert found.weights == pytest.approx(weights.mean(0).detach().numpy(), rel=1e-5)


def test_uniform_heads_are_told_and_mixed_ones_are_not():
    view = view_of(nn.Identity(), normal(BATCH, ATOMS, 3), GRAPH.hops)

    def layer(*entropy):
        return view, attention.Attention("layer", np.array(entropy), np.zeros(2), None)

    assert [f.level for f in attention.findings([layer(0.999, 1.0), layer(0.5, 1.0)])] == ["warning"]
    assert "copies" in attention.findings([layer(0.001, 0.0)])[0].message
    assert attention.findings([layer(0.5, 1.0)])[0].level == "ok"
    assert attention.findings([]) == []


# ----------------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize("kind", [smoothing.SmoothingProbe, squashing.SquashingProbe, attention.AttentionProbe])
def test_probes_of_graphs_keep_the_law_on_any_network(kind):
    torch.manual_seed(0)
    network = GraphAttention(features=3, static=STATIC, out=5, channels=8, heads=2).double()

    def views(moment):
        return [View(moment.model, moment.batch, lambda f: moment.model(f, GRAPH), GRAPH.hops, name="net")]

    check_probe(kind(views), model=network, batch=normal(BATCH, ATOMS, 3))


def test_attention_is_recorded_on_the_atoms_of_the_whole_molecule():
    scores = torch.zeros(2, 3, 3).double()
    view = view_of(Heads(scores), normal(BATCH, 3, 4), path(3), atoms=(5, 0, 2), total=6)
    kind, arrays = attention.AttentionProbe(lambda moment: [view])(Moment(1, view.network))["attention"]
    assert kind == "map"
    assert arrays["heads"].shape == (2, 6, 6)
    seen = np.ix_([0, 2, 5], [0, 2, 5])
    assert arrays["heads"][0][seen] == pytest.approx(1 / 3)
    assert arrays["heads"].sum() == pytest.approx(6)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"expected \[batch, atoms, channels\]"):
        view_of(nn.Identity(), normal(4, 3), path(3))
    with pytest.raises(ValueError, match="expected neighbours"):
        smoothing.smoothing(view_of(nn.Identity(), normal(2, 3, 4), 2 * path(3)))
