"""Page: findings and pictures as one HTML file that needs no network and runs no script."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from molifold.ensemble import Ensemble
from molifold.workbench.guide import Panel
from molifold.workbench.verdict import Finding

_MARKS = {"good": "✓", "fair": "!", "bad": "✗"}
#: What views may do besides: run the code that they carry, and draw into images.
_SCRIPTS = " blob:; script-src 'unsafe-inline'"
_WORDS = {"good": "good", "fair": "take care", "bad": "bad"}


@dataclass(frozen=True)
class Page:
    """What stands on a page, top to bottom.

    Args:
        title, subtitle: of the page; what and how much it is about.
        verdict: the first words, as good as the worst finding.
        findings: behind the verdict.
        panels: pictures with how to read them.
        settings: anything worth knowing later; may be nested.
        notes: sections of text, a line per item; empty ones are left out.
        views: a whole page of interactive views that stands in a frame under the verdict; only then scripts may run.
    """

    title: str
    subtitle: str
    verdict: Finding
    findings: Sequence[Finding]
    panels: Iterable[Panel]
    settings: Mapping[str, Any]
    notes: Mapping[str, str] = field(default_factory=dict)
    views: str = ""

    def write(self, path: str | Path) -> Path:
        """Write one self-contained file and return its path; directories are made.

        All text is escaped, and the page forbids itself every outside request; scripts are those of its views only.
        """
        files = resources.files("molifold.workbench")
        text = Template(files.joinpath("report.html").read_text(encoding="utf-8")).substitute(
            title=html.escape(self.title),
            style=files.joinpath("report.css").read_text(encoding="utf-8"),
            subtitle=html.escape(self.subtitle),
            status=self.verdict.status,
            verdict=html.escape(self.verdict.title),
            summary=html.escape(self.verdict.text),
            findings="\n".join(map(_finding, self.findings)),
            scripts=_SCRIPTS if self.views else "",
            views="\n".join(_views(self.views)),
            panels="\n".join([*_sections(self.panels), *_notes(self.notes), _settings(self.settings)]),
            footer=html.escape(_footer()),
        )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that nobody reads half a page.
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        return path


def provenance(ensemble: Ensemble) -> dict[str, Any]:
    """What an ensemble is and where it comes from, for the settings of a page."""
    return {"ensemble": repr(ensemble), **ensemble.meta}


def _finding(f: Finding) -> str:
    advice = f'<p class="do">{html.escape(f.advice)}</p>' if f.advice else ""
    return (
        f'<div class="finding {f.status}"><h3><span class="mark" title="{_WORDS[f.status]}">{_MARKS[f.status]}</span>'
        f'{html.escape(f.title)}</h3><p class="number">{html.escape(f.number)}</p>'
        f"<p>{html.escape(f.text)}</p>{advice}</div>"
    )


def _sections(panels: Iterable[Panel]) -> Iterator[str]:
    explained: set[str] = set()
    for i, panel in enumerate(panels):
        # A chain has a map per residue: how to read them is said once.
        yield _section(panel, key=f"f{i}", explain=panel.help.healthy not in explained)
        explained.add(panel.help.healthy)


def _section(panel: Panel, *, key: str, explain: bool) -> str:
    from molifold.workbench.svg import inline  # matplotlib, which a live page does without

    answers = zip(("Shows", "Healthy", "Otherwise"), panel.help, strict=True)
    terms = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in answers)
    reading = f"<dl>{terms}</dl>\n" if explain else ""
    picture = inline(panel.picture.figure(), key=key, title=panel.title)
    return (
        f"<section>\n<h2>{html.escape(panel.title)}</h2>\n<figure>{picture}</figure>\n"
        f"{_table(panel.rows)}{reading}</section>"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    line = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in body)
    return f'<div class="scroll"><table class="numbers"><tr>{line}</tr>\n{lines}</table></div>\n'


def _views(page: str) -> Iterator[str]:
    if page:
        yield (
            '<section class="explore">\n<h2>Explore</h2>\n<p>Click, lasso and turn: the pages of molifold watch, with '
            'some frames of every ensemble. All that follows below is of all frames.</p>\n<iframe title="interactive '
            f'views" srcdoc="{html.escape(page)}"></iframe>\n</section>'
        )


def _notes(notes: Mapping[str, str]) -> Iterator[str]:
    for title, text in notes.items():
        lines = "".join(f"<li>{html.escape(line)}</li>\n" for line in text.splitlines())
        if lines:
            yield f"<section>\n<h2>{html.escape(title)}</h2>\n<ul>\n{lines}</ul>\n</section>"


def _settings(settings: Mapping[str, Any]) -> str:
    rows = dict(_flat(settings))
    lines = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>\n" for k, v in rows.items())
    return f"<section>\n<h2>Settings and provenance</h2>\n<table>\n{lines}</table>\n</section>"


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as dotted names and text."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif tree is not None and tree != []:
        yield prefix, str(tree)


def _footer() -> str:
    from datetime import UTC, datetime

    import molifold

    now = datetime.now(UTC)
    return f"molifold {molifold.__version__} · {now:%Y-%m-%d %H:%M} UTC · this page is one file and loads nothing"
