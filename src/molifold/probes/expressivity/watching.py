"""Expressivity as a probe, and as records of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from molifold.interfaces import Moment, Record
from molifold.probes.expressivity.probe import expressivity
from molifold.probes.expressivity.sites import Sources, count
from molifold.probes.expressivity.verdict import Verdict

#: Examples below which nothing is said: half propose, half verify.
FEWEST = 100


def watch_expressivity(
    moment: Moment,
    *,
    sources: Sources | None = None,
    blocks: Sequence[str] = (),
    features: int = 16,
    level: float = 0.01,
) -> dict[str, Record]:
    """Which layers lack power, what they miss, and whether a real step with new units lowers the loss.

    Healthy: kind is "sound" or, while the loss still falls, "under-trained". "under-powered" with a measured gain near
    the predicted one is an alarm: widen the layer before it, or show it what it misses. Alarms early in a training may
    pass; act on those that stay.

    Needs a probe batch of hundreds of examples (``fit(probe_frames=1000)``) and as much time as several training steps;
    the budget decides how often. Arguments besides the moment as in ``expressivity``, by ``functools.partial``.
    """
    if moment.batch is None or moment.loss is None or count(moment.batch) < FEWEST:
        return {}
    found = expressivity(
        moment.model, moment.loss, moment.batch, sources=sources, blocks=blocks, features=features, level=level,
        trials=0,
    )  # fmt: skip
    return {
        "expressivity": ("table", verdict_table(found.verdicts)),
        "what is missing": ("map", source_map(found.verdicts)),
    }


def verdict_table(verdicts: Sequence[Verdict]) -> dict[str, ndarray]:
    """Columns of the record "expressivity", one row per layer."""
    nan = float("nan")
    return {
        "name": np.array([v.site for v in verdicts]),
        "kind": np.array([v.kind for v in verdicts]),
        "missing": np.array([v.source for v in verdicts]),
        "t": np.array([v.evidence for v in verdicts]),
        "under_trained": np.array([v.under_trained for v in verdicts]),
        "linear": np.array([v.reducible_linear for v in verdicts]),
        "nonlinear": np.array([v.reducible_nonlinear for v in verdicts]),
        "irreducible": np.array([v.irreducible for v in verdicts]),
        "predicted": np.array([nan if v.check is None else v.check.predicted for v in verdicts]),
        "measured": np.array([nan if v.check is None else v.check.measured for v in verdicts]),
        "error": np.array([nan if v.check is None else v.check.error for v in verdicts]),
        "explained": np.array([v.explained for v in verdicts]),
    }


def source_map(verdicts: Sequence[Verdict]) -> dict[str, ndarray]:
    """The record "what is missing": significance t of every source at every layer."""
    names = list(dict.fromkeys(name for v in verdicts for name in v.tests))
    t = [[v.tests[n].t if n in v.tests else float("nan") for n in names] for v in verdicts]
    return {"values": np.array(t), "x": np.array(names), "y": np.array([v.site for v in verdicts])}
