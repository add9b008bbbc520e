"""Recipes: errors before anything starts, and the way from a file to a flow and back."""

import copy
import tomllib

import numpy as np
import pytest
import torch

from molifold import Ensemble
from molifold.recipes import FOLDER
from molifold.runs import Run
from molifold.training import RecipeError, load_flow, load_weights, read_recipe, train_recipe
from molifold.training.recipe import Recipe

BUTANE = tomllib.loads((FOLDER / "butane.toml").read_text())
TINY = copy.deepcopy(BUTANE)
TINY["data"] |= {"steps": 600, "equilibration": 100, "save_every": 2, "walkers_per_temperature": 4}
TINY["training"] |= {"steps": 6, "batch_size": 16}


def changed(section, **keys):
    raw = copy.deepcopy(BUTANE)
    raw[section] |= keys
    return raw


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda p: p.name)
def test_shipped_recipes_are_valid_and_short(path):
    recipe = read_recipe(path)
    assert path.name in repr(recipe)
    assert len(path.read_text().splitlines()) <= 32


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            changed("training", batchsize=3),
            "training.batchsize: unknown key; did you mean 'batch_size'? Allowed: steps",
        ),
        (changed("training", steps="many"), "training.steps: got 'many', expected integer"),
        (changed("training", steps=-1), "training.steps: got -1, expected a positive number"),
        (changed("training", precision="fp8"), "training.precision: got 'fp8', expected '32-true'"),
        (changed("training", to="x"), "training.to: unknown key"),
        (
            changed("flow", network="gnn"),
            "flow.network: got 'gnn', expected 'graph', 'attention', 'gat', 'schnet', 'megnet' or 'mlp'",
        ),
        (changed("flow", coupling=3), "flow.coupling: unknown key; did you mean 'couplings'?"),
        (changed("flow", use="nowhere:f"), "flow.use: got 'nowhere:f', but nowhere cannot be imported"),
        (changed("flow", use="molifold.flows.recipes:graph_spline"), "did you mean 'graph_spline_coupling'?"),
        (changed("flow", use="plain"), "flow.use: got 'plain', expected 'package.module:name'"),
        (changed("system", temperature=-3.0), "system.temperature: got -3.0, expected greater than 0"),
        (changed("system", example="buthane"), "system.example: got 'buthane', expected one of"),
        (changed("system", smiles="C"), "system: got example and smiles, expected exactly one of example"),
        (changed("data", source="x.dcd"), "data: expected either source"),
        (changed("data", temperature=300.0), "data.temperature: unknown key; did you mean 'temperatures'?"),
        (changed("sampling", m=3), "sampling.m: unknown key"),
        (
            changed("training", losses=[{"use": "molifold.losses:nnl"}]),
            "training.losses[0].use: got 'molifold.losses:nnl'",
        ),
        (changed("training", losses=[{"weight": 1}]), "training.losses[0].use: missing"),
        (
            changed("training", losses=[{"use": "molifold.losses:nll", "sample": 3}]),
            "training.losses[0].sample: unknown key",
        ),
        (changed("training", losses=3), "training.losses: expected tables"),
        (changed("training", probes=[{"feature": 3}]), "training.probes[0].use: missing"),
        (changed("training", probes="molifold.probes:watch_curvature"), "training.probes: got"),
        (
            changed("training", probes=[{"use": "molifold.training.diagnosis:watch_expressivity", "feature": 3}]),
            "training.probes[0].feature: unknown key",
        ),
        ({**BUTANE, "trainings": {}}, "trainings: unknown key; did you mean 'training'?"),
        ({k: v for k, v in BUTANE.items() if k != "flow"}, "flow: missing"),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(raw, message):
    with pytest.raises(RecipeError) as error:
        Recipe(raw)
    assert message in str(error.value)


def test_all_problems_are_told_at_once(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "butane.toml").read_text().replace("batch_size", "batchsize").replace('"mlp"', '"mpl"'))
    with pytest.raises(RecipeError) as error:
        read_recipe(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("mine.toml: ") for line in lines)


