"""The documentation is true: its Python runs, its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page, *languages):
    """Line number, info words and text of the fenced blocks in one of the languages."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        words = found["info"].split()
        if words and words[0] in languages:
            yield text[: found.start("body")].count("\n"), words[1:], found["body"]


def name(page):
    return str(page.relative_to(ROOT))


def with_python(pages):
    return [page for page in pages if any("no-run" not in words for _, words, _ in blocks(page, "python"))]


@pytest.mark.parametrize("page", with_python(PAGES), ids=name)
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, as a reader would paste them; ``python no-run`` is skipped."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, words, body in blocks(page, "python"):
        if "no-run" not in words:
            exec(compile("\n" * line + body, str(page), "exec"), namespace)


def commands():
    for page in PAGES:
        for line, _, body in blocks(page, "sh", "bash", "console"):
            for offset, text in enumerate(body.replace("\\\n", "  ").splitlines(), start=1):
                words = text.removeprefix("$ ").split("#")[0].strip()
                if words.startswith(("molifold ", "make ")):
                    yield pytest.param(words, id=f"{name(page)}:{line + offset}")
        for words in re.findall(r"`((?:molifold|make) [a-z][^`]*)`", page.read_text(encoding="utf-8")):
            yield pytest.param(words, id=f"{name(page)}:{words}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_exist(words):
    program, *arguments = shlex.split(words)
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets
        return
    from molifold.cli import app

    group = typer.main.get_command(app)
    flags = [a.split("=")[0] for a in arguments if re.match(r"--?[a-zA-Z]", a)]
    known = {option for parameter in group.params for option in parameter.opts} | {"--help", "-h"}
    for argument in arguments:  # a command, or a group and one of its commands
        if not hasattr(group, "commands") or argument.startswith("-"):
            break
        assert argument in group.commands, f"no command {argument!r}"
        group = group.commands[argument]
        known |= {o for p in group.params for o in (*p.opts, *p.secondary_opts)}
    assert set(flags) <= known, f"no option {sorted(set(flags) - known)}"


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken, f"{name(page)}: {broken}"


def test_every_page_is_reached_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / t.partition("#")[0]).resolve() for t in LINK.findall(index.read_text(encoding="utf-8"))}
    orphans = [name(p) for p in PAGES if p.parent == index.parent and p != index and p.resolve() not in linked]
    assert not orphans


def test_the_table_of_probes_is_what_their_docstrings_say():
    import runpy

    script = runpy.run_path(str(ROOT / "docs" / "fill_tables.py"))
    page = (ROOT / "docs" / "diagnosing.md").read_text(encoding="utf-8")
    assert len(script["probes"]()) >= 10
    same = script["filled_probes"](page) == page
    assert same, "run python docs/fill_tables.py"


def test_benchmark_tables_are_what_was_measured(tmp_path, monkeypatch):
    import runpy

    script = runpy.run_path(str(ROOT / "docs" / "fill_tables.py"))
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    same = script["filled"](page) == page  # compared here: a diff of two long pages would take pytest minutes
    assert same, "run python docs/fill_tables.py"
    result = {
        "title": "Energies",
        "machine": "m",
        "rows": [{"what": "ours", "us": 2.2345}, {"what": "theirs", "us": 52}],
    }
    (tmp_path / "energies.json").write_text(json.dumps(result))
    monkeypatch.setitem(script["filled"].__globals__, "RESULTS", tmp_path)
    filled = script["filled"](page)
    assert "| what | us |\n| --- | --- |\n| ours | 2.23 |\n| theirs | 52 |" in filled
    stable = script["filled"](filled) == filled
    assert stable


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=name)
def test_examples_run(script, tmp_path, monkeypatch, capsys):
    """Every script of the gallery: one idea, 10 to 25 lines, a sentence first, something printed last."""
    import runpy

    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 30, "an example is one idea"
    assert text.startswith('"""'), "an example begins by saying what it shows"
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip(), "an example prints what it found"
