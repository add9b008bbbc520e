"""The workbench in a real browser at two million frames, beside chemiscope in the same browser.

Times are taken in the page: from the release of the mouse button to the second animation frame after the structures
were replaced (or the map was painted). A load counts from the navigation, with a server that has measured nothing yet.
Chromium draws in software. CPU is what browser and server together used meanwhile, so a busy machine counts in the
first number only; the ratio to chemiscope is one of CPU. chemiscope runs from the bundle in its Python package, its
data behind a static server::

    pip install --no-deps --target /tmp/peers chemiscope
    python benchmarks/workbench.py --chemiscope /tmp/peers/chemiscope --json benchmarks/results/workbench.json

Rows that were not measured again (``--frames``) are kept in the file.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
from dipeptide import BASINS, draws
from headless import Served, chromium, cpu_milliseconds, heap_megabytes, opened, served
from measure import arguments, show
from playwright.sync_api import Browser, Page

from molifold import analysis, store
from molifold.data import example

PIECE = 50_000
CLICKS, DRAGS, LASSOS = 15, 20, 5
#: Margins of map.js, in pixels: left, right, top, bottom.
MARGIN = (52, 12, 10, 38)
#: In the page: ``seen`` holds [what, ms since the button was released, a number]; painted maps and shown structures.
WATCHING = """
window.seen = []; window.released = 0;
addEventListener("pointerup", () => { window.released = performance.now(); }, true);
const next = requestAnimationFrame, note = (...what) => window.seen.push(what);
const drawn = (what, n) => next(() => next(() => note(what, performance.now() - window.released, n)));
new MutationObserver((changes) => { for (const { target, attributeName } of changes) {
  if (attributeName === "data-painted") drawn("map", Number(target.dataset.painted));
  else drawn("structures", target.dataset.rows.split(" ").filter(Boolean).length);
} }).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-rows", "data-painted"] });
"""
CHEMISCOPE = """<!doctype html><meta charset="utf-8">
<style>body{margin:0;display:flex}div{width:740px;height:860px}</style>
<div><div id="meta" style="height:20px"></div><div id="map"></div></div>
<div><div id="structure"></div><div id="info"></div></div>
<script src="chemiscope.min.js"></script><script>
window.seen = []; window.released = 0;
addEventListener("pointerup", () => { window.released = performance.now(); }, true);
const next = requestAnimationFrame, note = (...what) => window.seen.push(what);
const drawn = (what) => next(() => next(() => note(what, performance.now() - window.released, 1)));
(async () => {
  const data = await (await fetch("data.json")).json();
  const where = { meta: "meta", map: "map", structure: "structure", info: "info" };
  const view = await Chemiscope.DefaultVisualizer.load(where, data), show = view.structure.show.bind(view.structure);
  view.structure.show = async (...a) => { await show(...a); drawn("structures"); };
  drawn("map");
})();
</script>"""


@dataclass(frozen=True)
class Took:
    """Median and shortest wall time, and mean CPU time (whose ticks are 10 ms); of memory, the first only."""

    middle: float
    least: float | str = ""
    cpu: float | str = ""


#: What was measured, by name.
Measured = dict[str, Took]


def keep(path: Path, frames: int) -> Path:
    """So many draws in a store."""
    with store.Writer(path, example("alanine-dipeptide").molecule) as writer:
        for start in range(0, frames, PIECE):
            part = draws(min(PIECE, frames - start), seed=start)
            writer.append(part.x, log_p=part.log_p, log_q=part.log_q)
    return path


def told(page: Page, what: str, *, number: int | None = None, seconds: float = 180) -> tuple[float, float]:
    """Milliseconds and number of the next thing of a kind that the page saw; what came before it is dropped."""
    for _ in range(int(20 * seconds)):
        seen = page.evaluate("window.seen")
        for i, (kind, ms, n) in enumerate(seen):
            if kind == what and (number is None or n == number):
                page.evaluate(f"window.seen.splice(0, {i + 1})")
                return ms, n
        page.wait_for_timeout(50)
    raise TimeoutError(f"{what}: nothing after {seconds} s; the page saw {page.evaluate('window.seen')}")


def pixel(page: Page, phi: float, psi: float) -> tuple[float, float]:
    """Where angles (degrees) lie on the screen while the map shows the whole circle."""
    box = page.locator("canvas.map").bounding_box()
    left, right, top, bottom = MARGIN
    across, up = (phi + 180) / 360, (psi + 180) / 360
    return (
        box["x"] + left + across * (box["width"] - left - right),
        box["y"] + top + (1 - up) * (box["height"] - top - bottom),
    )


class Clock:
    """Wall and CPU milliseconds of single actions."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def action(self, page: Page, act: Callable[[], object], what: str, number: int | None = None) -> None:
        """Do it and wait until the page has seen what comes of it."""
        page.wait_for_timeout(300)
        page.evaluate("window.seen.length = 0")
        before = cpu_milliseconds()
        act()
        self.wall.append(told(page, what, number=number)[0])
        self.cpu.append(cpu_milliseconds() - before)

    def result(self) -> Took:
        """Of all actions so far."""
        return Took(median(self.wall), min(self.wall), mean(self.cpu))


