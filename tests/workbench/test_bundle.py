"""The committed bundle is what its sources give, its own tests and linter pass, and it stays small."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src" / "molifold" / "workbench" / "static"
#: Lines of hand-written front end, and characters of one of them.
LINES, WIDTH = 2000, 300
pytestmark = pytest.mark.xdist_group("browser")


def run(*command: str) -> None:
    assert (WEB / "node_modules").is_dir(), "the front end's tools are missing; `make browser` installs them"
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bundle_is_built_from_these_sources(tmp_path):
    run("node", "build.mjs", f"{tmp_path}/")
    for name in ("views.js", "views.css"):
        assert (tmp_path / name).read_bytes() == (STATIC / name).read_bytes(), f"{name} is stale; run `make bundle`"


def test_tests_and_linter_of_the_front_end():
    run("npm", "test", "--silent")
    run("npx", "eslint", ".")


def test_the_front_end_stays_small_and_asks_nobody():
    sources = sorted((WEB / "src").iterdir())
    lines = [line for path in sources for line in path.read_text().splitlines()]
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)[:120]
    for path in sources:
        assert "https://" not in path.read_text()
