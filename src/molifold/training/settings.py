"""Settings: everything that decides the course of a training, checked and JSON-able."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The numbers of one ``fit``; see there for their meaning.

    Raises:
        ValueError: naming the argument that is out of range.
    """

    steps: int | None
    max_seconds: float | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    ema: float | None
    validation: float
    validate_every: int
    early_stopping: int | None
    log_every: int
    max_bad_batches: int
    seed: int
    precision: str
    threads: int = 1
    lag: int | None = None
    from_step: int = 0
    from_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.steps is None and self.max_seconds is None:
            raise ValueError("steps: got none, and no epochs or max_seconds either; give one of the three")
        if self.lag is not None and self.lag < 1:
            raise ValueError(f"lag: got {self.lag!r}, expected a positive number of frames, or None")
        for name in ("steps", "max_seconds", "batch_size", "learning_rate", "clip_norm", "validate_every", "log_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: got {value!r}, expected a positive number")
        for name, end in (("from_step", self.steps), ("from_seconds", self.max_seconds)):
            value = getattr(self, name)
            if value < 0 or (end is not None and value >= end):
                raise ValueError(
                    f"{name}: got {value!r}, expected a number from 0 to below the end of the budget, {end}"
                )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema: got {self.ema!r}, expected a decay between 0 and 1, or None for no average")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation: got {self.validation!r}, expected a share of the frames in [0, 1)")
        if self.early_stopping is not None and (self.early_stopping < 1 or not self.validation):
            raise ValueError(
                f"early_stopping: got {self.early_stopping!r} with validation={self.validation!r}, expected at least "
                "one validation without improvement, and validation > 0"
            )
        if self.threads < 1 or (self.threads > 1 and self.precision == "bf16-mixed"):
            raise ValueError(f"threads: got {self.threads}, expected at least one, and one only with mixed precision")
        if self.precision not in ("32-true", "64-true", "bf16-mixed"):
            raise ValueError(
                f"precision: got {self.precision!r}, expected '32-true', '64-true' or 'bf16-mixed' (log-determinants "
                "do not survive 16-bit weights)"
            )

    def check_same(self, before: dict[str, Any]) -> None:
        """Refuse to resume under other settings.

        Raises:
            ValueError: naming what differs.
        """
        for name, value in asdict(self).items():
            if name in before and before[name] != value:
                raise ValueError(
                    f"{name}: got {value!r}, but the run was started with {before[name]!r} and can only be resumed "
                    "with that; for another value use another directory"
                )
