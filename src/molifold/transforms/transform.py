"""Transform, the only base class of the package, and the two combinators every flow needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from molifold.space import Space


class Transform(nn.Module, ABC):
    """A bijection between two spaces that knows its log-determinant.

    To implement one: set ``domain`` and ``codomain`` (``Space``), write ``forward`` and ``inverse``, and pass
    ``molifold.testing.check_transform``. Both return ``(output, log_det)`` with ``log_det = log|d output / d input|``
    of the direction called, shape ``[batch]``.

    Coordinate vectors have shape ``[batch, size]``. Their memory is best laid out batch last (the transpose of a
    contiguous ``[size, batch]`` tensor): softmax over spline bins is twenty times faster that way on a CPU. Every
    transform here accepts both layouts and returns the batch-last one.
    """

    domain: Space
    codomain: Space

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *domain"]) -> tuple[Float[Tensor, "batch *codomain"], Tensor]:
        """Map ``domain`` to ``codomain``."""

    @abstractmethod
    def inverse(self, y: Float[Tensor, "batch *codomain"]) -> tuple[Float[Tensor, "batch *domain"], Tensor]:
        """Map ``codomain`` to ``domain``."""


class Chain(Transform):
    """Transforms one after the other: ``forward`` applies the first one first.

    Raises:
        ValueError: if the list is empty or neighbouring spaces differ in size.
    """

    def __init__(self, steps: Sequence[Transform]) -> None:
        super().__init__()
        if not steps:
            raise ValueError("steps: got an empty list, expected at least one transform")
        for i, (a, b) in enumerate(zip(steps, steps[1:], strict=False)):
            if a.codomain.size != b.domain.size:
                raise ValueError(
                    f"steps: step {i} ends in {a.codomain!r} but step {i + 1} starts in {b.domain!r}; sizes must agree"
                )
        self.steps = nn.ModuleList(steps)
        self.domain, self.codomain = steps[0].domain, steps[-1].codomain

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply every step in order."""
        total: Tensor | None = None
        for step in self.steps:
            x, log_det = step(x)
            total = log_det if total is None else total + log_det
        assert total is not None
        return x, total

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Undo every step in reverse order."""
        total: Tensor | None = None
        for step in reversed(self.steps):
            y, log_det = step.inverse(y)  # type: ignore[operator]
            total = log_det if total is None else total + log_det
        assert total is not None
        return y, total

    def __repr__(self) -> str:
        steps = (f"({i}) {step!r}".replace("\n", "\n  ") for i, step in enumerate(self.steps))
        return "Chain(\n  " + "\n  ".join(steps) + "\n)"


class Inverse(Transform):
    """A transform with its two directions exchanged."""

    def __init__(self, inner: Transform) -> None:
        super().__init__()
        self.inner = inner
        self.domain, self.codomain = inner.codomain, inner.domain

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``inverse`` of the inner transform."""
        return self.inner.inverse(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``forward`` of the inner transform."""
        return self.inner(y)
