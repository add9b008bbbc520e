import json
import subprocess
import sys

import numpy as np
import pytest

from molifold import Ensemble, Molecule, store

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")


def ensemble(frames=7, seed=0):
    rng = np.random.default_rng(seed)
    return Ensemble(
        WATER,
        rng.normal(size=(frames, 3, 3)).astype(np.float32),
        log_p=rng.normal(size=frames),
        log_q=rng.normal(size=frames).astype(np.float32),
        columns={
            "time": np.arange(frames) * 0.5,
            "trajectory": np.arange(frames, dtype=np.int32),
            "inside": rng.random(frames) > 0.5,
            "velocity": rng.normal(size=(frames, 3, 3)).astype(np.float32),
        },
        meta={"origin": {"program": "test", "seed": 3}},
    )


def assert_same(a, b):
    assert a.molecule == b.molecule
    assert dict(a.meta) == dict(b.meta)
    assert list(a.columns) == list(b.columns)
    for name in ("x", "log_p", "log_q"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in a.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])
        assert a.columns[name].dtype == b.columns[name].dtype


def test_round_trip_is_exact_and_memory_mapped(tmp_path):
    e = ensemble()
    back = Ensemble.load(e.save(tmp_path / "a" / "run"))
    assert_same(e, back)
    assert isinstance(back.x, np.memmap)
    assert back.x.dtype == np.float32
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"run"}


def test_files_are_flat_little_endian(tmp_path):
    e = ensemble()
    store.save(e, tmp_path / "run")
    raw = (tmp_path / "run" / "x.f32").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(-1, 3, 3), e.x)
    big = e.assign(time=e.columns["time"].astype(">f8"))
    store.save(big, tmp_path / "big")
    np.testing.assert_array_equal(store.load(tmp_path / "big").columns["time"], e.columns["time"])


def test_double_precision_on_demand(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3, 3))
    store.save(Ensemble(WATER, x), tmp_path / "run", dtype="float64")
    np.testing.assert_array_equal(store.load(tmp_path / "run").x, x)


def test_an_empty_ensemble_round_trips(tmp_path):
    e = ensemble()[:0]
    assert_same(e, store.load(store.save(e, tmp_path / "run")))


def test_saving_over_the_store_one_reads_from(tmp_path):
    store.save(ensemble(), tmp_path / "run")
    half = store.load(tmp_path / "run")[::2]
    store.save(half, tmp_path / "run")
    assert_same(half, store.load(tmp_path / "run"))


def test_save_overwrites_nothing_else(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(FileExistsError, match="not an ensemble store"):
            store.save(ensemble(), tmp_path / name)
    store.save(ensemble(), tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        store.save(ensemble(), tmp_path / "run")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"


def write(path, e, **options):
    columns = {k: (v.dtype, v.shape[1:]) for k, v in e.columns.items()}
    return store.Writer(path, e.molecule, columns=columns, meta=e.meta, **options)


def test_readable_while_it_grows(tmp_path):
    e = ensemble(6)
    with write(tmp_path / "run", e) as writer:
        assert len(store.load(tmp_path / "run")) == 0
        for start in range(0, 6, 2):
            part = e[start : start + 2]
            writer.append(part.x, log_p=part.log_p, log_q=part.log_q, **part.columns)
            writer.flush()
            seen = store.load(tmp_path / "run")
            assert_same(e[: start + 2], seen)
    assert writer.frames == 6


def test_a_torn_tail_is_ignored_and_cut_on_resume(tmp_path):
    e = ensemble(6)
    with write(tmp_path / "run", e) as writer:
        writer.append(e.x[:4], log_p=e.log_p[:4], log_q=e.log_q[:4], **e[:4].columns)
    with open(tmp_path / "run" / "x.f32", "ab") as f:
        f.write(b"\1" * 50)  # one complete frame and a bit
    with open(tmp_path / "run" / "time.f64", "rb+") as f:
        f.truncate(3 * 8 + 5)
    assert_same(e[:3], store.load(tmp_path / "run"))
    with write(tmp_path / "run", e, resume=True) as writer:
        assert writer.frames == 3
        tail = e[3:]
        writer.append(tail.x, log_p=tail.log_p, log_q=tail.log_q, **tail.columns)
    assert_same(e, store.load(tmp_path / "run"))


def test_truncate_goes_back(tmp_path):
    e = ensemble(6)
    with write(tmp_path / "run", e) as writer:
        writer.append(e.x, log_p=e.log_p, log_q=e.log_q, **e.columns)
        writer.truncate(2)
        assert_same(e[:2], store.load(tmp_path / "run"))
        with pytest.raises(ValueError, match="frames: got 5"):
            writer.truncate(5)
        writer.append(e.x[2:], log_p=e.log_p[2:], log_q=e.log_q[2:], **e[2:].columns)
    assert_same(e, store.load(tmp_path / "run"))


WRITE_FOREVER = """
import numpy as np
from molifold import Molecule
from molifold.store import Writer
water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)))
writer = Writer(__import__("sys").argv[1], water, columns={"n": "int64"})
n = 0
while True:
    writer.append(np.full((97, 3, 3), 1.0) * np.arange(n, n + 97)[:, None, None], n=np.arange(n, n + 97))
    n += 97
    if n == 970: print("go", flush=True)
"""


def test_reading_beside_a_writer_that_is_killed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, tmp_path / "run"], stdout=subprocess.PIPE)
    child.stdout.readline()
    lengths = []
    while len(lengths) < 20 or lengths[-1] < 5000:
        e = store.load(tmp_path / "run")
        lengths.append(len(e))
        np.testing.assert_array_equal(e.columns["n"], np.arange(len(e)))
        np.testing.assert_array_equal(e.x[:, 2, 1], np.arange(len(e)))
    child.kill()
    child.wait()
    assert lengths == sorted(lengths)
    molecule = store.load(tmp_path / "run").molecule
    with store.Writer(tmp_path / "run", molecule, columns={"n": "int64"}, resume=True) as writer:
        n = writer.frames
        writer.append(np.full((1, 3, 3), n), n=np.array([n]))
    np.testing.assert_array_equal(store.load(tmp_path / "run").columns["n"], np.arange(n + 1))


