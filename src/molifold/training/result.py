"""FitResult: what a training ended with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray
from torch import nn


@dataclass(frozen=True)
class FitResult:
    """The trained flow and how it got there.

    Args:
        flow: the module that was passed in, now with the weights to use: the best ones after early stopping, otherwise
            the last moving average; in eval mode.
        history: rows of scalars, as in the run's ``scalars.jsonl``.
        steps: optimiser steps done.
        seconds: time spent, all attempts together, pauses not counted.
        validation_nll: negative log-likelihood of the held-out frames under ``flow``; nan without validation.
        validation_error: its standard error, from blocks of neighbouring frames.
        best_step: step of the lowest validation loss; 0 without validation.
        skipped: batches that were left out because something was not finite.
        reason: why it ended: "steps", "time", "early stopping", "stopped".
        path: the run directory, if one was written.
    """

    flow: nn.Module
    history: Sequence[Mapping[str, float]]
    steps: int
    seconds: float
    validation_nll: float
    validation_error: float
    best_step: int
    skipped: int
    reason: str
    path: Path | None = None

    def series(self, name: str) -> tuple[ndarray, ndarray]:
        """Steps and values [rows] of one scalar of the history."""
        rows = [(row["step"], row[name]) for row in self.history if name in row]
        return np.array([r[0] for r in rows], dtype=int), np.array([r[1] for r in rows], dtype=float)

    def __repr__(self) -> str:
        loss = f"validation NLL {self.validation_nll:.3f} +- {self.validation_error:.3f}"
        return f"FitResult({self.steps} steps in {self.seconds:.0f} s, {loss}; ended by {self.reason})"