def click(page: Page, clock: Clock, x: float, y: float) -> None:
    page.mouse.move(x, y)
    clock.action(page, lambda: page.mouse.click(x, y), "structures", 1)


def lassos(page: Page) -> Clock:
    page.get_by_role("button", name="Lasso").click()
    clock = Clock()
    for i in range(LASSOS):
        middle, corners = BASINS[i % 3, :2], [(14, 0), (5, 13), (-11, 9), (-12, -8), (2, -15)]
        page.mouse.move(*pixel(page, *(middle + corners[0])))
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*pixel(page, *(middle + corner)), steps=4)
        clock.action(page, page.mouse.up, "structures", 200)
        page.wait_for_selector(".small-multiples svg")
    page.get_by_role("button", name="Pick").click()
    return clock


def redraws(page: Page) -> Took:
    """Milliseconds of a paint while the map is dragged and zoomed."""
    x, y = pixel(page, 0, 0)
    page.evaluate("window.seen.length = 0")
    before = cpu_milliseconds()
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(DRAGS):
        page.mouse.move(x + 7 * k, y + 3 * k)
        page.wait_for_timeout(40)
    page.mouse.up()
    for k in range(DRAGS):
        page.mouse.wheel(0, 60 if k % 2 else -60)
        page.wait_for_timeout(40)
    page.wait_for_timeout(600)
    paints = [number for what, _, number in page.evaluate("window.seen") if what == "map"]
    return Took(median(paints), min(paints), (cpu_milliseconds() - before) / len(paints))


def ours(browser: Browser, path: Path) -> Measured:
    """What a page over a store takes."""
    places = np.random.default_rng(1).normal(BASINS[np.arange(CLICKS) % 3, :2], 8)
    with served(path) as server:
        found = {"load cold": load(browser, server), "load warm": load(browser, server)}
        with opened(browser) as page:
            page.add_init_script(WATCHING)
            page.goto(server.at(page="conformations", colour="free energy"))
            told(page, "map")
            for place in places[:3]:  # the first click starts the 3D view, the next ones warm the compiler
                click(page, Clock(), *pixel(page, *place))
            clock = Clock()
            for place in places:
                click(page, clock, *pixel(page, *place))
            found["click"] = clock.result()
            print("clicks", *map(round, clock.wall), flush=True)
            found["lasso"] = lassos(page).result()
            found["paint free energy"] = redraws(page)
            for shown in ("density", "psi"):
                page.locator("select").nth(3).select_option(shown)
                page.wait_for_timeout(1500)
                found[f"paint {'density' if shown == 'density' else 'column'}"] = redraws(page)
            found |= {"page": Took(heap_megabytes(page)), "server": Took(server.megabytes("VmHWM"))}
            assert page.outside == [], page.outside
            assert page.errors == [], page.errors
    return found


def load(browser: Browser, server: Served) -> Took:
    """Seconds from the navigation to a painted map."""
    with opened(browser) as page:
        page.add_init_script(WATCHING)
        before = cpu_milliseconds()
        page.goto(server.at(page="conformations"))
        seconds = told(page, "map")[0] / 1000
        return Took(seconds, seconds, (cpu_milliseconds() - before) / 1000)


@contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    """A folder over HTTP on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def theirs(browser: Browser, frames: int, package: Path) -> Measured:
    """The peer, chemiscope, over the same frames: its own bundle, data and page in a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(package / "sphinx" / "static" / "chemiscope.min.js", folder)
        (folder / "index.html").write_text(CHEMISCOPE, encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(dataset(frames)), encoding="utf-8")
        with folder_served(folder) as address, opened(browser) as page:
            before = cpu_milliseconds()
            page.goto(f"{address}/index.html")
            seconds = told(page, "map")[0] / 1000
            found = {"load warm": Took(seconds, seconds, (cpu_milliseconds() - before) / 1000)}
            found["click"] = their_clicks(page).result()
            found["page"] = Took(heap_megabytes(page))
    return found


