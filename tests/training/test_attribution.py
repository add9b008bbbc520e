"""Attributions of a map whose answer is known: only one atom's coordinates matter."""

import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.data import example
from molifold.flows import latent_map
from molifold.training.attribution import attribute

SYSTEM = example("alanine-dipeptide")
X = SYSTEM.x + 0.005 * np.random.default_rng(0).normal(size=(800, SYSTEM.molecule.n_atoms, 3))
FRAMES = Ensemble(SYSTEM.molecule, X)
CHOSEN = 10


class OneAtom(torch.nn.Module):
    """A network that passes on one atom's input, linearly, and nothing else."""

    def __init__(self, features, static, channels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, features * channels).reshape(features, channels))

    def forward(self, h, graph):
        kept = torch.zeros(h.shape[1], 1).to(h)
        kept[CHOSEN] = 1
        return (h @ self.weight) * kept


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    return latent_map(SYSTEM.molecule, FRAMES, encoder=OneAtom, couplings=2, rotation_couplings=2, channels=8).eval()


def test_all_goes_to_the_atom_that_matters(flow):
    found = attribute(flow, FRAMES[:20], method="integrated")
    assert found.value.argmax() == CHOSEN
    assert found.value[CHOSEN] == pytest.approx(1, abs=1e-4)


def test_gradients_are_largest_at_the_atom_that_matters(flow):
    """Its coordinates depend on other positions too, but most on its own."""
    found = attribute(flow, FRAMES[:20], method="gradient")
    assert found.value.sum() == pytest.approx(1, abs=1e-5)
    assert found.value.argmax() == CHOSEN


def test_mistakes_are_named(flow):
    with pytest.raises(ValueError, match="a latent below 2"):
        attribute(flow, FRAMES[:5], latent=2)
