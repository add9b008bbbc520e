"""The run directory: round trip, tailing, torn tails, resumes, one writer."""

import json
import math
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.runs import Run, RunBusyError, RunFormatError

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def test_everything_written_is_read_back(path):
    with Run.create(path, molecule=WATER, recipe={"flow": {"bins": 8}}, seed=7) as run:
        run.scalar(1, loss=0.5, odd=math.nan)
        run.scalar(2, loss=math.inf)
        run.event(2, "note", "hello", frames=np.arange(2))
        run.record(2, "h", kind="histogram", arrays={"edges": np.arange(3.0), "counts": np.ones(2)}, text="what it is")
        Ensemble(WATER, np.zeros((4, 3, 3), dtype=np.float32)).save(run.ensemble_path("generated"))
        run.checkpoint_path(2).mkdir()
    run = Run.open(path)
    assert run.molecule == WATER
    assert run.recipe == {"flow": {"bins": 8}}
    assert run.info["seed"] == 7
    rows, _ = run.scalars()
    assert [row["step"] for row in rows] == [1, 2]
    assert math.isnan(rows[0]["odd"])
    assert rows[1]["loss"] == math.inf
    assert run.series("loss")[1].tolist() == [0.5, math.inf]
    assert run.series("nothing")[0].size == 0
    assert run.events()[0][0]["frames"] == [0, 1]
    kind, arrays = run.record("h")
    assert kind == "histogram"
    assert arrays["edges"].tolist() == [0, 1, 2]
    assert run.about("h")["text"] == "what it is"
    assert run.records == {"h": (2,)}
    assert len(run.ensemble("generated")) == 4
    assert list(run.checkpoints) == [2]
    assert run.state == "finished"
    assert run.step == 2


