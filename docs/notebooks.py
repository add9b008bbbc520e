"""The widget in JupyterLab and marimo, driven as by hand: drawn, selected in the page, read and set from Python.

Both servers come from another environment, which needs this package and ``pip install jupyterlab marimo anywidget``::

    python docs/notebooks.py runs/demo docs/images/workbench --bin /tmp/notebooks/bin
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Error, Page

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from headless import chromium, opened

SHOW = """import molifold

ensemble = molifold.Ensemble.load("demo/ensembles/generated")
widget = molifold.view(ensemble)"""
READ = 'print("read", len(widget.selection()), widget.state["row"])'
SET = """region = {"x": "psi", "y": "phi", "points": [[-3.0, 0.4], [-0.7, 0.4], [-0.7, 1.8], [-3.0, 1.8]]}
more = {"x": "psi", "y": "phi", "polygons": {"from Python": region}, "selected": "from Python"}
widget.state = {**widget.state, **more}
print("set", len(widget.selection()))"""
PORT = 8899
#: Corners of a lasso, as shares of the plot.
LASSO = [(0.2, 0.1), (0.35, 0.05), (0.4, 0.2), (0.25, 0.25)]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A notebook server over a folder; it knows nothing of this environment."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def visit(page: Page, address: str, *, seconds: float = 60) -> None:
    """Open a page of a server that is starting."""
    end = time.monotonic() + seconds
    while True:
        try:
            page.goto(address)
            break
        except Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
    page.errors.clear()  # type: ignore[attr-defined]


def choose(page: Page) -> int:
    """Pick a frame and draw a lasso; the number of frames that the page says are in it."""
    page.wait_for_selector("canvas.map[data-painted]")
    page.wait_for_timeout(3000)
    map_ = page.locator("canvas.map")
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    places = [(box["x"] + 52 + a * (box["width"] - 64), box["y"] + 10 + b * (box["height"] - 48)) for a, b in LASSO]
    page.mouse.click(*places[0])
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    page.wait_for_timeout(4000)
    return int(page.locator(".region.on b").get_attribute("data-count"))


def in_jupyter(page: Page, binaries: Path, folder: Path, picture: Path) -> None:
    """Three cells: show, read, set."""
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
        for i, text in enumerate((f"{SHOW}\nwidget", READ, SET))
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "view.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    options = ["--allow-root", "--no-browser", f"--port={PORT}", "--ServerApp.token=t", "--LabApp.news_url="]
    with running([str(binaries / "jupyter-lab"), *options], folder):
        visit(page, f"http://127.0.0.1:{PORT}/lab/tree/view.ipynb?token=t&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_timeout(6000)
        for button in page.get_by_role("button", name="No", exact=True).all():
            button.click()
        run_cell(page, 0)
        inside = choose(page)
        page.locator(".jp-Notebook").evaluate("e => e.scrollTop = 0")
        page.wait_for_timeout(1500)
        page.screenshot(path=picture)
        run_cell(page, 1)
        run_cell(page, 2)
        said = [line.inner_text().split() for line in page.locator(".jp-OutputArea-output pre").all()]
        judged("JupyterLab", inside, said, page)


def run_cell(page: Page, number: int) -> None:
    """Run one cell and give its kernel time."""
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(number).click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(5000)


def in_marimo(page: Page, binaries: Path, folder: Path) -> None:
    """The same in an app: a cell that follows the widget, and a button that sets it."""
    setting = "\n        ".join([*SET.splitlines()[:-1], 'told(f"set {len(widget.selection())}")'])
    text = (
        "import marimo\napp = marimo.App(width='full')\n\n@app.cell\ndef _():\n    import marimo as mo\n    "
        + SHOW.replace("\n", "\n    ").replace("    \n", "\n")
        + "\n    shown = mo.ui.anywidget(widget)\n    say, told = mo.state('')\n    shown\n"
        "    return mo, say, shown, told, widget\n\n"
        "@app.cell\ndef _(mo, shown, widget):\n    shown.value\n"
        "    mo.md(f'read {len(widget.selection())} {widget.state.get(\"row\")}')\n    return\n\n"
        f"@app.cell\ndef _(mo, told, widget):\n    def put(_):\n        {setting}\n"
        "    mo.ui.button(label='set from Python', on_click=put)\n    return\n\n"
        "@app.cell\ndef _(mo, say):\n    mo.md(say())\n    return\n"
    )
    (folder / "view.py").write_text(text, encoding="utf-8")
    options = ["run", "view.py", "--headless", "--port", str(PORT + 1), "--no-token"]
    with running([str(binaries / "marimo"), *options], folder):
        visit(page, f"http://127.0.0.1:{PORT + 1}/")
        inside = choose(page)
        said = [line.inner_text().split() for line in page.get_by_text("read ").all()]
        page.get_by_role("button", name="set from Python").last.click()
        page.wait_for_timeout(5000)
        said += [line.inner_text().split() for line in page.get_by_text("set ", exact=False).all()]
        judged("marimo", inside, [s for s in said if len(s) > 1 and s[1].isdigit()], page)


def judged(where: str, inside: int, said: list[list[str]], page: Page) -> None:
    """Python read what the page says, and the page shows what Python set."""
    heard = {words[0]: int(words[1]) for words in said if words}
    now = int(page.locator(".region.on b").get_attribute("data-count"))
    name = page.locator(".region.on button.link").inner_text()
    print(f"{where}: lasso {inside}, Python read {heard['read']}; Python set {heard['set']}, the page shows {now}")
    assert (heard["read"], heard["set"], name) == (inside, now, "from Python")
    assert page.errors == [], page.errors  # type: ignore[attr-defined]
    assert page.outside == [], page.outside  # type: ignore[attr-defined]


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--bin", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        (folder / "demo").symlink_to(asked.run.resolve())
        with opened(browser) as page:
            in_jupyter(page, asked.bin, folder, asked.to / "jupyter.png")
        with opened(browser) as page:
            in_marimo(page, asked.bin, folder)
    from screenshots import reduced

    reduced(asked.to / "jupyter.png")


if __name__ == "__main__":
    main()
