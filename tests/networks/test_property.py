"""Property models of every network: exact forces, invariances, layouts, batches of molecules, precision, files."""

import pytest
import torch

from molifold import Molecule
from molifold.networks import Graph, Property, molecular_graph
from molifold.networks.schnet import SchNet

ETHANOL = molecular_graph(Molecule.from_smiles("CCO"))
METHANE = molecular_graph(Molecule.from_smiles("C"))
MODELS = {
    "SchNet": ("SchNet", {"channels": 8, "layers": 2, "cutoff": 0.3}, "sum"),
    "SchNet, mean": ("SchNet", {"channels": 8, "layers": 1, "reach": 0.5}, "mean"),
    "MEGNet": ("MEGNet", {"channels": 4, "blocks": 2}, "sum"),
    "MEGNet, set2set": ("MEGNet", {"channels": 4, "blocks": 2}, "set2set"),
    "MEGNet, cutoff": ("MEGNet", {"channels": 4, "blocks": 2, "cutoff": 0.3}, "set2set"),
}


def build(name, **options):
    torch.manual_seed(0)
    network, settings, readout = MODELS[name]
    model = Property(network, options=settings, readout=readout, embedding=8, unit="kcal/mol", **options)
    model.scale.fill_(3.0)
    return model.double().eval()


def conformations(n, atoms):
    return 0.12 * torch.randn(n, atoms, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
def test_forces_are_the_exact_negative_gradient(name):
    model, x = build(name), conformations(1, 9)
    _, forces = model.with_forces(x, ETHANOL)
    assert forces.abs().max() > 1e-4
    h, expected = 1e-5, torch.zeros_like(forces)
    for i in range(27):
        step = torch.zeros(27, dtype=x.dtype)
        step[i] = h
        step = step.view(1, 9, 3)
        difference = model(x + step, ETHANOL) - model(x - step, ETHANOL)
        expected.view(-1)[i] = -difference.item() / (2 * h)
    assert (forces - expected).abs().max() < 1e-6 * forces.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_invariances_and_what_turns_along(name):
    model, x = build(name), conformations(3, 9)
    y, forces = model.with_forces(x, ETHANOL)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=x.dtype, generator=torch.Generator().manual_seed(1)))[0]
    z, turned = model.with_forces(x @ turn.T + 1.0, ETHANOL)
    assert torch.allclose(z, y, atol=1e-10)
    assert torch.allclose(turned, forces @ turn.T, atol=1e-8)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(model(x[:, order], ETHANOL.subgraph(order.tolist())), y, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_molecules_of_one_batch_do_not_see_each_other(name):
    model, x = build(name), conformations(2, 9)
    y, forces = model.with_forces(x, Graph.stack([METHANE, ETHANOL]))
    assert torch.allclose(y[:1], model(x[:1, :5], METHANE), atol=1e-10)
    assert torch.allclose(y[1:], model(x[1:], ETHANOL), atol=1e-10)
    assert not forces[0, 5:].any()


def test_smooth_across_the_cutoff():
    """One atom passes the cutoff: y and the force do not jump, whatever the step (a jump would not shrink with it)."""
    model, x = build("SchNet"), conformations(1, 9)
    x[:, 8] = torch.tensor([5.0, 0.0, 0.0])
    edge = x[0, 0] + torch.tensor([0.3, 0, 0], dtype=x.dtype)

    def jump(step):
        near, far = x.clone(), x.clone()
        near[0, 8, :], far[0, 8, :] = edge - step, edge + step
        (a, f), (b, g) = model.with_forces(near, ETHANOL), model.with_forces(far, ETHANOL)
        return float((a - b).abs()), float((f - g).abs().max())

    (y1, f1), (y2, f2) = jump(1e-3), jump(1e-5)
    assert y2 < 0.02 * y1
    assert f2 < 0.02 * f1


def test_many_atoms_take_neighbour_lists_with_the_same_result(monkeypatch):
    model, x = build("SchNet"), conformations(2, 9)
    y, forces = model.with_forces(x, ETHANOL)
    monkeypatch.setattr("molifold.networks.property.DENSE_ATOMS", 4)
    z, listed = model.with_forces(x, ETHANOL)
    assert torch.allclose(z, y, atol=1e-10)
    assert torch.allclose(listed, forces, atol=1e-9)


def test_reference_is_fitted_per_element_in_double_precision():
    graph = Graph.stack([METHANE, ETHANOL])
    model = build("SchNet").float()
    true = torch.tensor([4 * -300.0 - 24_000.0, 6 * -300.0 - 2 * 24_000.0 - 47_000.0], dtype=torch.float64)
    model.standardize(true, graph, scale=1.0)
    assert model.per_atom.dtype == torch.float64
    assert torch.allclose(model.reference(graph), true, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_says_the_same(name, tmp_path):
    model, x = build(name), conformations(2, 9)
    model.standardize(torch.tensor([-9e4, -9.1e4], dtype=torch.float64), ETHANOL)
    model.save(tmp_path)
    read = Property.load(tmp_path)
    assert torch.equal(read(x, ETHANOL), model(x, ETHANOL))
    assert torch.equal(read.reference(ETHANOL), model.reference(ETHANOL))
    assert "Embedding" in repr(read)
    assert read.unit == "kcal/mol"


def test_a_network_of_ones_own_must_be_passed_again(tmp_path):
    def mine(**options):
        return SchNet(channels=4, layers=1, reach=0.3, **options)

    model, x = Property(mine, options={}, embedding=4), conformations(2, 9).float()
    model.save(tmp_path)
    with pytest.raises(ValueError, match="pass the function"):
        Property.load(tmp_path)
    assert torch.equal(Property.load(tmp_path, network=mine)(x, ETHANOL), model(x, ETHANOL))


def test_it_learns_from_forces_through_second_derivatives():
    model, x = build("SchNet"), conformations(4, 9)
    _, forces = model.with_forces(x, ETHANOL, create_graph=True)
    forces.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.embedding.weight.grad.abs().max() > 0


@pytest.mark.parametrize("wrong", [{"network": "Schnet"}, {"network": "SchNet", "readout": "max"}])
def test_a_wrong_name_says_which_are_right(wrong):
    network = wrong.pop("network")
    with pytest.raises(ValueError, match="expected"):
        Property(network, options={}, **wrong)
