"""Web pages about a run. For now the report: one self-contained HTML file."""

from molifold.workbench.report import report_from_run, write_report
from molifold.workbench.results import ReportParts, Results, analyse
from molifold.workbench.verdict import Finding, findings, overall

__all__ = ["Finding", "ReportParts", "Results", "analyse", "findings", "overall", "report_from_run", "write_report"]
