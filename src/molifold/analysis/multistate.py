"""MBAR: frames of several temperatures or biases, combined into weights for one target."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold.analysis.bands import Band, band
from molifold.analysis.uncertainty import CORRELATED, Estimate, trajectory_blocks
from molifold.ensemble import Ensemble
from molifold.units import BOLTZMANN

#: Neighbouring states that share less than this (overlap matrix) are not connected enough to believe the errors.
LEAST_OVERLAP = 0.03


@dataclass(frozen=True)
class MultiState:
    """Frames of several states (temperatures, biases), with weights for one target.

    ``log_w`` [frames] are log weights at the target: for ``population``, ``free_energy_surface``, ``cluster`` and
    ``free_energy_difference``. ``free_energies`` (kT) are those of the states relative to the first, with errors from
    blocks; ``analytic_error`` is pymbar's, which takes frames for independent. ``overlap`` is the overlap matrix (rows
    sum to one), ``least_overlap`` the smallest link that holds the states together. ``ess`` is Kish's of the weights.
    """

    states: tuple[str, ...]
    counts: Int[ndarray, " states"]
    free_energies: Band
    analytic_error: Float[ndarray, " states"]
    overlap: Float[ndarray, "states states"]
    least_overlap: float
    log_w: Float[ndarray, " frames"]
    ess: float
    n: int
    temperature: float
    _solver: _Solver

    def difference(
        self,
        in_a: Bool[ndarray, " frames"],
        in_b: Bool[ndarray, " frames"] | None = None,
        *,
        repeats: int = 100,
        seed: int = 0,
    ) -> Estimate:
        """``F(A) - F(B)`` at the target, in kT; every bootstrap replicate solves the MBAR equations again.

        Args:
            in_a: frames in A.
            in_b: frames in B; None is every other frame.
            repeats: bootstrap replicates over blocks.
            seed: of the bootstrap.

        Raises:
            ValueError: if a region has no frame.
        """
        in_a = np.asarray(in_a, dtype=bool)
        in_b = ~in_a if in_b is None else np.asarray(in_b, dtype=bool)
        if not (in_a.any() and in_b.any()):
            raise ValueError("in_a, in_b: got a region without frames in any state, expected some in both")
        value = self._solver.difference(np.ones(self.n), in_a, in_b)
        draws = self._solver.replicates(repeats, seed=seed)
        spread = np.array([[self._solver.difference(c, in_a, in_b)] for c in draws])
        b = band(np.array([value]), spread, blocks=self._solver.blocks)
        return Estimate(value, float(b.error[0]), float(b.low[0]), float(b.high[0]), math.nan, self.n)

    def __repr__(self) -> str:
        return (
            f"MultiState({len(self.states)} states {self.states[0]} to {self.states[-1]}, {self.n} frames, ESS "
            f"{self.ess:.0f} at the target, least overlap {self.least_overlap:.3f})"
        )


def mbar(
    reduced: Float[ndarray, "states frames"],
    state: Int[ndarray, " frames"],
    *,
    target: Float[ndarray, " frames"],
    block: Int[ndarray, " frames"],
    states: Sequence[str] | None = None,
    temperature: float = math.nan,
    repeats: int = 50,
    seed: int = 0,
) -> MultiState:
    """Multistate Bennett acceptance ratio of frames from several states.

    Args:
        reduced: reduced energy (kT) of every frame in every state, bias included.
        state: in which state every frame was sampled.
        target: reduced energy of every frame in the state that is asked for.
        block: block of every frame; frames that depend on each other share one (see ``time_blocks``).
        states: what to call them.
        temperature: of the target (K), for the record.
        repeats: bootstrap replicates over blocks for the errors of the free energies.
        seed: of the bootstrap.

    Raises:
        ValueError: if shapes do not fit, an energy is NaN, or a state has no frame.

    Reference: M. Shirts, J. Chodera, J. Chem. Phys. 129, 124105 (2008), doi:10.1063/1.2978177 (pymbar); overlap matrix:
    P. Klimovich, M. Shirts, D. Mobley, J. Comput. Aided Mol. Des. 29, 397 (2015).

    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(0, 1, 2000), rng.normal(0, 0.5, 2000)])          # two harmonic wells
    >>> u = np.stack([x**2 / 2, 2 * x**2])
    >>> found = mbar(u, np.repeat([0, 1], 2000), target=u[0], block=np.arange(4000) % 64)
    >>> bool(found.free_energies.low[1] < np.log(2) < found.free_energies.high[1])
    True
    """
    reduced, target = np.asarray(reduced, dtype=np.float64), np.asarray(target, dtype=np.float64)
    k, n = reduced.shape
    for name, array in (("state", state), ("target", target), ("block", block)):
        if np.shape(array) != (n,):
            raise ValueError(f"{name}: got shape {np.shape(array)}, expected one entry per frame ({n})")
    if np.isnan(reduced).any() or np.isnan(target).any():
        raise ValueError("reduced, target: got NaN, expected energies in kT; leave these frames out")
    counts = np.bincount(state, minlength=k)
    if len(counts) != k or not counts.all():
        raise ValueError(f"state: got {counts.tolist()} frames per state, expected some in each of {k}")
    fit = _pymbar(reduced, counts)
    f = np.asarray(fit.f_k)
    solver = _Solver(reduced, np.asarray(state), target, np.unique(block, return_inverse=True)[1], f)
    draws = np.array([solver.solve(c) for c in solver.replicates(repeats, seed=seed)])
    log_w = solver.log_weights(f, counts)
    w = np.exp(log_w - log_w.max())
    overlap = np.asarray(fit.compute_overlap()["matrix"])
    return MultiState(
        states=tuple(states) if states is not None else tuple(f"state {i}" for i in range(k)),
        counts=counts,
        free_energies=band(f - f[0], draws - draws[:, :1], blocks=solver.blocks),
        analytic_error=np.asarray(fit.compute_free_energy_differences()["dDelta_f"])[0],
        overlap=overlap,
        least_overlap=_least_link(overlap),
        log_w=log_w,
        ess=float(w.sum() ** 2 / (w * w).sum()),
        n=n,
        temperature=temperature,
        _solver=solver,
    )


def mbar_temperatures(
    ensemble: Ensemble,
    temperature: float,
    *,
    block: Int[ndarray, " frames"] | None = None,
    repeats: int = 50,
    seed: int = 0,
) -> MultiState:
    """MBAR over the temperatures of an ensemble (replica exchange, parallel runs) for one temperature.

    Args:
        ensemble: frames with the column ``temperature``, and ``energy`` (kJ/mol) or ``log_p`` (-U/kT at each frame's
            own temperature).
        temperature: that is asked for (K); need not be one of them.
        block: of every frame; None takes blocks of time that span all temperatures (replicas swap, so they depend on
            each other).
        repeats: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: if there is no temperature or energy, or only one temperature.
    """
    if "temperature" not in ensemble.columns:
        raise ValueError("ensemble: has no column 'temperature', expected one (K) per frame, as replica_exchange gives")
    each = np.asarray(ensemble.columns["temperature"], dtype=np.float64)
    if "energy" in ensemble.columns:
        energy = np.asarray(ensemble.columns["energy"], dtype=np.float64)
    elif ensemble.log_p is not None:
        energy = -np.asarray(ensemble.log_p, dtype=np.float64) * BOLTZMANN * each
    else:
        raise ValueError("ensemble: has neither the column 'energy' (kJ/mol) nor log_p, expected one of them for MBAR")
    levels, state = np.unique(np.round(each, 3), return_inverse=True)
    if len(levels) < 2:
        raise ValueError(f"ensemble: got the single temperature {levels[0]:g} K, expected two or more for MBAR")
    return mbar(
        energy[None] / (BOLTZMANN * levels[:, None]), state, target=energy / (BOLTZMANN * temperature),
        temperature=temperature, block=time_blocks(ensemble) if block is None else block,
        states=[f"{t:g} K" for t in levels], repeats=repeats, seed=seed,
    )  # fmt: skip


def time_blocks(ensemble: Ensemble, *, blocks: int = CORRELATED) -> Int[ndarray, " frames"]:
    """Blocks of time that span all trajectories, for replicas that swap; of trajectories if there is no ``time``.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((6, 1, 3)), columns={"time": np.array([1.0, 1, 2, 2, 3, 3])})
    >>> time_blocks(e, blocks=3)
    array([0, 0, 1, 1, 2, 2])
    """
    if "time" not in ensemble.columns:
        return trajectory_blocks(len(ensemble), trajectory=ensemble.columns.get("trajectory"), blocks=blocks)
    moments, rank = np.unique(np.asarray(ensemble.columns["time"]), return_inverse=True)
    return rank * min(blocks, len(moments)) // len(moments)


def _pymbar(reduced: ndarray, counts: ndarray) -> Any:
    banner = logging.getLogger("pymbar")
    level = banner.level
    banner.setLevel(logging.ERROR)  # it advertises JAX and says that series must be subsampled: blocks do that here
    try:
        from pymbar import MBAR

        return MBAR(reduced, counts, solver_protocol="robust")
    finally:
        banner.setLevel(level)


def _least_link(overlap: ndarray) -> float:
    """The weakest link of the chain of strongest links that joins all states."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    shared = 0.5 * (overlap + overlap.T)
    np.fill_diagonal(shared, 0.0)
    tree = minimum_spanning_tree(np.where(shared > 0, 2.0 - shared, 0.0)).tocoo().data
    return float(2.0 - tree.max()) if len(tree) == len(overlap) - 1 else 0.0


