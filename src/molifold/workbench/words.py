"""What happened in a run, in plain words: a title and a sentence for every event, and what to do about its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Why ``fit`` ended, see ``FitResult.reason``.
ENDED = {
    "steps": ("finished", "all its steps were made"),
    "time": ("finished", "its time was used up"),
    "early stopping": ("finished early", "it got no better on the held-out frames; the best weights are kept"),
    "stopped": ("stopped", "somebody asked it to stop, or interrupted it"),
}  # fmt: skip
STAGES = {"data": "making or reading the frames to learn from", "training": "learning"}
TITLES = {
    "bad_batch": "batch skipped", "loss_spike": "the loss jumped", "probe_failed": "probe failed",
    "probe_skipped": "probe skipped", "request": "asked for", "request_rejected": "refused", "resumed": "resumed",
}  # fmt: skip
REQUESTS = {"probe": "a look by all probes, now", "stop": "the end", "checkpoint": "a checkpoint", "pause": "a pause"}


def plain(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with a ``title``, and with its ``message`` as a sentence for somebody who does not know the code.

    >>> plain({"step": 950, "kind": "ended", "message": "time"})["title"]
    'finished'
    >>> plain({"step": 3, "kind": "request", "message": "evaluate", "arguments": {"frames": 2500}})["message"]
    'evaluate with 2500 draws'
    """
    kind, message = str(event.get("kind", "")), str(event.get("message", ""))
    title = TITLES.get(kind, kind.replace("_", " "))
    if kind == "ended":
        title, message = ENDED.get(message, ("ended", message))
    elif kind == "stage":
        title, message = "stage", STAGES.get(message, message)
    elif kind == "request":
        frames = event.get("arguments", {}).get("frames")
        message = REQUESTS.get(message, message) + (f" with {frames} draws" if frames else "")
    elif kind == "failed":
        message = f"an error ended it: {message}"
    elif kind == "stopped":  # Ctrl-C in a loop of one's own
        message = "interrupted from the keyboard" if message in ("", "KeyboardInterrupt()") else message
    return {**event, "title": title, "message": message}


def advice(state: str, *, checkpoint: int | None, recipe: bool) -> str:
    """What a state of a run means and what to do now; empty where nothing is to be done.

    Args:
        state: of ``Run.state``.
        checkpoint: step of the last one, or None.
        recipe: whether `molifold train` made the run.

    >>> advice("crashed", checkpoint=380, recipe=True)
    'Its process is gone: killed, or the machine went down. The same molifold train command goes on from step 380.'
    """
    reasons = {
        "crashed": "Its process is gone: killed, or the machine went down.",
        "failed": "An error ended it: see below what happened.",
        "stopped": "It was ended before its time.",
        "paused": "It waits until somebody resumes it (page Training).",
    }
    if state not in reasons or state == "paused":
        return reasons.get(state, "")
    if checkpoint is None:
        return f"{reasons[state]} It kept no checkpoint, so that its training would begin anew."
    again = "The same molifold train command goes on" if recipe else "Run.resume goes on"
    return f"{reasons[state]} {again} from step {checkpoint}."
