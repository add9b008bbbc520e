"""Draws during training: bit-identical with and without, numbers against their definition, resumed, asked for, paid."""

import copy
import time

import numpy as np
import pytest
import torch
from torch import nn
from toy_density import Spring, Toy, frames, nll, viewer

from molifold import Ensemble, Molecule, analysis
from molifold.runs import Run
from molifold.sampling import quality
from molifold.store import Writer
from molifold.training import Evaluation, fit

QUICK = {"batch_size": 100, "validation": 0.1, "losses": [(1.0, nll)], "log_every": 5}
PAIR = Molecule(elements=("X", "X"), dimensions=2, name="pair")


class Rude(Toy):
    """Its draws disturb all that they can: mode, buffers, global randomness."""

    def sample(self, n, *, generator=None):
        x, log_q = super().sample(n, generator=generator)
        torch.rand(3)
        np.random.rand()  # noqa: NPY002
        self.train()
        self.log_prob(x)
        return x, log_q


@pytest.mark.parametrize("ema", [None, 0.9])
def test_law_training_is_bit_identical_with_and_without(tmp_path, ema):
    plain = fit(Rude(0.3), frames(), energy=Spring(), steps=40, ema=ema, **QUICK)
    seen = fit(Rude(0.3), frames(), energy=Spring(), steps=40, ema=ema, to=tmp_path / "r", evaluate=50,
               evaluate_budget=99.0, **QUICK)  # fmt: skip
    for (name, p), q in zip(plain.flow.state_dict().items(), seen.flow.state_dict().values(), strict=True):
        assert torch.equal(p, q), name
    run = Run.open(tmp_path / "r")
    assert not [e for e in run.events()[0] if e["kind"] == "probe_failed"]
    history = run.ensemble("history")
    assert np.unique(history.columns["step"], return_counts=True)[0].tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert run.series("ess")[0].tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert run.records["evaluation"] == (5, 10, 15, 20, 25, 30, 35, 40)


def test_numbers_are_those_of_the_draws_that_are_kept(tmp_path):
    fit(Toy(), frames(), energy=Spring(), steps=10, to=tmp_path / "r", evaluate=400, evaluate_budget=99.0, **QUICK)
    run = Run.open(tmp_path / "r")
    drawn = run.ensemble("history")
    last = drawn[np.flatnonzero(drawn.columns["step"] == 10)]
    w = np.exp(last.log_w - last.log_w.max())
    assert run.series("ess")[1][-1] == pytest.approx(w.sum() ** 2 / (w**2).sum() / 400)
    np.testing.assert_allclose(last.log_p, -0.5 * (np.asarray(last.x, dtype=float) ** 2).sum((1, 2)), rtol=1e-5)
    table = run.record("evaluation")[1]
    assert table["name"].tolist() == ["ESS (share of draws)", "Pareto k-hat"]
    assert table["error"][0] > 0
    assert "Healthy" in run.about("evaluation")["text"]


def test_distance_is_one_for_a_perfect_generator_and_large_for_a_wrong_one():
    molecule = Molecule.from_sequence("A")
    rng = np.random.default_rng(0)

    def made(n, centre):
        angles = {name: rng.vonmises(centre, 4, n).astype(np.float32) for name in analysis.named_torsions(molecule)}
        return Ensemble(molecule, np.zeros((n, 22, 3), np.float32), columns=angles)

    reference = made(8000, -1.0)
    good, bad = quality(made(1000, -1.0), reference), quality(made(1000, 1.0), reference)
    assert good.distance == pytest.approx(1.0, abs=0.15)
    assert bad.distance > 30
    assert list(good.divergences)[0] == "phi x psi"
    assert good.ess is None


class Scripted(nn.Module):
    """Draws what it is told to."""

    def __init__(self, *, fail=False, slow=0.0):
        super().__init__()
        self.fail, self.slow = fail, slow

    def log_prob(self, x):
        return -0.5 * x.square().sum((1, 2))

    def sample(self, n, *, generator=None):
        time.sleep(self.slow)
        if self.fail:
            raise FloatingPointError("spline left its domain")
        x = torch.randn(n, 2, 2, generator=generator)
        x[0] = torch.nan
        return x, self.log_prob(x)


def test_a_look_that_fails_is_an_event_and_broken_draws_are_counted(tmp_path):
    with Run.create(tmp_path / "r") as run:
        assert Evaluation(Scripted(fail=True), run, molecule=PAIR)(1).keys() == {"evaluation_seconds"}
        (event,) = run.run.events()[0]
        assert (event["kind"], event["probe"]) == ("probe_failed", "evaluation")
        assert "spline left its domain" in event["message"]
        assert run.run.ensembles == ()
        row = Evaluation(Scripted(), run, molecule=PAIR, energy=Spring(), frames=100)(2)
    # One draw in a hundred is broken and weighs nothing; the others have equal weights.
    assert row["ess"] == pytest.approx(0.99)


