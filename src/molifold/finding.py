"""Finding: one thing that somebody should know, how grave it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]

_ORDER: tuple[Level, ...] = ("error", "warning", "ok")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: "error" is something that will fail or gives wrong numbers; "warning" is worth acting on; "ok" is good.
        subject: what it is about, a few words.
        message: what was found, with the numbers.
        remedy: what to do; empty where nothing is to be done.
        severity: puts findings of the same level in order, the largest first.

    >>> Finding("warning", "units", "3 of 64 are dead", "lower the learning rate")
    warning: units: 3 of 64 are dead -> lower the learning rate
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""
    severity: float = 0.0

    def words(self) -> str:
        """The finding as a sentence: what, how much, what to do."""
        return f"{self.subject}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")

    def __repr__(self) -> str:
        return f"{self.level}: {self.subject}: {self.message}" + (f" -> {self.remedy}" if self.remedy else "")


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first: by level, then by severity; equal ones keep their order.

    >>> ranked([Finding("ok", "a", "x"), Finding("error", "b", "y"), Finding("error", "c", "z", severity=1.0)])
    (error: c: z, error: b: y, ok: a: x)
    """
    return tuple(sorted(findings, key=lambda f: (_ORDER.index(f.level), -f.severity)))
