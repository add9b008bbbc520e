"""A report with interactive views, opened from disk: it works without a server, and asks nobody."""

from __future__ import annotations

import re

import numpy as np
import pytest
from dipeptide import draws
from headless import opened
from typer.testing import CliRunner

from molifold import Ensemble
from molifold.cli import app
from molifold.geometry import superpose
from molifold.runs import Run
from molifold.workbench import analyse, report_from_run
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.export import _ensemble
from molifold.workbench.packing import unpack

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "<run>"
    with Run.create(path, molecule=draws(1, seed=0).molecule, settings={"temperature": 300.0}) as writer:
        for step in (1, 2, 3):
            writer.scalar(step, loss=1 / step, progress=step / 3)
        writer.event(3, "ended", "time")
    for seed, name in enumerate(("generated", "reference")):
        draws(300, seed=seed).save(path / "ensembles" / name)
    return path


@pytest.fixture(scope="module")
def pages(run):
    """The report as it is, and with its views, as the command writes it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("molifold.workbench.report.analyse", lambda parts, **_: analyse(parts))
        plain, lively = report_from_run(run), run / "lively.html"
        done = CliRunner().invoke(app, ["report", str(run), "--interactive", "--frames", "100", "--out", str(lively)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(lively)
    return plain, lively


def test_a_report_runs_no_script_unless_it_is_interactive(pages):
    plain, lively = (path.read_text(encoding="utf-8") for path in pages)
    assert "<script" not in plain
    assert "script-src" not in plain
    assert "<iframe" not in plain
    # The same pictures and words; the views stand in a frame as text that was escaped.
    assert "<script" not in lively
    (inner,) = re.findall(r"<section class=\"explore\">.*?</section>\n", lively, re.DOTALL)
    scripts = " blob:; script-src 'unsafe-inline'"
    assert scripts in lively[:2000]
    shorn = lively.replace(inner, "").replace(scripts, "", 1)
    when = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert when.sub("", shorn).split() == when.sub("", plain).split()


def test_the_views_of_a_report_work_from_disk(pages, browser):
    with opened(browser) as page:
        page.goto(pages[1].as_uri())
        assert page.locator("h2", has_text="Free-energy map").count() == 1
        views = page.frame_locator("iframe[title='interactive views']")
        views.locator("canvas.map").wait_for()
        page.locator("iframe").scroll_into_view_if_needed()
        views.locator("text=100 frames").wait_for()
        box = views.locator("canvas.map").bounding_box()
        views.get_by_role("button", name="Box").click()
        page.mouse.move(box["x"] + 60, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] - 50, steps=3)
        page.mouse.up()
        views.locator(".region.on b").wait_for()
        views.locator(".small-multiples svg").first.wait_for()
        assert len(views.locator(".molecule").get_attribute("data-rows").split()) > 50
        # Every page of the views, the comparison with structures of both ensembles among them.
        for name, sign in (
            ("Overview", "text=its time was used up"), ("Training", ".curves canvas"), ("Statistics", ".picture svg"),
            ("Network", ".empty"), ("Compare", ".molecule[data-rows]:not([data-rows='']) >> nth=1"),
        ):  # fmt: skip
            views.get_by_role("button", name=name, exact=True).click()
            views.locator(sign).first.wait_for()
        assert page.errors == []
        assert page.outside == []


def test_ensembles_of_a_file_lie_in_one_direction(run):
    """What Compare shows of a file is turned when the file is written."""
    blocks, first = {}, {}
    desk = Desk(Collection([run]))
    for name in ("generated", "reference"):
        _ensemble(desk, f"{run.name}/{name}", blocks, 50, first)
    a, b = (unpack(block)["x"][0] for key, block in blocks.items() if key.startswith("all frames"))
    heavy = np.array([e != "H" for e in Ensemble.load(run / "ensembles" / "generated").molecule.elements], dtype=float)
    np.testing.assert_allclose(superpose(b[None], a, weights=heavy)[0], b, atol=1e-5)
