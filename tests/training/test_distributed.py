"""Two processes with gloo do what one process does with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from toy_density import main

from molifold.runs import Run
from molifold.training.checkpoint import read_weights

SCRIPT = Path(__file__).with_name("toy_density.py")
OPTIONS = {
    "steps": 30,
    "batch_size": 100,
    "validate_every": 10,
    "log_every": 5,
    "dropout": 0.0,
    "both": False,
    "double": True,
    "probe_every": 10,
    "probe_budget": 99.0,
}


def test_two_processes_equal_one(tmp_path):
    """Maximum likelihood without dropout has no randomness but the order of the frames, so the two must agree."""
    main(tmp_path / "one", dict(OPTIONS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    for name, options in {"two": {}, "unwatched": {"probes": []}}.items():
        command += [str(tmp_path / name), json.dumps({**OPTIONS, "devices": 2, **options})]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    one, two, unwatched = (Run.open(tmp_path / name) for name in ("one", "two", "unwatched"))
    for name in ("model", "average", "best"):
        a, b = read_weights(one.checkpoints[30], name), read_weights(two.checkpoints[30], name)
        for key in a:
            assert torch.allclose(a[key], b[key], atol=1e-6, rtol=0), (name, key)
    for series in ("loss", "validation_nll", "gradient_norm"):
        a, b = one.series(series), two.series(series)
        assert a[0].tolist() == b[0].tolist()
        assert abs(a[1] - b[1]).max() < 1e-6, series
    assert done.stdout.count("step 30") == 2
    assert two.records == one.records  # the first process looks at the raw flow, and calls no collective
    assert two.records["gradient noise"] == two.records["activations"] == (10, 20, 30)
    assert not [e for e in two.events()[0] if e["kind"] == "probe_failed"]
    # Watching changes no bit, of the optimiser's state neither.
    assert not unwatched.records
    for name in ("model", "average", "best", "optimizer"):
        a, b = read_weights(two.checkpoints[30], name), read_weights(unwatched.checkpoints[30], name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name
