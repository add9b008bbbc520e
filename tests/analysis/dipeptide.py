"""Alanine dipeptide with a known distribution: three basins of von Mises angles, Gaussian noise of the atoms."""

from __future__ import annotations

from functools import cache

import numpy as np

from molifold import Ensemble, geometry
from molifold.analysis import named_torsions
from molifold.data import example

#: phi and psi (radians) and share of alphaR, beta and the left-handed basin.
BASINS = ((-1.2, -0.5, 0.45), (-1.8, 2.6, 0.45), (1.0, 0.8, 0.10))
KAPPA, OMEGA_KAPPA, NOISE = 12.0, 60.0, 0.003


@cache
def system():
    return example("alanine-dipeptide")


def frames(n, seed, *, shares=None, omega_kappa=OMEGA_KAPPA):
    """Coordinates, phi, psi and reduced energy of independent frames."""
    rng = np.random.default_rng(seed)
    shares = np.array([s for *_, s in BASINS] if shares is None else shares)
    basin = rng.choice(3, size=n, p=shares)
    phi, psi = (rng.vonmises(np.array([b[k] for b in BASINS])[basin], KAPPA) for k in (0, 1))
    x = np.repeat(np.asarray(system().x, dtype=np.float64), n, axis=0)
    x = turned(turned(x, "phi", phi), "psi", psi)
    x = turned(x, "omega_NME3", np.pi + rng.vonmises(0, omega_kappa, n))
    noise = rng.normal(size=x.shape)
    return x + NOISE * noise, phi, psi, 0.5 * (noise**2).sum((1, 2))


def turned(x, name, angle):
    """A torsion set to ``angle`` by turning one side of its middle bond."""
    molecule = system().molecule
    quadruple = named_torsions(molecule)[name]
    _, b, c, _ = quadruple
    side = {c}
    while new := {j for i in side for j in molecule.neighbors[i] if {i, j} != {b, c}} - side:
        side |= new
    moving = sorted(side)
    theta = angle - geometry.torsions(x, np.array([quadruple]))[:, 0]
    axis = x[:, c] - x[:, b]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    r = x[:, moving] - x[:, c, None]
    k, cos, sin = axis[:, None], np.cos(theta)[:, None, None], np.sin(theta)[:, None, None]
    out = x.copy()  # Rodrigues
    out[:, moving] = x[:, c, None] + r * cos + np.cross(k, r) * sin + k * (k * r).sum(-1, keepdims=True) * (1 - cos)
    return out


def reference(n=8000, seed=0, **options):
    """As from a simulation: eight trajectories with energies."""
    x, _, _, u = frames(n, seed, **options)
    return Ensemble(system().molecule, x, log_p=-u, columns={"trajectory": np.arange(n) * 8 // n})


def draws(n=4000, seed=1, **options):
    """As from a generator that is right about its own density: weights of one."""
    x, _, _, u = frames(n, seed, **options)
    return Ensemble(system().molecule, x, log_p=-u, log_q=-u)
