"""Somebody uses the workbench for a while: a random walk over all pages and controls beside a run that is written.

Another process writes the run: scalars five times a second, a record every few seconds, draws by steps. The walk
clicks, drags, types and chooses whatever is there; dialogs are answered, files are saved. Memory of the page (after a
collection of garbage) and of the server is looked at again and again, errors of the page are counted::

    python benchmarks/workbench_use.py --minutes 20 --json benchmarks/results/workbench_use.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from dipeptide import draws
from headless import Served, chromium, heap_megabytes, opened, served
from numpy.random import Generator
from playwright.sync_api import Error, Locator, Page

from molifold import store
from molifold.data import example
from molifold.runs import Run

#: Draws that are made once and written again and again, and how many of them at a time.
POOL, AT_ONCE = 5000, 100
CONTROLS = ".molifold button:visible:enabled, .molifold summary:visible"
FIELDS = ".molifold select:visible:enabled"
RANGES = ".molifold input[type=range]:visible, .molifold input[type=checkbox]:visible"


def write(folder: Path) -> None:
    """A training that never ends, as a workbench sees it."""
    molecule, pool = example("alanine-dipeptide").molecule, draws(POOL, seed=0)
    names = np.array([f"couplings.{i}.network.weight" for i in range(12)])
    with Run.create(folder / "live", molecule=molecule, seed=1) as run:
        path = run.ensemble_path("generated")
        with store.Writer(path, molecule, columns={"step": "int64"}) as kept:
            for step in range(1, 10**9):
                noise = np.random.default_rng(step).normal(size=3)
                fall = step**-0.3
                run.scalar(
                    step, loss=10 * fall + 0.1 * noise[0], validation_nll=10 * fall, gradient_norm=np.exp(noise[1]),
                    ess=1 - fall, seconds=0.2 * step, progress=1 - 1 / (1 + step / 3000),
                )  # fmt: skip
                if step % 25 == 0:
                    ratio = 10.0 ** (-3 + np.random.default_rng(step).normal(size=len(names)))
                    text = "Size of an update over that of the weights.\n\nHealthy: about 1e-3."
                    run.record(step, "update ratios", kind="table", arrays={"name": names, "ratio": ratio}, text=text)
                    rows = np.random.default_rng(step).choice(POOL, AT_ONCE)
                    part = pool[rows]
                    steps = np.full(AT_ONCE, step // 500 * 500)
                    kept.append(part.x, log_p=part.log_p, log_q=part.log_q, step=steps)
                    kept.flush()
                if step % 200 == 0:
                    run.event(step, "stage", f"pass {step // 200}")
                for request in run.requests():
                    run.event(step, request.kind, "heard")
                time.sleep(0.2)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """``write`` in a process of its own; beside it a run that is finished."""
    with Run.create(folder / "finished", molecule=example("alanine-dipeptide").molecule, seed=1) as run:
        for step in range(1, 200):
            run.scalar(step, loss=5 / step, seconds=0.1 * step, progress=step / 199)
    draws(2000, seed=1).save(folder / "finished" / "ensembles" / "generated")
    draws(1000, seed=2).save(folder / "finished" / "ensembles" / "reference")
    process = subprocess.Popen([sys.executable, __file__, "--write", str(folder)])
    try:
        while not (folder / "live" / "ensembles" / "generated" / "x.f32").exists():
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def one_of(page: Page, selector: str, rng: Generator) -> Locator | None:
    found = page.locator(selector)
    n = found.count()
    return found.nth(int(rng.integers(n))) if n else None


def press(page: Page, rng: Generator) -> None:
    if (button := one_of(page, CONTROLS, rng)) is not None:
        button.click(timeout=3000)


def choose(page: Page, rng: Generator) -> None:
    if (field := one_of(page, FIELDS, rng)) is not None:
        options = field.locator("option").count()
        field.select_option(index=int(rng.integers(options)), timeout=3000) if options else None


def set_field(page: Page, rng: Generator) -> None:
    if (field := one_of(page, RANGES, rng)) is not None:
        if field.get_attribute("type", timeout=3000) == "checkbox":
            field.click(timeout=3000)
        else:
            field.focus(timeout=3000)
            for _ in range(int(rng.integers(1, 6))):
                page.keyboard.press(str(rng.choice(["ArrowLeft", "ArrowRight", "Home", "End"])))


def draw(page: Page, rng: Generator) -> None:
    """Drag over a map, a curve or the structures, or click corners and end them."""
    place = one_of(page, ".molifold canvas:visible", rng)
    box = None if place is None else place.bounding_box(timeout=3000)
    if box is None:
        return
    at = [(box["x"] + box["width"] * a, box["y"] + box["height"] * b) for a, b in rng.uniform(0.1, 0.9, (6, 2))]
    if rng.random() < 0.5:
        page.mouse.move(*at[0])
        page.mouse.down()
        for place in at[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()
    else:
        for place in at[: rng.integers(1, 6)]:
            page.mouse.click(*place)
        page.keyboard.press("Enter")
    page.mouse.wheel(0, float(rng.normal(0, 200)))


def turn(page: Page, rng: Generator) -> None:
    page.locator("body").press(str(rng.integers(1, page.locator("nav .tab").count() + 1)), timeout=3000)


def keys(page: Page, rng: Generator) -> None:
    for _ in range(int(rng.integers(1, 12))):
        page.keyboard.press(str(rng.choice(["Tab", "Tab", "Enter", "+", "-", "0", "ArrowUp", "ArrowLeft", "Escape"])))


def back(page: Page, _rng: Generator) -> None:
    page.evaluate("history.length > 2 && history.back()")


ACTIONS: dict[Callable[[Page, Generator], None], float] = {
    turn: 0.15, press: 0.3, choose: 0.15, set_field: 0.1, draw: 0.2, keys: 0.07, back: 0.03,
}  # fmt: skip


def use(
    page: Page, server: Served, *, run: str, minutes: float, seed: int, every: float, most: float = np.inf
) -> list[dict[str, object]]:
    """Walk for so long, or so many actions, a run being open at first; what was measured every so many seconds."""
    rng, done, out = np.random.default_rng(seed), Counter[str](), []
    page.on("dialog", lambda d: d.accept("a name") if d.type == "prompt" else d.dismiss())
    page.on("download", lambda d: d.delete())
    page.goto(server.at(page="conformations", runs=[run]))
    page.wait_for_selector("canvas.map")
    start, told, told_errors = time.monotonic(), 0.0, 0
    while (now := time.monotonic() - start) < 60 * minutes and done.total() < most:
        act = rng.choice(np.array(list(ACTIONS), dtype=object), p=list(ACTIONS.values()))
        try:
            act(page, rng)
            done[act.__name__] += 1
        except Error as error:  # what was to be pressed has gone meanwhile, as with a quick hand
            if "Timeout" not in str(error) and "not attached" not in str(error):
                raise
            done["missed"] += 1
        page.wait_for_timeout(float(rng.uniform(20, 250)))
        if now - told >= every:
            told = now
            nodes = page.evaluate("document.getElementsByTagName('*').length")
            out.append({
                "minutes": round(now / 60, 2), "actions": done.total() - done["missed"],
                "page / MB": heap_megabytes(page), "elements": nodes,
                "server / MB": server.megabytes(), "console errors": len(page.errors),
                "requests elsewhere": len(page.outside),
            })  # fmt: skip
            print(out[-1], dict(done), *page.errors[told_errors:], flush=True)
            told_errors = len(page.errors)
    return out


def summary(seen: list[dict[str, object]], parts: int = 4) -> list[dict[str, object]]:
    """Medians over parts of the time."""
    out = []
    for part in np.array_split(np.arange(len(seen)), parts):
        mine = [seen[i] for i in part]
        middle = {k: float(np.median([row[k] for row in mine])) for k in ("page / MB", "elements", "server / MB")}  # type: ignore[misc]
        highest = {f"highest {k}": max(row[k] for row in mine) for k in ("page / MB", "server / MB")}  # type: ignore[type-var]
        until = {k: mine[-1][k] for k in ("minutes", "actions", "console errors", "requests elsewhere")}
        out.append({**until, **middle, **highest})
    return out


def walked(minutes: float, *, seed: int = 0, every: float = 10) -> list[dict[str, object]]:
    """The walk, with everything that it needs."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        with writing(folder), served(folder) as server, opened(browser) as page:
            page.set_default_timeout(20_000)
            return use(page, server, run="live", minutes=minutes, seed=seed, every=every)


if __name__ == "__main__":
    from measure import arguments, show

    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="be the process that writes the run into this folder")
    asked = parser.parse_args()
    if asked.write:
        write(asked.write)
    else:
        seen = walked(asked.minutes, seed=asked.seed)
        title = f"{asked.minutes:g} minutes of scripted use of the workbench beside a run that is written; medians of quarters"  # noqa: E501
        show(title, summary(seen), to=asked.json)
