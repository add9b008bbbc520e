"""The verdicts: what lacks power is found first, predictions are kept by real steps, nothing else is disturbed."""

import sys

import numpy as np
import pytest
import torch
from expressivity_cases import mlp, normal, squared, trained
from torch import nn

from molifold.probes import expressivity
from molifold.probes.expressivity.sites import Sites

TEACHER = mlp(10, 48, 48, 4)
for _p, _seed in zip(TEACHER.parameters(), range(9), strict=False):
    _p.data = normal(*_p.shape, seed=_seed) * (2.0 / _p.shape[-1] ** 0.5)


def lesson(n, seed):
    x = normal(n, 10, seed=seed)
    return x, TEACHER(x).detach()


@pytest.mark.parametrize(
    ("widths", "site"),
    [((10, 24, 1, 24, 4), "4.weight"), ((10, 24, 24, 1, 4), "6.weight"), ((10, 1, 24, 24, 4), "2.weight")],
)
def test_a_planted_narrow_layer_is_found_first(widths, site):
    torch.manual_seed(0)
    model = trained(mlp(*widths), *lesson(4096, 1), steps=400)
    report = expressivity(model, squared, lesson(3000, 2), features=0)
    first = report.alarms[0]
    assert (first.site, first.source) == (site, "upstream")
    others = [v.cut for v in report.verdicts if v.site != site]
    assert first.cut > 10 * max(others)
    assert first.check.ratio == pytest.approx(1, abs=0.01)
    assert first.check.measured > 0.3 * first.check.predicted
    assert site in report.lines()[1]


def test_a_narrow_layer_that_suffices_raises_no_alarm():
    teacher = mlp(10, 24, 1, 24, 4)
    for p, seed in zip(teacher.parameters(), range(20, 40), strict=False):
        p.data = normal(*p.shape, seed=seed) * (2.0 / p.shape[-1] ** 0.5)
    x = normal(3000, 10, seed=3)
    y = teacher(x).detach()
    report = expressivity(teacher, squared, (x, y + 0.3 * normal(*y.shape, seed=4) * (1 + x[:, :1].abs())))
    assert report.alarms == ()
    assert all(v.kind == "sound" for v in report.verdicts)
    assert "No layer lacks power" in report.lines()[1]


def test_a_linear_student_of_a_linear_teacher_has_no_bottleneck():
    """Below 1e-10 of |V|^2 at every layer: the widths leave nothing that the layers cannot follow."""
    from molifold.probes.expressivity.score import bottleneck
    from molifold.probes.expressivity.statistics import Moments

    model = nn.Sequential(*[nn.Linear(6, 6, dtype=torch.float64) for _ in range(3)])
    x = normal(500, 6, seed=0)
    batch = x, x @ normal(6, 6, seed=1)
    _, rows = Sites(model, squared, batch, features=0).rows(batch)
    for row in rows:
        moments = Moments()
        moments.add(row.b.flatten(0, 1), row.v.flatten(0, 1), {}, examples=500)
        assert bottleneck(moments) * 500 / moments.vv < 1e-10


def test_xor_is_seen_by_the_nonlinear_probe_alone():
    x = normal(3000, 2, seed=5).sign() + 0.1 * normal(3000, 2, seed=6)
    model = mlp(2, 4, 1)
    y = x.prod(1, keepdim=True)
    # Odd hidden units that no output uses yet: the even function that is wanted is uncorrelated with all of them.
    model[0].bias.data.zero_()
    model[2].weight.data.zero_()
    report = expressivity(model, squared, (x, y))
    verdict = report["2.weight"]
    assert verdict.tests["upstream"].share < 0.05
    assert verdict.tests["nonlinear"].share > 0.5
    assert verdict.source == "nonlinear"


def test_what_is_missing_is_named():
    """A student that does not see the ring flag; among sources that do not matter."""
    x, ring = normal(3000, 4, seed=7), normal(3000, 1, seed=8).sign()
    y = torch.tanh(x[:, :1]) * 0.5 + 0.4 * ring * x[:, 1:2].sign().square() + 0.2 * normal(3000, 1, seed=9)
    model = trained(mlp(4, 16, 1), x, y, steps=300)
    batch = {"x": x, "y": y, "ring": ring, "noise": normal(3000, 2, seed=10)}
    report = expressivity(
        model,
        lambda m, b: (m(b["x"]) - b["y"]).square().sum(1),
        batch,
        sources=lambda b: {"ring flag": b["ring"], "noise": b["noise"]},
    )
    assert report.alarms[0].source == "ring flag"
    assert abs(report["2.weight"].tests["noise"].t) < 4
    assert "show it ring flag" in report.alarms[0].words()


def test_results_do_not_depend_on_the_micro_batches():
    batch = lesson(600, 11)
    model = mlp(10, 8, 8, 4)
    one, many = (expressivity(model, squared, batch, chunk=c, checks=0) for c in (600, 37))
    for a, b in zip(one.verdicts, many.verdicts, strict=True):
        assert a.site == b.site
        for name, test in a.tests.items():
            assert test.t == pytest.approx(b.tests[name].t, rel=1e-8)
            assert test.share == pytest.approx(b.tests[name].share, rel=1e-8)
        assert np.allclose(np.sort(a.scores), np.sort(b.scores), rtol=1e-6, atol=1e-9)


