"""The command line as a user meets it: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import mdtraj
import numpy as np
import pytest
from pyarrow import parquet

from molifold import Ensemble, Molecule, data
from molifold.cli import main
from molifold.recipes import find
from molifold.runs import Run

COMMANDS = (
    "demo", "simulate", "train", "watch", "sample", "report", "analyze", "compare", "diagnose", "grow", "export", "map",
    "check",
)  # fmt: skip
MAP_COMMANDS = ("map encode", "map decode", "map path", "map doctor", "map export")
#: Everything that takes long shares one worker and one run.
one_run = pytest.mark.xdist_group("quick demo")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The smallest demo, made by the command itself."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--quick", "--to", str(path)])
    assert not ended.value.code
    return path


def test_help_says_what_there_is(molifold):
    code, out, _ = molifold("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert "Exit codes" in out


@pytest.mark.parametrize("name", COMMANDS + MAP_COMMANDS)
def test_every_command_has_examples(molifold, name):
    code, out, _ = molifold(*name.split(), "--help")
    assert code == 0
    assert "For example:" in out
    assert f"molifold {name}" in out


def test_version(molifold):
    from molifold import __version__

    assert molifold("--version") == (0, f"molifold {__version__}\n", "")


def test_help_loads_nothing_heavy():
    """molifold --help answers at once: no library that takes a second to import."""
    heavy = {"torch", "openmm", "mdtraj", "rdkit", "numba", "scipy", "matplotlib", "lightning_fabric", "pydantic_core"}
    code = f"import sys, molifold.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(re.findall(r"\w+", done.stdout))
    assert loaded <= {"pydantic_core"}, "typer itself may bring pydantic"


def test_wrong_usage_is_exit_code_2(molifold, tmp_path):
    for arguments in (
        ["chekc"],
        ["sample"],
        ["train", "alanine-dipeptide", "--minuets", "3"],
        ["sample", "x", "-n", "many"],
        ["sample", "x", "-n", "3"],
        ["simulate", "butane", "--to", tmp_path / "b.ens"],
        ["simulate", "butane", "--to", tmp_path, "--minutes", "1"],
    ):
        code, out, err = molifold(*arguments)
        assert code == 2, arguments
        assert "Error" in err or "Usage" in out
        assert "Traceback" not in out + err


def test_a_mistake_is_one_line_and_exit_code_1(molifold, tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text(find("alanine-dipeptide").read_text().replace("batch_size", "batchsize"))
    torn = tmp_path / "torn.pdb"
    torn.write_text("ATOM      1  N   ALA A   1      11.104\n")
    cases = {
        ("train", "nothing-like-it"): "no file nothing-like-it, and no shipped recipe",
        ("train", broken): "batchsize: unknown key; did you mean 'batch_size'?",
        ("train", tmp_path): "no file",
        ("check", tmp_path): "is no recipe",
        ("sample", tmp_path / "no-run"): "expected a run directory",
        ("report", tmp_path / "no-run"): "expected a run directory",
        ("report", __file__): "expected a run directory",
        ("sample", tmp_path, "--out", "x.docx"): "expected one of the extensions",
        ("simulate", "no.pdb", "--to", tmp_path / "s", "--minutes", "1"): "no file no.pdb",
        ("simulate", torn, "--to", tmp_path / "s", "--minutes", "1"): "torn.pdb",
        ("simulate", "--sequence", "AXA", "--to", tmp_path / "s", "--minutes", "1"): "X",
    }
    for arguments, expected in cases.items():
        code, out, err = molifold(*arguments)
        assert code == 1, (arguments, err)
        assert expected in err, arguments
        assert err.splitlines()[-1].startswith("error: ") or "error: " in err
        assert "Traceback" not in out + err
        assert "looks like a bug" not in err, err


def test_debug_shows_the_traceback(molifold):
    with pytest.raises(FileNotFoundError):
        main(["train", "nothing-like-it", "--debug"])


def test_a_warning_is_one_line(molifold, tmp_path):
    line = "ATOM  {:5d}  {:<3s}{}HOH A   1    {:8.3f}{:8.3f}   0.000  1.00  0.00           {}\n"
    atoms = [("O", " ", 0, 0), ("H1", "A", 0.96, 0), ("H1", "B", 0, 0.96), ("H2", " ", -0.24, -0.93)]
    text = "".join(line.format(i + 1, name, place, x, y, name[0]) for i, (name, place, x, y) in enumerate(atoms))
    (tmp_path / "water.pdb").write_text(text + "END\n")
    command = ["simulate", tmp_path / "water.pdb", "--to", tmp_path / "w.ens", "--force-field", "nothing.xml"]
    code, _, err = molifold(*command, "--minutes", "1")
    assert code == 1
    warned, failed = err.splitlines()[:2]
    assert warned.startswith("warning: water.pdb: 1 atom is at several places, A (")
    assert failed.startswith("error: files: got ['nothing.xml']")
    assert "warning" not in molifold(*command, "--minutes", "1", "--alternate", "B")[2]


def test_analytic_systems_have_their_own_temperature(monkeypatch, tmp_path):
    from molifold.workflows import simulate

    monkeypatch.setattr("molifold.simulation.replica_exchange", lambda *_, temperatures, **__: temperatures)
    ladder = simulate(data.example("double-well"), to=tmp_path / "a.ens", nanoseconds=0.0005)
    assert (min(ladder), max(ladder)) == pytest.approx((1.0, 10 / 3))  # and not 300 to 1000


def test_a_killed_simulation_resumes_to_the_same_bytes(molifold, tmp_path):
    """SIGKILL leaves no time to clean up; what the command then makes is what an undisturbed one makes."""
    command = ["simulate", "butane", "--replicas", "2", "--walkers", "1", "--hottest", "400", "--nanoseconds", "0.75"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code = "from molifold.cli import main; main()"
    child = subprocess.Popen([sys.executable, "-c", code, *command, "--to", killed], stderr=subprocess.DEVNULL)
    while child.poll() is None and not (killed / "state.npz").exists():
        time.sleep(0.01)
    time.sleep(0.1)  # somewhere after the checkpoint
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run is too short to be killed"
    with np.load(killed / "state.npz") as saved:
        assert -50_000 < saved["step"] < 750_000  # on the way, whether in equilibration or after it
    for options in (["--to", whole], ["--to", killed, "--resume"]):
        code, out, err = molifold(*command, *options)
        assert code == 0, err
        assert "15000 frames x 14 atoms" in out
    for file in whole.iterdir():
        if file.name != "state.npz":  # it holds the seconds that were spent
            assert file.read_bytes() == (killed / file.name).read_bytes(), file.name


def test_simulate_writes_a_store_and_resumes(molifold, tmp_path):
    store = tmp_path / "butane.ens"
    options = ["--to", store, "--replicas", 2, "--walkers", 1, "--hottest", 400]
    code, out, _ = molifold("simulate", "butane", *options, "--nanoseconds", 0.001)
    assert code == 0
    assert "frames x 14 atoms" in out
    first = len(Ensemble.load(store))
    assert set(np.unique(Ensemble.load(store).columns["temperature"])) == {300.0, 400.0}
    code, _, err = molifold("simulate", "butane", *options, "--nanoseconds", 0.002)
    assert (code, "--resume" in err) == (2, True)
    code, _, _ = molifold("simulate", "butane", *options, "--nanoseconds", 0.002, "--resume")
    assert code == 0
    assert len(Ensemble.load(store)) == 2 * first
    code, out, _ = molifold("check", store)
    assert code == 0
    assert "error" not in out


def test_check_finds_what_is_wrong(molifold, tmp_path):
    oxygen = Molecule(elements=("O",), name="oxygen")
    x = np.zeros((10, 1, 3), dtype=np.float32)
    x[3] = np.nan
    Ensemble(oxygen, x).save(tmp_path / "nan.ens")
    code, out, err = molifold("check", tmp_path / "nan.ens")
    assert code == 1
    assert "1 of 10 frames are not finite" in out
    with open(tmp_path / "nan.ens" / "x.f32", "ab") as file:
        file.write(b"torn")
    assert "frames more than other arrays" in molifold("check", tmp_path / "nan.ens")[1]
    (tmp_path / "nan.ens" / "header.json").write_text("{")
    assert molifold("check", tmp_path / "nan.ens")[0] == 1


def test_check_of_the_installation_and_of_recipes(molifold, tmp_path):
    code, out, err = molifold("check")
    assert code == 0, out + err
    assert "agrees with OpenMM" in out
    assert molifold("check", "alanine-dipeptide")[0] == 0
    broken = tmp_path / "broken.toml"
    broken.write_text(find("alanine-dipeptide").read_text().replace('network = "graph"', 'network = "graf"'))
    code, out, _ = molifold("check", broken)
    assert code == 1
    assert "got 'graf', expected 'graph'" in out


RECIPE = """
[system]
structure = "gly.pdb"
force_field = ["amber99sbildn.xml", "amber99_obc.xml"]

