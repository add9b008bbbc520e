"""Looking at runs and ensembles: a report, a live page, one file with the same views, and a notebook widget."""

from molifold.workbench.export import export_view
from molifold.workbench.notebook import view
from molifold.workbench.report import report_from_run, write_analysis, write_report
from molifold.workbench.results import ReportParts, Results, analyse
from molifold.workbench.verdict import Finding, findings, overall

__all__ = [
    "Finding", "ReportParts", "Results", "analyse", "export_view", "findings", "overall", "report_from_run", "view",
    "write_analysis", "write_report",
]  # fmt: skip
