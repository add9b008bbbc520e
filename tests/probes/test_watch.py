"""Watching changes nothing, tells what fails, and keeps to its budget."""

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from molifold.probes import PASSIVE, Watch, gradient_norms, preserved, update_ratios
from molifold.runs import Run


class Net(nn.Module):
    """Everything that a probe could disturb: dropout, running statistics, random draws."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)


def vandal(moment):
    """Does to the model all that a probe must not do."""
    model = moment.model
    model.train()
    for _ in range(3):
        model(torch.randn(8, 4)).square().mean().backward()
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.set_grad_enabled(False)
    for p in model.parameters():
        p.data.add_(1.0)
        p.grad.mul_(2.0)
        p.requires_grad_(requires_grad=False)
    model.layers[1].running_mean = torch.ones(16)
    model.layers[0].weight.data = torch.zeros(16, 4)
    model.layers[4].bias.grad = None
    return {"vandal": ("scalar", {"value": np.float64(model.layers[0].weight.sum().item())})}


def broken(moment):
    """Fails."""
    torch.rand(3)
    raise RuntimeError("no such layer")


def train(watch_with, tmp_path, steps=30, **options):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if watch_with is None:
        watch = lambda *args, **kwargs: None  # noqa: E731
    else:
        run = Run.create(tmp_path / "run")
        watch = Watch(model, run, probes=watch_with, batch=torch.ones(4, 4), **options)
    for step in range(1, steps + 1):
        x = torch.randn(32, 4) + np.random.rand() + random.random()  # noqa: NPY002
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch(step, loss=loss)
    if watch_with is not None:
        run.close()
    return model


def test_law_training_is_bit_identical_with_and_without_watching(tmp_path):
    plain = train(None, tmp_path)
    watched = train([*PASSIVE, vandal, broken], tmp_path, every=1, budget=100.0)
    for (name, a), b in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    run = Run.open(tmp_path / "run")
    assert run.records["vandal"] == tuple(range(1, 31))
    assert run.series("loss")[0].tolist() == [10, 20, 30]


def test_a_failing_probe_is_an_event_and_the_others_go_on(tmp_path):
    train([broken, gradient_norms], tmp_path, every=10, budget=100.0)
    run = Run.open(tmp_path / "run")
    failed = [e for e in run.events()[0] if e["kind"] == "probe_failed"]
    assert [e["step"] for e in failed] == [10, 20, 30]
    assert failed[0]["probe"] == "broken"
    assert "no such layer" in failed[0]["traceback"]
    assert run.records["gradient norms"] == (10, 20, 30)


def test_a_probe_that_returns_nonsense_is_an_event(tmp_path):
    train([lambda moment: {"x": ("hologram", {})}, lambda moment: 3], tmp_path, every=30, budget=100.0)
    events = Run.open(tmp_path / "run").events()[0]
    assert len(events) == 2
    assert "hologram" in events[0]["message"]


def test_a_probe_beyond_the_budget_is_skipped_and_told_once(tmp_path):
    calls = []

    def slow(moment):
        """Slow."""
        calls.append(moment.step)
        time.sleep(0.05)
        return {}

    train([slow, gradient_norms], tmp_path, every=1, budget=0.2)
    events = Run.open(tmp_path / "run").events()[0]
    assert len(calls) < 10
    told = [e for e in events if e["kind"] == "probe_skipped" and e["probe"] == "slow"]
    assert len(told) == 1
    assert "slow: skipped, it takes 0.05" in told[0]["message"]
    assert max(Run.open(tmp_path / "run").series("probe_share")[1]) <= 1


def test_passive_numbers_against_the_definition(tmp_path):
    torch.manual_seed(1)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with Run.create(tmp_path / "run") as run:
        watch = Watch(model, run, every=2, budget=100.0)
        for step in (1, 2):
            before = model.weight.detach().clone()
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().mean().backward()
            optimizer.step()
            watch(step)
    reader = Run.open(tmp_path / "run")
    _, ratios = reader.record("update ratios")
    assert ratios["name"].tolist() == ["weight", "bias"]
    expected = (0.5 * model.weight.grad).norm() / before.norm()
    assert ratios["ratio"][0] == pytest.approx(expected.item(), rel=1e-5)
    _, gradients = reader.record("gradient norms")
    assert gradients["rms"][0] == pytest.approx(model.weight.grad.square().mean().sqrt().item(), rel=1e-6)
    assert gradients["finite"].tolist() == [1, 1]
    assert "Healthy" in reader.about("update ratios")["text"]


def test_update_ratios_are_silent_before_they_know_the_step_before():
    from molifold.interfaces import Moment

    assert update_ratios(Moment(1, nn.Linear(2, 2))) == {}


def test_preserved_survives_an_error_inside():
    model = Net()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    draw = torch.get_rng_state()

    def fail():
        with preserved(model):
            model.layers[0].weight.data.zero_()
            torch.rand(5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(draw, torch.get_rng_state())
    assert model.training


def test_restoring_leaves_live_graphs_alone():
    model = nn.Linear(2, 1)
    loss = model(torch.ones(1, 2)).square().sum()
    with preserved(model):
        model(torch.ones(1, 2)).sum().backward()
    loss.backward()
    assert model.weight.grad is not None


@pytest.mark.parametrize("argument", ["every", "log_every", "budget"])
def test_errors_name_the_argument(tmp_path, argument):
    with Run.create(tmp_path / "run") as run, pytest.raises(ValueError, match=f"{argument}: got 0"):
        Watch(nn.Linear(1, 1), run, **{argument: 0})
