"""Loss spikes of a training: the frames behind them are kept in the run, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from molifold.ensemble import Ensemble
from molifold.probes import preserved
from molifold.probes.spikes import LossSpikes
from molifold.runs import Writer
from molifold.training.step import members
from molifold.training.trainer import Trainer

#: Batches that are kept; of later spikes only the event is.
KEPT = 10
#: Frames that are named in the message.
NAMED = 5


class SpikeKeeper:
    """Looks at the loss of every step; keeps the batch behind a jump as the ensemble ``spike-STEP`` of the run.

    Its columns are ``frame``, the index in the training's ensemble, and ``nll``, the negative log-likelihood right
    after the step; the frame with the largest comes first. With several processes those of the first one are kept.
    """

    def __init__(self, trainer: Trainer, writer: Writer, ensembles: Sequence[Ensemble]) -> None:
        self._trainer, self._writer, self._ensembles = trainer, writer, ensembles
        # Ensembles take turns and differ in their losses: each is compared with itself.
        self._spikes = [LossSpikes() for _ in ensembles]
        self._kept = sum(name.startswith("spike-") for name in writer.run.ensembles)

    def __call__(self, loss: float) -> None:
        """Tell the loss of the step just made."""
        trainer = self._trainer
        spike = self._spikes[trainer.turn](trainer.progress.step, loss)
        if spike is None:
            return
        frames, nll = self._worst()
        details = {"loss": spike.loss, "median": spike.median, "score": spike.score, "frames": frames.tolist()}
        name = f"spike-{spike.step:08d}"
        if self._kept < KEPT and name not in self._writer.run.ensembles:
            batch = self._ensembles[trainer.turn][frames].assign(frame=frames, nll=nll)
            batch.save(self._writer.ensemble_path(name))
            details["ensemble"] = name
            self._kept += 1
        named = ", ".join(f"{f} ({v:.4g})" for f, v in zip(frames[:NAMED], nll, strict=False))
        self._writer.event(spike.step, "loss_spike", f"{spike.words()}; worst frames (nll) {named}", **details)

    def _worst(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames of the batch and their negative log-likelihoods, the largest first, not finite ones before all."""
        trainer = self._trainer
        rows, frames = trainer.rows(), trainer.part.frames
        flow = members(trainer.flow)[trainer.turn]
        with preserved(trainer.flow), torch.no_grad():
            nll = -flow.log_prob(frames.take(rows)[0]).double().cpu().numpy()  # type: ignore[operator]
        order = np.argsort(-np.where(np.isfinite(nll), nll, np.inf), kind="stable")
        return frames.indices[rows][order], nll[order]