def test_rescaling_a_layer_changes_neither_share_nor_t():
    model, batch = mlp(10, 8, 8, 4, act=nn.ReLU), lesson(600, 12)
    before = expressivity(model, squared, batch, checks=0)
    model[0].weight.data *= 10
    model[0].bias.data *= 10
    model[2].weight.data /= 10
    after = expressivity(model, squared, batch, checks=0)
    for verdict in before.verdicts:
        for name, test in verdict.tests.items():
            assert after[verdict.site].tests[name].t == pytest.approx(test.t, rel=1e-6)
            assert after[verdict.site].tests[name].share == pytest.approx(test.share, rel=1e-6)


def test_worst_examples_are_those_that_gain():
    """Half of the examples need what the network lacks; they come first."""
    x, y = lesson(2000, 13)
    model = trained(mlp(10, 24, 1, 4), x, y, steps=200)
    y[:1000] = model(x[:1000]).detach() + 0.01 * normal(1000, 4, seed=14)
    verdict = expressivity(model, squared, (x, y)).alarms[0]
    assert (verdict.worst[:200] >= 1000).mean() > 0.9
    assert verdict.positions.shape == (1,)


def test_a_list_of_micro_batches_is_taken_as_groups():
    """Graphs of several sizes, say: one summed row block each."""
    x, y = lesson(1200, 15)
    model = trained(mlp(10, 24, 1, 4), x, y, steps=200)
    graphs = [(a, b) for a, b in zip(x.split(20), y.split(20), strict=True)]
    report = expressivity(model, lambda m, b: squared(m, b).sum()[None], graphs, features=0)
    assert report.alarms[0].site == "4.weight"
    assert report.alarms[0].test.groups == 30


def test_errors_name_what_came():
    with pytest.raises(ValueError, match="batch: got 5 examples, expected at least 20"):
        expressivity(mlp(10, 4), squared, lesson(5, 0))
    x, y = lesson(40, 0)
    y[3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        expressivity(mlp(10, 4), squared, (x, y))


def test_the_network_is_left_as_it_was():
    model = mlp(10, 8, 4).train()
    model[0].weight.requires_grad_(requires_grad=False)
    state, draw = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    expressivity(model, squared, lesson(100, 0))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(draw, torch.get_rng_state())
    assert model.training
    assert not model[0].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(not m._forward_hooks for m in model.modules())


def test_what_an_alarm_explains_is_told_with_it():
    """Three layers gain in the examples of an alarm, in others, and in others than it beside a loss in its own."""
    from molifold.probes.expressivity.probe import _explained
    from molifold.probes.expressivity.score import Score
    from molifold.probes.expressivity.verdict import Expressivity, Verdict

    first, own, noise = (normal(2000, seed=s).numpy() for s in (1, 2, 3))
    scores = {
        "alarm": 1.0 + first,
        "same": 0.5 * (1.0 + first) + 0.5 * noise,
        "other": 0.3 + own,
        "sound": 0.01 + own,
    }

    def verdict(name, q):
        test = Score(q.mean(), q.std() / len(q) ** 0.5, 0.1, len(q))
        kind = {"alarm": "under-powered", "sound": "sound"}.get(name, "doubtful")
        return Verdict(name, kind, "upstream", 0, 0, 0, 1, test, {"upstream": test}, scores=q, bounded=q)

    told = _explained([verdict(*item) for item in scores.items()], 1e-3)
    assert {v.site: v.explained for v in told} == {"alarm": "", "same": "alarm", "other": "", "sound": ""}
    lines = Expressivity(tuple(told), (), 4000, 0.0, 0.01, 4).lines()
    assert any(line.startswith("2. doubtful: other") for line in lines)
    assert "Explained by alarm, so mend that first: 1 matrix (same)" in lines


def test_examples_that_ask_for_much_more_than_others_do_not_decide_what_is_proposed(monkeypatch):
    """Noise of very different sizes: directions that were proposed with a bound gain more, on examples as they are."""
    torch.manual_seed(0)
    model = mlp(20, 1, 6)
    t = {}
    for bound in (1.0, 1e9):
        monkeypatch.setattr(sys.modules["molifold.probes.expressivity.probe"], "PROPOSING", bound)
        for seed in range(16):
            x, noise = normal(1200, 20, seed=100 + seed), normal(1200, 6, seed=200 + seed)
            y = model(x).detach() + 0.5 * x[:, :1] + noise * torch.exp(1.3 * normal(1200, 1, seed=300 + seed))
            report = expressivity(model, squared, (x, y), features=0, checks=0, seed=seed)
            t[bound, seed] = report["2.weight"].tests["upstream"].t
    gained = np.array([t[1.0, seed] - t[1e9, seed] for seed in range(16)])
    assert gained.mean() > 2 * gained.std(ddof=1) / 4


def test_a_lack_that_t_cannot_see_for_a_few_examples_is_suspected_and_proved_by_a_step():
    """Where a residual is small the gradient of its root grows without bound: t is of noise, the loss itself is not."""

    def roots(model, batch):
        return (model(batch[0]) - batch[1]).abs().pow(0.4).sum(1)

    found = {}
    for signal in (0.5, 0.0):
        for seed in range(4):
            torch.manual_seed(seed)
            model = mlp(4, 1, 2)
            x = normal(4000, 4, seed=60 + seed)
            y = model(x).detach() + signal * torch.tanh(x[:, 1:3]) + normal(4000, 2, seed=70 + seed)
            found[signal, seed] = expressivity(model, roots, (x, y), features=0, seed=seed)
    lacking = [found[0.5, seed] for seed in range(4)]
    assert all(report.alarms for report in lacking)
    assert np.median([report["2.weight"].tests["upstream"].t for report in lacking]) < 3
    assert any("with extreme ones held back, else" in report.alarms[0].words() for report in lacking)
    assert not any(found[0.0, seed].alarms for seed in range(4))