def test_annotate_keeps_the_frames(tmp_path):
    e = ensemble(3)
    with write(tmp_path / "run", e) as writer:
        writer.append(e.x, log_p=e.log_p, log_q=e.log_q, **e.columns)
        writer.annotate(acceptance=[0.5])
    back = store.load(tmp_path / "run")
    assert len(back) == 3
    assert dict(back.meta) == {**e.meta, "acceptance": [0.5]}


def test_the_writer_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="dtype: got complex128 for 'z'"):
        store.Writer(tmp_path / "a", WATER, columns={"z": complex})
    with pytest.raises(ValueError, match="'../z'"):
        store.Writer(tmp_path / "a", WATER, columns={"../z": float})
    with pytest.raises(ValueError, match="'X', which is taken"):
        store.Writer(tmp_path / "a", WATER, columns={"X": float})
    with pytest.raises(ValueError, match="meta: got .* ndarray"):
        store.Writer(tmp_path / "a", WATER, meta={"weights": np.ones(3)})
    assert not (tmp_path / "a").exists()
    with store.Writer(tmp_path / "run", WATER, columns={"n": "int32"}) as writer:
        x = np.zeros((2, 3, 3))
        with pytest.raises(ValueError, match=r"arrays: got x, expected x, n"):
            writer.append(x)
        with pytest.raises(ValueError, match="n: got float64"):
            writer.append(x, n=np.array([0.5, 1]))
        with pytest.raises(ValueError, match=r"x: got shape \[2, 3\], expected \[frames, 3, 3\]"):
            writer.append(x[0][:2], n=np.arange(2))
        with pytest.raises(ValueError, match="different numbers of frames"):
            writer.append(x, n=np.arange(3))
        writer.append(x, n=np.arange(2))
        with pytest.raises(ValueError, match="log_p"):
            writer.append(x, n=np.arange(2), log_p=np.zeros(2))
    with pytest.raises(FileExistsError, match="resume=True"):
        store.Writer(tmp_path / "run", WATER, columns={"n": "int32"})
    with pytest.raises(ValueError, match="columns: got"):
        store.Writer(tmp_path / "run", WATER, columns={"m": "int32"}, resume=True)
    with pytest.raises(ValueError, match="molecule: got"):
        store.Writer(tmp_path / "run", Molecule(elements=("O", "H", "H")), columns={"n": "int32"}, resume=True)
    assert len(store.load(tmp_path / "run")) == 2


def test_the_reader_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing, expected an ensemble store"):
        store.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"without header\.json"):
        store.load(tmp_path)
    store.save(ensemble(), tmp_path / "run")
    header = tmp_path / "run" / "header.json"
    good = json.loads(header.read_text())

    def broken(**change):
        header.write_text(json.dumps({**good, **change}))
        return tmp_path / "run"

    with pytest.raises(ValueError, match="version 2, this molifold reads"):
        store.load(broken(version=2))
    with pytest.raises(ValueError, match="'zarr'"):
        store.load(broken(format="zarr"))
    with pytest.raises(ValueError, match="dtype: .* has 'c64'"):
        store.load(broken(arrays={"x": {"dtype": "c64", "shape": [3, 3]}}))
    with pytest.raises(ValueError, match=r"'\.\./x'"):
        store.load(broken(arrays={"../x": {"dtype": "f32", "shape": [3, 3]}}))
    with pytest.raises(ValueError, match=r"lacks the file gone\.f32"):
        store.load(broken(arrays={"x": {"dtype": "f32", "shape": [3, 3]}, "gone": {"dtype": "f32", "shape": []}}))
    header.write_text("[]")
    with pytest.raises(ValueError, match="not the header"):
        store.load(tmp_path / "run")
