"""The default schedule and the dear probes: nothing in a training changes, however it computes."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from molifold.probes import DEFAULT, Watch, watch_curvature, watch_expressivity
from molifold.runs import Run
from molifold.testing.probe import _hooks as hooks

EVERYTHING = (*DEFAULT, watch_curvature, watch_expressivity)


class Net(nn.Module):
    """Dropout and running statistics, which a careless look would disturb."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().sum(1)


def train(
    tmp_path,
    *,
    watched,
    steps=16,
    probes=EVERYTHING,
    accumulate=1,
    precision=contextlib.nullcontext,
    wrap=lambda m: m,
    spike=0,
):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    model = Net()
    run_model = wrap(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
    batch = x, x.sum(1, keepdim=True)
    run = Run.create(tmp_path / "run") if watched else None
    watch = None if run is None else Watch(model, run, probes=probes, batch=batch, loss=squared, every=8, budget=99)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        for _ in range(accumulate):
            x = torch.randn(32, 4) + np.random.rand()  # noqa: NPY002
            y = x.sum(1, keepdim=True) + (100.0 if step == spike else 0.0)
            with precision():
                loss = (run_model(x) - y).square().mean() / accumulate
            loss.backward()
        optimizer.step()
        with precision():  # a careless caller
            if watch is not None:
                watch(step, seen=(x, y), loss=loss)
    if run is not None:
        run.close()
        assert hooks(model) == 0
        assert model.training
    return model


def half():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def compiled(model):
    forget_compiled()
    return torch.compile(model, backend="aot_eager")


def compiled_in_place(model):
    forget_compiled()
    model.compile(backend="aot_eager")
    return model


CASES = {
    "plain": {},
    "accumulated gradients": {"accumulate": 3},
    "bf16 autocast": {"precision": half},
    "compiled": {"wrap": compiled},
    "compiled in place": {"wrap": compiled_in_place},
}


@pytest.mark.parametrize("case", CASES)
def test_law_training_is_bit_identical_with_and_without_everything_watched(case, tmp_path):
    plain = train(tmp_path, watched=False, **CASES[case])
    recompiled = frames() if "wrap" in CASES[case] else None
    watched = train(tmp_path, watched=True, **CASES[case])
    for (name, a), b in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    if recompiled is not None:
        assert frames() == recompiled > 0  # looking made no compiled code invalid
    run = Run.open(tmp_path / "run")
    assert [e for e in run.events()[0] if e["kind"] == "probe_failed"] == []
    expected = {
        "gradient norms", "parameter norms", "update ratios", "activations", "activation histograms", "ranks of weights",
        "ranks of features", "gradient noise", "gradient noise scale", "similarity of layers", "curvature",
        "expressivity", "what is missing",
    }  # fmt: skip
    assert set(run.records) == expected
    assert all(steps == (8, 16) for steps in run.records.values())
    assert all("ealthy" in run.about(name)["text"] for name in run.records)


def frames():
    """Frames compiled since ``forget_compiled``."""
    from torch._dynamo.utils import counters

    return counters["frames"]["ok"]


def forget_compiled():
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()


def test_a_jump_of_the_loss_keeps_its_batch(tmp_path):
    train(tmp_path, watched=True, steps=70, spike=65, probes=())
    run = Run.open(tmp_path / "run")
    told = [e for e in run.events()[0] if e["kind"] == "loss_spike"]
    assert [e["step"] for e in told] == [65]
    assert told[0]["score"] > 6
    _, batch = run.record("loss spike")
    assert batch["tensor 0"].shape == (32, 4)
    np.testing.assert_allclose(batch["tensor 1"], batch["tensor 0"].sum(1, keepdims=True) + 100, rtol=1e-5)


def test_the_budget_is_kept_and_shared(tmp_path, monkeypatch):
    """Steps of 10 ms watched every 10; probes of 1, 40 and 400 ms: the cheap one always looks, the dear ones in turn."""
    now, calls = [0.0], {0.001: 0, 0.04: 0, 0.4: 0}
    monkeypatch.setattr(sys.modules[Watch.__module__], "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def probe(cost):
        def look(moment):
            """Healthy."""
            calls[cost] += 1
            now[0] += cost
            return {}

        return look

    with Run.create(tmp_path / "run") as run:
        watch = Watch(nn.Linear(1, 1), run, probes=[probe(cost) for cost in calls], every=10)
        for step in range(1, 10_001):
            now[0] += 0.01
            watch(step)
    assert watch.seconds / now[0] == pytest.approx(0.05, abs=0.004)
    assert calls[0.001] == 1000
    # 5 s in all: 1 s for the first, half of the other 4 s for each of the two, and the first runs on credit.
    assert calls[0.04] == pytest.approx(2.0 / 0.04, abs=6)
    assert calls[0.4] == pytest.approx(2.0 / 0.4, abs=1)
    told = [e["message"] for e in Run.open(tmp_path / "run").events()[0] if e["kind"] == "probe_skipped"]
    assert len(told) == 2
