"""FORMAT.md says what the code does."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import molifold.runs as runs
from molifold.interfaces import RecordKind
from molifold.runs import Run, inbox, run, writer

PAGE = (Path(runs.__file__).parent / "FORMAT.md").read_text()


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_version_and_name():
    assert f"version {run.VERSION}" in PAGE.splitlines()[0]
    assert f'"{run.FORMAT}"' in section("run.json")


def test_kinds_of_records_are_the_same_on_the_page_in_the_writer_and_in_the_protocol():
    kinds = re.findall(r"^\| `(\w+)` \|", section("records/NAME"), re.MULTILINE)
    assert tuple(kinds) == writer.KINDS == get_args(RecordKind)


def test_kinds_of_requests():
    assert all(f"`{kind}`" in section("inbox") for kind in inbox.KINDS)


def test_every_key_of_run_json_is_on_the_page(tmp_path):
    with Run.create(tmp_path / "r"):
        pass
    documented = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", section("run.json"), re.MULTILINE)))
    assert set(Run.open(tmp_path / "r").info) == set(documented)


def test_a_run_written_by_hand_is_readable(tmp_path):
    """Any program may write a run: the smallest one, from the page alone."""
    path = tmp_path / "mine"
    (path / "records" / "loss map").mkdir(parents=True)
    (path / "run.json").write_text(
        '{"format": "molifold-run", "version": 1, "state": "finished", "recipe": null, "molecule": null, "attempts": [{}]}'
    )
    (path / "scalars.jsonl").write_text('{"step": 1, "time": 0, "loss": "NaN"}\n{"step": 2, "time": 1, "loss": 3}\n')
    (path / "records" / "loss map" / "about.json").write_text('{"kind": "map", "text": "mine"}')
    np.savez(path / "records" / "loss map" / "00000002.npz", values=np.eye(2))
    mine = Run.open(path)
    assert mine.series("loss")[1][1] == 3
    assert mine.record("loss map")[0] == "map"
    assert mine.state == "finished"
    assert mine.events() == ([], 0)
    assert "step 2; 1 records" in repr(mine)


def test_old_version_numbers_must_be_numbers(tmp_path):
    (tmp_path / "run.json").write_text('{"format": "molifold-run", "version": "1"}')
    with pytest.raises(runs.RunFormatError):
        Run.open(tmp_path)
