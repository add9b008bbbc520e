"""The page Network from a run alone: modules with shapes and verdicts, layers over time, pictures of records."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from molifold import Ensemble
from molifold.data import example
from molifold.plots.marks import Bars, Heatmap, Line, Points, Text
from molifold.runs import Run
from molifold.workbench import atoms, inside, verdicts
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.export import export_view
from molifold.workbench.packing import unpack
from molifold.workbench.pointed import atom_values, frame_values
from molifold.workbench.recorded import picture_of_record

ALANINE = example("alanine-dipeptide")
SHAPES = {
    "steps.10.net.0.weight": (4, 3), "steps.10.net.0.bias": (4,), "steps.2.net.0.weight": (5, 3),
    "steps.2.net.2.weight": (1, 5), "steps.1.scale": (7,),
}  # fmt: skip
PARAMETERS = [name for name in SHAPES if name != "steps.1.scale"]  # that is a buffer
SITES = {
    "name": np.array(["steps.2.net.0.weight", "steps.10.net.0.weight", "steps.2.net.2.weight"]),
    "kind": np.array(["under-powered", "under-trained", "sound"]),
    "missing": np.array(["torsions", "", ""]),
    "t": np.array([12.0, 5.0, 0.1]),
    "under_trained": np.array([0.05, 0.2, 0.0]),
    "linear": np.array([0.3, 0.0, 0.0]),
    "nonlinear": np.array([0.1, 0.0, -0.01]),
    "irreducible": np.array([0.55, 0.8, 1.0]),
    "predicted": np.array([0.5, 0.2, np.nan]),
    "measured": np.array([0.4, 0.1, np.nan]),
    "error": np.array([0.02, 0.03, np.nan]),
}


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", molecule=ALANINE.molecule, seed=1) as writer:
        for step in (10, 20, 40):
            rms = np.array([1.0, 0.0, 10.0, 100.0]) * step
            writer.record(step, "gradient norms", kind="table", arrays={"name": np.array(PARAMETERS), "rms": rms})
        ratio = {"name": np.array(PARAMETERS), "ratio": np.array([1e-3, 3e-3, 1e-2, 1e-4])}
        writer.record(40, "update ratios", kind="table", arrays=ratio)
        path = writer.checkpoint_path(40)
        path.mkdir()
        save_file({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}, path / "model.safetensors")
        writer.record(40, "expressivity", kind="table", arrays=SITES)
        gain = np.zeros(22)
        gain[[8, 14]] = 0.5, 1.0
        writer.record(
            40, "where it hurts - atoms", kind="table", arrays={"name": np.arange(22).astype(str), "gain": gain}
        )
        frames = {"x": np.array(["3", "7"]), "y": SITES["name"][:1], "values": np.array([[0.1, 0.9]])}
        writer.record(40, "where it hurts by layer - frames", kind="map", arrays=frames)
    return Run.open(tmp_path / "run")


def test_the_tree_has_shapes_counts_and_the_worst_verdict_below(run):
    modules = {m.path: m for m in inside.tree(run)}
    assert list(modules) == ["steps", "steps.2.net", "steps.2.net.0", "steps.2.net.2", "steps.10.net.0"]  # 2 before 10
    assert modules["steps"].parameters == 12 + 4 + 15 + 5  # without the buffer
    assert modules["steps.10.net.0"].shapes == "bias 4, weight 4×3"
    assert (modules["steps.10.net.0"].label, modules["steps.10.net.0"].depth) == ("10.net.0", 1)
    assert modules["steps"].site.verdict == modules["steps.2.net"].site.verdict == "under-powered"
    leaf = modules["steps.2.net.0"].site
    assert (leaf.missing, leaf.gain, leaf.error, leaf.worst) == ("torsions", 0.4, 0.02, 7)
    # Root mean square over all numbers: 12 of 40, 4 of 0, 15 of 400, 5 of 4000 (the last step's).
    squares = 12 * 40.0**2 + 15 * 400.0**2 + 5 * 4000.0**2
    assert modules["steps"].gradient == pytest.approx(np.sqrt(squares / 36))
    assert modules["steps.2.net"].update == pytest.approx((1e-2 + 1e-4) / 2)


def test_a_torn_checkpoint_is_named(run):
    (run.checkpoints[40] / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="model.safetensors: not a safetensors file"):
        inside.tree(run)


def test_a_run_without_checkpoints_has_the_names_that_probes_saw(tmp_path):
    with Run.create(tmp_path / "run") as writer:
        writer.record(
            1, "gradient norms", kind="table", arrays={"name": np.array(["a.weight"]), "rms": np.array([2.0])}
        )
    (module,) = inside.tree(Run.open(tmp_path / "run"))
    assert (module.path, module.parameters, module.shapes, module.gradient) == ("a", 0, "", 2.0)
    assert inside.tree(Run.open(Run.create(tmp_path / "empty").path)) == ()


def test_health_is_the_median_of_every_layer_by_powers_of_ten(run):
    (panel,) = inside.health(run).panels  # one table has a history
    (mark,) = panel.marks
    rows = [text for _, text in reversed(panel.y.ticks)]  # from below, like the values
    assert rows == ["steps.10.net.0", "steps.2.net.2", "steps.2.net.0"]
    # The bias of 0 has the lowest value that is not zero, log10 10; the weight of the same layer has log10 10, 20, 40.
    np.testing.assert_allclose(mark.values[:, 0], (np.log10([10, 20, 40]) + 1) / 2)
    np.testing.assert_allclose(mark.values[:, 1], np.log10([1000, 2000, 4000]))
    np.testing.assert_allclose(mark.x, [5, 15, 30, 50])
    with pytest.raises(KeyError, match="record: got 'update ratios', expected a table that was recorded at two steps"):
        inside.health(run, record="update ratios")


def test_an_infinite_value_is_drawn_as_the_highest(tmp_path):
    with Run.create(tmp_path / "run") as writer:
        for step, scale in ((1, 3.0), (2, np.inf)):
            names = np.array(["a.0.weight", "a.1.weight"])
            writer.record(step, "gradient noise", kind="table", arrays={"name": names, "scale": np.array([scale, 1.0])})
    (mark,) = inside.health(Run.open(tmp_path / "run")).marks(Heatmap)
    np.testing.assert_allclose(mark.values[:, ::-1], np.log10([[3, 1], [3, 1]]))  # by powers of ten


def test_tables_of_other_things_than_layers_have_no_place_among_them(tmp_path):
    with Run.create(tmp_path / "run") as writer:
        for step in (1, 2):
            for record, names in (("jacobian", ["0", "1"]), ("spline bins", ["steps.2: angle 1", "steps.2: angle 2"])):
                writer.record(step, record, kind="table", arrays={"name": np.array(names), "value": np.ones(2)})
    run = Run.open(tmp_path / "run")
    assert inside.told(run)["histories"] == []
    with pytest.raises(KeyError, match="expected a table that was recorded at two steps or more"):
        inside.health(run)


def test_a_file_carries_what_is_inside(run, tmp_path):
    Ensemble(ALANINE.molecule, np.repeat(ALANINE.x, 10, axis=0)).save(run.path / "ensembles" / "reference")
    text = export_view([run.path], tmp_path / "run.html").read_text()
    blocks = json.loads(re.search(r"data-blocks>(.*?)</script>", text, re.DOTALL).group(1))
    kept = {key: unpack(base64.b64decode(block)) for key, block in blocks.items() if "record" not in key[:6]}
    assert len(kept['inside {"name":"run"}']["modules"]) == 5
    assert 'health {"name":"run"}' in kept
    about = kept['ensemble {"name":"run/reference"}']
    assert [a["name"] for a in about["atom_values"]] == ["where it hurts"]
    column = kept['column {"column":"where it hurts: steps.2.net.0.weight","name":"run/reference"}']["values"]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(column)), [3, 7])


def test_verdicts_stand_beside_promised_and_measured_gains(run):
    shares, gains = picture_of_record(run, "expressivity").panels
    bars = [m for m in shares.marks if isinstance(m, Bars)]
    np.testing.assert_allclose(bars[-1].high, [1.0, 1.0, 1.0])  # the parts add up, noise below zero left out
    points = {m.label: m for m in gains.marks if isinstance(m, Points)}
    assert set(points) == {"under-powered", "under-trained"}
    found = points["under-powered"]
    np.testing.assert_allclose([found.x[0], found.y[0], found.low[0], found.high[0]], [0.5, 0.4, 0.38, 0.42])
    quiet = verdicts.expressivity({**SITES, "predicted": np.full(3, np.nan)}).panels[1]
    assert [m.text for m in quiet.marks] == ["no layer called for a real step"]


def test_the_source_that_stands_out_is_on_top_and_written():
    t = np.array([[1.0, np.nan], [2.0, 9.5], [-3.0, 5.0]])
    (panel,) = verdicts.missing(
        {"values": t, "x": np.array(["near", "far away"]), "y": np.array(["a", "b", "c"])}
    ).panels
    heat = next(m for m in panel.marks if isinstance(m, Heatmap))
    np.testing.assert_array_equal(heat.values, t[[1, 2, 0]][::-1].T)
    assert [(m.text, m.x, m.y) for m in panel.marks if isinstance(m, Text)] == [("9.5", 1.5, 2.5), ("5.0", 1.5, 1.5)]


def test_a_table_has_errors_beside_values_and_short_names(tmp_path):
    with Run.create(tmp_path / "run") as writer:
        columns = {"rough": np.array([0.123456]), "rough_error": np.array([0.0123]), "groups": np.array([7])}
        name = np.array(["transform.steps.2.conditioner.network.layers.0.output"])
        writer.record(1, "smoothing", kind="table", arrays={"name": name, **columns})
    (mark,) = picture_of_record(Run.open(tmp_path / "run"), "smoothing").panels[0].marks
    assert (mark.head, mark.rows) == (("name", "rough", "groups"), (("steps.2…layers.0.output", "0.1235 ± 0.01", "7"),))


def test_numbered_things_are_drawn_as_distributions(tmp_path):
    values = np.random.default_rng(0).lognormal(0, 3, size=200)
    with Run.create(tmp_path / "run") as writer:
        table = {"name": np.arange(200).astype(str), "condition": values, "sign": np.ones(200)}
        writer.record(1, "jacobian", kind="table", arrays=table)
    condition, sign = picture_of_record(Run.open(tmp_path / "run"), "jacobian").panels
    assert (condition.title, condition.caption) == ("log10 condition", f"largest: {values.argmax()}")
    np.testing.assert_array_equal(condition.marks[0].values, np.histogram(np.log10(values), bins=40)[0])
    assert sign.marks[0].values.sum() == 200


def test_the_splines_that_are_worst_off_are_on_top():
    arrays = {"name": np.array(["a", "b"]), "in_use": np.array([5.0, 1.2]), "tails": np.array([0.0, 0.3])}
    picture = verdicts.splines({**arrays, "clamped": np.array([0.01, 0.0])})
    assert [text for _, text in picture.panels[0].y.ticks] == ["b (1.2 bins)", "a (5.0 bins)"]
    assert [m.text for m in picture.panels[0].marks if isinstance(m, Text)] == ["30%"]


def test_attention_points_at_the_atom_that_looks():
    n = ALANINE.molecule.n_atoms
    weights = np.full((6, n + 2, n + 2), 1 / (n + 2))  # two nodes more than atoms, as of a latent map
    weights[4] = np.eye(n + 2)
    weights[4, 3] = 0
    weights[4, 3, 15] = 1.0  # atom 3 takes all from atom 15
    picture = atoms.attention(weights, ALANINE.molecule, names=[f"layers.{h} head 1" for h in range(6)])
    # Four of six, in order: those that are farthest from even attention.
    assert [p.title for p in picture.panels[::2]] == [f"layers.{h} head 1" for h in (0, 1, 2, 4)]
    places = atoms.layout(ALANINE.molecule)
    (arrow,) = [m for m in picture.panels[6].marks if isinstance(m, Line) and m.colour == "vermilion"]
    ends = np.stack([arrow.x, arrow.y], axis=1)
    assert np.linalg.norm(places - ends[0], axis=1).argmin() == 15
    assert np.linalg.norm(places - ends[-2], axis=1).argmin() == 3  # the last point is a gap
    with pytest.raises(ValueError, match=r"weights: got shape \(2, 3, 3\), expected \[heads, 22, 22\]"):
        atoms.attention(np.zeros((2, 3, 3)), ALANINE.molecule)


def test_the_formula_has_bonds_of_about_one_length_and_atoms_apart():
    places, molecule = atoms.layout(ALANINE.molecule), ALANINE.molecule
    bonds = np.array(molecule.bonds)
    lengths = np.linalg.norm(places[bonds[:, 0]] - places[bonds[:, 1]], axis=1)
    assert np.median(lengths) == pytest.approx(1.0)
    assert lengths.min() > 0.5  # RDKit shortens bonds of atoms that would lie on each other
    assert lengths.max() < 1.1
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(len(places))
    assert apart.min() > 0.3


def test_records_of_atoms_and_frames_become_colours(run, tmp_path):
    (values,) = atom_values(run).values()
    assert (values[8], values[14], values.sum()) == (0.5, 1.0, 1.5)
    ((name, (index, gains)),) = frame_values(run, frames=10).items()
    assert name == "where it hurts: steps.2.net.0.weight"
    np.testing.assert_array_equal(index, [3, 7])
    np.testing.assert_array_equal(gains, [0.1, 0.9])
    assert frame_values(run, frames=5) == {}  # speaks of a frame 7 that is not there
    formula = picture_of_record(run, "where it hurts - atoms").panels[0].marks[1]
    assert (formula.values[14], formula.values.max(), formula.limits) == (1.0, 1.0, (0.0, 1.0))

    x = np.repeat(ALANINE.x, 10, axis=0)
    Ensemble(ALANINE.molecule, x).save(run.path / "ensembles" / "reference")
    Ensemble(ALANINE.molecule, x).save(run.path / "ensembles" / "generated")
    desk = Desk(Collection([tmp_path]))
    about = unpack(desk.ensemble("run/reference"))
    assert [a["name"] for a in about["atom_values"]] == ["where it hurts"]
    assert name in [c["name"] for c in about["columns"]]
    column = unpack(desk.column("run/reference", column=name))["values"]
    np.testing.assert_array_equal(column, np.float32([np.nan] * 3 + [0.1] + [np.nan] * 3 + [0.9] + [np.nan] * 2))
    # What a new diagnosis says is seen at once.
    with Run.resume(run.path, step=40) as writer:
        again = {"x": np.array(["2"]), "y": SITES["name"][:1], "values": np.array([[0.5]])}
        writer.record(50, "where it hurts by layer - frames", kind="map", arrays=again)
    column = unpack(desk.column("run/reference", column=name))["values"]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(column)), [2])
    # Draws have no such column: the record counts frames of the reference.
    assert name not in [c["name"] for c in unpack(desk.ensemble("run/generated"))["columns"]]


def test_a_place_of_a_latent_map_is_drawn_by_the_network_that_was_handed_over(run, tmp_path):
    z = np.array([[0.0, 0.0, 5.0], [1.0, 1.0, 6.0]])
    x = np.repeat(ALANINE.x, 2, axis=0)
    columns = {"z1": z[:, 0], "z2": z[:, 1], "z3": z[:, 2]}
    Ensemble(ALANINE.molecule, x, columns=columns).save(run.path / "ensembles" / "map")
    asked = []

    def decode(path, z):
        asked.append((path, z))
        turned = ALANINE.x[:, :, [1, 2, 0]] + 3.0
        return Ensemble(ALANINE.molecule, turned, log_q=np.array([-7.0]))

    desk = Desk(Collection([tmp_path]), decode=decode)
    answer = unpack(desk.answer("decode", {"name": "run/map", "at": {"z1": 0.9, "z2": 0.8}}))
    ((path, given),) = asked
    assert path == run.path
    np.testing.assert_array_equal(given, [0.9, 0.8, 6.0])  # the third latent is that of the nearest frame
    # Superposed on that frame: the structure had only been turned and moved.
    near = unpack(desk.frames("run/map", rows=[1]))["x"]
    np.testing.assert_allclose(answer["x"], near, atol=1e-5)
    assert answer["log_q"].tolist() == [-7.0]
    with pytest.raises(ValueError, match="at: got phi of 'run/map', expected latent columns"):
        desk.answer("decode", {"name": "run/map", "at": {"phi": 0.9}})
    with pytest.raises(ValueError, match="this view cannot run a network"):
        Desk(Collection([tmp_path])).answer("decode", {"name": "run/map", "at": {"z1": 0.9, "z2": 0.8}})


def test_a_drawn_structure_can_be_saved(run, tmp_path):
    from rdkit import Chem

    Ensemble(ALANINE.molecule, ALANINE.x).save(run.path / "ensembles" / "map")
    desk = Desk(Collection([tmp_path]))
    x = (ALANINE.x[0] + 1).ravel().tolist()
    text = unpack(desk.answer("file", {"name": "run/map", "kind": "sdf", "x": x}))["bytes"].tobytes().decode()
    mol = Chem.MolFromMolBlock(text, removeHs=False)
    np.testing.assert_allclose(mol.GetConformer().GetPositions() / 10, ALANINE.x[0] + 1, atol=1e-4)
