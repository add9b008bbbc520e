"""The page in a real browser: Debian's Chromium, headless, on software rendering. `make browser` installs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse

import numpy as np
import pytest
import uvicorn

from molifold import Ensemble, analysis
from molifold.data import example
from molifold.geometry import superpose
from molifold.runs import Run
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.server import application
from molifold.workbench.statistics import statistics_of

#: One browser at a time: they are slow beside each other.
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def ensemble():
    system = example("alanine-dipeptide")
    rng = np.random.default_rng(0)
    x = (np.repeat(system.x, 3000, axis=0) + 0.03 * rng.normal(size=(3000, 22, 3))).astype(np.float32)
    x[1000:, 14:] += 0.1 * rng.normal(size=(2000, 1, 3))  # spreads psi
    log_p = -rng.gamma(20, size=3000)
    return Ensemble(system.molecule, x, log_p=log_p, log_q=log_p + 0.3 * rng.normal(size=3000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ensemble):
    root = tmp_path_factory.mktemp("runs")
    with Run.create(root / "trained", molecule=ensemble.molecule, seed=1) as writer:
        for step in range(1, 101):
            writer.scalar(step, loss=10 / step, gradient_norm=1.0 + step % 3, seconds=0.1 * step, progress=step / 100)
        names = np.array([f"layer.{i}.weight" for i in range(20)])
        writer.record(
            100,
            "update ratios",
            kind="table",
            arrays={"name": names, "ratio": np.logspace(-5, -2, 20)},
            text="Shows.\n\nHealthy: so.",
        )
        site = np.array(["steps.2.net.0.weight"])
        finding = dict.fromkeys(
            ("t", "under_trained", "linear", "nonlinear", "irreducible", "predicted"), np.full(1, 0.5)
        )
        writer.record(100, "expressivity", kind="table", arrays={
            "name": site, "kind": np.array(["under-powered"]), "missing": np.array(["torsions"]), **finding,
            "measured": np.array([0.4]), "error": np.array([0.02]),
        })  # fmt: skip
        for step in (50, 100):
            norms = {"name": np.append(site, "steps.10.net.0.weight"), "rms": np.array([1.0, 2.0])}
            writer.record(step, "gradient norms", kind="table", arrays=norms)
        gain = np.linspace(0, 1, 22)[None]
        where = {"x": np.arange(22).astype(str), "y": site, "values": gain}
        writer.record(100, "where it hurts by layer - atoms", kind="map", arrays=where)
        where = {"x": np.array(["3", "77", "400"]), "y": site, "values": np.array([[0.1, 0.9, 0.2]])}
        writer.record(100, "where it hurts by layer - frames", kind="map", arrays=where)
        writer.event(
            100, "probe_failed", "smoothing: ValueError('no graph')", probe="smoothing", traceback="Traceback ..."
        )
    ensemble.save(root / "trained" / "ensembles" / "generated")
    z = np.random.default_rng(1).normal(size=(2, 3000))
    z[:, :2] = [[-6, 6], [-6, 6]]  # two corners, so that much of the map is empty
    ensemble.assign(z1=z[0], z2=z[1]).save(root / "trained" / "ensembles" / "map")
    ensemble[:1000].assign(step=np.repeat([50, 100], 500)).save(root / "trained" / "ensembles" / "history")
    ensemble.assign(z1=z[1] + 1, z2=z[0]).save(root / "trained" / "ensembles" / "moved")
    ensemble[:500].save(root / "trained" / "ensembles" / "reference")
    Run.create(root / "empty").close()
    (root / "torn").mkdir()
    (root / "torn" / "run.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def address(folder, ensemble):
    def decode(path, z):
        assert path == folder / "trained"
        return Ensemble(ensemble.molecule, ensemble.x[:1] + z[0], log_q=np.array([-7.0]))

    app = application(Desk(Collection([folder]), decode=decode), token="sesame")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/?token=sesame"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser, address):
    """A page that notes every outside request and every error."""
    opened = browser.new_page(viewport={"width": 1500, "height": 900})
    opened.set_default_timeout(120_000)  # a loaded machine; what must be quick is measured in benchmarks
    opened.outside, opened.errors = [], []

    def gate(route):
        if re.match(r"https?://127\.0\.0\.1:", route.request.url):
            return route.continue_()
        opened.outside.append(route.request.url)
        return route.abort()

    opened.route(re.compile("^https?:"), gate)
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
    opened.look = lambda **state: (
        opened.goto("about:blank"),
        opened.goto(f"{address}#{urllib.parse.quote(json.dumps(state))}"),
    )
    yield opened
    opened.close()


def to_pixel(page, place):
    """Where a place of a map over two torsions lies on the screen, by the margins of map.js."""
    box = page.locator("canvas.map").first.bounding_box()
    left, right, top, bottom = 52, 12, 10, 38
    across, up = (np.asarray(place) + np.pi) / (2 * np.pi)
    return (
        box["x"] + left + across * (box["width"] - left - right),
        box["y"] + top + (1 - up) * (box["height"] - top - bottom),
    )


def until(page, found, *, seconds=120.0):
    """Wait for ``found()``; the page forbids what Playwright's own waiting for a function needs (eval)."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"nothing after {seconds} s; errors of the page: {page.errors}"
        page.wait_for_timeout(50)


