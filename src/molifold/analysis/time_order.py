"""Which frame follows which: the order in time, where an ensemble has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.uncertainty import trajectory_blocks
from molifold.ensemble import Ensemble


@dataclass(frozen=True)
class TimeOrder:
    """Frames in the order of their trajectories and time.

    ``order`` are frames; position i and i + lag are ``lag`` steps apart if ``segment`` is the same at both. ``block``
    is that of every position, for errors. ``step`` is the time between frames in ``unit`` ("ps", or "frames" and 1).
    """

    order: Int[ndarray, " frames"]
    segment: Int[ndarray, " frames"]
    block: Int[ndarray, " frames"]
    step: float
    unit: str

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return int(self.block.max()) + 1

    @property
    def longest(self) -> int:
        """Frames of the longest uninterrupted piece."""
        return int(np.bincount(self.segment).max())

    def starts(self, lag: int) -> Int[ndarray, " pairs"]:
        """Positions after which ``lag`` more frames of the same piece follow.

        Raises:
            ValueError: if the lag is below 1, or no piece is long enough.
        """
        if not 1 <= lag < self.longest:
            raise ValueError(
                f"lag: got {lag} frames, expected 1 to {self.longest - 1} (the longest trajectory without a gap has "
                f"{self.longest} frames)"
            )
        return np.flatnonzero(self.segment[:-lag] == self.segment[lag:])

    def counts(
        self, labels: Int[ndarray, " frames"], lag: int, *, states: int
    ) -> Float[ndarray, "blocks states states"]:
        """Transitions between labels in ``lag`` steps, by the block in which they start; label -1 is left out."""
        state = np.asarray(labels)[self.order]
        start = self.starts(lag)
        start = start[(state[start] >= 0) & (state[start + lag] >= 0)]
        flat = (self.block[start] * states + state[start]) * states + state[start + lag]
        return np.bincount(flat, minlength=self.blocks * states**2).reshape(-1, states, states).astype(float)


def time_order(ensemble: Ensemble) -> TimeOrder:
    """The order in time of an ensemble, by its columns ``trajectory`` and ``time``.

    Without ``time``, frames of a trajectory follow each other in the order in which they stand. With it, a trajectory
    is cut wherever the step is not the usual one (a gap, a restart).

    Raises:
        ValueError: if frames are independent draws (``log_q``), have neither column, or change temperature in the
            course of a trajectory (replica exchange), where kinetics has no meaning.

    >>> from molifold import Molecule
    >>> columns = {"trajectory": np.array([0, 1, 0, 1]), "time": np.array([2.0, 0.0, 0.0, 2.0])}
    >>> time_order(Ensemble(Molecule(elements=("X",)), np.zeros((4, 1, 3)), columns=columns)).order
    array([2, 0, 1, 3])
    """
    if ensemble.log_q is not None:
        raise ValueError("ensemble: has log_q, so its frames are independent draws; kinetics needs trajectories")
    if "trajectory" not in ensemble.columns and "time" not in ensemble.columns:
        raise ValueError(
            "ensemble: has neither the column 'trajectory' nor 'time', expected one for kinetics; if the frames "
            "are one trajectory, ensemble.assign(trajectory=np.zeros(len(ensemble), int))"
        )
    n = len(ensemble)
    trajectory = np.unique(np.asarray(ensemble.columns.get("trajectory", np.zeros(n))), return_inverse=True)[1]
    time = None if "time" not in ensemble.columns else np.asarray(ensemble.columns["time"], dtype=np.float64)
    order = np.lexsort((np.arange(n) if time is None else time, trajectory))
    sorted_trajectory = trajectory[order]
    new = np.concatenate([[True], np.diff(sorted_trajectory) != 0])
    step, unit = 1.0, "frames"
    if time is not None and (~new).any():
        gap = np.concatenate([[0.0], np.diff(time[order])])
        step, unit = float(np.median(gap[~new])), "ps"
        if not step > 0:
            raise ValueError("time: got frames of one trajectory at the same time, expected it to grow along each")
        new |= ~np.isclose(gap, step, rtol=1e-3, atol=0)
    _same_temperature(ensemble, order, new)
    block = trajectory_blocks(n, trajectory=sorted_trajectory)
    return TimeOrder(order, np.cumsum(new) - 1, block, step, unit)


def _same_temperature(ensemble: Ensemble, order: ndarray, new: ndarray) -> None:
    if "temperature" not in ensemble.columns:
        return
    temperature = np.asarray(ensemble.columns["temperature"], dtype=np.float64)[order]
    changes = int((~np.isclose(np.diff(temperature), 0, atol=0.01) & ~new[1:]).sum())
    if changes:
        raise ValueError(
            f"temperature: changes {changes} times in the course of trajectories (replica exchange), so that kinetics "
            "has no meaning; use trajectories of plain dynamics"
        )
