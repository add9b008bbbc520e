"""What watching costs: the same trainings with and without the default probes, their time, memory and weights.

Every training is a process of its own. Time is CPU time from step 50 to the end, so that compilation and what other
programs do meanwhile do not count; what watching takes of it is measured inside the watched training, where both share
one fate; memory is the peak of the process; weights are compared bit by bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import arguments, show

from molifold.data import example
from molifold.ensemble import Ensemble
from molifold.flows.recipes import graph_spline_coupling
from molifold.probes import DEFAULT, Watch
from molifold.runs import Run
from molifold.training import fit

#: Frames per batch and steps of every case; the flow is the recipe's default but for these options.
CASES = {
    "butane, small": (256, 600, {"couplings": 2, "rotation_couplings": 2, "bins": 4, "network": "mlp"}),
    "alanine-dipeptide": (512, 250, {}),
}
#: Steps before the clock starts.
WARM = 50


def train(case: str, watched: bool) -> dict[str, object]:  # noqa: FBT001
    """One training in this process; what it took."""
    batch_size, steps, options = CASES[case]
    system = example(case.split(",")[0])
    noise = np.random.default_rng(0).normal(scale=0.003, size=(4000, *system.x.shape[1:]))
    ensemble = Ensemble(system.molecule, (system.x[:1] + noise).astype(np.float32))
    torch.manual_seed(0)
    flow = graph_spline_coupling(system.molecule, ensemble, **options)
    started, looking = [0.0], [0.0]
    plain_call = Watch.__call__

    def timed_call(watch: Watch, step: int, **scalars: float) -> None:
        began = time.process_time()
        plain_call(watch, step, **scalars)
        looking[0] += time.process_time() - began
        if step == WARM:
            started[0], looking[0] = time.process_time(), 0.0

    Watch.__call__ = timed_call  # type: ignore[method-assign]

    with tempfile.TemporaryDirectory() as folder:
        fit(
            flow, ensemble, steps=steps, batch_size=batch_size, to=Path(folder) / "run",
            probes=DEFAULT if watched else (), accelerator="cpu", checkpoint_every=10 * steps, validation=0.05,
        )  # fmt: skip
        seconds = time.process_time() - started[0]
        run = Run.open(Path(folder) / "run")
        looks = {name: len(at) for name, at in run.records.items()}
        failed = sum(e["kind"] == "probe_failed" for e in run.events()[0])
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in flow.parameters())).hexdigest()
    return {
        "step": seconds / (steps - WARM),
        "share": looking[0] / (seconds - looking[0]),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "weights": weights,
        "looks": looks,
        "failed": failed,
    }


def compared(case: str, repeats: int) -> dict[str, object]:
    """A row: the least of the repeats of both ways, since whatever else the machine does only adds."""
    found: dict[bool, list] = {False: [], True: []}
    for _ in range(repeats):
        for watched in (False, True):
            command = [sys.executable, __file__, "--one", case, "--watched", str(int(watched))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[watched].append(json.loads(done.stdout.splitlines()[-1]))
    plain, watched = ({key: min(r[key] for r in found[w]) for key in ("step", "share", "peak")} for w in (False, True))
    looks = found[True][0]["looks"]
    return {
        "training": case,
        "batch": CASES[case][0],
        "steps": CASES[case][1],
        "ms per step": 1e3 * plain["step"],
        "watched": 1e3 * watched["step"],
        "more time (%)": 100 * (watched["share"] - plain["share"]),
        "MiB": round(plain["peak"]),
        "watched MiB": round(watched["peak"]),
        "more memory (%)": 100 * (watched["peak"] / plain["peak"] - 1),
        "looks of the probes": f"{min(looks.values())} to {max(looks.values())}",
        "failed": sum(r["failed"] for r in found[True]),
        "weights": "same bits" if len({r["weights"] for w in found.values() for r in w}) == 1 else "differ",
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeats=1)
    parser.add_argument("--cases", nargs="*", default=list(CASES), help="some of them")
    parser.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--watched", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one is not None:
        print(json.dumps(train(given.one, bool(given.watched))))
        return
    rows = [compared(case, given.repeats) for case in given.cases]
    show(
        "Trainings with and without the default probes, CPU time (best of the repeats), peak memory of the process",
        rows,
        to=given.json,
    )


if __name__ == "__main__":
    main()
