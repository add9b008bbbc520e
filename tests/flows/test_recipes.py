"""The recipe on molecules of every shape, and its weights on another molecule."""

import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.data import example
from molifold.data.structure import structure
from molifold.flows.masks import rotation_masks, stiff_masks
from molifold.flows.recipes import graph_spline_coupling
from molifold.transforms import Coupling, InternalCoordinates

SMALL = {"channels": 8, "heads": 2, "couplings": 4, "rotation_couplings": 2, "hidden": (16,)}


def named(name):
    system = example(name)
    return system.molecule, system.x


SYSTEMS = {
    "water": lambda: structure(smiles="O"),
    "methane": lambda: structure(smiles="C"),
    "hydrogen peroxide": lambda: structure(smiles="OO"),
    "ethanol": lambda: structure(smiles="CCO"),
    "cyclohexane": lambda: structure(smiles="C1CCCCC1"),
    "benzene": lambda: structure(smiles="c1ccccc1"),
    "butane": lambda: named("butane"),
    "alanine dipeptide": lambda: named("alanine-dipeptide"),
    "Ace-A3-Nme": lambda: named("ace-a3-nme"),
}


def recipe(name, *, seed=0, **options):
    molecule, x = SYSTEMS[name]()
    rng = np.random.default_rng(0)
    frames = x + 0.004 * rng.normal(size=(40 * molecule.n_atoms, molecule.n_atoms, 3))
    torch.manual_seed(seed)
    return graph_spline_coupling(molecule, Ensemble(molecule, frames), **{**SMALL, **options})


@pytest.mark.parametrize("network", ["graph", "mlp"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_builds_samples_and_starts_near_the_reference(name, network):
    flow = recipe(name, network=network)
    molecule, x = SYSTEMS[name]()
    with torch.no_grad():
        samples, log_q = flow.sample(200, generator=torch.Generator().manual_seed(0))
        log_p = flow.log_prob(samples)
    assert samples.shape == (200, molecule.n_atoms, 3)
    assert samples.isfinite().all()
    # The stiff coordinates of float32 samples are known to 1e-5 of their spread or so.
    assert torch.allclose(log_p, log_q, atol=0.02, rtol=1e-4)
    # Untrained, bonds already have the lengths of the reference, within what 0.004 nm of noise makes of them.
    # (The bond that closes a ring follows from the others and is left to training.)
    tree = flow.transform.steps[0].tree
    bonds = np.array([(a, tree.parent[a]) for a in tree.order])
    length = (samples[:, bonds[:, 0]] - samples[:, bonds[:, 1]]).norm(dim=-1).mean(0).numpy()
    expected = np.linalg.norm(x[0, bonds[:, 0]] - x[0, bonds[:, 1]], axis=-1)
    assert np.abs(length - expected).max() < 0.003


@pytest.mark.parametrize("network", ["graph", "attention", "gat", "schnet", "megnet", "mlp"])
def test_every_parameter_learns(network):
    flow = recipe("alanine dipeptide", network=network)
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x, _ = flow.sample(64, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(flow.log_prob(x.detach()).sum(), list(flow.parameters()), allow_unused=True)
    silent = [n for (n, _), g in zip(flow.named_parameters(), gradients, strict=True) if g is None]
    assert silent == []
    assert all(g.isfinite().all() for g in gradients)


def test_weights_of_the_graph_flow_load_into_another_molecule():
    """What differs between molecules are buffers; the parameters are shared over atoms and kinds of coordinates."""
    small, large = recipe("alanine dipeptide"), recipe("Ace-A3-Nme", seed=1)
    theirs = dict(small.named_parameters())
    missing, unexpected = large.load_state_dict(theirs, strict=False)
    assert unexpected == []
    assert set(missing) <= {name for name, _ in large.named_buffers()}
    assert all(torch.equal(p, theirs[name]) for name, p in large.named_parameters())
    x, log_q = large.sample(20, generator=torch.Generator().manual_seed(0))
    assert x.isfinite().all()
    assert log_q.isfinite().all()


def test_the_state_dict_carries_the_scale():
    first, second = recipe("ethanol"), recipe("ethanol", seed=3)
    second.transform.steps[1].whiten.mul_(2)
    second.load_state_dict(first.state_dict())
    draws = [f.sample(5, generator=torch.Generator().manual_seed(0))[0] for f in (first, second)]
    assert torch.equal(*draws)


def masks_of(name):
    flow = recipe(name, couplings=8, rotation_couplings=6)
    return flow, [s for s in flow.transform.steps if isinstance(s, Coupling)]


def test_masks_touch_every_coordinate_and_condition_every_rotation_on_every_other():
    molecule, _ = SYSTEMS["Ace-A3-Nme"]()
    internal = InternalCoordinates(molecule)
    blocks = [b.name for b in internal.codomain.blocks for _ in range(b.size)]
    kinds = np.array([{"bonds": 0, "angles": 1, "phases": 2, "rotations": 3}[b] for b in blocks])
    circle = kinds == 3
    stiff = np.array(stiff_masks(internal.tree, atoms=internal.atoms, kinds=kinds, circle=circle, count=8))
    assert not (stiff & circle).any()
    assert (stiff.sum(0)[~circle] == 4).all()
    rotations = np.array(rotation_masks(internal.tree, atoms=internal.atoms, circle=circle, count=14))
    assert (rotations.sum(0) == 7 * circle).all()
    met = np.zeros((len(circle), len(circle)), dtype=bool)
    for m in rotations:
        met |= m[:, None] & (circle & ~m)[None]
    assert (met | np.eye(len(circle), dtype=bool))[np.ix_(circle, circle)].all()


def test_rotations_do_not_see_stiff_coordinates():
    """A sample draws its torsions first: the density of the rotations is that of their couplings alone."""
    flow, couplings = masks_of("alanine dipeptide")
    supports = flow.transform.codomain.supports
    for c in couplings[8:]:
        given = c._order[: c._sizes["given"]]
        assert {supports[i] for i in given} == {"circle"}


def test_a_network_of_no_name_is_refused():
    with pytest.raises(
        ValueError, match="network: got 'gnn', expected 'graph', 'attention', 'gat', 'schnet', 'megnet'"
    ):
        recipe("water", network="gnn")


def test_a_reference_of_another_molecule_or_too_small_is_refused():
    molecule, x = SYSTEMS["ethanol"]()
    with pytest.raises(ValueError, match="expected at least 210 finite"):
        graph_spline_coupling(molecule, Ensemble(molecule, np.repeat(x, 5, axis=0)))
    other, y = SYSTEMS["butane"]()
    with pytest.raises(ValueError, match="expected"):
        graph_spline_coupling(molecule, Ensemble(other, np.repeat(y, 600, axis=0)))