def open_map(page, **state):
    page.look(page="conformations", runs=["trained"], **state)
    page.wait_for_selector(".status")
    until(page, lambda: "loading" not in page.locator(".status").first.inner_text())
    page.wait_for_timeout(300)


@pytest.mark.parametrize("run", ["trained", "empty"])
def test_every_page_renders_without_a_request_elsewhere(page, run):
    page.look(page="overview")
    page.wait_for_selector("nav .tab.on")
    names = [tab.inner_text().lower() for tab in page.locator("nav .tab").all()]
    assert len(names) >= 6
    for name in names:
        page.look(page=name, runs=[run])
        page.wait_for_selector("nav .tab.on")
        page.wait_for_timeout(700)
        assert page.locator("nav .tab.on").inner_text().lower() == name
    assert page.outside == []
    assert page.errors == []


def test_the_overview_tells_states_and_what_is_unreadable(page):
    page.look(page="overview")
    page.wait_for_selector("table.runs tbody tr")
    rows = page.locator("table.runs").first.locator("tbody tr")
    assert "finished" in rows.filter(has_text="trained").inner_text()
    assert "100 %" in rows.filter(has_text="trained").inner_text()
    assert "under-powered" in rows.filter(has_text="trained").inner_text()  # the worst verdict of its layers
    assert "unreadable" in rows.filter(has_text="torn").inner_text()


def test_the_clicked_structure_is_the_nearest_frame(page, ensemble):
    open_map(page)
    measured = analysis.measure(ensemble, names=["phi", "psi"])
    angles = np.stack([measured.columns["phi"], measured.columns["psi"]], axis=1).astype(float)
    target = angles[1234]
    page.mouse.click(*to_pixel(page, target))
    until(page, lambda: page.locator(".molecule").get_attribute("data-rows"))
    row = int(page.locator(".molecule").get_attribute("data-rows"))
    away = np.abs((angles - target + np.pi) % (2 * np.pi) - np.pi)
    assert np.hypot(*away[row]) < np.deg2rad(1.5)  # one pixel is about half a degree
    # What is drawn has the torsions of that frame.
    shown = page.evaluate(
        "async (row) => { const a = await fetch('api/frames', {method: 'POST', headers: {'x-molifold-token': 'sesame'},"
        "body: JSON.stringify({name: 'trained/generated', rows: [row]})}); return Array.from(new Uint8Array(await a.arrayBuffer())) }", row)  # fmt: skip
    from molifold.workbench.packing import unpack

    again = analysis.measure(Ensemble(ensemble.molecule, unpack(bytes(shown))["x"]), names=["phi", "psi"])
    found = np.array([again.columns["phi"][0], again.columns["psi"][0]])
    np.testing.assert_allclose(np.rad2deg(found), np.rad2deg(angles[row]), atol=0.1)
    assert page.errors == []


#: Counts what a click sets off: layers that are wiped, structures that are fetched; and what is there when the next frame is drawn.
SPY = """
window.spy = { ground: 0, map: 0, frames: 0, model: document.querySelector(".viewer").viewer.getModel() };
for (const name of ["ground", "map"]) {
  const context = document.querySelector(`canvas.${name}`).getContext("2d"), wipe = context.clearRect;
  context.clearRect = (...box) => { spy[name] += 1; wipe.apply(context, box); };
}
const ask = fetch;
window.fetch = async (...what) => { const answer = await ask(...what); spy.frames += what[0] === "api/frames"; return answer; };
addEventListener("pointerup", () => requestAnimationFrame(() => { spy.rows = document.querySelector(".molecule").dataset.rows; }), true);
"""


