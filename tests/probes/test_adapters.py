"""Lightning and TensorBoard see what ``Watch`` sees; reading back is done by their own libraries."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from molifold.cli import main
from molifold.probes.lightning import WatchCallback
from molifold.probes.tensorboard import TensorBoard
from molifold.runs import Run


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log("three", loss.detach() * 0 + 3.0)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def squared(module, batch):
    return (module(batch[0]) - batch[1]).square().sum(1)


def train(tmp_path, *callbacks, accumulate=1):
    torch.manual_seed(0)
    x = torch.randn(640, 4)
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32)
    module = Module()
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", callbacks=list(callbacks), accumulate_grad_batches=accumulate, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lightning_training_is_watched_and_not_changed(tmp_path, accumulate):
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    callback = WatchCallback(
        tmp_path / "run", batch=(x, x.sum(1, keepdim=True)), loss=squared, every=10, log_every=5, budget=99.0
    )
    plain = train(tmp_path, accumulate=accumulate)
    watched = train(tmp_path, callback, accumulate=accumulate)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)
    run = Run.open(tmp_path / "run")
    last = 40 // accumulate
    assert run.state == "finished"
    assert run.series("loss")[0].tolist() == list(range(5, last + 1, 5))
    assert run.series("three")[1].tolist() == [3.0] * (last // 5)
    assert run.records["gradient norms"] == run.records["gradient noise"] == tuple(range(10, last + 1, 10))
    assert not [e for e in run.events()[0] if e["kind"] == "probe_failed"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lightning_training_that_fails_says_so_in_the_run(tmp_path):
    class Broken(Module):
        def training_step(self, batch, index):
            if index == 3:
                raise RuntimeError("no such luck")
            return super().training_step(batch, index)

    callback = WatchCallback(tmp_path / "run", probes=())
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="no such luck"):
        trainer.fit(Broken(), DataLoader(TensorDataset(torch.ones(160, 4), torch.ones(160, 1)), batch_size=32))
    run = Run.open(tmp_path / "run")
    assert run.state == "failed"
    assert "no such luck" in run.events()[0][-1]["message"]


def small_run(path):
    with Run.create(path) as run:
        for step in (10, 20):
            run.scalar(step, loss=1.0 / step, **{"loss/nll": 2.0})
            ratios = {"name": np.array(["a.weight", "b"]), "ratio": np.array([0.1, step]), "kind": np.array(["x", "y"])}
            run.record(step, "update ratios", kind="table", arrays=ratios)
        run.record(20, "scale", kind="scalar", arrays={"value": np.array(5.0), "least": np.array(2.0)})
        counts = {"edges": np.linspace(-1, 1, 5), "counts": np.array([[1, 2, 3, 4]]), "name": np.array(["tanh"])}
        run.record(20, "values", kind="histogram", arrays=counts)
        run.record(20, "verdict", kind="text", arrays={"text": np.array("all is well")})
        run.event(20, "stage", "training")
    return path


def test_tensorboard_reads_what_the_run_says(tmp_path):
    path = small_run(tmp_path / "run")
    with TensorBoard(path, tmp_path / "logs") as board:
        assert board.update() == 2 + 1 + 2 + 3
        assert board.update() == 0
        assert "TensorBoard(Run('run'" in repr(board)
    seen = EventAccumulator(str(tmp_path / "logs"), size_guidance={"scalars": 0, "histograms": 0})
    seen.Reload()
    scalars = {tag: [(e.step, e.value) for e in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}
    assert scalars.pop("loss") == [(10, pytest.approx(0.1)), (20, pytest.approx(0.05))]
    assert scalars == {
        "loss/nll": [(10, 2.0), (20, 2.0)],
        "update ratios/ratio/a.weight": [(10, pytest.approx(0.1)), (20, pytest.approx(0.1))],
        "update ratios/ratio/b": [(10, 10.0), (20, 20.0)],
        "scale": [(20, 5.0)],
        "scale/least": [(20, 2.0)],
    }
    assert seen.Scalars("loss")[0].wall_time == pytest.approx(Run.open(path).scalars()[0][0]["time"], abs=1)
    (histogram,) = seen.Histograms("values/tanh")
    assert histogram.histogram_value.num == 10
    assert list(histogram.histogram_value.bucket)[-4:] == [1, 2, 3, 4]
    assert {tag.split("/")[0] for tag in seen.Tags()["tensors"]} == {"events", "verdict"}


def test_export_writes_an_event_file_for_every_run(tmp_path, capsys):
    small_run(tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "logs")])
    assert not stop.value.code
    assert "tensorboard --logdir" in capsys.readouterr().out
    assert list((tmp_path / "logs" / "run").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import molifold.probes.lightning", "molifold[lightning]"),
        ("from molifold.probes.tensorboard import TensorBoard; TensorBoard('x', 'y')", "molifold[tensorboard]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(code, extra):
    hidden = "import sys; sys.modules.update({n: None for n in ('lightning', 'pytorch_lightning', 'tensorboard')}); "
    done = subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install '{extra}'" in done.stderr
