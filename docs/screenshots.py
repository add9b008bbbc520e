"""Every page of the workbench as a picture, in the sizes of two laptops, light and dark: of a run of alanine dipeptide.

python docs/screenshots.py runs/demo docs/images/workbench
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from headless import chromium, opened, served

SIZES = {"large": (1500, 900), "small": (1100, 700)}
#: Where phi is positive, in radians of (phi, psi); it crosses the border of psi.
REGION = [(0.4, 2.6), (1.75, 2.6), (1.75, 5.6), (0.4, 5.6)]
NAME = "positive phi"
#: What is open on each page, beside the run.
PAGES: dict[str, dict[str, object]] = {
    "overview": {},
    "training": {},
    "conformations": {"selected": NAME},
    "statistics": {},
    "network": {},
    "compare": {"selected": NAME, "side": ["generated", "simulation"]},
}
COLOURS = 256


def open_at(page: str, run: str) -> dict[str, object]:
    """What is open on a page of a run."""
    found = PAGES[page]
    return found | {"side": [f"{run}/{name}" for name in found["side"]]} if "side" in found else found  # type: ignore[attr-defined]


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


def reduced(path: Path) -> None:
    """The same picture in a palette: a third of the bytes."""
    whole = Image.open(path).convert("RGB")
    whole.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--pages", nargs="+", default=list(PAGES))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    region = {"x": "phi", "y": "psi", "points": REGION}
    with chromium() as browser, served(asked.run) as server:
        for size in asked.sizes:
            width, height = SIZES[size]
            for name in asked.pages:
                for theme in asked.themes:
                    with opened(browser, width=width, height=height, dark=theme == "dark") as page:
                        page.goto(server.at(page=name, polygons={NAME: region}, **open_at(name, asked.run.name)))
                        settled(page)
                        usual = (size, theme) == ("large", "light")
                        path = asked.to / f"{name}{'' if usual else f'-{size}-{theme}'}.png"
                        page.screenshot(path=path)
                        reduced(path)
                        if page.errors or page.outside:
                            raise RuntimeError(f"{path}: {page.errors} {page.outside}")


if __name__ == "__main__":
    main()
