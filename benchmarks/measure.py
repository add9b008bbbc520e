"""What the benchmarks share: interleaved CPU timing of rivals, and one table for people and programs."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table


def cpu_seconds(cases: Mapping[str, Callable[[], object]], *, repeats: int = 9) -> dict[str, float]:
    """Median process CPU time of one call of every case.

    The cases take turns, so that whatever else the machine does meanwhile slows all of them; process time leaves out
    what other processes use.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, case in cases.items():
            start = time.process_time()
            case()
            if repeat:  # the first round warms up
                times[name].append(time.process_time() - start)
    return {name: median(values) for name, values in times.items()}


def step_cost(train: Callable[[int], object], *, steps: int = 40) -> float:
    """CPU seconds of one step of ``train(steps)``, without what a training costs however short it is."""
    cost = cpu_seconds({"one": lambda: train(1), "all": lambda: train(1 + steps)}, repeats=2)
    return max(cost["all"] - cost["one"], 0.1 * cost["all"]) / steps


@torch.no_grad()
def negative_log_likelihood(flow: Any, x: np.ndarray) -> np.ndarray:
    """Of every frame, [frames]."""
    flow.eval()
    return -torch.cat([flow.log_prob(part) for part in torch.as_tensor(np.array(x)).split(512)]).double().numpy()


def with_error(values: np.ndarray, *, digits: int = 3, blocks: int = 10) -> str:
    """Mean and its standard error over blocks of neighbouring frames."""
    means = [block.mean() for block in np.array_split(values, blocks)]
    return f"{values.mean():.{digits}f} +- {np.std(means, ddof=1) / blocks**0.5:.{digits}f}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("--repeats", type=int, default=9, help="calls of every case; the median counts")
    return parser


def show(title: str, rows: list[dict[str, object]], *, to: Path | None) -> None:
    """Print rows with equal keys as a table; write them with the versions behind them."""
    table = Table(title=title, title_justify="left")
    for key in rows[0]:
        table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
    if to is not None:
        about = {
            "script": Path(sys.argv[0]).stem,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "threads": 1,
        }
        to.write_text(json.dumps({"title": title, **about, "rows": rows}, indent=1) + "\n")