class _Solver:
    """The MBAR equations for frames that count ``c`` times each (Newton's method from the solution for all)."""

    def __init__(self, reduced: ndarray, state: ndarray, target: ndarray, block: ndarray, f: ndarray) -> None:
        lowest = reduced.min(axis=0)  # cancels in every equation
        self.factor = np.exp(lowest - reduced)
        self.target = lowest - target
        self.state, self.block, self.f = state, block, f
        self.blocks = int(block.max()) + 1

    def replicates(self, repeats: int, *, seed: int) -> list[ndarray]:
        """How often every frame counts, in bootstrap replicates over blocks that leave no state empty."""
        rng, out = np.random.default_rng(seed), []
        for _ in range(20 * repeats):
            c = rng.multinomial(self.blocks, np.full(self.blocks, 1 / self.blocks))[self.block].astype(float)
            if self._counts(c).all():
                out.append(c)
            if len(out) == repeats:
                break
        return out

    def _counts(self, c: ndarray) -> ndarray:
        return np.bincount(self.state, weights=c, minlength=len(self.f))

    def solve(self, c: ndarray) -> ndarray:
        """Free energies of the states, the first as in ``f``."""
        f, total = self.f.copy(), self._counts(c)
        for _ in range(50):
            share = total[:, None] * np.exp(f)[:, None] * self.factor
            share /= share.sum(0)
            gradient = total - share @ c
            hessian = np.diag(share @ c) - (share * c) @ share.T
            step = np.zeros_like(f)
            step[1:] = np.linalg.lstsq(hessian[1:, 1:], gradient[1:], rcond=None)[0]
            f += np.clip(step, -2.0, 2.0)
            if np.abs(step).max() < 1e-8:
                break
        return f

    def log_weights(self, f: ndarray, counts: ndarray) -> ndarray:
        """Log weights at the target."""
        return self.target - np.log((counts * np.exp(f)) @ self.factor)

    def difference(self, c: ndarray, in_a: ndarray, in_b: ndarray) -> float:
        """``F(A) - F(B)`` with every frame counted ``c`` times."""
        log_w = self.log_weights(self.solve(c), self._counts(c))
        w = c * np.exp(log_w - log_w.max())
        with np.errstate(divide="ignore"):
            return float(np.log(w[in_b].sum()) - np.log(w[in_a].sum()))
