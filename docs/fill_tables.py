"""Write the tables of docs/benchmarks.md from benchmarks/results/NAME.json; nothing there is typed by hand.

A result is what ``benchmarks/measure.py`` writes: rows of equal keys, and the machine and versions behind them::

    python benchmarks/energies.py --json benchmarks/results/energies.json
    python docs/fill_tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
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


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
