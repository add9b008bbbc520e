"""The desk answers from what lies on disk: packing, names, columns, structures, records, tails."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from molifold import Ensemble, Molecule, geometry
from molifold.analysis import named_torsions
from molifold.plots.marks import Text
from molifold.plots.picture import Picture
from molifold.runs import Run
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.measured import Measured
from molifold.workbench.packing import pack, unpack


@pytest.fixture(scope="module")
def frames():
    molecule = Molecule.from_sequence("A")
    from molifold.data import example

    x = example("alanine-dipeptide").x
    rng = np.random.default_rng(0)
    return Ensemble(molecule, (x + 0.02 * rng.normal(size=(300, 22, 3))).astype(np.float32),
                    log_p=rng.normal(size=300), log_q=rng.normal(size=300), columns={"step": np.repeat([10, 20, 30], 100)})  # fmt: skip


@pytest.fixture
def folder(tmp_path, frames):
    with Run.create(tmp_path / "runs" / "one", molecule=frames.molecule, seed=1) as writer:
        for step in (1, 2, 3):
            writer.scalar(step, loss=1.0 / step, seconds=float(step), progress=step / 4)
        writer.event(2, "stage", "training")
        writer.record(
            3,
            "norms",
            kind="table",
            arrays={"name": np.array(["a", "b"]), "rms": np.array([1.0, 2.0])},
            text="Shows norms.",
        )
    frames.save(tmp_path / "runs" / "one" / "ensembles" / "generated")
    frames[:50].save(tmp_path / "runs" / "long")
    (tmp_path / "secret").mkdir()
    return tmp_path


@pytest.fixture
def desk(folder):
    return Desk(Collection([folder / "runs"]))


def ask(desk, question, **arguments):
    return unpack(desk.answer(question, arguments))


def test_arrays_of_every_kind_survive_packing():
    arrays = {
        "f4": np.float32([1.5, np.nan]),
        "f8": np.array([1e-300]),
        "i": np.arange(3),
        "u1": np.uint8([255]),
        "b": np.array([True]),
    }
    back = unpack(pack({**arrays, "none": None, "nan": float("nan"), "nested": [{"x": np.eye(2)}]}))
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)
    assert back["nan"] == "NaN"
    np.testing.assert_array_equal(back["nested"][0]["x"], np.eye(2))


def test_items_tell_state_progress_and_last_values(desk):
    items = ask(desk, "items")
    (run,) = items["runs"]
    assert (run["name"], run["state"], run["step"], run["progress"]) == ("one", "finished", 3, 1.0)
    assert run["values"]["loss"] == pytest.approx(1 / 3)
    assert [(e["name"], e["frames"]) for e in items["ensembles"]] == [("long", 50), ("one/generated", 300)]


def test_a_broken_run_hides_no_other(desk, folder):
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "run.json").write_text('{"format": "molifold-run", "ver')
    states = {r["name"]: r["state"] for r in ask(desk, "items")["runs"]}
    assert states == {"broken": "unreadable", "one": "finished"}


ENDS = {
    "steps": ("finished", "finished", "all its steps were made"),
    "time": ("finished", "finished", "its time was used up"),
    "early stopping": ("finished", "finished early", "it got no better on the held-out frames"),
    "stopped": ("stopped", "stopped", "somebody asked it to stop"),
}


@pytest.mark.parametrize("reason", ENDS)
def test_the_end_of_a_training_is_told_in_plain_words(tmp_path, reason):
    state, title, words = ENDS[reason]
    writer = Run.create(tmp_path / "run", seed=1)
    writer.scalar(7, loss=1.0)
    writer.event(7, "ended", reason)
    writer.close(state)
    desk = Desk(Collection([tmp_path]))
    (run,) = ask(desk, "items")["runs"]
    assert (run["state"], run["events"][-1]["title"]) == (state, title)
    assert words in run["events"][-1]["message"]
    assert ask(desk, "tail", name="run")["news"][-1]["message"] == run["events"][-1]["message"]
    table = ask(desk, "items")["tables"][0]
    assert words in str(table["rows"])
    assert ("kept no checkpoint" in str(table["rows"])) == (reason == "stopped")


def test_errors_kills_and_interruptions_are_told_with_what_to_do(tmp_path):
    def ended(name, error, **about):
        with pytest.raises(type(error)), Run.create(tmp_path / name, **about) as run:  # noqa: PT012
            run.scalar(3, loss=1.0)
            run.checkpoint_path(3).mkdir()
            raise error

    ended("broken", RuntimeError("no memory"), recipe={"flow": {}})
    ended("interrupted", KeyboardInterrupt())
    killed = Run.create(tmp_path / "killed")
    killed.event(0, "stage", "data")
    (tmp_path / "killed" / "writer.json").unlink()  # what is left of a process that is gone
    found = {r["name"]: r for r in ask(Desk(Collection([tmp_path])), "items")["runs"]}
    assert [found[n]["state"] for n in ("broken", "interrupted", "killed")] == ["failed", "stopped", "crashed"]
    assert found["broken"]["events"][-1]["message"] == "an error ended it: no memory"
    assert "The same molifold train command goes on from step 3." in found["broken"]["advice"]
    assert found["interrupted"]["events"][-1]["message"] == "interrupted from the keyboard"
    assert "Its process is gone" in found["killed"]["advice"]
    assert found["killed"]["stage"] == "making or reading the frames to learn from"


def test_tail_goes_on_where_it_ended(desk, folder):
    first = ask(desk, "tail", name="one")
    np.testing.assert_array_equal(first["columns"]["step"], [1, 2, 3])
    with Run.resume(folder / "runs" / "one", step=3) as writer:
        writer.scalar(4, loss=0.25)
    then = ask(desk, "tail", name="one", scalars=first["scalars"], events=first["events"])
    np.testing.assert_array_equal(then["columns"]["loss"], [0.25])
    assert [e["kind"] for e in then["news"]] == ["resumed"]


def test_columns_are_what_geometry_measures(desk, frames):
    about = ask(desk, "ensemble", name="one/generated")
    names = [c["name"] for c in about["columns"]]
    assert {"phi", "psi", "u", "log_w", "step", "pc1"} <= set(names)
    phi = ask(desk, "column", name="one/generated", column="phi")["values"]
    expected = geometry.torsions(frames.x, np.array([named_torsions(frames.molecule)["phi"]]))[:, 0]
    np.testing.assert_allclose(phi, expected, atol=2e-6)
    np.testing.assert_allclose(
        ask(desk, "column", name="one/generated", column="log_w")["values"], frames.log_w, rtol=1e-6
    )


def test_a_page_of_the_map_loads_no_compiler_and_no_torch(folder):
    asked = [("items", {}), ("ensemble", {"name": "one/generated"}), ("rows", {"name": "one/generated"}),
             ("column", {"name": "one/generated", "column": "phi"}), ("frames", {"name": "one/generated", "rows": [7]})]  # fmt: skip
    program = (
        "import sys\nfrom molifold.workbench.collection import Collection\nfrom molifold.workbench.desk import Desk\n"
        f"desk = Desk(Collection([{str(folder / 'runs')!r}]))\n"
        f"assert all(desk.answer(*question) for question in {asked!r})\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    # More than half of the server's memory, and half a second of the first answer.
    assert {"numba", "llvmlite", "scipy", "torch", "mdtraj", "matplotlib"}.isdisjoint(loaded)
    assert "numpy" in loaded


def test_frames_are_superposed_and_keep_their_shape(desk, frames):
    answer = ask(desk, "frames", name="one/generated", rows=[5, 250])
    np.testing.assert_array_equal(answer["rows"], [5, 250])
    for found, row in zip(answer["x"], (5, 250), strict=True):
        pairs = np.array([(0, 8), (4, 21), (10, 16)])
        np.testing.assert_allclose(
            geometry.distances(found[None], pairs), geometry.distances(frames.x[row][None], pairs), atol=1e-6
        )
    with pytest.raises(ValueError, match=r"rows: got 0 to 300, expected 0 to 299"):
        desk.answer("frames", {"name": "one/generated", "rows": [0, 300]})


def test_broken_frames_are_left_out_of_bundles(tmp_path, frames):
    x = np.array(frames.x[:20])
    x[3, 4] = np.nan
    x[7] = np.inf
    Ensemble(frames.molecule, x).save(tmp_path / "broken")
    desk = Desk(Collection([tmp_path / "broken"]))
    answer = ask(desk, "frames", name="broken", rows=[3, 5, 7, 8])
    assert answer["rows"].tolist() == [5, 8]
    assert np.allclose(answer["x"], ask(desk, "frames", name="broken", rows=[5, 8])["x"])
    with pytest.raises(ValueError, match="rows: got frame 3 with coordinates that are not finite"):
        desk.answer("frames", {"name": "broken", "rows": [3]})


def test_bundles_of_two_ensembles_lie_in_one_direction(desk, frames):
    """The first frame is where Kabsch's rotation puts it onto the structure that was given; the others go with it."""
    axis, angle = np.array([1.0, 2.0, 2.0]) / 3, 2.0
    k = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    alone = ask(desk, "frames", name="one/generated", rows=[5, 250])["x"]
    onto = (alone[0] @ turn + 0.3).astype(np.float32)
    found = ask(desk, "frames", name="one/generated", rows=[5, 250], onto=onto.ravel().tolist())["x"]
    np.testing.assert_allclose(found, alone @ turn + 0.3, atol=1e-5)
    with pytest.raises(ValueError, match="onto: got 21 atoms, expected the 22 of Molecule"):
        desk.answer("frames", {"name": "one/generated", "rows": [5], "onto": onto[1:].ravel().tolist()})


