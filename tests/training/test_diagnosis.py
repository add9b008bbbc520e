"""The diagnosis of flows: the faults that were planted are the faults that are told."""

import numpy as np
import pytest
import torch
from torch import nn

from molifold.cli import main
from molifold.data import example
from molifold.ensemble import Ensemble
from molifold.flows.recipes import graph_spline_coupling
from molifold.probes import Watch
from molifold.probes.coverage import coverage
from molifold.probes.stein import stein
from molifold.runs import Run
from molifold.training import fit
from molifold.training.diagnosis import diagnose, diagnose_flow, watch_expressivity
from molifold.training.growth import grow
from molifold.training.health import examine
from molifold.training.restore import load_flow


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


REAL = torch.tensor([False, False, False])


def test_latents_without_structure_are_left_alone():
    """Independent normals and uniform angles; t has its null distribution (18 x 18 pairs, 5 seeds)."""
    circle = torch.arange(18) % 3 == 0
    t = []
    for seed in range(5):
        angle = (torch.rand(1000, 18, generator=torch.Generator().manual_seed(seed)) - 0.5) * 2 * torch.pi
        found = stein(torch.where(circle, angle, normal(1000, 18, seed=100 + seed)), circle)
        assert found.found == []
        t.append(found.t)
    assert abs(np.mean(t)) < 0.15
    assert 0.9 < np.std(t) < 1.1


@pytest.mark.parametrize("kind", ["width", "dependence", "spread"])
def test_an_appended_layer_saves_what_the_latents_promise(kind):
    """Slope of the loss of z -> z + gamma u(z), by actually appending the layer (gamma = 1e-3)."""
    z = normal(20_000, 3, seed=0).double()
    if kind == "width":
        z[:, 1] *= 1.5
    elif kind == "dependence":
        z[:, 1] = 0.6 * z[:, 1] + 0.8 * z[:, 2]
    else:
        z[:, 1] *= 1 + 0.5 * torch.tanh(z[:, 2])
    found = stein(z, REAL)
    target, source = found.found[0]
    assert {target, source} <= ({1} if kind == "width" else {1, 2})
    held_out, gamma = z[1::2].requires_grad_(), 1e-3
    u = found.move(held_out, target, source)
    (slope,) = torch.autograd.grad(u.sum(), held_out)
    after = held_out.detach().clone()
    after[:, target] += gamma * u.detach()

    def loss(z, log_det):
        return (0.5 * z.square().sum(1) - log_det).mean()

    measured = loss(held_out, 0.0) - loss(after, torch.log1p(gamma * slope[:, target]))
    assert measured.item() == pytest.approx(gamma * found.slope[target, source], rel=0.1)


def test_samples_that_lack_a_mode_do_not_cover_the_data():
    data = torch.cat([normal(1000, 3, seed=1), normal(1000, 3, seed=2) + 6.0])[torch.randperm(2000)]
    assert coverage(data[torch.randperm(2000)] + 0.0, data).holds
    collapsed = coverage(normal(2000, 3, seed=3), data)
    assert not collapsed.holds
    assert collapsed.uncovered == pytest.approx(0.5, abs=0.05)
    assert "do not cover the data" in collapsed.words()


SIZE = {"network": "mlp", "couplings": 2, "rotation_couplings": 2, "bins": 4}


def butane(frames, seed, *, size=0.3):
    """Independent draws of a flow with random weights: an ensemble that has an exact density."""
    system = example("butane")
    rng = np.random.default_rng(seed)
    start = Ensemble(system.molecule, system.x + 0.003 * rng.normal(size=(500, *system.x.shape[1:])))
    torch.manual_seed(seed)
    teacher = graph_spline_coupling(system.molecule, start, **SIZE, hidden=(16,))
    with torch.no_grad():
        for name, p in teacher.named_parameters():
            if ".hidden." in name or ".head." in name:
                p.copy_(size * torch.randn(p.shape) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 2))
        x, _ = teacher.sample(frames, generator=torch.Generator().manual_seed(seed))
    return teacher, start, Ensemble(system.molecule, x.numpy())


def test_a_flow_that_drew_the_data_has_nothing_told():
    teacher, _, data = butane(1500, seed=0)
    found = diagnose_flow(teacher, data, frames=1500)
    assert found.layers.alarms == ()
    assert found.latents.found == []
    assert found.draws.holds
    assert found.lines()[1] == "latents: nothing that one more layer could remove"


