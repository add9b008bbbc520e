"""The latent map's joint density is exact, its weights unbiased, its inputs invariant."""

import numpy as np
import pytest
import torch
from toy_map import WATER, at, energy, frames, log_partition, water_map

from molifold import Ensemble
from molifold.analysis import measure
from molifold.data import example
from molifold.flows import latent_map
from molifold.flows.latent_encoder import Posterior
from molifold.interfaces import Density
from molifold.transforms import InternalCoordinates

KINDS = [("real",), ("circle",), ("real", "circle"), ("real", "real", "real")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dipeptide():
    """Shaken alanine dipeptide [800, 22, 3]."""
    system = example("alanine-dipeptide")
    return system.x + 0.005 * np.random.default_rng(0).normal(size=(800, system.molecule.n_atoms, 3))


@pytest.mark.parametrize("latents", KINDS)
def test_draws_know_their_own_joint_density(latents):
    flow = water_map(latents=latents)
    with torch.no_grad():
        x, z, log_joint = flow.sample_joint(100, generator=seeded())
        assert z.shape == (100, len(latents))
        assert torch.allclose(flow.log_joint(x, z), log_joint, atol=1e-8)


@pytest.mark.parametrize(("network", "particles"), [("graph", 1), ("attention", 1), ("mlp", 1), ("mlp", 4)])
def test_weights_give_the_partition_function(network, particles):
    """E[w] = Z, known by quadrature, whatever the encoder; several particles vary no more than one."""
    flow = water_map(latents=("real", "circle"), network=network, particles=particles, noise=0.1)
    with torch.no_grad():
        x, log_q = flow.sample(20_000, generator=seeded())
        w = (-energy(x) - log_q - log_partition()).exp().numpy()
    error = w.std() / np.sqrt(len(w))
    assert error < 0.05
    assert abs(w.mean() - 1) < 4 * error


def test_more_particles_tighten_the_bound():
    """Burda et al.: the bound never falls with the number of particles, and its limit is log p(x)."""
    x = torch.from_numpy(frames(60, seed=1))
    with torch.no_grad():
        bounds = [water_map(latents=("real",), particles=k).log_prob(x).mean() for k in (1, 10, 200)]
    assert bounds[0] < bounds[1] < bounds[2] + 1e-3


def test_the_marginal_by_quadrature():
    """log p(x) of one latent by a grid over z, against many particles."""
    flow = water_map(latents=("real",), particles=300)
    x = torch.from_numpy(frames(5, seed=2))
    z = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        exact = torch.stack([torch.logsumexp(flow.log_joint(one.expand(len(z), -1, -1), z), 0) for one in x]) + np.log(
            float(z[1] - z[0])
        )
        assert torch.allclose(flow.log_prob(x), exact, atol=0.1)


def test_what_is_a_density():
    flow = water_map(latents=("real", "circle"))
    given = flow.generator.at(torch.tensor([0.3, -1.0], dtype=torch.float64))
    for density in (flow, flow.prior, given):
        assert isinstance(density, Density)
    for density in (flow.prior, given):
        with torch.no_grad():
            x, log_q = density.sample(50, generator=seeded())
            assert torch.allclose(density.log_prob(x), log_q, atol=1e-8)


@pytest.mark.parametrize("circle", [False, True])
def test_posteriors_are_normalised(circle):
    mean = torch.tensor([[1.2]], dtype=torch.float64)
    edges = torch.linspace(-np.pi, np.pi, 4001) if circle else torch.linspace(-15, 15, 40001)
    z = edges.double()[:, None]
    for sigma in (0.05, 0.5, 2.0):
        q = Posterior(mean, torch.full_like(mean, sigma), torch.tensor([circle]))
        total = torch.trapezoid(q.log_prob(z)[:, 0].exp(), z[:, 0])
        assert abs(total - 1) < 1e-6
        draws = Posterior(mean.expand(20000, 1), q.sigma.expand(20000, 1), q.circle).sample(generator=seeded())
        phase = torch.exp(1j * draws).mean()
        assert abs(phase - np.exp(1.2j - sigma**2 / 2)) < 0.02


def test_the_encoder_sees_shapes_only():
    """Moved, rotated and mirrored: the first two change nothing, the last does (chirality is seen)."""
    molecule, x = example("alanine-dipeptide").molecule, dipeptide()
    torch.manual_seed(1)
    flow = latent_map(molecule, Ensemble(molecule, x)).double()
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    here = torch.from_numpy(x[:20])
    moved = torch.from_numpy(x[:20] @ q + np.array([1.0, -2.0, 3.0]))
    with torch.no_grad():
        a, b, c = (flow.encoder(v).mean for v in (here, moved, here * torch.tensor([1, 1, -1.0])))
    assert torch.allclose(a, b, atol=1e-8)
    assert (a - c).abs().max() > 1e-3


def test_encode_and_decode():
    flow = water_map(latents=("real", "circle"))
    there = flow.encode(Ensemble(WATER, frames(10)))
    assert there.z.shape == there.sigma.shape == (10, 2)
    assert list(there.columns()) == ["z1", "z2"]
    drawn = flow.decode(there.z[:3], each=5, seed=1)
    assert len(drawn) == 15
    assert drawn.columns["point"].tolist() == sorted([0, 1, 2] * 5)
    z = torch.from_numpy(np.stack([drawn.columns["z1"], drawn.columns["z2"]], axis=1))
    with torch.no_grad():
        log_q = flow.generator.log_prob(torch.from_numpy(drawn.x), z)
    assert np.allclose(log_q, drawn.log_q, atol=1e-6)
    with pytest.raises(ValueError, match="expected \\[points, 2\\]"):
        flow.decode(np.zeros((3, 3)))


def test_a_path_joins_its_ends_and_avoids_what_is_improbable():
    """A prior with two wells: the string keeps to the ridge of the density between them, evenly spaced."""
    from molifold.flows.latent_path import relaxed_string

    class Horseshoe(torch.nn.Module):
        """Density along the half circle of radius 1 around the origin."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.base = type("Base", (), {"space": water_map(latents=("real", "real")).encoder.latent})

        def log_prob(self, z):
            return -50 * (z.norm(dim=1) - 1) ** 2 - 0.1 * (z[:, 1] - 1) ** 2

    start, end = np.array([-1.0, 0.05]), np.array([1.0, 0.05])
    z = relaxed_string(Horseshoe(), start, end, images=15)
    assert np.allclose(z[0], start)
    assert np.allclose(z[-1], end)
    assert np.abs(np.linalg.norm(z, axis=1) - 1).max() < 0.1
    gaps = np.linalg.norm(np.diff(z, axis=0), axis=1)
    assert gaps.max() < 1.1 * gaps.min()


def test_a_path_of_conformations():
    flow = water_map(latents=("real",), noise=0.1)
    r = np.full((1, 2), LENGTH_OF_WATER)
    a, b = at(r, np.array([1.5]))[0], at(r, np.array([2.1]))[0]
    path = flow.path(a, b, energy=energy, images=7, candidates=16)
    assert len(path.ensemble) == len(path.z) == 7
    assert np.allclose(path.ensemble.x[0], a, atol=1e-6)
    lengths = [np.linalg.norm(path.ensemble.x[-1, i] - path.ensemble.x[-1, 1]) for i in (0, 2)]
    assert np.allclose(lengths, LENGTH_OF_WATER, atol=1e-6)
    assert np.isfinite(path.energy).all()
    assert path.barrier >= 0


def test_a_path_is_continuous():
    """An untrained map knows nothing of torsions: independent draws would turn at random from image to image.

    The ends differ by 3 radians in psi, the images by no more than a part of that, as another function measures it.
    """
    molecule = example("alanine-dipeptide").molecule
    x = dipeptide()
    internal = InternalCoordinates(molecule)
    y = internal(torch.from_numpy(x))[0]
    y[1, internal.codomain.slice("rotations")][internal.atoms[internal.codomain.slice("rotations")].index(16)] += 3.0
    a, b = internal.inverse(y[:2])[0].numpy()
    torch.manual_seed(2)
    flow = latent_map(molecule, Ensemble(molecule, x), couplings=2, rotation_couplings=2, channels=8).double()
    with torch.no_grad():
        flow.encoder.readout[-1].weight.mul_(20)  # an untrained map hardly varies
    path = flow.path(a, b, images=24, candidates=4)
    assert np.allclose(path.ensemble.x[0], a, atol=1e-5)
    known = measure(path.ensemble, names=["phi", "psi"]).columns
    turns = np.abs(np.angle(np.exp(1j * np.diff([known["phi"], known["psi"]], axis=1))))
    assert turns[1].sum() > 2.9
    assert np.all(turns <= path.turns + 0.02)
    assert path.turns.max() < np.radians(45)


def test_ways_between_noises_keep_the_variance():
    from molifold.flows.latent_path import _bent

    draws = torch.randn(3, 40_000, generator=seeded(), dtype=torch.float64)
    ways = _bent(
        draws[0],
        draws[1],
        draws[2].expand(3, -1),
        t=torch.linspace(0, 1, 5).double(),
        circle=torch.zeros(40_000, dtype=torch.bool),
    )
    assert torch.equal(ways[0, 1], draws[0])
    assert torch.allclose(ways[-1, 2], draws[1])
    assert (ways[:, 1:].square().mean(-1) - 1).abs().max() < 0.03


@pytest.mark.parametrize("jump", [3, 40, 77])
def test_images_are_spaced_by_what_turns(jump):
    """One sharp turn and a slow one: half of the images follow the string, the other half the turns; none twice."""
    from molifold.flows.latent_path import _spaced

    t, turn = np.linspace(0, 1, 81), np.where(np.arange(81) > jump, 1.0, 0.0) + np.linspace(0, 1, 81)
    told = _spaced(t, turn[:, None], images=11)
    assert told[0] == 0
    assert told[-1] == 80
    assert {jump, jump + 1} <= set(told)
    assert np.all(np.diff(told) > 0)
    rest = np.delete(np.diff(told), np.flatnonzero(told == jump))
    assert rest.max() <= 12  # 3/4 of the way is left to ten intervals: 80 * 4 / 30, and rounding


LENGTH_OF_WATER = 0.1


@pytest.mark.parametrize("encoder", ["graph", "attention", "gat", "schnet", "megnet"])
def test_every_named_encoder_reads_the_conformation_into_its_latents(encoder):
    x = torch.from_numpy(frames(5)).requires_grad_()
    mean = water_map(latents=("real",), encoder=encoder).encoder(x).mean
    (gradient,) = torch.autograd.grad(mean.sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax((1, 2)) > 1e-6).all()


def test_a_network_of_no_name_is_refused():
    with pytest.raises(ValueError, match="network: got 'grahp', expected 'graph', 'attention', 'mlp' or a function"):
        water_map(network="grahp")
    with pytest.raises(ValueError, match="encoder: got 'mlp', expected 'graph', 'attention', 'gat', 'schnet', 'meg"):
        water_map(encoder="mlp")