def test_a_growing_ensemble_is_measured_only_where_it_is_new(frames, monkeypatch):
    m = Measured(frames[:100])
    before = m.column("phi")
    m.follow(frames)
    monkeypatch.setattr(Measured, "_measure", lambda _self, _name, part: np.full(len(part), 9, np.float32))
    after = m.column("phi")
    np.testing.assert_array_equal(after[:100], before)
    np.testing.assert_array_equal(after[100:], 9)


def test_principal_components_are_those_of_numpy(frames):
    m = Measured(frames)
    found = m.column("pc1")
    angles = np.stack(
        [geometry.torsions(frames.x, np.array([q]))[:, 0] for q in named_torsions(frames.molecule).values()], axis=1
    )
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    _, _, vt = np.linalg.svd(features - features.mean(0), full_matrices=False)
    expected = (features - features.mean(0)) @ vt[0]
    assert min(np.abs(found - expected).max(), np.abs(found + expected).max()) < 1e-4


def test_clusters_are_the_basins_that_were_planted(frames):
    """Frames with psi turned by half a turn in every third: two clusters, the larger one first."""
    turned = np.arange(300) % 3 == 0
    angle = np.pi * turned
    x = np.repeat(frames.x[:1].astype(float), 300, axis=0) + 0.004 * np.random.default_rng(1).normal(size=(300, 22, 3))
    axis = x[:, 14] - x[:, 8]  # CA-C: what lies behind it turns with psi
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    behind = x[:, 15:] - x[:, 14:15]
    along = (behind * axis[:, None]).sum(-1, keepdims=True) * axis[:, None]
    cross = np.cross(np.broadcast_to(axis[:, None], behind.shape), behind)
    c, s = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x[:, 15:] = x[:, 14:15] + along + c * (behind - along) + s * cross
    m = Measured(Ensemble(frames.molecule, x))
    np.testing.assert_array_equal(m.column("cluster"), turned.astype(np.float32))
    # An ensemble's own clusters stay what they are; a handful of frames has none.
    own = frames.assign(cluster=np.full(300, 7))
    assert set(Measured(own).column("cluster")) == {7}
    assert "cluster" not in Measured(frames[:20]).known