def test_a_collapsed_sample_is_told_first_never_healthy():
    teacher, _, data = butane(1500, seed=0)
    both = Ensemble(data.molecule, np.concatenate([data.x, 1.1 * data.x]))
    found = diagnose_flow(teacher, both, frames=1500, samples=data)
    assert not found.samples.holds
    assert "probe samples do not cover the data" in found.lines()[0]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A run whose conditioners have one hidden unit, on data that need sixteen."""
    _, start, data = butane(2000, seed=1, size=0.8)
    folder = tmp_path_factory.mktemp("grow")
    data = Ensemble(data.molecule, data.x, log_p=np.zeros(len(data)))
    data.save(folder / "data.ens")
    flow = {"use": "molifold.flows.recipes:graph_spline_coupling", **SIZE, "hidden": [1]}
    training = {"steps": 100, "batch_size": 256, "learning_rate": 5e-3, "accelerator": "cpu", "ema": 0.9}
    recipe = {
        "system": {"example": "butane"}, "data": {"source": str(folder / "data.ens")}, "flow": flow,
        "training": training,
    }  # fmt: skip
    from molifold.training import Recipe, train_recipe

    train_recipe(Recipe(recipe), to=folder / "run")
    return folder / "run"


def test_diagnose_names_the_narrow_layers_and_keeps_records(narrow, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", str(narrow), "--frames", "1500"])
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "under-powered" in text
    assert "widen the layer before it" in text
    run = Run.open(narrow)
    assert run.state == "finished"
    kind, arrays = run.record("expressivity")
    assert kind == "table"
    first = str(arrays["name"][0])
    assert first.endswith("head.weight")
    assert arrays["measured"][0] > 0.3 * arrays["predicted"][0]
    assert text.strip().startswith(str(run.record("diagnosis")[1]["text"])[:30])
    for name in ("activations", "ranks of features", "gradient noise", "similarity of layers", "curvature"):
        assert "ealthy" in run.about(name)["text"], name
    assert "curvature: largest eigenvalue" in text
    assert "curvature" in run.record("findings")[1]["name"]
    scores = run.record("where it hurts - frames")[1]["gain"]
    assert (np.diff(scores) <= 0).all()
    # By layer they are the same frames, and the gains of all layers add up to those of the whole.
    kind, by_layer = run.record("where it hurts by layer - frames")
    assert (kind, str(by_layer["y"][0])) == ("map", first)
    np.testing.assert_allclose(np.sort(by_layer["values"].sum(0))[::-1], scores)


def test_expressivity_can_be_watched(narrow, tmp_path):
    """On a batch of hundreds of frames the narrow layers are named in the run while it trains."""
    frames = torch.as_tensor(np.array(Run.open(narrow).ensemble("reference").x[:800]))
    with Run.create(tmp_path / "watched") as run:
        watch = Watch(load_flow(narrow), run, probes=[watch_expressivity], batch=frames)
        watch.look(1)
    kind, table = Run.open(run.path).record("expressivity")
    assert kind == "table"
    assert str(table["kind"][0]) == "under-powered"
    assert str(table["name"][0]).endswith("head.weight")
    assert "upstream" in Run.open(run.path).record("what is missing")[1]["x"]


def test_layers_are_compared_with_those_of_another_checkpoint(narrow):
    first = min(Run.open(narrow).checkpoints.values())
    found = diagnose(narrow, against=first, frames=200)
    told = [
        line
        for line in found.lines()
        if line.startswith("similarity of layers: CKA with the same layers of run at step 0: ")
    ]
    assert len(told) == 1
    values = np.diag(Run.open(narrow).record("similarity of layers - run at step 0")[1]["values"])
    assert values[0] > 0.99  # the first layer reads the data, before and after
    assert values.min() < 0.9  # the others have learnt


def test_dead_units_are_told_as_a_warning():
    teacher, _, data = butane(300, seed=0)
    hidden = next(m for n, m in teacher.named_modules() if n.endswith("hidden.0"))
    with torch.no_grad():
        hidden.weight[:4] = 0.0
    health = examine(teacher, torch.as_tensor(np.array(data.x)))
    assert health.findings[0].subject == "dead units"
    assert health.lines()[0].startswith("warning: dead units: 4 of 64 units in 1 of 4 layers")
    assert "lower the learning rate" in health.lines()[0]


def test_grow_goes_on_from_the_same_function_and_ends_better(narrow, tmp_path):
    said = []
    result = grow(narrow, to=tmp_path / "larger", more=0.4, frames=1500, tell=said.append)
    before, after = Run.open(narrow), Run.open(tmp_path / "larger")
    assert "units added" in said[0]
    assert result.steps == after.step == before.step + 40
    assert after.recipe["flow"]["widths"]
    steps, rates = after.series("learning_rate")
    assert rates[steps <= 100][-1] < 0.01 * 5e-3
    assert rates[steps > 100][0] > 0.8 * 5e-3  # the budget, and the learning rate with it, begins anew
    assert load_flow(tmp_path / "larger").parameters_count > load_flow(narrow).parameters_count
    assert after.series("validation_nll")[1][-1] < before.series("validation_nll")[1][-1]
    with pytest.raises(FileExistsError):
        grow(narrow, to=tmp_path / "larger")


def test_without_an_alarm_nothing_grows_unless_asked(narrow, tmp_path, capsys):
    """A hundred frames are too few to be sure of anything."""
    with pytest.raises(SystemExit) as stop:
        main(["grow", str(narrow), "--to", str(tmp_path / "none"), "--frames", "100"])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "no layer lacks hidden units" in said
    assert "--anyway" in said
    assert not (tmp_path / "none").exists()
    result = grow(narrow, to=tmp_path / "longer", frames=100, more=0.2, anyway=True)
    before, after = Run.open(narrow), Run.open(tmp_path / "longer")
    assert result.steps == before.step + 20
    assert after.recipe["flow"] == before.recipe["flow"]
    assert load_flow(tmp_path / "longer").parameters_count == load_flow(narrow).parameters_count


def test_a_module_that_is_no_flow_has_its_layers_diagnosed():
    class Normal(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Linear(3, 3)

        def log_prob(self, x):
            z = self.scale(x[:, 0])
            return -0.5 * z.square().sum(1) + torch.linalg.slogdet(self.scale.weight)[1]

        def sample(self, n, *, generator=None):
            z = torch.randn(n, 3, generator=generator)
            return torch.linalg.solve(self.scale.weight, (z - self.scale.bias).T).T[:, None], z.sum(1)

    from molifold import Molecule

    data = Ensemble(Molecule(elements=("C",)), normal(400, 1, 3, seed=5).numpy())
    model = Normal()
    fit(model, data, steps=5, batch_size=50)
    found = diagnose_flow(model, data)
    assert found.latents is None
    assert [v.site for v in found.layers.verdicts] == ["scale.weight"]


def test_errors_come_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run.json"):
        diagnose(tmp_path)
