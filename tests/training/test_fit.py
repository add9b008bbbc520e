"""fit: finds the right density, guards, validates, averages, anneals, obeys."""

import copy
import math
import time

import numpy as np
import pytest
import torch
from torch import nn
from toy_density import ENTROPY, PAIR, Spring, Toy, frames, nll, reverse_kl

from molifold import Ensemble
from molifold.runs import Run
from molifold.training import TrainingError, constant, fit, load_weights
from molifold.training.checkpoint import read_weights

NLL = [(1.0, nll)]
QUICK = {"batch_size": 200, "learning_rate": 0.01, "losses": NLL}


def test_reaches_the_entropy_of_the_data():
    """Reference: the entropy of the distribution that the frames were drawn from, in closed form."""
    result = fit(Toy(), frames(20_000), steps=1500, validate_every=500, **QUICK)
    assert result.validation_error < 0.05
    assert abs(result.validation_nll - ENTROPY) < 4 * result.validation_error
    assert result.series("validation_nll")[0].tolist() == [500, 1000, 1500]
    assert result.reason == "steps"
    assert not result.flow.training


def test_reverse_kl_alone_finds_the_target():
    """Reference: -u of the springs is a standard normal; the smallest loss is -log Z = -2 log(2 pi)."""
    result = fit(
        Toy(), frames(), energy=Spring(), losses=[(1.0, reverse_kl)], steps=600, batch_size=200, learning_rate=0.01
    )
    assert result.series("loss")[1][-5:].mean() == pytest.approx(-2 * math.log(2 * math.pi), abs=0.02)


def test_weights_of_frames_count():
    """Frames with weight 0 may be anywhere."""
    good = frames(1000)
    x = np.concatenate([good.x, good.x + 100])
    ensemble = Ensemble(PAIR, x, columns={"weight": np.repeat([1.0, 0.0], 1000)})
    result = fit(Toy(), ensemble, steps=800, ema=None, **QUICK)
    assert result.flow.first[0].detach().abs().max() < 0.2


def test_learning_rate_warms_up_and_anneals():
    rates = fit(Toy(), frames(), steps=200, log_every=1, **QUICK).series("learning_rate")[1]
    assert rates[0] < 0.2 * rates.max()
    assert rates.max() == pytest.approx(0.01, rel=0.01)
    assert rates[-1] < 1e-4 * rates.max()
    assert fit(Toy(), frames(), steps=50, schedule=constant(warmup=0), **QUICK).series("learning_rate")[1][-1] == 0.01


def test_time_budget_ends_in_time_with_the_rate_annealed():
    start = time.monotonic()
    result = fit(Toy(), frames(), max_seconds=1.5, log_every=1, **QUICK)
    assert result.reason == "time"
    assert 1.5 <= result.seconds < 2.5
    assert time.monotonic() - start < 4
    assert result.series("learning_rate")[1][-1] < 0.01 * 0.01


def test_epochs_are_passes_over_the_training_frames():
    result = fit(Toy(), frames(1000), epochs=3, validation=0.2, **QUICK)
    assert result.steps == 3 * (800 // 200)


def test_average_is_what_validates_and_returns(tmp_path):
    """Reference: the moving average recomputed from the weights after every step."""
    kept = []

    def spy(flow, batch, energy, generator):
        kept.append(flow.first.detach().clone())
        return nll(flow, batch, energy, generator)

    result = fit(Toy(), frames(), steps=50, batch_size=200, learning_rate=0.01, losses=[(1.0, spy)], ema=0.9,
                 schedule=constant(warmup=0), to=tmp_path / "run")  # fmt: skip
    last = read_weights(Run.open(tmp_path / "run").checkpoints[50], "model")["first"]
    average = torch.zeros(2, 2)
    for step, value in enumerate([*kept[1:], last], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    assert torch.allclose(result.flow.first, average, atol=1e-6)
    assert not torch.allclose(last, average, atol=1e-4)
    validated = -result.flow.log_prob(torch.from_numpy(frames().x)).mean()
    assert result.validation_nll == pytest.approx(validated.item(), abs=0.5)


def test_early_stopping_restores_the_best_weights(tmp_path):
    """A few frames and a large network overfit."""
    torch.manual_seed(0)
    flow = Toy()
    flow.net = nn.Sequential(nn.Linear(2, 256), nn.Tanh(), nn.Linear(256, 4))
    result = fit(flow, frames(60), steps=5000, batch_size=20, learning_rate=0.02, losses=NLL, validation=0.3,
                 validate_every=10, early_stopping=5, ema=None, to=tmp_path / "run", schedule=constant())  # fmt: skip
    steps, losses = result.series("validation_nll")
    assert result.reason == "early stopping"
    assert result.steps < 5000
    assert result.best_step == steps[losses.argmin()] < result.steps
    assert result.validation_nll == pytest.approx(losses.min(), rel=1e-6)
    again = load_weights(copy.deepcopy(flow), tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), result.flow.parameters(), strict=True))


