"""A loss spike of a training: the broken frame behind it comes out first, and the diagnosis says so."""

import numpy as np
import pytest
import torch
from toy_density import Toy, frames

from molifold.ensemble import Ensemble
from molifold.losses import nll
from molifold.runs import Run
from molifold.training import fit
from molifold.training.health import history_of
from molifold.training.spikes import KEPT

BROKEN = 1234


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Epochs of 20 batches; one frame of 2000 lies far out, so that one batch of every epoch holds it."""
    data = frames()
    x = np.array(data.x)
    x[BROKEN] += 40.0
    path = tmp_path_factory.mktemp("spikes") / "run"
    torch.manual_seed(0)
    fit(
        Toy(dropout=0.0), Ensemble(data.molecule, x), losses=[(1.0, nll)], steps=300, batch_size=100, to=path,
        validation=0.0, probes=(), clip_norm=0.1, ema=None, accelerator="cpu",
    )  # fmt: skip
    return Run.open(path)


def test_the_batch_is_kept_with_the_broken_frame_first(run):
    spikes = [e for e in run.events()[0] if e["kind"] == "loss_spike"]
    assert 10 < len(spikes) <= 15
    assert all(e["frames"][0] == BROKEN for e in spikes)
    assert f"worst frames (nll) {BROKEN} (" in spikes[0]["message"]
    kept = [e["ensemble"] for e in spikes if "ensemble" in e]
    assert len(kept) == KEPT
    batch = run.ensemble(kept[0])
    assert batch.columns["frame"][0] == BROKEN
    assert len(batch) == 100
    assert (np.diff(batch.columns["nll"]) <= 0).all()
    assert batch.columns["nll"][0] > 50 * batch.columns["nll"][1:].max()
    assert batch.x[0].min() > 30


def test_the_diagnosis_tells_of_the_spikes(run):
    (told,) = history_of(run)
    assert told.level == "warning"
    assert "the largest as the ensemble spike-" in told.message
    assert f"frame {BROKEN} is the worst of " in told.message


def test_a_training_without_spikes_keeps_nothing(tmp_path):
    result = fit(Toy(), frames(), losses=[(1.0, nll)], steps=120, batch_size=100, to=tmp_path / "r", probes=())
    assert result.steps == 120
    events = Run.open(tmp_path / "r").events()[0]
    assert [e for e in events if e["kind"] == "loss_spike"] == []
    assert history_of(Run.open(tmp_path / "r")) == []
