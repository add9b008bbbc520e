"""Statistics of a run or of one ensemble as named pictures: computed once per state of the ensembles, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from molifold.workbench.collection import Collection
from molifold.workbench.guide import Panel
from molifold.workbench.panels import panels
from molifold.workbench.report import parts_of_run
from molifold.workbench.results import ReportParts, analyse
from molifold.workbench.verdict import Finding, findings


@dataclass(frozen=True)
class Statistics:
    """What can be said of the draws of a run: findings in plain words and panels by key."""

    findings: tuple[Finding, ...]
    panels: dict[str, Panel]

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
        }


def drawn_by(collection: Collection, run: str) -> str:
    """The ensemble that holds the draws of a run; empty if it has none yet."""
    known = collection.ensembles()
    return next((name for name in (f"{run}/generated", f"{run}/history") if run and name in known), "")


def statistics_of(collection: Collection, *, run: str, ensemble: str) -> Statistics:
    """Of the draws of ``run`` against its simulation (the last ones while it learns); else of ``ensemble`` alone.

    Raises:
        KeyError: if there is neither.
    """
    if drawn_by(collection, run):
        parts = parts_of_run(collection.run(run))
    else:
        parts = ReportParts(collection.ensemble(ensemble))
    results = analyse(parts)
    found = findings(results) if parts.generated.log_q is not None else []
    return Statistics(tuple(found), {p.key: p for p in panels(parts, results)})