def dataset(frames: int) -> dict[str, object]:
    """Frames as chemiscope's JSON (angstrom), with phi and psi (degrees) as its map."""
    structures, columns = [], {"phi": [], "psi": []}
    for start in range(0, frames, PIECE):
        part = analysis.measure(draws(min(PIECE, frames - start), seed=start), names=["phi", "psi"])
        names = list(part.molecule.elements)
        x = np.round(10 * part.x.transpose(0, 2, 1), 3).tolist()
        structures += [{"size": len(names), "names": names, "x": a, "y": b, "z": c} for a, b, c in x]
        for key, values in columns.items():
            values += np.round(np.rad2deg(part.columns[key]), 3).tolist()
    axes = {"x": {"property": "phi"}, "y": {"property": "psi"}}
    return {
        "meta": {"name": "draws"},
        "structures": structures,
        "properties": {key: {"target": "structure", "values": values} for key, values in columns.items()},
        "settings": {"map": axes, "target": "structure"},
    }


def their_clicks(page: Page) -> Clock:
    """Click points of the map. Plotly takes a click only on a point that it has marked under the mouse before."""
    box = page.locator("#map .nsewdrag").first.bounding_box()
    rng, clock = np.random.default_rng(1), Clock()
    for _ in range(12 * CLICKS):
        x, y = box["x"] + box["width"] * rng.uniform(0.1, 0.9), box["y"] + box["height"] * rng.uniform(0.1, 0.9)
        page.mouse.move(x - 2, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(700)
        if page.locator("#map .hoverlayer .hovertext").count():
            clock.action(page, lambda x=x, y=y: page.mouse.click(x, y), "structures")
        if len(clock.wall) == CLICKS:
            break
    return clock


WORDS = {
    "load cold": ("load to a painted map, nothing measured yet / s", 5.0),
    "load warm": ("load to a painted map, torsions known / s", 5.0),
    "click": ("click to structure / ms", 150.0),
    "lasso": ("lasso to 200 superposed structures / ms", 600.0),
    "paint free energy": ("pan or zoom, free energy / ms", 100.0),
    "paint density": ("pan or zoom, density / ms", 100.0),
    "paint column": ("pan or zoom, coloured by a column / ms", 100.0),
    "page": ("memory of the page's JavaScript / MB", ""),
    "server": ("largest resident memory of the server / MB", 300.0),
}


def rows(frames: int, mine: Measured, peer: Measured) -> list[dict[str, object]]:
    out = []
    for key, (what, target) in WORDS.items():
        own, other = mine[key], peer.get(key)
        ratio: float | str = ""
        if other is not None:
            ratio = other.middle / own.middle if own.cpu == "" else other.cpu / own.cpu  # type: ignore[operator]
        out.append({
            "frames": frames, "what": what, "target": target if frames == 2_000_000 else "", "molifold": own.middle,
            "fastest": own.least, "CPU": own.cpu, "chemiscope": "" if other is None else other.middle,
            "its CPU": "" if other is None else other.cpu, "ratio": ratio,
        })  # fmt: skip
    return out


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[50_000, 200_000, 2_000_000])
    parser.add_argument("--chemiscope", type=Path, help="folder of the Python package chemiscope")
    asked = parser.parse_args()
    found = []
    for size in asked.frames:
        with tempfile.TemporaryDirectory() as name, chromium() as running:
            mine = ours(running, keep(Path(name) / "draws.ens", size))
        print(size, mine, flush=True)
        peer: Measured = {}
        if asked.chemiscope and size <= 200_000:
            with chromium() as running:
                peer = theirs(running, size, asked.chemiscope)
            print(size, peer, flush=True)
        found += rows(size, mine, peer)
    before = json.loads(asked.json.read_text())["rows"] if asked.json and asked.json.exists() else []
    kept = [r for r in before if r["frames"] not in asked.frames]
    title = "Workbench in headless Chromium on software rendering, a shared machine with two cores (medians)"
    show(title, sorted([*kept, *found], key=lambda r: r["frames"]), to=asked.json)
