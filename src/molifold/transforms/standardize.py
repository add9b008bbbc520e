"""Standardize: internal coordinates of a reference ensemble to decorrelated unit scales, each kept on its atom."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from molifold import geometry
from molifold.space import Block, Space
from molifold.transforms.angles import unit, wrap
from molifold.transforms.spline import MIN_BIN, rational_quadratic
from molifold.transforms.transform import Transform

#: Phases that spread more than this (circular standard deviation, radians) are treated as rotations.
STIFF = 0.5
#: Torsions in rings that leave no arc this wide (radians) free are treated as rotations.
GAP = math.pi / 2


class Standardize(Transform):
    """Internal coordinates <-> coordinates whose marginals are nearly standard normal or uniform on the circle.

    Fixed by a reference ensemble, nothing is trained:

    1. bonds, angles, torsions in rings and stiff phases: z = L^-1 (y - mean), L the Cholesky factor of their
       covariance. Row i is what is left of coordinate i when the earlier ones have predicted it linearly, so every z
       still belongs to its atom, and what closes a ring to first order is kept. A torsion in a ring may have several
       wells (the chairs of cyclohexane), so its circle is first opened where the reference has its widest gap, to the
       real line y = 2 tan((tau - centre) / 2): exact, and nearly tau itself.
    2. rotations (and phases that are not stiff, and torsions of rings so large that they leave no gap of ``GAP``): a
       smooth circular spline that makes the marginal uniform, with a floor of ``floor`` of uniform density, so that no
       torsion angle is impossible.

    Args:
        space: codomain of ``InternalCoordinates``: blocks bonds, angles, rotations, rings, phases.
        reference: [frames, size] internal coordinates.
        bins: knots of the circular splines.
        floor: share of uniform density mixed into every rotation's marginal.

    Raises:
        ValueError: if there are too few frames to estimate the covariance, or they are not finite.
    """

    _source: Tensor
    _restore: Tensor
    center: Tensor
    wraps: Tensor
    _opened: Tensor
    whiten: Tensor
    widths: Tensor
    slopes: Tensor

    def __init__(
        self, space: Space, reference: Float[Tensor, "frames size"], *, bins: int = 32, floor: float = 0.05
    ) -> None:
        super().__init__()
        y = reference.detach().cpu().double().numpy()
        if y.shape[1] != space.size or len(y) < 10 * space.size or not np.isfinite(y).all():
            raise ValueError(
                f"reference: got {y.shape[0]} frames of {y.shape[1]} coordinates"
                f"{'' if np.isfinite(y).all() else ', some not finite'}; expected at least {10 * space.size} finite "
                f"frames of {space.size}"
            )
        circle = space.has("circle")
        resultant = np.exp(1j * np.where(circle, y, 0.0)).mean(0)
        spread = np.sqrt(-2 * np.log(np.clip(np.abs(resultant), 1e-12, 1.0)))
        names = np.array([b.name for b in space.blocks for _ in range(b.size)])
        centre, gap = _widest_gap(y[:, names == "rings"])
        opened = names == "rings"
        opened[opened] = gap > GAP
        turning = ~opened & circle & ((names != "phases") | (spread > STIFF))
        center = np.where(circle, np.angle(resultant), 0.0)
        center[opened] = centre[gap > GAP]
        y = np.where(circle, geometry.wrap(y - center), y)
        y[:, opened] = 2 * np.tan(y[:, opened] / 2)
        mean = np.where(circle, 0.0, y.mean(0))
        reals = y[:, ~turning] - mean[~turning]
        # A touch of the diagonal: exact symmetries of the reference would make the covariance singular.
        covariance = np.cov(reals, rowvar=False).reshape(len(reals[0]), -1)
        covariance += 1e-6 * np.diag(np.diag(covariance)) + 1e-12 * np.eye(len(covariance))
        whiten = np.tril(np.linalg.inv(np.linalg.cholesky(covariance)))  # inv leaves rounding above the diagonal
        self.domain = space
        #: Which coordinate of ``domain`` every output coordinate came from.
        self.source = np.concatenate([np.flatnonzero(~turning), np.flatnonzero(turning)])
        blocks = Block("reals", int((~turning).sum()), "real"), Block("circles", int(turning.sum()), "circle")
        self.codomain = Space(tuple(b for b in blocks if b.size), dof=space.dof)
        widths, slopes = _uniformising_splines(y[:, turning], bins=bins, floor=floor)
        self._buffer("_source", self.source, torch.long)
        self._buffer("_restore", np.argsort(self.source), torch.long)
        self._buffer("center", (center + mean)[self.source][:, None])
        self._buffer("wraps", circle[self.source][:, None], torch.bool)
        self.register_buffer("_opened", torch.tensor(opened[~turning])[:, None], persistent=False)
        self._opens = bool(opened.any())
        self._buffer("whiten", whiten)
        self._buffer("widths", widths[:, :, None])
        self._buffer("slopes", slopes[:, :, None])
        self._reals = int((~turning).sum())

    def _buffer(self, name: str, value: object, dtype: torch.dtype | None = None) -> None:
        self.register_buffer(name, torch.tensor(value, dtype=dtype or torch.get_default_dtype()))

    def forward(self, x: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Standardise."""
        c = x.T[self._source] - self.center
        c = torch.where(self.wraps, wrap(c), c)
        reals, log_det = c[: self._reals], self.whiten.diagonal().log().sum().expand(x.shape[0])
        if self._opens:
            line = 2 * torch.tan(reals / 2)
            log_det = log_det + self._log_opening(line)
            reals = torch.where(self._opened, line, reals)
        z = self.whiten @ reals
        if self._reals == len(c):
            return z.T, log_det
        turned, log_slope = self._turn(c[self._reals :], inverse=False)
        return torch.cat([z, turned]).T, log_det + log_slope

    def inverse(self, y: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """Undo."""
        c = y.T
        reals = torch.linalg.solve_triangular(self.whiten, c[: self._reals], upper=False)
        log_det = -self.whiten.diagonal().log().sum().expand(y.shape[0])
        if self._opens:
            log_det = log_det - self._log_opening(reals)
            reals = torch.where(self._opened, 2 * torch.atan(reals / 2), reals)
        parts = [reals]
        if self._reals < len(c):
            turned, log_slope = self._turn(c[self._reals :], inverse=True)
            parts.append(turned)
            log_det = log_det + log_slope
        out = torch.cat(parts) + self.center
        out = torch.where(self.wraps, wrap(out), out)
        return out[self._restore].T, log_det

    def __repr__(self) -> str:
        return f"Standardize({self.codomain!r})"

    def _log_opening(self, line: Tensor) -> Tensor:
        """Log |d line / d angle| of the opened circles."""
        return torch.where(self._opened, torch.log1p(line.square() / 4), 0.0).sum(0)

    def _turn(self, angle: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        shape = -1, *angle.shape
        widths, slopes = self.widths.expand(shape), self.slopes.expand(shape)
        heights = torch.full_like(widths, 1 / len(widths))
        out, log_slope = rational_quadratic(unit(angle), widths, heights, slopes, inverse=inverse)
        return (out - 0.5) * (2 * math.pi), log_slope.sum(0)


def _widest_gap(angles: Float[np.ndarray, "frames n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Centres and widths: of the widest arcs without a frame, the widths; where to open circles there, the centres.

    A centre is where the mean of 2 tan((angle - centre) / 2) is zero; that it crosses once without leaving the gap.
    """
    from scipy.optimize import brentq

    ordered = np.sort(angles, axis=0)
    steps = np.diff(ordered, axis=0, append=ordered[:1] + 2 * np.pi)
    widest, columns = steps.argmax(0), np.arange(angles.shape[1])
    gap = steps[widest, columns]
    opposite = ordered[widest, columns] + gap / 2 - np.pi
    centre = np.empty(len(columns))
    for i in columns:
        angle, reach = geometry.wrap(angles[:, i] - opposite[i]), gap[i] / 2 * (1 - 1e-6)
        centre[i] = opposite[i] + brentq(lambda c, a=angle: np.tan((a - c) / 2).mean(), -reach, reach)
    return geometry.wrap(centre), gap


def _uniformising_splines(
    angles: Float[np.ndarray, "frames n"], *, bins: int, floor: float
) -> tuple[Float[np.ndarray, "bins n"], Float[np.ndarray, "knots n"]]:
    """Widths and slopes of circular splines with equal heights whose slope is the marginal density (times 2 pi)."""
    grid = np.linspace(-np.pi, np.pi, 361)
    widths, slopes = np.empty((bins, angles.shape[1])), np.empty((bins + 1, angles.shape[1]))
    for i, angle in enumerate(angles.T):
        count = np.histogram(angle, bins=grid)[0].astype(float)
        # Smoothed by a Gaussian of four degrees on the circle: narrower than any torsional well at 300 K.
        kernel = np.exp(-0.5 * (np.minimum(np.arange(360), 360 - np.arange(360)) / 4.0) ** 2)
        smooth = np.fft.irfft(np.fft.rfft(count) * np.fft.rfft(kernel / kernel.sum()), 360)
        density = (1 - floor) * np.clip(smooth, 0, None) / count.sum() * 360 + floor  # mean 1 over the circle
        cumulative = np.concatenate([[0.0], np.cumsum(density)]) / density.sum()
        knots = np.interp(np.linspace(0, 1, bins + 1), cumulative, (grid + np.pi) / (2 * np.pi))
        size = np.maximum(np.diff(knots), MIN_BIN)
        widths[:, i] = size / size.sum()
        position = np.concatenate([[0.0], np.cumsum(widths[:, i])]) * 2 * np.pi - np.pi
        middle = (grid[1:] + grid[:-1]) / 2
        slopes[:, i] = np.interp(position, middle, density / density.mean(), period=2 * np.pi)
    slopes[-1] = slopes[0]
    return widths, slopes