[data]
use = "molifold.simulation:replica_exchange"
temperatures = [300.0, 400.0]
walkers_per_temperature = 4
steps = 20_000
equilibration = 1000

[flow]
use = "molifold.flows.recipes:graph_spline_coupling"
couplings = 2
rotation_couplings = 2
channels = 8
layers = 1

[training]
steps = 20
batch_size = 64
"""


def test_a_structure_of_ones_own_from_recipe_to_samples(molifold, tmp_path, monkeypatch):
    """Paths in the recipe refer to its folder; the run can be sampled from anywhere."""
    lab = tmp_path / "lab"
    lab.mkdir()
    molecule, x = data.structure(sequence="G")
    data.write(Ensemble(molecule, x), lab / "gly.pdb")
    (lab / "gly.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    code, out, err = molifold("train", "lab/gly.toml")
    assert code == 0, err
    assert "20 steps" in out
    monkeypatch.chdir(lab)
    code, out, err = molifold("sample", tmp_path / "runs" / "gly", "-n", 100)
    assert code == 0, err
    assert "ESS" in out
    # The same command finds nothing left to do; another recipe is refused.
    monkeypatch.chdir(tmp_path)
    assert molifold("train", "lab/gly.toml")[0] == 0
    (lab / "gly.toml").write_text(RECIPE.replace("steps = 20\n", "steps = 30\n"))
    code, _, err = molifold("train", "lab/gly.toml")
    assert code == 1
    assert "another recipe" in err


@one_run
def test_demo_leaves_a_run_with_everything(demo_run):
    run = Run.open(demo_run)
    assert run.state == "finished"
    assert {"reference", "generated", "history"} <= set(run.ensembles)
    generated = run.ensemble("generated")
    assert len(generated) == 2000
    assert np.isfinite(generated.log_w).mean() > 0.99
    page = (demo_run / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "During training: map of" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@one_run
def test_demo_does_not_overwrite_a_finished_run(molifold, demo_run):
    code, _, err = molifold("demo", "--quick", "--to", demo_run)
    assert code == 1
    assert "holds a finished run" in err


@one_run
def test_sample_prints_unclipped_beside_clipped(molifold, demo_run, tmp_path):
    code, out, _ = molifold("sample", demo_run, "-n", 600, "--out", tmp_path / "draws.xtc", "--seed", 4)
    assert code == 0
    flat = " ".join(out.split())
    for expected in ("ESS", "clipped", "Pareto k-hat", "acceptance", "P(0 < phi < 150 degrees)", "P(alphaR)"):
        assert expected in flat
    generated = Run.open(demo_run).ensemble("generated")
    beside = np.load(tmp_path / "draws.npz")
    trajectory = mdtraj.load(str(tmp_path / "draws.xtc"), top=generated.molecule.to_mdtraj())
    assert trajectory.n_frames == len(beside["weight"]) == len(generated) == 600
    np.testing.assert_allclose(beside["weight"].sum(), 1.0)
    weight = np.exp(generated.log_w - generated.log_w.max())
    np.testing.assert_allclose(beside["weight"], weight / weight.sum())
    # The printed figure is Kish's, of all weights.
    ess = 100 * weight.sum() ** 2 / (weight**2).sum() / 600
    assert f"ESS {ess:.2f} +-" in flat


@one_run
def test_resampled_frames_come_from_the_draws(molifold, demo_run, tmp_path):
    code, out, _ = molifold("sample", demo_run, "-n", 600, "--out", tmp_path / "b.nc", "--resample", 50)
    assert code == 0
    x = mdtraj.load(str(tmp_path / "b.nc"), top=Run.open(demo_run).molecule.to_mdtraj()).xyz
    pool = Run.open(demo_run).ensemble("generated").x
    assert len(x) == 50
    assert all(np.abs(pool - frame).max(axis=(1, 2)).min() < 1e-5 for frame in x)


@one_run
def test_report_and_check_of_the_run(molifold, demo_run, tmp_path):
    code, out, _ = molifold("report", demo_run, "--out", tmp_path / "page.html")
    assert (code, out.strip()) == (0, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").stat().st_size > 10_000
    code, out, _ = molifold("check", demo_run)
    assert code == 0, out


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    """Butane with noise, and the same wider."""
    folder = tmp_path_factory.mktemp("stores")
    system = data.example("butane")
    noise = np.random.default_rng(0).normal(size=(2, 400, 14, 3))
    for name, x in (("narrow", system.x + 0.002 * noise[0]), ("wide", system.x + 0.006 * noise[1])):
        Ensemble(system.molecule, x.astype(np.float32)).save(folder / name)
    return folder / "wide", folder / "narrow"


def test_compare_prints_a_verdict_and_writes_tables_and_figures(molifold, two_stores, tmp_path):
    wide, narrow = two_stores
    tables = [tmp_path / f"all.{ending}" for ending in ("csv", "parquet", "json")]
    options = [word for path in tables for word in (f"--{path.suffix[1:]}", path)]
    quick = ["--samples", 50, "--distance", "0-3"]
    options += ["--figures", tmp_path / "figures", "--html", tmp_path / "page.html", "--strict"]
    code, out, err = molifold("compare", wide, narrow, *quick, *options)
    assert (code, err) == (1, ""), "they differ, strictly"
    assert "Different from the reference: " in out
    assert "wider: standard deviation" in out
    assert "not compared: energies (generated has no energies; reference has no energies)" in out
    head, *rows = tables[0].read_text().splitlines()
    assert head.startswith("name,kind,measure,value,error,floor")
    assert any(row.startswith("distance_C1_H13,distance,") for row in rows)
    found = json.loads(tables[2].read_text())
    assert found["verdict"]["status"] == "bad"
    assert len(found["rows"]) == len(rows) == parquet.read_table(tables[1]).num_rows
    assert {"comparison.png", "ridge.png"} <= {path.name for path in (tmp_path / "figures").iterdir()}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Everything that was compared" in page
    assert "wider: standard deviation" in page


def test_compare_says_what_it_cannot_open(molifold, two_stores, tmp_path):
    wide, narrow = two_stores
    assert molifold("compare", wide, tmp_path / "nothing")[2].startswith(
        f"error: {tmp_path / 'nothing'}: no such store"
    )
    assert "is no run directory" in molifold("compare", wide)[2]
    assert molifold("compare", wide, narrow, "--csv", "x.txt")[0] == 2
    assert molifold("compare", wide, narrow, "--distance", "0")[0] == 2
    Ensemble(Molecule(elements=("O",), name="oxygen"), np.zeros((100, 1, 3))).save(tmp_path / "other")
    assert "expected" in molifold("compare", wide, tmp_path / "other")[2]


@one_run
def test_compare_takes_runs(molifold, demo_run):
    code, out, _ = molifold("compare", demo_run, "--samples", 50)
    assert code == 0
    assert "phi x psi" in out
    assert molifold("compare", demo_run, f"{demo_run}:generated", "--samples", 50)[0] == 0
    assert "the run keeps the ensembles" in molifold("compare", demo_run, f"{demo_run}:nonsense")[2]
    assert molifold("compare", f"{demo_run}:history@100", f"{demo_run}:reference", "--samples", 50)[0] == 0
    assert (
        "no frame of step '3'; the ensemble has the steps" in molifold("compare", f"{demo_run}:history@3", demo_run)[2]
    )


def test_analyze_writes_tables_figures_and_structures(molifold, tmp_path):
    rng = np.random.default_rng(0)
    system = data.example("butane")
    x = np.asarray(system.x) + 0.01 * rng.normal(size=(300, *np.shape(system.x)[1:]))
    Ensemble(system.molecule, x, columns={"trajectory": np.arange(300) // 100}).save(tmp_path / "e")
    files = [tmp_path / f"a.{ending}" for ending in ("csv", "parquet", "json")]
    code, out, err = molifold("analyze", tmp_path / "e", "--method", "k-means", "--clusters", 2, "--csv", files[0],
                              "--parquet", files[1], "--json", files[2], "--figures", tmp_path / "f",
                              "--html", tmp_path / "page.html")  # fmt: skip
    assert (code, err.splitlines()[0]) == (0, "degrees of freedom ...")
    assert "Clusters by KMeans(k=2)" in out
    rows = json.loads(files[2].read_text())["rows"]
    assert len(rows) == parquet.read_table(files[1]).num_rows == len(files[0].read_text().splitlines()) - 1
    assert mdtraj.load(tmp_path / "f" / "cluster_1.pdb").n_atoms == 14
    assert "<h2>Clusters" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_analyze_says_what_is_wrong(molifold, tmp_path):
    code, _, err = molifold("analyze", tmp_path / "nothing")
    assert code == 1
    assert "no such store, run" in err
    code, _, err = molifold("analyze", tmp_path, "--method", "magic")
    assert code == 1
    assert "expected one of density-peaks" in err
