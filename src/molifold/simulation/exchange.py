"""Which walker is at which temperature, and the moves that change it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.units import BOLTZMANN


def temperature_ladder(low: float, high: float, n: int) -> tuple[float, ...]:
    """``n`` temperatures (K) in geometric progression, ends included.

    A constant ratio gives equal acceptance between neighbours where the heat capacity is constant.

    Raises:
        ValueError: unless 0 < low < high and n > 1 (or low == high and n == 1).

    >>> [round(t) for t in temperature_ladder(300.0, 1000.0, 4)]
    [300, 448, 669, 1000]
    """
    if n == 1 and 0 < low == high:
        return (float(low),)
    if n < 2 or not 0 < low < high:
        raise ValueError(f"temperature_ladder: got low {low}, high {high}, n {n}; expected 0 < low < high and n > 1")
    return tuple(float(t) for t in low * (high / low) ** (np.arange(n) / (n - 1)))


class Ladders:
    """Copies of a temperature ladder, with one walker on every rung of every copy.

    Walker ``w`` belongs to copy ``w // len(temperatures)`` for ever. Neighbours swap temperatures with probability
    ``min(1, exp((1/kT_i - 1/kT_j) (U_i - U_j)))``; pairs (0, 1), (2, 3), ... and (1, 2), (3, 4), ... take turns, which
    keeps the joint canonical distribution and travels faster than random pairs.

    References: Y. Sugita and Y. Okamoto, Chem. Phys. Lett. 314, 141 (1999), doi:10.1016/S0009-2614(99)01123-9;
    S. Syed et al., J. R. Stat. Soc. B 84, 321 (2022), doi:10.1111/rssb.12464 (taking turns).

    >>> ladders = Ladders((300.0, 400.0), copies=2, seed=0)
    >>> ladders.attempt(np.array([-10.0, -20.0, 0.0, 10.0]))  # the colder one swaps where it has more energy
    array([1.15470054, 0.8660254 , 1. , 1. ])
    >>> ladders.temperature
    array([400., 300., 300., 400.])
    """

    def __init__(self, temperatures: Sequence[float], *, copies: int, seed: int) -> None:
        self.temperatures = np.array(temperatures, dtype=np.float64)
        self.copies = copies
        n = len(self.temperatures)
        self.level = np.tile(np.arange(n), copies)
        self.attempted = np.zeros(max(n - 1, 0), dtype=np.int64)
        self.accepted = np.zeros(max(n - 1, 0), dtype=np.int64)
        self.round_trips = np.zeros(n * copies, dtype=np.int64)
        self._heading_down = self.level == n - 1
        self._turn = 0
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(2**31,))))

    @property
    def temperature(self) -> Float[ndarray, " walkers"]:
        """K, of every walker now."""
        return self.temperatures[self.level]

    @property
    def acceptance(self) -> Float[ndarray, " pairs"]:
        """Fraction of accepted swaps of every pair of neighbours so far (NaN before the first)."""
        with np.errstate(invalid="ignore"):
            return self.accepted / self.attempted

    def attempt(self, energy: Float[ndarray, " walkers"]) -> Float[ndarray, " walkers"]:
        """Try to swap neighbours, given potential energies (kJ/mol); factors that velocities must be scaled with."""
        n = len(self.temperatures)
        before = self.temperature
        walker_at = np.argsort(self.level.reshape(self.copies, n), axis=1) + n * np.arange(self.copies)[:, None]
        lower = np.arange(self._turn, n - 1, 2)
        self._turn = 1 - self._turn if n > 2 else 0
        cold, hot = walker_at[:, lower], walker_at[:, lower + 1]
        beta = 1 / (BOLTZMANN * self.temperatures)
        log_ratio = (beta[lower] - beta[lower + 1]) * (energy[cold] - energy[hot])
        swap = np.log1p(-self._rng.random(cold.shape)) <= log_ratio
        self.level[cold[swap]] += 1
        self.level[hot[swap]] -= 1
        self.attempted[lower] += self.copies
        self.accepted[lower] += swap.sum(0)
        self._count_round_trips()
        return np.sqrt(self.temperature / before)

    def _count_round_trips(self) -> None:
        at_bottom, at_top = self.level == 0, self.level == len(self.temperatures) - 1
        self.round_trips += at_bottom & self._heading_down
        self._heading_down = (self._heading_down & ~at_bottom) | at_top

    def state(self) -> dict[str, ndarray]:
        """Everything that the future depends on."""
        generator = np.frombuffer(json.dumps(self._rng.bit_generator.state).encode(), dtype=np.uint8)
        return {
            "level": self.level, "attempted": self.attempted, "accepted": self.accepted, "turn": np.array(self._turn),
            "round_trips": self.round_trips, "heading_down": self._heading_down, "generator": generator,
        }  # fmt: skip

    def restore(self, state: Mapping[str, ndarray]) -> None:
        """Go back to a ``state``."""
        self.level, self.attempted, self.accepted = (state[k].copy() for k in ("level", "attempted", "accepted"))
        self.round_trips, self._heading_down = state["round_trips"].copy(), state["heading_down"].copy()
        self._turn = int(state["turn"])
        self._rng.bit_generator.state = json.loads(state["generator"].tobytes())

    def forget_counts(self) -> None:
        """Start counting acceptance and round trips anew."""
        for counts in (self.attempted, self.accepted, self.round_trips):
            counts[:] = 0
