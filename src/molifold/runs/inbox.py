"""Requests from a viewer to a running training: one JSON file each."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molifold.runs.files import read_json, write_json

#: What a viewer may ask for.
KINDS = ("pause", "resume", "checkpoint", "stop", "probe", "evaluate")


@dataclass(frozen=True)
class Request:
    """One wish of a viewer: ``kind`` is one of ``KINDS``; ``time`` in Unix seconds."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0


def post(inbox: Path, kind: str, arguments: Mapping[str, Any]) -> Path:
    """Put a request into ``inbox``; it appears whole or not at all.

    Raises:
        ValueError: if no such kind exists.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(KINDS)}")
    inbox.mkdir(exist_ok=True)
    # Names sort by time; the random tail keeps two viewers apart.
    path = inbox / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    write_json(path, {"kind": kind, "arguments": arguments, "time": time.time()})
    return path


def pending(inbox: Path) -> dict[Path, Request | str]:
    """Requests in the order of their posting; a file that is none maps to the reason."""
    found: dict[Path, Request | str] = {}
    for path in sorted(inbox.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            raw = read_json(path)
            if raw.get("kind") not in KINDS:
                raise ValueError(f"kind: got {raw.get('kind')!r}, expected one of {', '.join(KINDS)}")
            found[path] = Request(raw["kind"], dict(raw.get("arguments", {})), float(raw.get("time", 0.0)))
        except FileNotFoundError:
            continue
        except (ValueError, AttributeError, TypeError, json.JSONDecodeError) as error:
            found[path] = f"{path.name}: {error}"
    return found
