"""Every page of the workbench as a picture, in the sizes of two laptops, light and dark: of runs of alanine dipeptide.

python docs/screenshots.py runs docs/images/workbench --run alanine-dipeptide --narrow one-unit

RUN is a training of the recipe `alanine-dipeptide` with `molifold sample`. NARROW is one in which something is found:
the same with `network = "mlp"`, `hidden = [1]`, `couplings = 2`, `rotation_couplings = 2` for two minutes, then also
`molifold diagnose`. Whatever else lies in the folder stands on the page Overview: a run that was killed, say.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from headless import chromium, opened, served

from molifold import Ensemble
from molifold.workbench import report_from_run

SIZES = {"large": (1500, 900), "small": (1100, 700)}
#: The basin of right-handed helices, in radians of (phi, psi).
REGION = [(-2.4, -1.6), (-0.6, -1.6), (-0.6, 0.3), (-2.4, 0.3)]
NAME = "helix"


def pages(run: str, narrow: str, beside: str, step: int | None) -> dict[str, dict[str, object]]:
    """What is open on each page."""
    region = {"polygons": {NAME: {"x": "phi", "y": "psi", "points": REGION}}, "selected": NAME}
    return {
        "overview": {"runs": [run]},
        "training": {"runs": [beside, narrow]},
        "conformations": {"runs": [run], **region},
        "statistics": {"runs": [run], "step": step},
        "network": {"runs": [narrow]},
        "compare": {"runs": [narrow], "weighted": False, **region},
    }


def one_of(steps: Path) -> int | None:
    """A step about a quarter of the way through the looks of a training."""
    seen = sorted({int(s) for s in Ensemble.load(steps).columns["step"]}) if steps.exists() else []
    return seen[len(seen) // 4] if seen else None


def of_report(browser: Browser, run: Path, to: Path) -> None:
    """A report with its views, opened from disk, with a selected region."""
    with TemporaryDirectory() as folder, opened(browser) as page:
        page.goto(report_from_run(run, Path(folder) / "report.html", frames=2000).as_uri())
        views = page.frame_locator("iframe")
        views.get_by_role("button", name="Box").click()
        page.evaluate("document.querySelector('.explore').scrollIntoView()")
        box = views.locator("canvas.map").bounding_box() or {}
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.45 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.48 * box["width"], box["y"] + 0.7 * box["height"], steps=3)
        page.mouse.up()
        views.locator(".small-multiples svg").first.wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=to)
        Image.open(to).convert("RGB").save(to, optimize=True)


def settled(page: Page, *, seconds: float = 120) -> None:
    """Wait until nothing is being loaded, measured or computed any more."""
    end, quiet = time.monotonic() + seconds, 0
    while quiet < 6:
        busy = (
            page.locator(".empty").filter(has_text="…").count()
            + page.locator(".status, .bar span").filter(has_text="loading").count()
        )  # noqa: E501
        quiet = 0 if busy else quiet + 1
        if time.monotonic() > end:
            raise TimeoutError(f"{page.url}: still busy after {seconds} s")
        page.wait_for_timeout(200)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--narrow", required=True)
    parser.add_argument("--beside", help="another training, whose curves stand beside those of NARROW; default: RUN")
    parser.add_argument("--pages", nargs="+", default=[*pages("", "", "", None), "report"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    step = one_of(asked.folder / asked.run / "ensembles" / "history")
    shown = pages(asked.run, asked.narrow, asked.beside or asked.run, step)
    with chromium() as browser, served(asked.folder) as server:
        if "report" in asked.pages:
            of_report(browser, asked.folder / asked.run, asked.to / "report-interactive.png")
        for size in asked.sizes:
            width, height = SIZES[size]
            for name in [name for name in asked.pages if name in shown]:
                for theme in asked.themes:
                    with opened(browser, width=width, height=height, dark=theme == "dark") as page:
                        page.goto(server.at(page=name, **shown[name]))
                        settled(page)
                        usual = (size, theme) == ("large", "light")
                        path = asked.to / f"{name}{'' if usual else f'-{size}-{theme}'}.png"
                        page.screenshot(path=path)
                        Image.open(path).convert("RGB").save(path, optimize=True)
                        if page.errors or page.outside:
                            raise RuntimeError(f"{path}: {page.errors} {page.outside}")


if __name__ == "__main__":
    main()
