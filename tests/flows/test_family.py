"""One set of weights on several molecules, and statistics of coordinates by chemical environment."""

from functools import partial

import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.data import structure
from molifold.flows import Environments, Family, share_weights
from molifold.flows.recipes import graph_spline_coupling
from molifold.transforms import InternalCoordinates

SMALL = partial(graph_spline_coupling, channels=8, couplings=4, rotation_couplings=2)


def frames(smiles=None, *, n=700, seed=0, spread=0.004, **source):
    molecule, x = structure(smiles=smiles, **source)
    return Ensemble(molecule, x + spread * np.random.default_rng(seed).normal(size=(n, molecule.n_atoms, 3)))


@pytest.fixture(scope="module")
def alkanes():
    return [frames("CCCC"), frames("CCCCC", seed=1)]


def measured(ensemble):
    internal = InternalCoordinates(ensemble.molecule).double()
    return internal(torch.as_tensor(ensemble.x, dtype=torch.float64))[0].numpy(), internal


def test_environments_give_back_the_statistics_of_a_molecule_that_was_learnt():
    """Water: its two bonds are alike and share a mean; widths and the angle come back within sampling error."""
    water = frames("O", n=4000)
    drawn = Environments([water]).draw(water.molecule, water.x[:1], n=20_000, seed=0)
    (y, _), (z, _) = measured(water), measured(drawn)
    assert abs(z[:, :2].mean() - y[:, :2].mean()) < 5 * y[:, 0].std() / np.sqrt(4000)
    assert np.allclose(z.std(0), y.std(0), rtol=0.05)
    assert abs(z[:, 2].mean() - y[:, 2].mean()) < 5 * y[:, 2].std() / np.sqrt(4000)


def test_environments_keep_linear_correlations_between_neighbours():
    """Reference: the correlations of the frames themselves; in water every pair of coordinates shares two atoms."""
    water = frames("O", n=4000)
    water.x[:, 0] += 0.5 * (water.x[:, 1] - water.x[:1, 1])  # the oxygen follows one of its hydrogens
    drawn = Environments([water]).draw(water.molecule, water.x[:1], n=20_000, seed=0)
    (y, _), (z, _) = measured(water), measured(drawn)
    expected, found = (np.corrcoef(v, rowvar=False) for v in (y, z))
    off = ~np.eye(len(expected), dtype=bool)
    assert np.abs(expected[off]).max() > 0.3
    assert np.abs(found - expected).max() < 0.1


def test_a_longer_chain_is_known_within_fewer_bonds(alkanes):
    environments = Environments(alkanes)
    hexane, x = structure(smiles="CCCCCC")
    same, longer = environments.radii(alkanes[1].molecule, alkanes[1].x[:1]), environments.radii(hexane, x)
    assert (same == 6).all()
    assert longer.min() < 2 < longer.max()


def test_the_mirror_image_of_an_amino_acid_is_unknown():
    alanine = frames(sequence="A", caps=True)
    environments = Environments([alanine])
    with pytest.raises(ValueError, match="no coordinate like the phase of atom"):
        environments.draw(alanine.molecule, alanine.x[:1] * [1, 1, -1], n=10, seed=0)


def test_an_unknown_element_is_named(alkanes):
    ethanol, x = structure(smiles="CCO")
    with pytest.raises(ValueError, match=r"no coordinate like the bond of atom .* learn from a molecule that has one"):
        Environments(alkanes).draw(ethanol, x, n=10, seed=0)


def test_a_family_has_one_set_of_weights(alkanes):
    family = Family(alkanes, build=SMALL)
    first, second = (list(f.parameters()) for f in family.flows)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert len(list(family.parameters())) == len(first)
    hexane, x = structure(smiles="CCCCCC")
    flow = family.on(hexane, x)
    for p in family.parameters():
        torch.nn.init.normal_(p, std=0.05)
    assert all(a is b for a, b in zip(flow.parameters(), first, strict=True))
    samples, log_q = flow.sample(50, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (50, 20, 3)
    assert torch.allclose(flow.log_prob(samples), log_q, atol=0.02, rtol=1e-4)


def test_an_untrained_family_is_its_standardisation(alkanes):
    """Heads start at zero: the couplings do nothing, whatever molecule they are on."""
    hexane, x = structure(smiles="CCCCCC")
    flow = Family(alkanes, build=SMALL).on(hexane, x)
    z = flow.base.sample(5, generator=torch.Generator().manual_seed(0))
    for coupling in flow.transform.steps[2:]:
        z_after, log_det = coupling(z)
        assert torch.allclose(z_after, z, atol=1e-5)
        assert torch.allclose(log_det, torch.zeros(5), atol=1e-4)


def test_weights_of_single_coordinates_cannot_be_shared(alkanes):
    with pytest.raises(ValueError, match="MLPConditioner, whose weights belong to single coordinates"):
        Family(alkanes, build=partial(graph_spline_coupling, network="mlp"))


def test_flows_with_other_options_do_not_share(alkanes):
    a, b = (partial(SMALL, **o)(alkanes[0].molecule, alkanes[0]) for o in ({}, {"layers": 1}))
    with pytest.raises(ValueError, match="build both with the same options"):
        share_weights(a, b)
