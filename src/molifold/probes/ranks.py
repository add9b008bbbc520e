"""How many directions the weights and the features of a network use: effective and stable rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import ExampleLoss, Moment, Record
from molifold.probes.layers import features

#: Below this share of its largest possible rank (and of what it reads) a layer's features have collapsed.
COLLAPSED = 0.1
#: Matrices and features of fewer dimensions are left out of the findings.
SMALL = 8


@dataclass(frozen=True)
class Ranks:
    """Ranks of several matrices; all arrays [matrices].

    Attributes:
        names: of the parameters, or of the layers that read the features.
        largest: the largest possible rank.
        effective: exp of the entropy of the normalised singular values (Roy and Vetterli 2007), 1 to ``largest``.
        stable: sum of the squared singular values over the largest square, 1 to ``largest``.
        rows: of the matrix; for features, how many were seen (ranks of few rows are too low).
    """

    names: tuple[str, ...]
    largest: Int[ndarray, " matrices"]
    effective: Float[ndarray, " matrices"]
    stable: Float[ndarray, " matrices"]
    rows: Int[ndarray, " matrices"]


def ranks(matrices: dict[str, Float[Tensor, "rows columns"]]) -> Ranks:
    """Effective and stable rank of every matrix; nan where all singular values are 0.

    References: Roy and Vetterli (2007), "The effective rank"; Rudelson and Vershynin (2007), arXiv math/0503442.

    >>> found = ranks({"all alike": torch.eye(16), "one": torch.ones(5, 3)})
    >>> found.effective.round(6).tolist(), found.stable.round(6).tolist()
    ([16.0, 1.0], [16.0, 1.0])
    """
    effective, stable = [], []
    for matrix in matrices.values():
        # The smaller Gram matrix has the squares of the singular values, a hundred times sooner for many rows.
        wide = matrix.double() if len(matrix) >= matrix.shape[1] else matrix.double().mT
        squares = torch.linalg.eigvalsh(wide.mT @ wide).clamp(min=0).flip(0)
        squares = torch.where(squares > 1e-12 * squares[:1], squares, 0.0)
        share = squares.sqrt() / squares.sqrt().sum()
        effective.append(torch.exp(-torch.xlogy(share, share).sum()))
        stable.append(squares.sum() / squares[0])
    numbers = torch.stack([*effective, *stable]).cpu().numpy().reshape(2, -1) if effective else np.zeros((2, 0))
    return Ranks(
        tuple(matrices),
        largest=np.array([min(m.shape) for m in matrices.values()], dtype=int),
        effective=numbers[0],
        stable=numbers[1],
        rows=np.array([len(m) for m in matrices.values()], dtype=int),
    )


@torch.no_grad()
def weight_ranks(model: nn.Module) -> Ranks:
    """Ranks of every parameter matrix; a parameter of more axes is a stack of matrices, each on its own.

    >>> weight_ranks(nn.Linear(3, 2)).largest.tolist()
    [2]
    """
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            found[name] = parameter.detach()
        elif parameter.ndim > 2:
            stack = parameter.detach().flatten(0, -3)
            found |= {f"{name} {i}": matrix for i, matrix in enumerate(stack)}
    return ranks({name: m for name, m in found.items() if min(m.shape) > 1})


def feature_ranks(model: nn.Module, batch: Any, *, loss: ExampleLoss | None = None) -> Ranks:
    """Ranks of what every layer reads, centred over rows; by the name of the parameter that it is multiplied with.

    Args:
        model: any module, in eval mode.
        batch: what it is evaluated on.
        loss: how it is evaluated; default ``model(batch)``.
    """
    read = {f.site: f.rows - f.rows.mean(0) for f in features(model, batch, loss=loss)}
    return ranks({site: rows for site, rows in read.items() if min(rows.shape) > 1})


def watch_ranks(moment: Moment) -> dict[str, Record]:
    """Effective and stable rank of the weights, and of the features that every layer reads.

    Healthy: ranks that settle, at whatever value the task needs; a low rank alone is no fault. Feature ranks that fall
    through training, or towards the output, to a few of many dimensions are a collapse: the layer before forgets what
    distinguishes inputs. Then ask ``expressivity`` whether the loss wants more; if so, lower the learning rate or the
    weight decay, or add residual connections; if not, the layer may be narrower.
    """
    seen = ranks({}) if moment.batch is None else feature_ranks(moment.model, moment.batch, loss=moment.loss)
    return records(weight_ranks(moment.model), seen)


def records(weights: Ranks, read: Ranks) -> dict[str, Record]:
    """The results as tables, "ranks of weights" and "ranks of features"."""
    found = {"ranks of weights": _table(weights), "ranks of features": _table(read)}
    return {name: record for name, record in found.items() if len(record[1]["name"])}


def _table(found: Ranks) -> Record:
    columns = {"largest": found.largest, "effective": found.effective, "stable": found.stable}
    return "table", {"name": np.array(found.names, dtype=np.str_), **columns}


def findings(weights: Ranks, read: Ranks) -> Sequence[Finding]:
    """What there is to say of the ranks of the weights and of the features."""
    wide = (read.largest >= SMALL) & (read.rows > 2 * read.largest)
    low = np.flatnonzero(wide & (read.effective < COLLAPSED * read.largest))
    out = []
    if len(low):
        worst = low[np.argmin(read.effective[low] / read.largest[low])]
        told = f"{len(low)} of {int(wide.sum())} layers read features of low rank, most of all {read.names[worst]} "
        told += f"({read.effective[worst]:.1f} of {read.largest[worst]} directions)"
        remedy = (
            "no fault by itself: if a verdict above names these layers, widen what feeds them, else make it narrower"
        )
        out.append(Finding("ok", "ranks", told, remedy, severity=len(low) / max(int(wide.sum()), 1)))
    big = weights.largest >= SMALL
    if big.any():
        share = float(np.nanmedian(weights.effective[big] / weights.largest[big]))
        out.append(Finding("ok", "ranks", f"weights use {share:.0%} of their directions (median of {int(big.sum())})"))
    return out
