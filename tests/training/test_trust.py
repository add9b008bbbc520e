"""Code that a recipe or a run names: imported where the user asked for it, refused where a stranger did."""

import copy
import shutil
import sys
import tomllib

import numpy as np
import pytest
import torch

from molifold.cli import main
from molifold.recipes import FOLDER
from molifold.runs import Run
from molifold.training import RecipeError, load_flow, train_recipe
from molifold.training.recipe import Recipe
from molifold.workbench import report_from_run
from molifold.workflows import check

#: Leaves a file behind when it is imported, and holds a network.
FOREIGN = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self, *, features, static, channels):
        super().__init__()
        self.mix = nn.Linear(features + static, channels)

    def forward(self, features, graph):
        nodes = graph.nodes.expand(len(features), -1, -1)
        import torch
        return self.mix(torch.cat([features, nodes], dim=2))

def nll(flow, batch, energy, generator):
    return -flow.log_prob(batch.x).mean()
"""
RAW = tomllib.loads((FOLDER / "butane.toml").read_text())
RAW["data"] |= {"steps": 600, "equilibration": 100, "save_every": 2, "walkers_per_temperature": 4}
RAW["training"] |= {"steps": 4, "batch_size": 16, "losses": [{"use": "molifold.losses:nll"}]}
RAW["flow"] = {"use": RAW["flow"]["use"], "network": "foreign_lab:Net", "couplings": 2, "channels": 8}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the module on the path, and a run that was trained with its network."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "foreign_lab.py").write_text(FOREIGN)
    sys.path.insert(0, str(folder))
    yield folder, train_recipe(Recipe(RAW), to=folder / "run")
    sys.path.remove(str(folder))
    sys.modules.pop("foreign_lab", None)


@pytest.fixture
def foreign(lab):
    """The run as a stranger's: nothing of its code has been imported yet."""
    folder, _ = lab
    sys.modules.pop("foreign_lab", None)
    (folder / "imported").unlink(missing_ok=True)
    return folder / "run", folder / "imported"


def test_a_recipe_of_ones_own_names_a_network(lab):
    _, result = lab
    networks = [m for m in result.flow.modules() if type(m).__name__ == "Net"]
    assert len(networks) > 2
    assert type(networks[0]).__module__ == "foreign_lab"


def test_loading_is_refused_until_the_user_says_so(foreign, lab):
    path, imported = foreign
    with pytest.raises(
        PermissionError, match=r"flow.network: got 'foreign_lab:Net', code outside molifold.*--trust foreign_lab"
    ):
        load_flow(path)
    assert not imported.exists()
    flow = load_flow(path, trust=["foreign_lab"])
    assert imported.exists()
    x = torch.from_numpy(np.array(Run.open(path).ensemble("reference").x[:4]))
    assert torch.equal(flow.log_prob(x), lab[1].flow.log_prob(x))


def test_sampling_is_refused_until_the_user_says_so(foreign, capsys):
    path, imported = foreign
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(path), "-n", "50"])
    assert ended.value.code == 1
    assert "error: flow.network: got 'foreign_lab:Net'" in capsys.readouterr().err
    assert not imported.exists()
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(path), "-n", "50", "--trust", "foreign_lab"])
    assert not ended.value.code
    assert imported.exists()


def test_reading_checking_and_reporting_import_nothing(foreign):
    path, imported = foreign
    run = Run.open(path)
    if "generated" not in run.ensembles:
        shutil.copytree(path / "ensembles" / "reference", path / "ensembles" / "generated")
    assert run.recipe["flow"]["network"] == "foreign_lab:Net"
    assert check(path)
    assert report_from_run(path, path.parent / "page.html").exists()
    assert not imported.exists()


def changed(section, **keys):
    raw = copy.deepcopy(RAW)
    raw[section] |= keys
    return raw


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (changed("flow", use="foreign_lab:nll"), "flow.use"),
        (changed("flow", network="foreign_lab:Net"), "flow.network"),
        ({**RAW, "data": {"use": "foreign_lab:nll"}}, "data.use"),
        (changed("training", losses=[{"use": "foreign_lab:nll"}]), "training.losses[0].use"),
    ],
)
def test_no_key_of_a_foreign_recipe_imports(foreign, raw, key):
    if key != "flow.network":
        raw = {**raw, "flow": {**raw["flow"], "network": "graph"}}
    _, imported = foreign
    with pytest.raises(PermissionError) as error:
        Recipe(raw, trust=("molifold",))
    assert str(error.value).startswith(f"{key}: got 'foreign_lab:")
    assert not imported.exists()


def test_checking_a_recipe_does_not_run_its_code(foreign, tmp_path):
    _, imported = foreign
    text = (FOLDER / "butane.toml").read_text().replace('network = "mlp"', 'network = "foreign_lab:Net"')
    text = "\n".join(line for line in text.splitlines() if not line.startswith("hidden"))
    (tmp_path / "mine.toml").write_text(text)
    (finding,) = check(tmp_path / "mine.toml")
    assert finding.level == "warning"
    assert "`molifold train` would run it" in finding.message
    assert not imported.exists()
    assert [f.level for f in check(tmp_path / "mine.toml", trust=["foreign_lab"])] == ["ok"]


def test_what_an_import_string_does_not_name_is_told():
    with pytest.raises(
        RecipeError, match=r"flow.network: got 'foreign_labs:Net', but foreign_labs cannot be imported .*PYTHONPATH"
    ):
        Recipe(changed("flow", network="foreign_labs:Net"))
    with pytest.raises(
        RecipeError, match="flow.network: got 'molifold.networks:Grap', but molifold.networks has no 'Grap'"
    ):
        Recipe(changed("flow", network="molifold.networks:Grap"))
