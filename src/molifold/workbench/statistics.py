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


def statistics_of(collection: Collection, *, run: str, ensemble: str) -> Statistics:
    """Of the draws of ``run`` against its simulation; of ``ensemble`` alone if the run has no draws yet.

    Raises:
        KeyError: if there is neither.
    """
    if run and f"{run}/generated" in collection.ensembles():
        parts = parts_of_run(collection.run(run))
    else:
        parts = ReportParts(collection.ensemble(ensemble))
    results = analyse(parts)
    found = findings(results) if parts.generated.log_q is not None else []
    return Statistics(tuple(found), {p.key: p for p in panels(parts, results)})
