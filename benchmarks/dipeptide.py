"""Any number of frames of alanine dipeptide, made in no time: what a page is shown when only their number matters."""

from __future__ import annotations

import numpy as np

from molifold import Ensemble, Molecule, analysis
from molifold.data import example

#: Basins over (phi, psi): middle and spread in degrees, share.
BASINS = np.array([(-150, 155, 18, 0.3), (-70, 145, 14, 0.35), (-70, -20, 15, 0.3), (55, 45, 10, 0.05)])


def turned(x: np.ndarray, molecule: Molecule, atoms: tuple[int, ...], by: np.ndarray) -> None:
    """Turn a torsion of every frame by an angle of its own, in place (Rodrigues' formula)."""
    _, b, c, _ = atoms
    moving = {c}
    while grown := {n for a in moving for n in molecule.neighbors[a]} - moving - {b}:
        moving |= grown
    rows = sorted(moving)
    k = x[:, [c]] - x[:, [b]]
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v, cosine, sine = x[:, rows] - x[:, [b]], np.cos(by)[:, None, None], np.sin(by)[:, None, None]
    x[:, rows] = x[:, [b]] + v * cosine + np.cross(k, v) * sine + k * (k * v).sum(-1, keepdims=True) * (1 - cosine)


def draws(n: int, *, seed: int) -> Ensemble:
    """Alanine dipeptide in its usual basins, with noise on every atom and weights."""
    system, rng = example("alanine-dipeptide"), np.random.default_rng(seed)
    molecule, x = system.molecule, np.repeat(system.x, n, axis=0)
    start = analysis.measure(Ensemble(molecule, system.x), names=["phi", "psi"]).columns
    basin = BASINS[rng.choice(len(BASINS), n, p=BASINS[:, 3])]
    for axis, name in enumerate(("phi", "psi")):
        to = np.deg2rad(basin[:, axis] + basin[:, 2] * rng.normal(size=n))
        turned(x, molecule, analysis.named_torsions(molecule)[name], to - start[name][0])
    log_p = -rng.gamma(20, size=n)
    noisy = (x + 0.003 * rng.normal(size=x.shape)).astype(np.float32)
    return Ensemble(molecule, noisy, log_p=log_p, log_q=log_p + 0.5 * rng.normal(size=n))
