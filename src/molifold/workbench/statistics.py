"""Statistics of a run or of one ensemble as named pictures: computed once per state of the ensembles, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from molifold.workbench.collection import Collection
from molifold.workbench.evolving import FEW
from molifold.workbench.guide import Panel
from molifold.workbench.panels import panels
from molifold.workbench.parts import parts_of_run
from molifold.workbench.results import ReportParts, analyse
from molifold.workbench.verdict import Finding, findings


@dataclass(frozen=True)
class Statistics:
    """What can be said of ``draws`` conformations: findings in plain words and panels by key.

    ``step`` is that of the training at which they were drawn, None at its end; ``steps`` are all that there are.
    """

    findings: tuple[Finding, ...]
    panels: dict[str, Panel]
    draws: int
    step: int | None = None
    steps: tuple[int, ...] = ()

    def listed(self) -> dict[str, Any]:
        """Everything but the pictures, JSON-able."""
        return {
            "findings": [
                {"status": f.status, "title": f.title, "number": f.number, "text": f.text, "advice": f.advice}
                for f in self.findings
            ],
            "pictures": [
                {"key": key, "title": p.title, "help": list(p.help), "rows": [list(r) for r in p.rows]}
                for key, p in self.panels.items()
            ],
            "draws": self.draws,
            "step": self.step,
            "steps": list(self.steps),
        }


def drawn_by(collection: Collection, run: str) -> str:
    """The ensemble that holds the draws of a run; empty if it has none yet."""
    known = collection.ensembles()
    return next((name for name in (f"{run}/generated", f"{run}/history") if run and name in known), "")


def steps_of(collection: Collection, run: str) -> tuple[int, ...]:
    """Steps of a training at which enough was drawn for statistics, in rising order."""
    if f"{run}/history" not in collection.ensembles():
        return ()
    steps, counts = np.unique(collection.ensemble(f"{run}/history").columns["step"], return_counts=True)
    return tuple(int(s) for s in steps[counts >= FEW])


def statistics_of(collection: Collection, *, run: str, ensemble: str, step: int | None = None) -> Statistics:
    """Of the draws of ``run`` against its simulation (the last ones while it learns); else of ``ensemble`` alone.

    Args:
        collection: where both are looked up.
        run: whose draws, if it has any.
        ensemble: what else.
        step: of the training of ``run``: of the draws of that look only.

    Raises:
        KeyError: if there is neither.
        ValueError: if nothing was drawn at that step.
    """
    if drawn_by(collection, run):
        parts = parts_of_run(collection.run(run), step=step)
    else:
        parts = ReportParts(collection.ensemble(ensemble))
    results = analyse(parts)
    found = findings(results) if parts.generated.log_q is not None else []
    made = {p.key: p for p in panels(parts, results)}
    return Statistics(tuple(found), made, draws=len(parts.generated), step=step, steps=steps_of(collection, run))