def test_a_click_is_drawn_in_the_next_frame_and_paints_no_map(page, ensemble):
    open_map(page)
    measured = analysis.measure(ensemble, names=["phi", "psi"])
    angles = np.stack([measured.columns["phi"], measured.columns["psi"]], axis=1).astype(float)
    page.mouse.click(*to_pixel(page, angles[1234]))
    until(page, lambda: page.locator(".molecule").get_attribute("data-rows"))
    before = page.locator(".molecule").get_attribute("data-rows")
    page.evaluate(f"() => {{ {SPY} }}")
    page.mouse.move(*to_pixel(page, angles[20]))
    page.mouse.down()
    until(page, lambda: page.evaluate("spy.frames") == 1)  # fetched while the button is down
    page.wait_for_timeout(300)
    assert page.locator(".molecule").get_attribute("data-rows") == before
    page.mouse.up()
    until(page, lambda: page.evaluate("spy.rows"))
    # Mark and structure come together, and the structure is the old one moved.
    assert page.evaluate("spy.rows") != before
    assert page.evaluate("spy.model === document.querySelector('.viewer').viewer.getModel()")
    page.wait_for_timeout(300)
    assert page.evaluate("[spy.ground, spy.map, spy.frames]") == [0, 1, 1]
    assert page.errors == []


def test_a_lasso_holds_what_numpy_says(page, ensemble):
    from matplotlib.path import Path as Polygon

    open_map(page)
    measured = analysis.measure(ensemble, names=["phi", "psi"])
    angles = np.stack([measured.columns["phi"], measured.columns["psi"]], axis=1)
    middle = np.median(angles, axis=0)
    page.get_by_role("button", name="Lasso").click()
    corners = [middle + 0.4 * np.array(d) for d in ((1, 0), (0.3, 0.9), (-0.8, 0.5), (-0.6, -0.7), (0.5, -0.8))]
    page.mouse.move(*to_pixel(page, corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*to_pixel(page, corner), steps=3)
    page.mouse.up()
    page.wait_for_selector(".region.on b")
    state = json.loads(urllib.parse.unquote(page.evaluate("location.hash.slice(1)")))
    points = np.array(state["polygons"]["region 1"]["points"])
    low = points.min(0)
    inside = Polygon(points).contains_points((angles - low) % (2 * np.pi) + low)
    assert 0 < inside.sum() < len(angles)
    assert int(page.locator(".region.on b").get_attribute("data-count")) == pytest.approx(inside.sum(), abs=1)
    page.wait_for_selector(".small-multiples svg")
    first = page.locator(".small-multiples svg").first.get_attribute("aria-label")
    assert "φ" in first or "ψ" in first or "ALA2" in first
    # A deep link restores the selection.
    open_map(page, polygons=state["polygons"], selected="region 1")
    page.wait_for_selector(".region.on b")
    assert page.errors == []


def test_a_live_training_moves_obeys_and_is_seen_to_crash(page, folder):
    program = (
        "import sys, time\nfrom molifold.runs import Run\n"
        "w = Run.create(sys.argv[1], seed=1)\nstep = 0\n"
        "while True:\n    step += 1\n    w.scalar(step, loss=1 / step, seconds=step / 10, progress=0.1)\n    time.sleep(0.1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder / "live")])
    try:
        while not (folder / "live" / "scalars.jsonl").exists():
            time.sleep(0.05)
        page.look(page="training", runs=["live"])
        page.wait_for_selector(".bar b")
        until(page, lambda: int(page.locator(".bar b").first.inner_text()) > 3)
        before = int(page.locator(".bar b").first.inner_text())
        until(page, lambda: int(page.locator(".bar b").first.inner_text()) > before)
        page.get_by_role("button", name="Pause").click()
        page.wait_for_selector("text=asked: pause")
        page.get_by_label("draws to evaluate with").fill("2500")
        page.get_by_role("button", name="Evaluate").click()
        page.wait_for_selector("text=asked: evaluate")
        asked = [(r.kind, dict(r.arguments)) for r in Run.open(folder / "live").inbox]
        assert asked == [("pause", {}), ("evaluate", {"frames": 2500})]
        process.kill()
        process.wait()
        page.wait_for_selector(".badge.crashed")
        assert page.errors == []
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder / "live")


def state_of(page):
    return json.loads(urllib.parse.unquote(page.evaluate("location.hash.slice(1)")))


def test_a_click_on_a_layer_shows_its_atoms_and_frames(page):
    page.look(page="network", runs=["trained"])
    page.wait_for_selector(".modules .badge.under-powered")
    row = page.locator(".modules tr", has_text="where")
    assert "torsions" in row.inner_text()
    assert "0.4 ± 0.02" in row.inner_text()
    assert "smoothing: ValueError" in page.locator(".panel.broken").inner_text()  # the failing probe is red
    page.wait_for_selector("svg[aria-label=health]")
    row.get_by_role("button", name="where").click()
    until(page, lambda: page.locator(".molecule").get_attribute("data-rows") == "77")  # the frame with the largest gain
    state, name = state_of(page), "where it hurts: steps.2.net.0.weight"
    assert (state["ensemble"], state["colour"], state["paint"]) == ("trained/reference", name, f"atoms {name}")
    page.wait_for_selector(".molecule ~ .bar .ramp")
    assert page.errors == []


def test_an_empty_place_of_a_latent_map_is_drawn_by_the_network(page):
    open_map(page, ensemble="trained/map", x="z1", y="z2")
    box = page.locator("canvas.map").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.75 * box["height"])
    page.wait_for_selector("text=drawn by the network at z1")
    said = page.locator(".status", has_text="drawn by").inner_text()
    z1, z2 = (float(v) for v in re.findall(r"z\d (-?[\d.]+)", said))
    assert 2 < z1 < 6
    assert -6 < z2 < -2
    assert "log p(x|z) -7" in said
    with page.expect_download() as download:
        page.get_by_role("button", name="SDF").click()
    assert download.value.suggested_filename.endswith(".sdf")
    # Of a map that is not latent, it is said what would be needed.
    open_map(page, ensemble="trained/map", x="phi", y="psi")
    page.mouse.click(*to_pixel(page, (1.0, 0.0)))
    page.wait_for_selector("text=the network draws one")
    assert page.errors == []


