"""A latent map of water with an energy whose partition function is known by quadrature."""

import numpy as np
import torch

from molifold import Ensemble, Molecule
from molifold.flows import latent_map

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
LENGTH, STIFF = 0.1, 4000.0  # nm, kT/nm^2: a spread of 0.016 nm
SMALL = {"channels": 8, "encoder_channels": 8, "hidden": (16,), "latent_hidden": (8,), "couplings": 2}


def angle_energy(theta):
    """A double well in the angle, barrier 2 kT."""
    return 2 * ((theta - 1.8) ** 2 / 0.09 - 1) ** 2


def energy(x):
    """u(x), kT."""
    r1, r2 = x[:, 0] - x[:, 1], x[:, 2] - x[:, 1]
    theta = torch.atan2(torch.linalg.cross(r1, r2).norm(dim=1), (r1 * r2).sum(1))
    stretch = (r1.norm(dim=1) - LENGTH) ** 2 + (r2.norm(dim=1) - LENGTH) ** 2
    return 0.5 * STIFF * stretch + angle_energy(theta)


def log_partition():
    """log of the integral of exp(-u) r1^2 r2^2 sin(theta) dr1 dr2 dtheta."""
    r = np.linspace(1e-6, 0.3, 20001)
    theta = np.linspace(1e-6, np.pi - 1e-6, 20001)
    radial = np.trapezoid(r**2 * np.exp(-0.5 * STIFF * (r - LENGTH) ** 2), r)
    angular = np.trapezoid(np.sin(theta) * np.exp(-angle_energy(theta)), theta)
    return 2 * np.log(radial) + np.log(angular)


def frames(n, *, seed=0):
    """Water molecules near the target, rotated and moved at random; ``hop`` decides the well of the angle."""
    rng = np.random.default_rng(seed)
    r = LENGTH + rng.normal(size=(n, 2)) / np.sqrt(STIFF)
    theta = 1.8 + 0.3 * rng.choice([-1, 1], size=n) + 0.08 * rng.normal(size=n)
    return at(r, theta)


def at(r, theta):
    """Conformations with these bonds and angle."""
    x = np.zeros((len(r), 3, 3))
    x[:, 0, 0] = r[:, 0]
    x[:, 2] = r[:, 1:] * np.stack([np.cos(theta), np.sin(theta), 0 * theta], axis=1)
    return x


def water_map(*, seed=0, noise=0.3, **options):
    """A map of water with random weights, in double precision."""
    torch.manual_seed(seed)
    flow = latent_map(WATER, Ensemble(WATER, frames(2000)), **{**SMALL, **options}).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * noise * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        # A width of about 1: with a posterior that does not fit, narrow ones give weights of enormous variance.
        flow.encoder.readout[-1].bias[2 * flow.latents :] += 2.35
    return flow.eval()
