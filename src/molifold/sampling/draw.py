"""Independent draws from a flow, with everything that importance weights need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.store import Writer, load
from molifold.units import kT

if TYPE_CHECKING:
    from molifold.interfaces import Density, Energy
    from molifold.molecule import Molecule


def draw(
    flow: Density,
    n: int,
    *,
    molecule: Molecule,
    energy: Energy | None = None,
    seed: int,
    batch_size: int = 1024,
    device: str = "cpu",
    to: str | Path | None = None,
    progress: Callable[..., None] | None = None,
) -> Ensemble:
    """``n`` independent draws with ``log_q`` and, given an energy, ``log_p = -u(x)`` and the column ``energy``.

    Then ``ensemble.log_w = log_p - log_q`` are the log importance weights, up to a constant (Noe et al. 2019,
    arXiv:1812.01729). The same flow, seed, ``n`` and ``batch_size`` on the same machine give the same frames.

    A draw whose coordinates, density or energy is not a finite number stays in the ensemble with ``log_p = -inf``,
    so with weight zero: dropping it would change what was sampled. ``meta["invalid"]`` counts them.

    Args:
        flow: any density that can be sampled; x [batch, atoms, dimensions], nm.
        molecule: what the atoms are.
        energy: the target, in kT at its own temperature and computed at its own precision.
        seed: of the only random generator that is used.
        batch_size: draws per call; memory grows with it and not with ``n`` when ``to`` is given.
        device: where the flow is.
        to: write an ensemble store here as the draws come, and return it as memory maps.
        progress: called after every batch with the number of draws made, ``n``, and, given an energy, ``ess=`` the
            effective fraction so far.

    Raises:
        ValueError: if ``n`` or ``batch_size`` is not positive, or the flow draws another number of atoms.
        FileExistsError: if ``to`` exists.

    >>> from molifold.molecule import Molecule
    >>> class Gauss:
    ...     def log_prob(self, x):
    ...         return -0.5 * x.square().sum((1, 2))
    ...     def sample(self, n, *, generator=None):
    ...         x = torch.randn(n, 1, 3, generator=generator)
    ...         return x, self.log_prob(x)
    >>> draw(Gauss(), 100, molecule=Molecule(elements=("X",), name="particle"), seed=1)
    Ensemble('particle': 100 frames x 1 atoms; log_q)
    """
    for name, number in {"n": n, "batch_size": batch_size}.items():
        if number < 1:
            raise ValueError(f"{name}: got {number}, expected at least 1")
    meta: dict[str, Any] = {"source": "molifold.sampling.draw", "seed": seed, "batch_size": batch_size}
    if energy is not None:
        meta["temperature"] = float(energy.temperature)
    batches = _batches(
        flow, n, molecule, energy, torch.Generator(device=device).manual_seed(seed), batch_size, progress
    )
    if to is None:
        parts = list(batches)
        whole = {name: np.concatenate([arrays[name] for arrays, _ in parts]) for name in parts[0][0]}
        meta["invalid"] = sum(bad for _, bad in parts)
        x, log_p, log_q = whole.pop("x"), whole.pop("log_p", None), whole.pop("log_q")
        return Ensemble(molecule, x, log_p=log_p, log_q=log_q, columns=whole, meta=meta)
    columns = {} if energy is None else {"energy": np.float64}
    with Writer(to, molecule, columns=columns, meta=meta) as writer:
        invalid = 0
        for arrays, bad in batches:
            writer.append(**arrays)
            invalid += bad
        writer.annotate(invalid=invalid)
    return load(to)


def _batches(
    flow: Density,
    n: int,
    molecule: Molecule,
    energy: Energy | None,
    generator: torch.Generator,
    batch_size: int,
    progress: Callable[..., None] | None,
) -> Iterator[tuple[dict[str, ndarray], int]]:
    weights = _EffectiveFraction()
    for start in range(0, n, batch_size):
        with torch.no_grad():
            x, log_q = flow.sample(min(batch_size, n - start), generator=generator)
            _check_shape(x, molecule)
            u = None if energy is None else energy(x)
        arrays, invalid = _arrays(x, log_q, u, energy)
        yield arrays, invalid
        if progress is not None:
            figures = {} if energy is None else {"ess": weights.add(arrays["log_p"] - arrays["log_q"])}
            progress(min(start + batch_size, n), n, **figures)


def _check_shape(x: torch.Tensor, molecule: Molecule) -> None:
    expected = (molecule.n_atoms, molecule.dimensions)
    if tuple(x.shape[1:]) != expected:
        raise ValueError(
            f"flow: draws frames of shape {tuple(x.shape[1:])}, expected {expected} for {molecule!r}; "
            "pass the molecule that the flow was trained on"
        )


def _arrays(
    x: torch.Tensor, log_q: torch.Tensor, u: torch.Tensor | None, energy: Energy | None
) -> tuple[dict[str, ndarray], int]:
    """One batch as arrays, float64 but for x, and the number of draws that are not finite."""
    frames = x.cpu().numpy().astype(np.float32, copy=False)
    density = log_q.cpu().numpy().astype(np.float64)
    ok = np.isfinite(frames).all(axis=(1, 2)) & np.isfinite(density)
    if u is None or energy is None:
        return {"x": frames, "log_q": density}, int((~ok).sum())
    reduced = u.cpu().numpy().astype(np.float64)
    ok &= np.isfinite(reduced)
    return {
        "x": frames,
        "log_p": np.where(ok, -reduced, -np.inf),
        # log_w = log_p - log_q must be -inf, not NaN, where log_q itself is broken.
        "log_q": np.where(np.isfinite(density), density, np.inf),
        "energy": reduced * kT(energy.temperature),
    }, int((~ok).sum())


class _EffectiveFraction:
    """Kish's effective sample size over the number of draws, as they come."""

    def __init__(self) -> None:
        self.n, self.top, self.total, self.squares = 0, -np.inf, 0.0, 0.0

    def add(self, log_w: ndarray) -> float:
        self.n += len(log_w)
        top = max(self.top, float(log_w.max()))
        if top == -np.inf:
            return 0.0
        w, old = np.exp(log_w - top), np.exp(self.top - top)
        self.total = self.total * old + float(w.sum())
        self.squares = self.squares * old**2 + float((w * w).sum())
        self.top = top
        return self.total**2 / (self.n * self.squares)
