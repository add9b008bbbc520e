"""One headless browser for the tests of the page; `benchmarks` drives it the same way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def browser():
    from headless import chromium

    with chromium() as running:
        yield running
