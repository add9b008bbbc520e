"""How the hidden units of a network respond: their mean and spread, and which are dead, dormant or saturated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import ExampleLoss, Moment, Record
from molifold.probes.layers import Response, responses

#: Units whose share of the layer's mean activity is at most this are dormant (Sokar et al. 2023).
DORMANT = 0.025
#: Slopes below this are flat: no gradient passes (Glorot and Bengio 2010) ...
FLAT = 0.02
#: ... and a unit that is flat on this share of the rows is saturated.
MOSTLY = 0.99
#: Bins of the histograms of activations.
BINS = 60
#: Shares of units above which something should be done.
TOO_MANY = 0.1
#: Rows below which nothing is said of units: a unit that reacts to one row in ten would be called dead.
ENOUGH = 50


@dataclass(frozen=True)
class Activations:
    """The units of every layer with a nonlinearity, in the order of calls; all arrays [layers].

    Attributes:
        names, functions: the parameter whose product is bent, and by what.
        units, rows: how many units, and on how many rows (examples, or atoms of examples) they were seen.
        mean, spread: of the values; the standard deviation is over rows and units.
        dead: units whose value is the same on every row. With no reaction to ``rows`` rows, the share of rows to which
            such a unit reacts is below 3 / rows with 95 % confidence.
        dormant: units with E|h_i| <= 0.025 mean_j E|h_j|, dead ones that are 0 included.
        saturated: units whose slope is below 0.02 on 99 % of the rows.
        constant: whether what comes into the layer is the same on every row, so that no unit can react.
        edges, counts: [bins + 1], [layers, bins] histogram of the values.
    """

    names: tuple[str, ...]
    functions: tuple[str, ...]
    units: Int[ndarray, " layers"]
    rows: Int[ndarray, " layers"]
    mean: Float[ndarray, " layers"]
    spread: Float[ndarray, " layers"]
    dead: Int[ndarray, " layers"]
    dormant: Int[ndarray, " layers"]
    saturated: Int[ndarray, " layers"]
    constant: Bool[ndarray, " layers"]
    edges: Float[ndarray, " edges"]
    counts: Int[ndarray, "layers bins"]


def activations(model: nn.Module, batch: Any, *, loss: ExampleLoss | None = None) -> Activations:
    """Look at every layer with a nonlinearity once, without a hook.

    Seen are nonlinearities of the product of a parameter with activations (with constants added, or a view of it), or
    of its sum over neighbours or heads.

    Args:
        model: any module, in eval mode.
        batch: what it is evaluated on; the more rows, the rarer the reactions that are seen.
        loss: how it is evaluated; default ``model(batch)``.

    References: Sokar et al. (2023), arXiv 2302.12902 (dormant units); Glorot and Bengio (2010), saturation.

    >>> layer = nn.Linear(2, 3)
    >>> _ = nn.init.zeros_(layer.weight[0]), nn.init.constant_(layer.bias, -0.1)
    >>> found = activations(nn.Sequential(layer, nn.ReLU()), torch.randn(100, 2))
    >>> found.dead.tolist(), found.dormant.tolist(), found.saturated.tolist()
    ([1], [1], [1])
    """
    merged: dict[tuple[str, str], list[Response]] = {}
    for response in responses(model, batch, loss=loss):
        merged.setdefault((response.site, response.function), []).append(response)
    incoming, values, slopes = (
        [torch.cat([getattr(r, part) for r in group]).float() for group in merged.values()]
        for part in ("incoming", "value", "slope")
    )
    numbers = [_numbers(*parts) for parts in zip(incoming, values, slopes, strict=True)]
    table = torch.stack(numbers).double().cpu().numpy() if numbers else np.zeros((0, 7))
    largest = float(np.nanmax(table[:, 5], initial=0.0)) or 1.0
    edges = np.linspace(-largest, largest, BINS + 1)
    counts = [torch.histc(v.float().cpu(), BINS, -largest, largest).numpy().astype(int) for v in values]
    return Activations(
        names=tuple(site for site, _ in merged),
        functions=tuple(function for _, function in merged),
        units=np.array([v.shape[1] for v in values], dtype=int),
        rows=np.array([len(v) for v in values], dtype=int),
        mean=table[:, 0],
        spread=table[:, 1],
        dead=table[:, 2].astype(int),
        dormant=table[:, 3].astype(int),
        saturated=table[:, 4].astype(int),
        constant=table[:, 6] > 0,
        edges=edges,
        counts=np.array(counts, dtype=int).reshape(len(values), BINS),
    )


def _numbers(incoming: Tensor, value: Tensor, slope: Tensor) -> Float[Tensor, " numbers"]:
    """Of one layer, all [rows, units]."""
    size = value.abs()
    activity, largest = size.mean(0), size.max()
    dead = (value.amax(0) - value.amin(0)) <= 1e-6 * largest
    constant = (incoming.amax(0) - incoming.amin(0)).max() <= 1e-6 * incoming.abs().max()
    return torch.stack([
        value.mean(),
        value.std(correction=0),
        dead.sum(),
        (activity <= DORMANT * activity.mean()).sum(),
        ((slope.abs() < FLAT).float().mean(0) >= MOSTLY).sum(),
        largest,
        constant,
    ])  # fmt: skip


def watch_activations(moment: Moment) -> dict[str, Record]:
    """Mean and spread of every layer's activations, and how many of its units are dead, dormant or saturated.

    Healthy: spreads of the same size from layer to layer, next to no dead or saturated units, and a share of dormant
    units that does not grow. Spreads that shrink layer by layer lose the signal: larger initial weights or residual
    connections. Dead units (no reaction to any row) and saturated ones (no slope) do not learn any more: lower the
    learning rate, or begin again with smaller weights.
    """
    if moment.batch is None:
        return {}
    return records(activations(moment.model, moment.batch, loss=moment.loss))


def records(found: Activations) -> dict[str, Record]:
    """The result as records: the table "activations" and the histograms "activation histograms"."""
    if not found.names:
        return {}
    names = np.array([f"{f} of {n}" for n, f in zip(found.names, found.functions, strict=True)])
    columns = {
        "name": names, "units": found.units, "mean": found.mean, "spread": found.spread, "dead": found.dead,
        "dormant": found.dormant, "saturated": found.saturated, "constant": found.constant.astype(int),
    }  # fmt: skip
    histogram = {"edges": found.edges, "counts": found.counts, "name": names}
    return {"activations": ("table", columns), "activation histograms": ("histogram", histogram)}


def findings(found: Activations) -> Sequence[Finding]:
    """What there is to say: one finding per kind of idle unit, the share of units being its severity."""
    seen = (found.rows >= ENOUGH) & ~found.constant
    if not seen.any():
        return []
    units = int(found.units[seen].sum())
    remedies = {
        "dead": "they learn nothing: lower the learning rate, or begin again with smaller weights",
        "saturated": "no gradient passes: lower the learning rate or the scale of their inputs",
        "dormant": "their width is unused: train on, or make the layer narrower",
    }
    out = []
    for kind, remedy in remedies.items():
        share = np.where(seen, getattr(found, kind) / np.maximum(found.units, 1), 0.0)
        total, worst = int(getattr(found, kind)[seen].sum()), int(share.argmax())
        if share[worst] > TOO_MANY:
            told = f"{total} of {units} units in {int((share > 0).sum())} of {int(seen.sum())} layers, most in "
            told += f"{found.names[worst]} ({getattr(found, kind)[worst]} of {found.units[worst]})"
            out.append(Finding("warning", f"{kind} units", told, remedy, severity=total / units))
    rows = int(found.rows[seen].min())
    fine = f"{units} units in {int(seen.sum())} layers react (looked at on {rows} rows or more)"
    return out or [Finding("ok", "units", fine)]
