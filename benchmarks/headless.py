"""A headless Chromium on software rendering, and a workbench that a process of its own serves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

#: SwiftShader draws, so that every machine gives the same pixels; the rest keeps the browser from asking anybody.
ARGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FOREIGN = re.compile(r"(https?|wss?)://(?!(127\.0\.0\.1|localhost)[:/])")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium.

    Raises:
        FileNotFoundError: if none is installed.
    """
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise FileNotFoundError("no Chromium found; `make browser` installs Debian's (apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield running
        running.close()


@contextmanager
def opened(browser: Browser, *, width: int = 1500, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """A page that notes every outside request (``page.outside``) and error (``page.errors``)."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page.set_default_timeout(120_000)  # a loaded machine; what must be quick is measured
    outside: list[str] = []
    errors: list[str] = []
    page.outside, page.errors = outside, errors  # type: ignore[attr-defined]

    # Looked at, not held up: a request that waits for Python is a slow one.
    page.on("request", lambda request: outside.append(request.url) if FOREIGN.match(request.url) else None)
    page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("response", lambda r: errors.append(f"{r.request.post_data}: {r.text()}") if r.status >= 400 else None)
    yield page
    page.close()


@dataclass(frozen=True)
class Served:
    """A workbench at an address with a token, and the process behind it."""

    address: str
    pid: int

    def at(self, **state: object) -> str:
        """Address of what is open."""
        return f"{self.address}#{urllib.parse.quote(json.dumps(state))}"

    def megabytes(self, field: str = "VmRSS") -> float:
        """Memory of the server; ``VmHWM`` is the most so far. Pages of mapped files count."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def cpu_milliseconds() -> float:
    """CPU time so far of the browser and of all servers that this process started: what nobody else's load adds to."""
    told: dict[int, tuple[int, int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                head, _, rest = (entry / "stat").read_text().rpartition(")")
                fields = rest.split()
                told[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12]), head.partition("(")[2]
    family, ticks = {os.getpid()}, 0
    for pid in sorted(told):  # parents before children, as long as process numbers do not wrap
        parent, used, name = told[pid]
        if parent in family and pid not in family:
            family.add(pid)
            ticks += used if name != "node" else 0
    return 1000 * ticks / os.sysconf("SC_CLK_TCK")


def heap_megabytes(page: Page) -> float:
    """JavaScript's memory of a page after a collection of garbage."""
    session: Any = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")
    session.detach()
    return (used["usedSize"] + used.get("backingStorageSize", 0)) / 2**20


@contextmanager
def served(*paths: str | Path) -> Iterator[Served]:
    """``molifold watch`` of some paths."""
    program = "from molifold.cli import app; app()"
    command = [sys.executable, "-c", program, "watch", *map(str, paths), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Served(process.stdout.readline().strip(), process.pid)  # type: ignore[union-attr]
    finally:
        process.terminate()
        process.wait()
