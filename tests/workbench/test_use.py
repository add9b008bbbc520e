"""The page in use: behind a proxy, by keyboard alone, and by somebody who presses everything."""

from __future__ import annotations

import http.client
import http.server
import threading
import urllib.parse

import numpy as np
import pytest
from dipeptide import draws
from headless import Served, opened, served
from workbench_use import use

from molifold.runs import Run

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("first", "second")):
        with Run.create(root / name, molecule=draws(1, seed=0).molecule, seed=seed) as run:
            for step in range(1, 40):
                run.scalar(step, loss=5 / step, gradient_norm=2.0, seconds=0.1 * step, progress=step / 40)
            table = {"name": np.array(["a.weight", "b.weight"]), "ratio": np.array([1e-3, 1e-4])}
            run.record(39, "update ratios", kind="table", arrays=table, text="Shows.")
        draws(1000, seed=seed).save(root / name / "ensembles" / "generated")
        draws(300, seed=9 + seed).save(root / name / "ensembles" / "reference")
    with served(root) as running:
        yield running


@pytest.fixture
def page(browser):
    with opened(browser, width=1100, height=700) as one:
        yield one
        assert one.errors == []
        assert one.outside == []


def settle(page):
    page.wait_for_selector("nav .tab.on")
    for _ in range(200):
        page.wait_for_timeout(100)
        if (
            not page.locator(".empty").filter(has_text="…").count()
            and "loading" not in page.locator(".page").inner_text()
        ):
            return


def tabs(page):
    return [tab.inner_text().lower() for tab in page.locator("nav .tab").all()]


@pytest.fixture
def proxy(server):
    """A reverse proxy that shows the page under /lab/molifold/ and hands on whom the browser asked."""
    behind = urllib.parse.urlsplit(server.address)

    class Proxy(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if not self.path.startswith("/lab/molifold/"):
                return self.send_error(404)
            to = http.client.HTTPConnection(behind.hostname, behind.port)
            to.request(self.command, self.path.removeprefix("/lab/molifold"), body, dict(self.headers))
            got = to.getresponse()
            text = got.read()
            self.send_response(got.status)
            for name, value in got.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)
            return None

        do_GET = do_POST = handle_any

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://localhost:{running.server_address[1]}/lab/molifold/?{behind.query}"
        yield Served(address, server.pid)
        running.shutdown()


def test_every_page_works_under_the_prefix_of_a_proxy(page, proxy):
    """Another port of localhost, as through an SSH tunnel, and another path, as behind nginx."""
    page.goto(proxy.at(page="overview"))
    settle(page)
    for name in tabs(page):
        page.goto("about:blank")
        page.goto(proxy.at(page=name, runs=["first"]))
        settle(page)
        assert page.locator("nav .tab.on").inner_text().lower() == name
        assert page.locator(".error").count() == 0
    assert page.locator("canvas.map").count() >= 2


#: What a reader of the screen says of the focused control, whether a frame shows where it is, and which one it is.
FOCUSED = """() => { const e = document.activeElement; if (e === document.body) return null;
  const s = getComputedStyle(e);
  const name = e.getAttribute("aria-label") || e.title || e.closest("label")?.innerText || (e.tagName === "SELECT" ? "" : e.innerText);
  return [window.controls.indexOf(e), e.tagName, (name ?? "").trim(), s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1]; }"""
#: The controls, by themselves and not by their place among all elements: structures that come late move that.
CONTROLS = """() => { window.controls = [...document.querySelectorAll(".molifold :is(button, select, input, summary, canvas.map)")]
    .filter((e) => !e.disabled && e.checkVisibility()); return window.controls.length; }"""
#: Whether the page has had the same elements for half a second.
STILL = """() => new Promise((done) => { const count = () => document.querySelectorAll("*").length, before = count();
  setTimeout(() => done(count() === before), 500); })"""


def test_every_control_is_reached_by_tab_has_a_name_and_shows_the_focus(page, server):
    page.goto(server.at(page="overview"))
    settle(page)
    for name in tabs(page):
        page.goto("about:blank")
        page.goto(server.at(page=name, runs=["first"], row=3))
        settle(page)
        page.wait_for_function(STILL)
        wanted, reached = set(range(page.evaluate(CONTROLS))), set()
        for _ in range(3 * len(wanted) + 20):
            page.keyboard.press("Tab")
            if (found := page.evaluate(FOCUSED)) is None:
                continue
            place, tag, said, framed = found
            if place in wanted:
                assert said, f"{name}: {tag} number {place} has no name"
                assert framed, f"{name}: {said!r} does not show that it is focused"
                reached.add(place)
            if reached == wanted:
                break
        assert reached == wanted, f"{name}: {len(wanted - reached)} controls are not reached by Tab"


def test_somebody_presses_everything(page, server):
    """A piece of the walk that `benchmarks/workbench_use.py` takes for twenty minutes; `page` looks for errors."""
    seen = use(page, server, run="first", minutes=5, seed=5, every=0, most=25)
    assert len(seen) == 25
    assert page.locator("nav .tab.on").count() == 1


#: What a page says where there is nothing to show.
EMPTY = {
    "overview": "No run yet. Start one with molifold train", "training": "No run yet. Start one with molifold train",
    "conformations": "No conformations yet. molifold sample RUN draws some", "statistics": "nothing to count",
    "network": "a network is seen through its run", "compare": "No conformations yet. molifold sample RUN draws some",
}  # fmt: skip


def test_an_empty_folder_and_broken_runs_say_what_to_do(browser, tmp_path):
    """Somebody new: first nothing, then a run that is half written, and one that was killed before it drew anything."""
    with served(tmp_path) as server, opened(browser, width=1100, height=700) as page:
        for name, words in EMPTY.items():
            page.goto("about:blank")
            page.goto(server.at(page=name))
            page.wait_for_selector(f"text={words}")
        assert page.errors == []
        (tmp_path / "torn").mkdir()
        (tmp_path / "torn" / "run.json").write_text('{"format": "molifold-run", "ver')
        killed = Run.create(tmp_path / "killed")
        killed.event(0, "stage", "data")
        (tmp_path / "killed" / "writer.json").unlink()
        # The page finds both by itself.
        page.goto(server.at(page="overview"))
        page.wait_for_selector("tr:has(.badge.unreadable):has-text('half written or damaged')")
        page.wait_for_selector("tr:has(.badge.crashed):has-text('Its process is gone')")
        for run, name, words in (
            ("killed", "training", "No numbers yet: making or reading the frames"), ("killed", "network", "No records yet"),
            ("killed", "statistics", "nothing to count"), ("torn", "network", "half written or damaged"),
        ):  # fmt: skip
            page.goto("about:blank")
            page.goto(server.at(page=name, runs=[run]))
            page.wait_for_selector(f"text={words}")
        assert page.outside == []
