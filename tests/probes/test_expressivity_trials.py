"""Units that are trained before they are judged: what they save, where they must not, and that growth keeps it."""

from dataclasses import replace

import pytest
import torch
from expressivity_cases import mlp, normal, squared
from torch import nn

from molifold.probes import expressivity
from molifold.probes.expressivity.sites import UPSTREAM, Sites
from molifold.probes.expressivity.step import Trials
from molifold.probes.expressivity.verdict import NewUnits
from molifold.training.growth import grow_module


def tried(model, batch, *, steps=200):
    """Trained units between the two layers of ``model``."""
    sites = Sites(model, squared, tuple(t[:24] for t in batch), features=0)
    half = len(batch[0]) // 2
    proposing = [(part[0], part) for part in zip(*(t[:half].split(128) for t in batch), strict=True)]
    verifying = list(zip(*(t[half:].split(256) for t in batch), strict=True))
    before = torch.cat([sites.losses(part).detach() for part in verifying])
    return Trials(sites, proposing, verifying, before, steps).train("2.weight", UPSTREAM)


def problem(*, signal, act=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    model = mlp(4, 1, 2, act=act)
    x = normal(4000, 4, seed=1)
    y = model(x).detach() + signal * torch.tanh(x[:, 1:3]) + 0.3 * normal(4000, 2, seed=2)
    return model, (x, y)


@pytest.mark.parametrize("act", [nn.Tanh, nn.SiLU, nn.Softplus, nn.ReLU])
def test_units_save_most_of_what_is_missing(act):
    """The signal holds .79 of the loss (E tanh(x)^2 = .394, twice); the layer alone can follow none of it."""
    check, _ = tried(*problem(signal=1.0, act=act))
    assert check.holds
    assert 0.6 < check.measured < 0.8
    assert check.predicted == pytest.approx(check.measured, abs=5 * check.error)


def test_where_nothing_is_missing_they_save_nothing():
    for seed in range(5):
        check, _ = tried(*problem(signal=0.0, seed=seed))
        assert not check.holds
        assert check.measured < 2 * check.error


def test_what_the_layer_could_follow_itself_does_not_count():
    model, batch = problem(signal=0.0)
    model[2].weight.data.mul_(-1.0)
    saved = 4 * (torch.tanh(batch[0] @ model[0].weight.T + model[0].bias) * model[2].weight.T).square().sum(1).mean()
    check, _ = tried(model, batch)
    assert abs(check.measured) < 0.05 * saved


@pytest.mark.parametrize("act", [nn.Tanh, nn.Softplus, nn.ReLU])
def test_growth_adds_them_as_they_were_trained(act):
    model, batch = problem(signal=1.0, act=act)
    check, added = tried(model, batch)
    verdict = expressivity(model, squared, batch, features=0)["2.weight"]
    verdict = replace(verdict, check=check, growth=NewUnits("0.weight", added, trained=True))
    x, y = (t[2000:] for t in batch)
    before = squared(model, (x, y)).mean()
    growth = grow_module(model, verdict, losses=lambda m: squared(m, (x, y)), steps=(1.0,))
    assert growth.units == 8
    assert (before - squared(model, (x, y)).mean()).item() == pytest.approx(growth.measured, rel=1e-9)
    assert growth.measured >= check.measured - 1e-9


def test_where_no_straight_step_helps_units_are_trained_and_told_so(monkeypatch):
    model, batch = problem(signal=1.0)
    straight = Trials.step

    def fails(self, *args, **kwargs):
        check, added = straight(self, *args, **kwargs)
        return replace(check, measured=0.0), added

    monkeypatch.setattr(Trials, "step", fails)
    verdict = expressivity(model, squared, batch, features=0).alarms[0]
    assert verdict.site == "2.weight"
    assert verdict.check.steps == 60
    assert verdict.growth.trained
    assert "Units there, trained for 60 steps, lower the loss by 0." in verdict.words()
    assert "more than the layer alone" in verdict.words()
    assert expressivity(model, squared, batch, features=0, trials=0).verdicts[0].kind == "doubtful"