def test_a_frame_that_an_ensemble_does_not_have_is_not_asked_for(page):
    open_map(page, ensemble="trained/reference", row=2000)  # the ensemble that was open before has so many
    assert page.locator(".molecule + .bar .status").inner_text() == "Pick a place on the map."
    assert page.errors == []


def test_regions_are_kept_by_the_browser(page):
    open_map(page)
    page.get_by_role("button", name="Box").click()
    page.mouse.move(*to_pixel(page, (-2.0, -2.0)))
    page.mouse.down()
    page.mouse.move(*to_pixel(page, (1.0, 2.5)), steps=3)
    page.mouse.up()
    page.wait_for_selector(".region.on b")
    points = state_of(page)["polygons"]["region 1"]["points"]
    open_map(page)  # an address that knows of no region
    page.get_by_role("button", name="region 1").first.click()
    page.wait_for_selector(".region.on b")
    assert state_of(page)["polygons"]["region 1"]["points"] == points
    page.get_by_role("button", name="remove region 1").click()
    open_map(page)
    assert page.locator(".region").count() == 0
    assert page.errors == []


def test_compare_shows_where_two_ensembles_differ(page):
    page.look(page="compare", runs=["trained"], side=["trained/map", "trained/moved"], x="z1", y="z2", weighted=False)
    page.wait_for_selector("text=total variation")
    assert page.locator("h2", has_text="map minus moved").count() == 1
    said = page.locator("span", has_text="total variation").last.inner_text()
    found, noise = map(float, re.findall(r"0\.\d+", said))
    # Normal distributions a standard deviation apart: 2 Phi(1/2) - 1 = 0.383.
    assert noise < 0.1
    assert abs(found - 0.383) < noise
    # Draws of one step of the training beside the others; the choice is in the address.
    page.look(page="compare", runs=["trained"], side=["trained/history", "trained/generated"])
    page.locator("select:has(option[value='100'])").select_option("100")
    page.wait_for_selector("text=500 frames")
    assert state_of(page)["side"] == ["trained/history@100", "trained/generated"]
    assert page.errors == []


#: Cameras of all 3D views, and places of the atoms of the first structure in each.
CAMERAS = "() => [...document.querySelectorAll('.molecule .viewer')].map((b) => b.viewer.getView())"
ATOMS = """() => [...document.querySelectorAll('.molecule .viewer')].map((b) =>
  b.viewer.getModel(0).selectedAtoms({}).slice(0, 22).map((a) => [a.x, a.y, a.z]))"""


def rows_of(page):
    return [[int(r) for r in (b.get_attribute("data-rows") or "").split()] for b in page.locator(".molecule").all()]


