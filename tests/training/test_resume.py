"""Killed at any moment and started again, a training ends as if nothing had happened; and it does what a viewer asks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy_density import Spring, Toy, frames, main, nll, viewer

from molifold.runs import Run, RunFormatError
from molifold.training import fit, load_weights
from molifold.training.checkpoint import read_weights

SCRIPT = Path(__file__).with_name("toy_density.py")
OPTIONS = {"steps": 60, "batch_size": 100, "validate_every": 15, "log_every": 4, "checkpoint_every": 7, "seed": 5}


def start(path, **more):
    command = [sys.executable, str(SCRIPT), str(path), json.dumps({**OPTIONS, **more})]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run_until(process, step):
    for line in process.stdout:
        if int(line.split()[1]) >= step:
            return
    raise AssertionError("ended before that step")


def single_threaded(path):
    """As the processes do it: the number of threads changes the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    main(path, dict(OPTIONS))
    torch.set_num_threads(threads)


def state(path, name="model"):
    return read_weights(Run.open(path).checkpoints[60], name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    single_threaded(path)
    return path


def test_sigkill_anywhere_then_resume_is_exact(uninterrupted, tmp_path):
    path = tmp_path / "run"
    for step in (8, 36):
        process = start(path, slow=0.05)
        run_until(process, step)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert Run.open(path).state == "crashed"
    single_threaded(path)
    for name in ("model", "average", "best"):
        expected, got = state(uninterrupted, name), state(path, name)
        assert all(torch.equal(expected[k], got[k]) for k in expected), name
    run, whole = Run.open(path), Run.open(uninterrupted)
    assert len(run.info["attempts"]) == 3
    for series in ("loss", "loss/nll", "loss/reverse_kl", "validation_nll", "gradient_norm"):
        assert run.series(series)[0].tolist() == whole.series(series)[0].tolist()
        assert run.series(series)[1].tolist() == whole.series(series)[1].tolist(), series


def test_sigterm_leaves_a_checkpoint_of_the_very_step(uninterrupted, tmp_path):
    path = tmp_path / "run"
    process = start(path, slow=0.05)
    run_until(process, 12)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    run = Run.open(path)
    assert run.state == "stopped"
    assert max(run.checkpoints) >= 12
    single_threaded(path)
    expected, got = state(uninterrupted), state(path)
    assert all(torch.equal(expected[k], got[k]) for k in expected)


def test_a_finished_run_is_returned_as_it_is(uninterrupted):
    before = sorted(p.stat().st_mtime_ns for p in uninterrupted.rglob("*"))
    result = main(uninterrupted, dict(OPTIONS))
    assert result.steps == 60
    assert len(result.series("loss")[0]) > 10
    assert sorted(p.stat().st_mtime_ns for p in uninterrupted.rglob("*")) == before
    again = load_weights(Toy(0.3), uninterrupted)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), result.flow.parameters(), strict=True))


def test_other_settings_or_data_are_refused(uninterrupted):
    with pytest.raises(ValueError, match="learning_rate: got 0.5, but the run was started with 0.001"):
        main(uninterrupted, {**OPTIONS, "learning_rate": 0.5})
    with pytest.raises(ValueError, match="ensemble: got 2000-"):
        fit(Toy(), frames(seed=1), losses=[(1.0, nll)], energy=Spring(), to=uninterrupted,
            **OPTIONS)  # fmt: skip
    with pytest.raises(FileExistsError, match="resume=True"):
        main(uninterrupted, {**OPTIONS, "resume": False})


def test_torn_checkpoint_is_not_used(tmp_path):
    path = tmp_path / "run"
    main(path, {**OPTIONS, "steps": 14})
    (path / "checkpoints" / ".step-00000021.tmp").mkdir()
    assert max(Run.open(path).checkpoints) == 14


def test_only_the_last_checkpoints_are_kept(tmp_path):
    main(tmp_path / "run", {**OPTIONS, "keep": 3})
    assert list(Run.open(tmp_path / "run").checkpoints) == [49, 56, 60]


def test_checkpoints_hold_no_pickle(uninterrupted):
    for file in uninterrupted.rglob("*"):
        if file.is_file():
            assert file.suffix in (".json", ".jsonl", ".npz", ".safetensors", ".f32", ".f64"), file


def test_requests_are_obeyed(tmp_path):
    path = tmp_path / "run"
    seen = []

    def asks(run, wait):
        run.request("pause")
        wait(lambda: run.state == "paused")
        step = run.step
        time.sleep(0.3)
        seen.append(run.step - step)
        run.request("checkpoint")
        wait(lambda: len(run.checkpoints) > 1)
        run.request("probe")
        wait(lambda: run.records.get("gradient norms"))
        run.request("resume")
        wait(lambda: run.state == "running")

    losses = [(1.0, nll)]
    with viewer(path, asks):
        result = fit(Toy(), frames(), losses=losses, steps=10**6, batch_size=100, to=path, probe_budget=9.0, ema=None)
    assert seen == [0]
    assert result.reason == "stopped"
    run = Run.open(path)
    assert run.state == "stopped"
    assert max(run.checkpoints) == result.steps
    assert [e["message"] for e in run.events()[0] if e["kind"] == "request"] == [
        "pause", "checkpoint", "probe", "resume", "stop",
    ]  # fmt: skip


def test_a_checkpoint_that_was_cut_short_is_named(uninterrupted, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(uninterrupted, copy)
    file = Run.open(copy).checkpoints[60] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunFormatError, match=r"model.safetensors: cut short or damaged .*; copy it again"):
        read_weights(file.parent, "model")
