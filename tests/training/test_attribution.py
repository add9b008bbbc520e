"""Attributions of maps whose answer is known: in closed form, and by finite differences."""

import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.data import example
from molifold.flows import latent_map
from molifold.flows.conditioners import KINDS
from molifold.training.attribution import attribute

SYSTEM = example("alanine-dipeptide")
X = SYSTEM.x + 0.005 * np.random.default_rng(0).normal(size=(800, SYSTEM.molecule.n_atoms, 3))
FRAMES = Ensemble(SYSTEM.molecule, X)
SEEN, TURNED = {4: 1.0, 10: -0.4, 14: 2.0}, 16


class FewAtoms(torch.nn.Module):
    """A network that passes on a fixed multiple of some atoms' bonds, angles and phases, linearly, and nothing else."""

    def __init__(self, features, static, channels):
        super().__init__()
        weight = torch.linspace(-1, 1, features * channels).reshape(features, channels)
        weight[len(KINDS) - 1 :] = 0  # the waves of rotations
        self.weight = torch.nn.Parameter(weight)

    def forward(self, h, graph):
        share = torch.zeros(h.shape[1], 1).to(h)
        share[list(SEEN), 0] = torch.tensor(list(SEEN.values())).to(h)
        return (h @ self.weight) * share


class OneTorsion(FewAtoms):
    """A network that passes on the torsion about the bond before one atom, and nothing else."""

    def forward(self, h, graph):
        return h[..., len(KINDS) - 1 : len(KINDS)] * (torch.arange(h.shape[1]) == TURNED)[:, None].to(h)


def made(**options):
    torch.manual_seed(0)
    small = {"couplings": 2, "rotation_couplings": 2, "channels": 8}
    return latent_map(SYSTEM.molecule, FRAMES, **{**small, **options}).double().eval()


@pytest.fixture(scope="module")
def flow():
    """One channel: a latent is a function of s alone, a linear function of bonds, angles and phases."""
    return made(encoder=FewAtoms, encoder_channels=1)


def test_integrated_gradients_of_a_function_of_one_sum(flow):
    """Of f(s), s linear in the coordinates, an atom's part is its part of s(x) - s(baseline), whatever f is.

    Standardising mixes coordinates with those before them: more atoms than the network sees have parts.
    """
    found = attribute(flow, FRAMES[:20], method="integrated")
    internal, scale = flow.encoder.frame.steps
    circle = internal.codomain.has("circle")
    with torch.no_grad():
        y = internal(torch.from_numpy(X[:20]))[0]
    gate = flow.encoder.gate(flow.encoder._static)

    def s(y):
        return (flow.encoder.network(flow.encoder.spread(scale(y[None])[0]), None) * gate).sum()

    slope = torch.autograd.functional.jacobian(s, y[0]).numpy()
    y = y.numpy()
    mean = np.where(circle, np.angle(np.exp(1j * y).mean(0)), y.mean(0))
    away = np.where(circle, np.angle(np.exp(1j * (y - mean))), y - mean)
    parts = np.zeros((20, SYSTEM.molecule.n_atoms))
    np.add.at(parts.T, list(internal.atoms), (slope * away).T)
    expected = np.abs(parts) / np.abs(parts).sum(axis=1, keepdims=True)
    assert len(SEEN) < (expected.mean(0) > 0).sum() < SYSTEM.molecule.n_atoms
    assert np.allclose(found.value, expected.mean(0), atol=1e-8)
    assert np.allclose(found.error, expected.std(0, ddof=1) / np.sqrt(20), atol=1e-8)


def test_a_torsion_belongs_to_its_atom_alone():
    found = attribute(made(encoder=OneTorsion, encoder_channels=1), FRAMES[:20], method="integrated")
    assert found.value[TURNED] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("encoder", [FewAtoms, "graph"])
def test_gradients_are_those_of_finite_differences(encoder):
    flow, step = made(encoder=encoder, encoder_channels=4), 1e-6
    found = attribute(flow, FRAMES[:3], latent=1, method="gradient")
    shares = np.zeros((3, SYSTEM.molecule.n_atoms))
    for atom in range(SYSTEM.molecule.n_atoms):
        move = np.zeros((3, *X.shape[1:]))
        move[range(3), atom, range(3)] = step
        ahead, behind = (
            flow.encode(Ensemble(SYSTEM.molecule, (X[:3, None] + sign * move).reshape(9, -1, 3))).z[:, 1]
            for sign in (1, -1)
        )
        shares[:, atom] = np.linalg.norm((ahead - behind).reshape(3, 3) / (2 * step), axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    assert np.allclose(found.value, shares.mean(0), atol=1e-6)


def test_mistakes_are_named(flow):
    with pytest.raises(ValueError, match="a latent below 2"):
        attribute(flow, FRAMES[:5], latent=2)
