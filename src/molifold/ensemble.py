"""Ensemble: conformations with everything known of them. The currency of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.molecule import Molecule


@dataclass(frozen=True)
class Ensemble:
    """Conformations of one molecule.

    Args:
        molecule: what the atoms are.
        x: [frames, atoms, 3], nm; may be a memory map.
        log_p: [frames] or None: -u(x), the unnormalised log-density of the target, u in kT.
        log_q: [frames] or None: normalised log-density of the generator that drew the frames.
        columns: anything known per frame, each [frames, ...]: ``temperature`` (K), ``time`` (ps), ``trajectory``
            (integer id), ``energy`` (kJ/mol), ``weight``, ``phi``, ``cluster`` ...
        meta: provenance, JSON-able.

    Raises:
        ValueError: if a length or shape does not fit.

    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    >>> e = Ensemble(water, np.zeros((4, 3, 3)), columns={"time": np.arange(4.0)})
    >>> e[1:3].columns["time"]
    array([1., 2.])
    >>> e
    Ensemble('water': 4 frames x 3 atoms; columns time)
    """

    molecule: Molecule
    x: ndarray
    log_p: ndarray | None = None
    log_q: ndarray | None = None
    columns: Mapping[str, ndarray] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (self.molecule.n_atoms, self.molecule.dimensions)
        if self.x.ndim != 3 or self.x.shape[1:] != expected:
            raise ValueError(
                f"x: got shape {self.x.shape}, expected [frames, {expected[0]}, {expected[1]}] for {self.molecule!r}; "
                "is this the topology of another molecule?"
            )
        named = {"log_p": self.log_p, "log_q": self.log_q, **self.columns}
        for name, value in named.items():
            if value is not None and len(value) != len(self.x):
                raise ValueError(f"{name}: got {len(value)} entries, expected one per frame ({len(self.x)})")
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def log_w(self) -> ndarray:
        """Unnormalised log importance weights, ``log_p - log_q``.

        Raises:
            ValueError: if either density is missing.
        """
        if self.log_p is None or self.log_q is None:
            missing = "log_p" if self.log_p is None else "log_q"
            raise ValueError(f"{missing}: missing, so these frames have no importance weights")
        return np.asarray(self.log_p, dtype=np.float64) - np.asarray(self.log_q, dtype=np.float64)

    def __getitem__(self, index: slice | ndarray | Sequence[int]) -> Ensemble:
        """A subset of frames: slice, integer array or boolean mask."""
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.ndim == 0:
                raise TypeError(f"index: got the single integer {index}, expected a slice, array or mask; use e[i:i+1]")
        return replace(
            self,
            x=self.x[index],
            log_p=None if self.log_p is None else self.log_p[index],
            log_q=None if self.log_q is None else self.log_q[index],
            columns={k: v[index] for k, v in self.columns.items()},
        )

    def thinned(self, most: int) -> Ensemble:
        """At most so many frames, evenly spaced.

        >>> Ensemble(Molecule(elements=("X",)), np.zeros((10, 1, 3))).thinned(4)
        Ensemble('molecule': 4 frames x 1 atoms)
        """
        return self if len(self) <= most else self[np.linspace(0, len(self) - 1, most).astype(np.int64)]

    def assign(self, **columns: ndarray) -> Ensemble:
        """A copy with columns added or replaced (the coordinates are shared)."""
        return replace(self, columns={**self.columns, **columns})

    def pairs(self, lag: int) -> tuple[ndarray, ndarray]:
        """Indices of all frames that have another one ``lag`` frames later in their trajectory, and of those.

        Frames of a trajectory (column ``trajectory``; all are one without it) follow each other in the order in which
        they are here, whatever stands between them. Where there is a column ``time``, pairs further or less far apart
        than most (a gap, a restart) are left out.

        Raises:
            ValueError: if ``lag`` is not positive, or no trajectory is that long.

        >>> frames = np.zeros((6, 1, 3))
        >>> e = Ensemble(Molecule(elements=("X",)), frames, columns={"trajectory": np.array([0, 1, 0, 1, 0, 0])})
        >>> e.pairs(2)
        (array([0, 2]), array([4, 5]))
        """
        if lag < 1:
            raise ValueError(f"lag: got {lag}, expected at least 1 frame")
        trajectory = np.asarray(self.columns.get("trajectory", np.zeros(len(self), dtype=int)))
        order = np.argsort(trajectory, kind="stable")
        now, later = order[:-lag], order[lag:]
        same = trajectory[now] == trajectory[later]
        if "time" in self.columns and same.any():
            time = np.asarray(self.columns["time"], dtype=float)
            elapsed = time[later] - time[now]
            same &= np.isclose(elapsed, np.median(elapsed[same]), rtol=1e-3)
        if not same.any():
            raise ValueError(f"lag: got {lag} frames, but no trajectory of {self!r} is longer than that")
        return now[same], later[same]

    @staticmethod
    def concat(parts: Sequence[Ensemble]) -> Ensemble:
        """All frames one after the other; keeps what every part has.

        Raises:
            ValueError: if there is no part, or the molecules differ.
        """
        if not parts:
            raise ValueError("parts: got none, expected at least one ensemble")
        if any(p.molecule != parts[0].molecule for p in parts):
            raise ValueError(f"parts: got different molecules, {sorted({repr(p.molecule) for p in parts})}")
        shared = [k for k in parts[0].columns if all(k in p.columns for p in parts)]
        log_p = [p.log_p for p in parts if p.log_p is not None]
        log_q = [p.log_q for p in parts if p.log_q is not None]
        return Ensemble(
            parts[0].molecule,
            np.concatenate([p.x for p in parts]),
            log_p=np.concatenate(log_p) if len(log_p) == len(parts) else None,
            log_q=np.concatenate(log_q) if len(log_q) == len(parts) else None,
            columns={k: np.concatenate([p.columns[k] for p in parts]) for k in shared},
            meta=parts[0].meta,
        )

    def save(self, path: str | Path) -> Path:
        """Write an ensemble store (see ``molifold.store``)."""
        from molifold.store import save

        return save(self, path)

    @staticmethod
    def load(path: str | Path) -> Ensemble:
        """Open an ensemble store as memory maps (see ``molifold.store``)."""
        from molifold.store import load

        return load(path)

    def __repr__(self) -> str:
        known = [n for n in ("log_p", "log_q") if getattr(self, n) is not None]
        parts = [f"{len(self)} frames x {self.molecule.n_atoms} atoms", *known]
        if self.columns:
            parts.append("columns " + ", ".join(self.columns))
        return f"Ensemble({self.molecule.name!r}: {'; '.join(parts)})"
