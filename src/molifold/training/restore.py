"""Flows out of runs: built by their recipe, filled with weights; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from molifold.runs import Run
from molifold.training.arguments import imported
from molifold.training.checkpoint import load_into, read_weights
from molifold.training.recipe import build_flow

#: Which weights: those that ``fit`` returned, the lowest validation loss, the end, or a step.
Which = Literal["result", "best", "last"] | int


def load_flow(path: str | Path, *, checkpoint: Which = "result", trust: Sequence[str] = ()) -> Any:
    """Build the flow of a run again, in eval mode, with weights of one of its checkpoints.

    Args:
        path: the run.
        checkpoint: ``"result"``: what ``fit`` returned; ``"best"``: lowest validation loss; ``"last"``: the moving
            average at the end; or a step that is kept.
        trust: packages outside molifold whose functions a run may name, as the builder of its flow or a network in
            it, since these are imported and called: ``trust=["my_lab"]``.

    Returns:
        The module.

    Raises:
        RunFormatError: if ``path`` is no run.
        ValueError: if the run has not begun to train, does not say how its flow is built, or its weights do not fit.
        PermissionError: if it names code outside molifold and ``trust``; nothing has been imported then.
        FileNotFoundError: if there is no such checkpoint.
    """
    run = Run.open(path)
    table = (run.recipe or {}).get("flow")
    if not table or "use" not in table or run.molecule is None:
        raise ValueError(f"path: {path} does not say how its flow is built; build it yourself and use load_weights")
    allowed = ("molifold.flows", "molifold.networks", *trust)
    imported(table["use"], where="flow.use", trust=allowed)  # refused before anything of the run is read
    if "reference" not in run.ensembles:
        raise ValueError(f"path: {path} has not begun to train; go on with molifold train RECIPE --to {path}")
    flow = build_flow(table, run.molecule, run.ensemble("reference"), trust=allowed)
    return load_weights(flow, path, checkpoint=checkpoint)


def load_weights(flow: nn.Module, path: str | Path, *, checkpoint: Which = "result") -> nn.Module:
    """Put weights of a run into ``flow`` and return it in eval mode; arguments and errors as in ``load_flow``."""
    run = Run.open(path)
    kept = run.checkpoints
    step = checkpoint if isinstance(checkpoint, int) else max(kept, default=None)
    if step not in kept:
        raise FileNotFoundError(
            f"checkpoint: got {checkpoint!r}, but {path} keeps {', '.join(map(str, kept)) or 'none'} (steps)"
        )
    early = run.info["settings"].get("early_stopping") is not None and run.state == "finished"
    if checkpoint == "best" or (checkpoint == "result" and early):
        weights = read_weights(kept[step], "best")
    else:
        averaged = run.info["settings"].get("ema") is not None
        weights = read_weights(kept[step], "average" if averaged else "model")
    # A run in double precision must come back in double precision.
    name, parameter = next(iter(flow.named_parameters()))
    if name in weights and weights[name].dtype != parameter.dtype:
        flow.to(weights[name].dtype)
    load_into(flow, weights)
    return flow.eval()