def test_looks_keep_to_their_share_of_the_time(tmp_path):
    with Run.create(tmp_path / "r") as run:
        evaluation = Evaluation(Scripted(slow=0.02), run, molecule=PAIR, every=1, budget=0.25, frames=10)
        began, looks = time.perf_counter(), 0
        for step in range(1, 400):
            time.sleep(0.001)
            looks += bool(evaluation(step))
        share = evaluation.seconds / (time.perf_counter() - began)
        assert 3 <= looks < 100
        assert share <= 0.35  # the last look may have been slower than the one before
        assert [e["kind"] for e in run.run.events()[0]] == ["probe_skipped"]
        assert evaluation(400, force=True)


def test_a_resumed_run_cuts_later_and_torn_draws_and_goes_on(tmp_path):
    path = tmp_path / "r"
    with Run.create(path, molecule=PAIR) as run:
        evaluation = Evaluation(Toy(), run, molecule=PAIR, every=10, budget=99.0, frames=20)
        for step in (5, 10, 20):
            assert evaluation(step)
    before = np.array(Run.open(path).ensemble("history").x)
    with (path / "ensembles" / "history" / "x.f32").open("ab") as file:
        file.write(b"torn")
    with Run.resume(path, step=15) as run:
        again = Evaluation(Toy(), run, molecule=PAIR, every=10, budget=99.0, frames=20)
        assert not again(16), "step 10 was looked at already"
        assert again(20)
    history = Run.open(path).ensemble("history")
    assert history.columns["step"].tolist() == [5] * 20 + [10] * 20 + [20] * 20
    np.testing.assert_array_equal(history.x, before)  # the same draws from the same weights


def test_other_ensembles_are_left_alone_by_a_resume(tmp_path):
    with (
        Run.create(tmp_path / "r", molecule=PAIR) as run,
        Writer(run.ensemble_path("mine"), PAIR, columns={"step": np.int64}) as store,
    ):
        store.append(np.zeros((3, 2, 2)), step=np.arange(3))
    Run.resume(tmp_path / "r", step=0).close()
    assert len(Run.open(tmp_path / "r").ensemble("mine")) == 3


def test_several_flows_have_a_history_each(tmp_path):
    other = copy.copy(frames(seed=1))
    other = Ensemble(Molecule(elements=("X", "X"), dimensions=2, name="other"), other.x)
    fit(nn.ModuleList([Toy(), Toy()]), [frames(), other], steps=10, to=tmp_path / "r", evaluate=30,
        evaluate_budget=99.0, **QUICK)  # fmt: skip
    run = Run.open(tmp_path / "r")
    assert {"history-pair", "history-other"} <= set(run.ensembles)
    assert run.ensemble("history-other").molecule.name == "other"


def test_draws_can_be_asked_for(tmp_path):
    path = tmp_path / "r"

    def asks(run, wait):
        run.request("evaluate", frames="many")
        wait(lambda: [e for e in run.events()[0] if e["kind"] == "request_rejected"])
        run.request("pause")
        wait(lambda: run.state == "paused")
        run.request("evaluate", frames=70)
        wait(lambda: "history" in run.ensembles and len(run.ensemble("history")) == 70)
        run.request("resume")
        wait(lambda: len(run.series("ess")[0]))

    with viewer(path, asks):
        result = fit(Toy(), frames(), energy=Spring(), steps=10**6, to=path, ema=None, **QUICK)
    assert result.reason == "stopped"
    events = Run.open(path).events()[0]
    assert [e["message"] for e in events if e["kind"] == "request_rejected"] == [
        "frames: got 'many', expected a whole number from 1 to 1,000,000"
    ]
    assert len(Run.open(path).ensemble("history")) == 70, "nothing on a schedule without evaluate="


@pytest.mark.parametrize(("options", "message"), [({"frames": -1}, "frames: got -1"), ({"every": 0}, "every: got 0"),
                                                  ({"budget": 0.0}, "budget: got 0.0")])  # fmt: skip
def test_errors_name_the_argument(tmp_path, options, message):
    with Run.create(tmp_path / "r") as run, pytest.raises(ValueError, match=message):
        Evaluation(Toy(), run, molecule=PAIR, **options)
    with pytest.raises(ValueError, match="evaluate: got -5 draws"):
        fit(Toy(), frames(), steps=3, evaluate=-5, **QUICK)