def test_records_become_pictures(desk):
    block = desk.answer("record", {"name": "one", "record": "norms"})
    size = int.from_bytes(block[:4], "little")
    picture = Picture.decode(block[4 : 4 + size].decode(), block[4 + size :])
    assert [m.text for m in picture.marks(Text)] == ["name", "rms", "a", "1", "b", "2"]


@pytest.mark.parametrize("name", ["../secret", "one/../../secret", "/etc", "one/generated/../../../secret", ""])
def test_a_name_that_was_not_found_opens_nothing(desk, name):
    for question in ("run", "ensemble", "tail"):
        with pytest.raises(KeyError):
            desk.answer(question, {"name": name})


def test_links_out_of_the_folder_are_not_followed(folder, frames):
    frames[:3].save(folder / "secret" / "store")
    (folder / "runs" / "link").symlink_to(folder / "secret")
    assert "link" not in " ".join(Collection([folder / "runs"]).ensembles())


def test_requests_reach_the_inbox(desk, folder):
    desk.answer("request", {"name": "one", "kind": "pause"})
    assert [r.kind for r in Run.open(folder / "runs" / "one").inbox] == ["pause"]
    with pytest.raises(ValueError, match="kind: got 'format', expected one of"):
        desk.answer("request", {"name": "one", "kind": "format"})


def test_unknown_questions_and_folders_are_named():
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        Collection(["nowhere"])
    with pytest.raises(KeyError, match="question: got 'eval'"):
        Desk(Collection(["."])).answer("eval", {})


def test_saved_frames_are_those_that_were_chosen(desk, frames, tmp_path):
    import mdtraj

    path = tmp_path / "frames.pdb"
    path.write_bytes(ask(desk, "file", name="one/generated", rows=[7, 9], kind="pdb")["bytes"].tobytes())
    read = mdtraj.load(str(path))
    pairs = np.array([(0, 8), (4, 21)])
    np.testing.assert_allclose(
        geometry.distances(read.xyz, pairs), geometry.distances(frames.x[[7, 9]], pairs), atol=2e-4
    )
    with pytest.raises(ValueError, match="kind: got 'exe', expected one of pdb, xtc, dcd"):
        desk.answer("file", {"name": "one/generated", "rows": [0], "kind": "exe"})