def compared(page, **state):
    page.look(page="compare", runs=["trained"], side=["trained/generated", "trained/history@100"], **state)
    until(page, lambda: len(rows_of(page)) == 2 and all(rows_of(page)))


def test_compared_structures_lie_alike_and_turn_together(page):
    compared(page)
    drawn, of_step = rows_of(page)
    assert (len(drawn), len(of_step)) == (20, 20)
    assert min(of_step) >= 500  # frames of the store, of which the second half was drawn at step 100
    one, other = (np.array(x) for x in page.evaluate(ATOMS))
    heavy = np.array([e != "H" for e in example("alanine-dipeptide").molecule.elements], dtype=float)
    again = superpose(other[None], one, weights=heavy)[0]  # in the best of all directions
    distance = [np.sqrt((heavy[:, None] * (x - one) ** 2).sum() / heavy.sum()) for x in (other, again)]
    assert distance[0] == pytest.approx(distance[1], abs=1e-3)
    before = page.evaluate(CAMERAS)
    assert before[0] == before[1]
    box = page.locator(".molecule").nth(1).bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 130, steps=4)
    page.mouse.up()
    until(page, lambda: page.evaluate(CAMERAS)[0] != before[0])
    after = page.evaluate(CAMERAS)
    np.testing.assert_allclose(after[0], after[1], atol=1e-9)
    assert page.errors == []


def test_a_place_and_a_region_are_those_of_all_sides(page, ensemble):
    measured = analysis.measure(ensemble, names=["phi", "psi"])
    angles = np.stack([measured.columns["phi"], measured.columns["psi"]], axis=1).astype(float)
    compared(page, at=angles[700].tolist())
    until(page, lambda: [len(r) for r in rows_of(page)] == [1, 1])
    away = np.hypot(*np.abs((angles - angles[700] + np.pi) % (2 * np.pi) - np.pi).T)
    assert rows_of(page) == [[int(away.argmin())], [500 + int(away[500:1000].argmin())]]
    middle = np.median(angles, axis=0)
    corners = [(middle + 0.3 * np.array(d)).tolist() for d in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    compared(page, polygons={"mine": {"x": "phi", "y": "psi", "points": corners}}, selected="mine")
    until(page, lambda: page.locator(".molecule ~ .bar", has_text="in mine").count() == 2)
    inside = np.flatnonzero((np.abs(angles - middle) < 0.3).all(1))
    until(page, lambda: len(rows_of(page)[0]) == min(100, len(inside)))
    drawn, of_step = rows_of(page)
    assert set(drawn) <= set(inside.tolist())
    assert set(of_step) <= set(inside.tolist()) & set(range(500, 1000))
    # A click anywhere takes the place of the region; where no frame is near, it is said.
    places = np.stack(np.meshgrid(np.linspace(-2.8, 2.8, 12), np.linspace(-2.8, 2.8, 12)), axis=-1).reshape(-1, 1, 2)
    apart = np.linalg.norm(np.abs((places - angles + np.pi) % (2 * np.pi) - np.pi), axis=2).min(1)
    assert apart.max() > 0.3
    page.mouse.click(*to_pixel(page, places[apart.argmax(), 0]))
    page.wait_for_selector("text=no frame near that place")
    assert page.errors == []


def test_statistics_of_every_step_of_a_training(page, folder):
    page.look(page="statistics", runs=["trained"])
    page.wait_for_selector("text=3\u2009000 draws")
    slider = page.get_by_label("training step")
    slider.press("Home")
    page.wait_for_selector("h2:has-text('Verdict at step 50')")
    page.wait_for_selector("text=500 draws")
    assert state_of(page)["step"] == 50
    found = statistics_of(Collection([folder]), run="trained", ensemble="", step=50)
    numbers = [f.number for f in found.findings]
    until(page, lambda: page.locator(".findings .figure").all_inner_texts() == numbers)
    titles = page.locator(".grid.big h2").all_inner_texts()
    assert titles == [p.title for p in found.panels.values()]
    assert "During training" not in " ".join(titles)
    page.get_by_role("button", name="Replay").click()
    page.wait_for_selector("h2:has-text('Verdict at step 100')")
    page.wait_for_selector("text=3\u2009000 draws")  # it stops at the end
    page.get_by_role("button", name="Replay").wait_for()
    # Of a step at which nothing was drawn, it is said what there is.
    page.look(page="statistics", runs=["trained"], step=77)
    page.wait_for_selector("text=step: got 77, expected one of 50, 100")
    assert [e for e in page.errors if "400" not in e] == []
