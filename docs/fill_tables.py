"""Write the tables of docs/benchmarks.md from benchmarks/results/NAME.json; nothing there is typed by hand.

That of docs/diagnosing.md comes from the docstrings of the probes.

A result is what ``benchmarks/measure.py`` writes: rows of equal keys, and the machine and versions behind them::

    python benchmarks/energies.py --json benchmarks/results/energies.json
    python docs/fill_tables.py
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
PROBES = Path(__file__).with_name("diagnosing.md")
PACKAGE = Path(__file__).parents[1] / "src" / "molifold"
PROBE_SLOT = re.compile(r"(?<=<!-- probes -->\n).*?(?=<!-- end -->)", re.DOTALL)
SLOT = re.compile(r"(?<=<!-- table: )(?P<name>\w+) -->\n(?P<old>.*?)(?=<!-- end -->)", re.DOTALL)


def cell(value: object) -> str:
    """Text of one entry: three significant digits for a number that is not whole."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def table(name: str, result: dict) -> str:
    """A result as Markdown, with where and how it was measured below."""
    columns = list(result["rows"][0])
    rows = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in result["rows"])]
    lines = ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    known = [f"{key} {result[key]}" for key in ("machine", "threads", "torch") if key in result]
    return "\n".join(
        [*lines, "", f"{result['title']}; {', '.join(known)}: `benchmarks/{result.get('script', name)}.py`."]
    )


def filled(page: str) -> str:
    """The page with every slot filled from its result; slots without one say so."""

    def fill(slot: re.Match[str]) -> str:
        file = RESULTS / f"{slot['name']}.json"
        text = (
            table(slot["name"], json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "not measured yet"
        )
        return f"{slot['name']} -->\n{text}\n"

    return SLOT.sub(fill, page)


def probes() -> list[tuple[str, str]]:
    """Name and docstring of every probe of the package: what takes a ``Moment`` and returns records."""
    found = []
    for file in sorted([*(PACKAGE / "probes").rglob("*.py"), *(PACKAGE / "training").rglob("*.py")]):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            called = node
            if isinstance(node, ast.ClassDef):
                called = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__call__"), None)
            if not isinstance(called, ast.FunctionDef) or called.returns is None:
                continue
            takes = any(a.annotation is not None and ast.unparse(a.annotation) == "Moment" for a in called.args.args)
            text = ast.get_docstring(node) or ""
            if takes and "Healthy:" in text and "Record" in ast.unparse(called.returns):
                found.append((node.name, text))
    return found


def probes_table() -> str:
    """What every probe shows, what is healthy, and what to do otherwise: the three parts of its docstring."""
    rows = ["| probe | what it shows | healthy | otherwise |", "| --- | --- | --- | --- |"]
    for name, text in probes():
        shows, _, rest = " ".join(re.split(r"\n *Args:", text)[0].split()).partition("Healthy:")
        healthy, _, otherwise = rest.strip().partition(". ")
        otherwise = re.sub(r"^Otherwise[:,]? *", "", otherwise)
        cells = (f"`{name}`", shows.strip(), healthy.rstrip(".") + ".", otherwise[:1].upper() + otherwise[1:])
        rows.append("| " + " | ".join(c.replace("|", "\\|").replace("``", "`") for c in cells) + " |")
    return "\n".join(rows) + "\n"


def filled_probes(page: str) -> str:
    """The page of the diagnosis with the table of all probes."""
    return PROBE_SLOT.sub(lambda _: probes_table(), page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PROBES.write_text(filled_probes(PROBES.read_text(encoding="utf-8")), encoding="utf-8")