def test_a_bad_batch_is_skipped_and_its_frames_are_named(tmp_path):
    ensemble = frames(1000)
    ensemble.x[[17, 600]] = np.nan
    result = fit(Toy(), ensemble, steps=20, validation=0, to=tmp_path / "run", **QUICK)
    assert 0 < result.skipped <= 8
    events = [e for e in Run.open(tmp_path / "run").events()[0] if e["kind"] == "bad_batch"]
    assert len(events) == result.skipped
    assert {f for e in events for f in e["frames"]} == {17, 600}
    assert len(events[0]["batch"]) == 200
    assert all(p.isfinite().all() for p in result.flow.parameters())
    assert np.isfinite(result.series("loss")[1]).all()


def test_an_infinite_loss_with_finite_gradients_is_bad_too():
    def infinite(flow, batch, energy, generator):
        return nll(flow, batch, energy, generator) + (math.inf if batch.step == 3 else 0.0)

    assert fit(Toy(), frames(), steps=5, batch_size=100, losses=[(1.0, infinite)]).skipped == 1


def test_too_many_bad_batches_end_the_training(tmp_path):
    ensemble = frames(1000)
    ensemble.x[:] = np.inf
    with pytest.raises(TrainingError, match="max_bad_batches=3"):
        fit(Toy(), ensemble, steps=50, validation=0, max_bad_batches=3, to=tmp_path / "run", **QUICK)
    assert Run.open(tmp_path / "run").state == "failed"


def test_validation_ess_against_its_definition():
    """log_p of the frames equal to the flow's own log q gives 1; reference: definition of the effective sample size."""
    torch.manual_seed(0)
    flow = Toy()
    x, log_q = flow.sample(2000)
    ensemble = Ensemble(PAIR, x.detach().numpy(), log_p=log_q.detach().numpy() + 5.0)
    result = fit(flow, ensemble, steps=1, batch_size=100, learning_rate=1e-12, losses=NLL)
    assert result.series("validation_ess")[1][-1] == pytest.approx(1.0, abs=1e-4)


def test_randomness_outside_is_untouched():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    a = fit(Toy(0.5), frames(), steps=10, seed=1, **QUICK)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    flow = Toy(0.5)
    torch.set_rng_state(state)
    b = fit(flow, frames(), steps=10, seed=1, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.flow.parameters(), b.flow.parameters(), strict=True))
    c = fit(Toy(0.5), frames(), steps=10, seed=2, **QUICK)
    assert not torch.equal(a.flow.first, c.flow.first)


def test_watching_a_fit_leaves_it_bit_identical(tmp_path):
    plain = fit(Toy(0.3), frames(), steps=40, **QUICK)

    def rude(moment):
        moment.model.train()
        moment.model.log_prob(moment.batch).sum().backward()
        return {"draw": ("scalar", {"value": torch.rand(1).numpy()})}

    watched = fit(
        Toy(0.3), frames(), steps=40, to=tmp_path / "r", probes=[rude], probe_every=7, probe_budget=9.0, **QUICK
    )
    for (name, p), q in zip(plain.flow.state_dict().items(), watched.flow.state_dict().values(), strict=True):
        assert torch.equal(p, q), name
    assert Run.open(tmp_path / "r").records["draw"] == (7, 14, 21, 28, 35)


def test_double_precision_trains_in_double():
    result = fit(Toy(), frames(), steps=5, precision="64-true", **QUICK)
    assert result.flow.first.dtype == torch.float64


def test_mixed_precision_keeps_single_precision_weights():
    result = fit(Toy(), frames(), steps=30, validation=0.1, precision="bf16-mixed", **QUICK)
    assert result.flow.first.dtype == torch.float32
    assert np.isfinite(result.validation_nll)


def test_progress_sees_every_row():
    rows = []
    fit(Toy(), frames(), steps=25, log_every=10, validate_every=20, progress=rows.append, **QUICK)
    assert [r["step"] for r in rows] == [10, 20, 25]
    assert "validation_nll" in rows[1]
    assert rows[-1]["progress"] == 1


def test_large_ensembles_stay_on_disk(tmp_path, monkeypatch):
    import molifold.training.data as data

    ensemble = Ensemble.load(frames().save(tmp_path / "e"))
    memory = fit(Toy(), ensemble, steps=20, **QUICK)
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    disk = fit(Toy(), ensemble, steps=20, **QUICK)
    assert torch.equal(memory.flow.first, disk.flow.first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "steps: got none"),
        ({"steps": 0}, "steps: got 0"),
        ({"steps": 10, "from_step": 10}, "from_step: got 10"),
        ({"steps": 1, "batch_size": 10_000}, "batch_size: got 10000 with 1800 frames"),
        ({"steps": 1, "ema": 1.5}, "ema: got 1.5"),
        ({"steps": 1, "validation": 1.0}, "validation: got 1.0"),
        ({"steps": 1, "validation": 0.0, "early_stopping": 3}, "early_stopping: got 3"),
        ({"steps": 1, "precision": "16-true"}, "precision: got '16-true'"),
        ({"steps": 1, "clip_norm": 0.0}, "clip_norm: got 0.0"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        fit(Toy(), frames(), losses=NLL, **options)


def test_what_is_no_density_is_refused():
    with pytest.raises(TypeError, match="flow: got Linear"):
        fit(nn.Linear(2, 2), frames(), steps=1)
