"""What a training sees of an ensemble: a split, and batches that depend on (seed, step) alone."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from molifold.ensemble import Ensemble

#: Coordinates up to this many bytes are kept on the device as one tensor; larger ones stay memory-mapped.
IN_MEMORY = 2**30

#: Validation looks at no more frames than this: enough for an error of a hundredth of the spread.
VALIDATION_FRAMES = 8192


def split(
    ensemble: Ensemble, *, fraction: float, seed: int
) -> tuple[Int[ndarray, " training"], Int[ndarray, " held_out"]]:
    """Frames for training and for validation, both ascending.

    Neighbouring frames of a trajectory resemble each other, so frames are held out in whole trajectories if
    the column ``trajectory`` names enough of them, otherwise in contiguous blocks of every trajectory.

    Raises:
        ValueError: if no frame would be left on one side.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((100, 1, 3)))
    >>> training, held_out = split(e, fraction=0.1, seed=0)
    >>> len(training), len(held_out), int(np.ptp(held_out))
    (90, 10, ...)
    """
    n = len(ensemble)
    if fraction == 0:
        return np.arange(n), np.arange(0)
    trajectory = np.asarray(ensemble.columns.get("trajectory", np.zeros(n, dtype=int)))
    names, group = np.unique(trajectory, return_inverse=True)
    if len(names) < 2 / fraction:
        # Enough blocks that the held-out ones come from several places, few enough that they are long.
        blocks = min(n, max(20, math.ceil(2 / fraction)))
        order = np.argsort(group, kind="stable")
        group = np.empty(n, dtype=int)
        group[order] = np.arange(n) * blocks // n
    groups = np.random.default_rng([seed, 0]).permutation(group.max() + 1)
    sizes = np.bincount(group)[groups].cumsum()
    chosen = groups[: max(1, int(np.searchsorted(sizes, fraction * n, side="right")))]
    held = np.isin(group, chosen)
    if held.all() or not held.any():
        raise ValueError(f"validation: got {fraction} of {n} frames, which leaves none on one side")
    return np.flatnonzero(~held), np.flatnonzero(held)


class Frames:
    """Chosen frames of an ensemble, as tensors of one device and dtype.

    Args:
        ensemble: where they come from; a large one stays on disk.
        indices: [frames], which frames.
        dtype: of coordinates, densities and weights.
        device: where batches are wanted.
        lagged: [frames], which frame follows each of them after the lag, if there is one.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        indices: Int[ndarray, " frames"],
        *,
        dtype: torch.dtype,
        device: torch.device,
        lagged: Int[ndarray, " frames"] | None = None,
    ) -> None:
        self._ensemble, self.indices, self._lagged = ensemble, indices, lagged
        self._dtype, self._device = dtype, device
        size = len(indices) * ensemble.x[0].size * dtype.itemsize if len(indices) else 0
        self._x = self._tensor(_gathered(ensemble.x, indices)) if size <= IN_MEMORY else None
        self.log_p = None if ensemble.log_p is None else self._tensor(np.asarray(ensemble.log_p)[indices])
        self.weights = None
        if "weight" in ensemble.columns:
            weights = np.asarray(ensemble.columns["weight"], dtype=np.float64)[indices]
            # Mean one over all frames, so that mean(weights * loss) of any batch estimates the same number.
            self.weights = self._tensor(weights / weights.mean())

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, rows: Int[ndarray, " batch"]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Coordinates, log_p and weights of some rows of ``indices``."""
        at = torch.from_numpy(rows).to(self._device)
        x = self._tensor(_gathered(self._ensemble.x, self.indices[rows])) if self._x is None else self._x[at]
        return (
            x,
            None if self.log_p is None else self.log_p[at],
            None if self.weights is None else self.weights[at],
        )

    def take_lagged(self, rows: Int[ndarray, " batch"]) -> Tensor | None:
        """Coordinates a lag after those of ``take``; None without a lag."""
        return None if self._lagged is None else self._tensor(_gathered(self._ensemble.x, self._lagged[rows]))

    def _tensor(self, array: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=self._device, dtype=self._dtype)


class Part:
    """What a training sees of one of its ensembles: frames to train on in batches, and held-out frames.

    Args:
        ensemble: conformations of one molecule.
        validation, batch_size, seed, lag: see ``fit``.
        dtype, device: of the tensors.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        validation: float,
        batch_size: int,
        seed: int,
        lag: int | None = None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        training, held_out = split(ensemble, fraction=validation, seed=seed)
        if len(held_out):
            held_out = held_out[np.unique(np.linspace(0, len(held_out) - 1, VALIDATION_FRAMES).astype(int))]
        lagged = None
        if lag is not None:
            now, later = ensemble.pairs(lag)
            both = np.isin(now, training) & np.isin(later, training)  # no pair reaches into the held-out frames
            training, lagged = now[both], later[both]
        self.name = ensemble.molecule.name
        self.frames = Frames(ensemble, training, dtype=dtype, device=device, lagged=lagged)
        self.held_out = Frames(ensemble, held_out, dtype=dtype, device=device)
        self.shuffle = Shuffle(len(training), batch_size=batch_size, seed=seed)


class Shuffle:
    """Rows of every batch, as a function of the step: one permutation per epoch, from (seed, epoch).

    >>> rows = Shuffle(10, batch_size=5, seed=0)
    >>> sorted([*rows(1), *rows(2)]) == list(range(10))
    True
    """

    def __init__(self, n: int, *, batch_size: int, seed: int) -> None:
        if n < batch_size:
            raise ValueError(f"batch_size: got {batch_size} with {n} frames to train on, expected at most {n}")
        self._n, self._size, self._seed = n, batch_size, seed
        self.per_epoch = n // batch_size
        self._epoch, self._order = -1, np.arange(0)

    def __call__(self, step: int) -> Int[ndarray, " batch"]:
        """Rows for step 1, 2, ...; an epoch's last partial batch is left out (other frames every time)."""
        epoch, position = divmod(step - 1, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self._seed, 1, epoch]).permutation(self._n)
        return self._order[position * self._size : (position + 1) * self._size]


def fingerprint(ensemble: Ensemble) -> str:
    """A short sign that tells ensembles apart: the number of frames and a checksum of 64 of them."""
    some = np.linspace(0, len(ensemble) - 1, 64).astype(int)
    return f"{len(ensemble)}-{zlib.crc32(np.ascontiguousarray(ensemble.x[some], dtype='<f4').tobytes()):08x}"


def _gathered(x: ndarray, indices: ndarray) -> ndarray:
    # Ascending reads are what a disk likes; the order is put back afterwards.
    order = np.argsort(indices, kind="stable")
    out = np.empty((len(indices), *x.shape[1:]), dtype=x.dtype)
    out[order] = x[indices[order]]
    return out