def test_every_line_is_strict_json(path):
    """Viewers parse with JavaScript, which knows no NaN."""
    with Run.create(path) as run:
        run.scalar(1, loss=math.nan)
    for line in (path / "scalars.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(word))


def test_tail_returns_only_what_is_new(path):
    with Run.create(path) as writer:
        run = Run.open(path)
        writer.scalar(1, loss=1)
        rows, cursor = run.scalars()
        assert len(rows) == 1
        assert run.scalars(since=cursor) == ([], cursor)
        writer.scalar(2, loss=1)
        assert [r["step"] for r in run.scalars(since=cursor)[0]] == [2]


def test_torn_tail_is_ignored_until_it_is_whole(path):
    with Run.create(path) as writer:
        writer.scalar(1, loss=1.0)
    with (path / "scalars.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo')
    run = Run.open(path)
    rows, cursor = run.scalars()
    assert [r["step"] for r in rows] == [1]
    assert run.step == 1
    with (path / "scalars.jsonl").open("ab") as file:
        file.write(b'ss": 3}\n')
    assert [r["step"] for r in run.scalars(since=cursor)[0]] == [2]


def test_resume_cuts_what_came_after_the_step(path):
    with Run.create(path) as writer:
        for step in range(1, 11):
            writer.scalar(step, loss=step)
            writer.record(step, "r", kind="table", arrays={"a": np.arange(2)})
        for step in (4, 8):
            writer.checkpoint_path(step).mkdir()
    run = Run.open(path)
    _, cursor = run.scalars()
    with (path / "scalars.jsonl").open("ab") as file:
        file.write(b'{"step": 11, "torn')
    with Run.resume(path, step=6) as writer:
        assert run.series("loss")[0].tolist() == [1, 2, 3, 4, 5, 6]
        assert list(run.checkpoints) == [4]
        assert run.records["r"][-1] == 6
        assert run.scalars(since=cursor)[0] == []
        for step in range(7, 16):  # grow beyond the old length: the cursor must not skip what replaced it
            writer.scalar(step, loss=-step)
    rows, later = run.scalars(since=cursor)
    assert [r["step"] for r in rows] == list(range(7, 16))
    assert run.scalars(since=later)[0] == []
    assert run.series("loss")[0].tolist() == list(range(1, 16))
    assert [e["kind"] for e in run.events()[0]] == ["resumed"]


def test_steps_must_rise(path):
    with Run.create(path) as writer:
        writer.scalar(5, loss=1)
        with pytest.raises(ValueError, match="step: got 5"):
            writer.scalar(5, loss=1)


def test_a_second_writer_is_refused(path):
    with Run.create(path), pytest.raises(RunBusyError, match=f"process {os.getpid()} on"):
        Run.resume(path, step=0)
    with Run.resume(path, step=0):
        pass
    with pytest.raises(FileExistsError, match="not empty"):
        Run.create(path)


def _start_writer(path):
    script = f"""
        import time
        from molifold.runs import Run
        run = Run.create({str(path)!r})
        step = 0
        while True:
            step += 1
            run.scalar(step, loss=1.0 / step, more="".join(["1"] * 20) and 2.0)
            run.record(step, "r", kind="table", arrays={{"a": __import__("numpy").full(1000, step)}}) if step % 20 == 0 else None
            if step == 1:
                print("ready", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_reading_while_another_process_writes_and_dies(path):
    process = _start_writer(path)
    try:
        run, cursor, steps, end = Run.open(path), 0, [], time.monotonic() + 1.0
        assert run.state == "running"
        with pytest.raises(RunBusyError, match=str(process.pid)):
            Run.resume(path, step=0)
        while time.monotonic() < end:
            rows, cursor = run.scalars(since=cursor)
            steps += [r["step"] for r in rows]
            if run.records.get("r"):
                step = run.records["r"][-1]
                assert (run.record("r", step=step)[1]["a"] == step).all()
    finally:
        process.kill()
        process.wait()
    assert len(steps) > 100
    assert steps == list(range(1, steps[-1] + 1))
    assert run.state == "crashed"
    with Run.resume(path, step=50):
        assert run.state == "running"
    assert run.series("loss")[0].tolist() == list(range(1, 51))


def test_silence_counts_as_death_even_if_the_number_is_taken(path):
    writer = Run.create(path)
    lock = path / "writer.json"
    old = time.time() - 3600
    os.utime(lock, (old, old))
    run = Run.open(path)
    assert run.state == "crashed"
    other = Run.resume(path, step=0)
    with pytest.raises(RunBusyError, match="took this run over"):
        writer.requests()
    with pytest.raises(RunBusyError, match="took this run over"):
        writer.close()
    other.close()
    assert run.state == "finished"


def test_a_lock_of_another_host_lives_by_its_heartbeat(path):
    with Run.create(path):
        pass
    (path / "writer.json").write_text(json.dumps({"pid": 1, "host": "elsewhere", "token": "x"}))
    with pytest.raises(RunBusyError, match="elsewhere"):
        Run.resume(path, step=0)


def test_only_one_of_many_wins(path):
    with Run.create(path):
        pass
    won, lost = [], []

    def attempt():
        try:
            won.append(Run.resume(path, step=0))
        except RunBusyError as error:
            lost.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    won[0].close()


def test_an_error_is_told(path):
    with pytest.raises(ZeroDivisionError), Run.create(path):
        1 / 0  # noqa: B018
    run = Run.open(path)
    assert run.state == "failed"
    assert "ZeroDivisionError" in run.events()[0][-1]["traceback"]


def test_requests_arrive_in_order_and_once(path):
    with Run.create(path) as writer:
        run = Run.open(path)
        for kind in ("pause", "probe", "resume"):
            run.request(kind, why="test")
        (path / "inbox" / "9.json").write_text('{"kind": "explode"}')
        (path / "inbox" / "91.json").write_text("not JSON")
        assert [r.kind for r in run.inbox] == ["pause", "probe", "resume"]
        requests = writer.requests()
        assert [r.kind for r in requests] == ["pause", "probe", "resume"]
        assert requests[0].arguments == {"why": "test"}
        assert writer.requests() == ()
    rejected = [e for e in run.events()[0] if e["kind"] == "request_rejected"]
    assert len(rejected) == 2
    assert any("explode" in e["message"] for e in rejected)
    with pytest.raises(ValueError, match="kind: got 'explode'"):
        run.request("explode")


def test_newer_versions_and_strangers_are_refused(path, tmp_path):
    with Run.create(path):
        pass
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**info, "version": 99}))
    with pytest.raises(RunFormatError, match="version 99"):
        Run.open(path)
    with pytest.raises(RunFormatError, match="no run.json"):
        Run.open(tmp_path / "nothing")


def test_no_pickle_goes_in_or_out(path):
    with Run.create(path) as writer:
        with pytest.raises(TypeError, match="dtype object"):
            writer.record(1, "bad", kind="table", arrays={"a": np.array([object()])})
        writer.record(1, "good", kind="table", arrays={"a": np.arange(1)})
        np.savez(path / "records" / "good" / "00000002.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Run.open(path).record("good", step=2)


@pytest.mark.parametrize("name", ["../evil", "", "/x", ".hidden"])
def test_names_stay_inside_the_run(path, name):
    with Run.create(path) as writer:
        with pytest.raises(ValueError, match="name: got"):
            writer.record(1, name, kind="table", arrays={})
        with pytest.raises(ValueError, match="name: got"):
            writer.ensemble_path(name)


def test_reading_needs_no_torch():
    code = "import sys, molifold.runs; assert not {'torch', 'lightning_fabric'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
