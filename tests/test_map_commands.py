"""A latent map from a recipe to a path and a collective variable, command by command."""

import mdtraj
import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.cli import main
from molifold.recipes import find

RECIPE = """
[system]
example = "butane"
temperature = 400.0

[data]
use = "molifold.simulation:langevin"
walkers = 8
steps = 6000
save_every = 20
equilibration = 1000

[flow]
use = "molifold.flows:latent_map"
network = "mlp"
encoder_channels = 8
couplings = 2
rotation_couplings = 2
hidden = [16]

[training]
losses = [{ use = "molifold.losses:latent_objective" }]
lag = 5
steps = 8
batch_size = 128
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the recipe above, by the command."""
    folder = tmp_path_factory.mktemp("map")
    (folder / "map.toml").write_text(RECIPE)
    with pytest.raises(SystemExit) as ended:
        main(["train", str(folder / "map.toml"), "--to", str(folder / "run")])
    assert not ended.value.code
    return folder / "run"


def test_the_shipped_recipe_is_sound(molifold):
    assert molifold("check", "alanine-dipeptide-map")[0] == 0
    assert len(find("alanine-dipeptide-map").read_text().splitlines()) <= 30


def test_places_and_basins(molifold, trained, tmp_path):
    places, picture = tmp_path / "places.ens", tmp_path / "map.png"
    code, out, err = molifold("map", "encode", trained, f"{trained}:reference", "--to", places, "--picture", picture)
    assert code == 0, err
    assert "basin 1" in out
    assert picture.stat().st_size > 10_000
    stored, frame = Ensemble.load(places), int(out.split("frame ")[1].split()[0])
    z = [float(stored.columns[name][frame]) for name in ("z1", "z2")]
    assert f"z1 {z[0]:.1f}"[:-1] in out  # the basin lies at the frame that it names, to a bin
    assert len(stored) == len(stored.columns["sigma_z2"]) == 2400

    code, out, err = molifold(
        "map", "path", trained, f"{places}@0", f"{places}@7", "--out", tmp_path / "path.xtc", "--images", 5,
        "--candidates", 4,
    )  # fmt: skip
    assert code == 0, err
    assert "torsions turn by up to" in out
    beside = np.load(tmp_path / "path.npz")
    assert beside["turns"].shape == (4,)
    assert beside["energy"].shape == beside["log_q"].shape == (5,)


def test_decoded_structures_and_their_weights(molifold, trained, tmp_path):
    out = tmp_path / "here.xtc"
    assert molifold("map", "decode", trained, "--at", "0.1,-0.2", "--out", out, "-n", 6)[0] == 0
    told = np.load(out.with_suffix(".npz"))
    top = mdtraj.Topology()
    residue = top.add_residue("BUT", top.add_chain())
    for _ in range(14):
        top.add_atom("C", mdtraj.element.carbon, residue)
    assert len(mdtraj.load(str(out), top=top)) == len(told["log_q"]) == 6
    code, _, err = molifold("map", "decode", trained, "--at", "0.1;2", "--out", out)
    assert code != 0
    assert "expected numbers separated by commas" in err


def test_the_doctor_and_the_exported_variable(molifold, trained, tmp_path):
    code, out, err = molifold("map", "doctor", trained)
    assert "Traceback" not in err
    assert any(level in out for level in ("ok", "warning", "error")), (code, out)
    assert molifold("map", "export", trained, "--out", tmp_path / "map.pt")[0] == 0
    assert torch.jit.load(str(tmp_path / "map.pt"))(torch.rand(2, 42)).shape == (2, 2)
    assert "PYTORCH_MODEL FILE=map.pt" in (tmp_path / "map.plumed.dat").read_text()


def test_mistakes_are_named(molifold, trained, tmp_path):
    places = tmp_path / "none.ens"
    for arguments, expected in (
        (("encode", trained, f"{trained}:nothing", "--to", places), "the run keeps the ensembles"),
        (("encode", trained, tmp_path / "nothing.xtc", "--to", places), "no such store, run"),
        (("path", trained, f"{trained}:reference@1", f"{trained}:reference@99999", "--out", tmp_path / "p.xtc"),
         "expected a frame, 0 to 2399"),
        (("encode", trained, f"{trained}:reference", "--to", tmp_path), "exists already"),
        (("decode", trained, "--at", "0.1", "--out", tmp_path / "p.xtc"), "got 1 coordinates, expected 2"),
        (("doctor", tmp_path), "run.json"),
    ):  # fmt: skip
        code, _, err = molifold("map", *arguments)
        assert code != 0
        assert expected in err
        assert "Traceback" not in err


def test_a_simulation_that_was_too_short(molifold, tmp_path):
    recipe = RECIPE.replace("steps = 6000", "max_seconds = 0.5").replace(
        "equilibration = 1000", "equilibration = 10_000_000"
    )
    (tmp_path / "short.toml").write_text(recipe)
    code, _, err = molifold("train", tmp_path / "short.toml", "--to", tmp_path / "run")
    assert code != 0
    assert "needs more time" in err
    code, _, err = molifold("map", "doctor", tmp_path / "run")
    assert code != 0
    assert "has not begun to train" in err