def test_what_is_not_toml_is_told(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[system\n")
    with pytest.raises(RecipeError, match="bad.toml: not TOML: .*line 1"):
        read_recipe(path)


def test_probes_of_a_recipe_keep_their_options_and_their_help():
    table = {"use": "molifold.training.diagnosis:watch_expressivity", "features": 8}
    (probe,) = Recipe(changed("training", probes=[table])).probes()
    assert probe.keywords == {"features": 8}
    assert probe.__name__ == "watch_expressivity"
    assert "Healthy" in probe.__doc__
    assert Recipe(changed("training", losses=[])).probes() == []


def test_losses_keep_their_options_and_schedules():
    table = {"use": "molifold.losses:reverse_kl", "samples": 7, "weight": 0.5, "from_step": 100}
    ((weight, loss),) = Recipe(changed("training", losses=[table])).losses()
    assert [weight(99), weight(100)] == [0.0, 0.5]
    assert loss.keywords == {"samples": 7}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("butane") / "run"
    return path, train_recipe(Recipe(TINY), to=path)


def test_from_a_recipe_to_a_flow_and_back_without_pickle(trained):
    path, result = trained
    run = Run.open(path)
    assert run.recipe == TINY
    assert run.ensembles == ("history", "reference", "simulation")
    # Draws are taken by default: at the last of six steps, which is the only row.
    assert run.ensemble("history").columns["step"].tolist() == [6] * 1000
    assert {"ess", "pareto_k", "distance"} <= result.history[-1].keys()
    assert set(np.unique(run.ensemble("simulation").columns["temperature"])) == {300.0}
    flow = load_flow(path)
    x = torch.from_numpy(np.array(run.ensemble("reference").x[:8]))
    assert torch.equal(flow.log_prob(x), result.flow.log_prob(x))
    best = load_flow(path, checkpoint="best")
    assert torch.isfinite(best.log_prob(x)).all()
    assert torch.equal(load_flow(path, checkpoint=6).log_prob(x), flow.log_prob(x))
    with pytest.raises(FileNotFoundError, match="checkpoint: got 5"):
        load_flow(path, checkpoint=5)


def test_the_same_recipe_again_returns_what_is_there(trained):
    path, result = trained
    again = train_recipe(Recipe(TINY), to=path)
    assert all(torch.equal(a, b) for a, b in zip(result.flow.parameters(), again.flow.parameters(), strict=True))
    with pytest.raises(RecipeError, match=r"another recipe \(\[flow\] differ\)"):
        train_recipe(Recipe({**TINY, "flow": {**TINY["flow"], "bins": 4}}), to=path)


def test_loading_a_run_calls_nothing_outside_the_trusted_modules(trained, tmp_path):
    path, _ = trained
    molecule = Run.open(path).molecule
    with Run.create(tmp_path / "evil", molecule=molecule, recipe={"flow": {"use": "os:system", "command": "true"}}):
        pass
    with pytest.raises(PermissionError, match="os:system"):
        load_flow(tmp_path / "evil")
    with Run.create(tmp_path / "silent"):
        pass
    with pytest.raises(ValueError, match="does not say how its flow is built"):
        load_flow(tmp_path / "silent")


def test_weights_of_another_shape_are_refused(trained):
    with pytest.raises(ValueError, match="do not fit this Linear"):
        load_weights(torch.nn.Linear(2, 2), trained[0])


def test_data_from_files(trained, tmp_path):
    store = Run.open(trained[0]).ensemble("simulation")
    Ensemble(store.molecule, np.array(store.x)).save(tmp_path / "frames.ens")
    raw = {**TINY, "data": {"source": "frames.ens", "stride": 2}, "training": {**TINY["training"], "evaluate": 0}}
    result = train_recipe(Recipe(raw, base=tmp_path), to=tmp_path / "run")
    assert result.steps == 6
    assert "history" not in Run.open(tmp_path / "run").ensembles
    assert "validation_ess" in result.history[-1]  # energies were computed, since the file had none


def test_a_wrong_temperature_is_told(trained, tmp_path):
    Run.open(trained[0]).ensemble("simulation").save(tmp_path / "frames.ens")
    raw = {**TINY, "data": {"source": "frames.ens"}, "system": {"example": "butane", "temperature": 400}}
    with pytest.raises(RecipeError, match="no frame at system.temperature = 400 K, only 300 K"):
        train_recipe(Recipe(raw, base=tmp_path), to=tmp_path / "run")
    assert Run.open(tmp_path / "run").state == "failed"
