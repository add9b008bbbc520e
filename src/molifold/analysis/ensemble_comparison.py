"""What a comparison of two ensembles found: one number after another, each with its error or noise floor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from molifold.analysis.divergence import Divergence
from molifold.analysis.freedom import DegreeOfFreedom
from molifold.analysis.histograms import Axis, Histogram, Map
from molifold.analysis.pareto import ParetoK
from molifold.analysis.relevance import Relevance
from molifold.analysis.sides import About
from molifold.analysis.uncertainty import Estimate
from molifold.analysis.weights import EffectiveSampleSize

#: A difference counts as seen if it is this many standard errors above the noise floor ...
SIGNIFICANT = 4.0
#: ... and this many times the floor.
ABOVE = 1.5
#: A basin that is visited less than this fraction of the other side's lower bound is lost.
LOST = 0.1


@dataclass(frozen=True)
class FreedomComparison:
    """One degree of freedom of both ensembles.

    ``divergence`` is the Jensen-Shannon divergence (bits) beside its noise floor, ``words`` what differs most,
    ``time`` the integrated autocorrelation time of the reference (frames; None without time order), ``relevance`` why
    it is ranked where it is, ``repeats`` the name of a more relevant one that says the same (empty if none does).
    """

    freedom: DegreeOfFreedom
    axis: Axis
    generated: Histogram
    reference: Histogram
    divergence: Divergence
    words: str
    time: Estimate | None
    relevance: Relevance
    repeats: str = ""


@dataclass(frozen=True)
class Basin:
    """A region of a pair of torsions: a mode of the one and a mode of the other."""

    names: tuple[str, str]
    centre: tuple[float, float]
    generated: Estimate
    reference: Estimate

    @property
    def lost(self) -> bool:
        """Whether the generator hardly goes where the reference certainly does."""
        return self.generated.value < LOST * self.reference.low

    @property
    def invented(self) -> bool:
        """Whether the generator certainly goes where the reference hardly does."""
        return self.reference.value < LOST * self.generated.low

    def __str__(self) -> str:
        at = ", ".join(f"{name} {np.degrees(c):.0f}" for name, c in zip(self.names, self.centre, strict=True))
        return f"basin at {at} degrees"


@dataclass(frozen=True)
class MapComparison:
    """A joint map of two torsions, its divergence, and the basins that make it up (the largest first)."""

    names: tuple[str, str]
    generated: Map
    reference: Map
    divergence: Divergence
    basins: tuple[Basin, ...]


@dataclass(frozen=True)
class EnergyMoments:
    """Mean and standard deviation of the reduced energy (kT); energies above the axis are cut to its end."""

    generated_mean: Estimate
    reference_mean: Estimate
    generated_std: Estimate
    reference_std: Estimate

    @property
    def shift(self) -> Estimate:
        """Difference of the means (kT)."""
        a, b = self.generated_mean, self.reference_mean
        return _estimate(a.value - b.value, math.hypot(a.error, b.error), a.n)

    @property
    def spread(self) -> Estimate:
        """Ratio of the standard deviations."""
        a, b = self.generated_std, self.reference_std
        ratio = a.value / b.value
        return _estimate(ratio, ratio * math.hypot(a.error / a.value, b.error / b.value), a.n)


def _estimate(value: float, error: float, n: int) -> Estimate:
    return Estimate(value, error, value - 1.96 * error, value + 1.96 * error, math.nan, n)


@dataclass(frozen=True)
class Row:
    """One number of a comparison in a flat table; None where it does not apply.

    ``value`` with its ``error`` stands beside a noise ``floor`` (a divergence) or beside the ``reference`` (a share).
    """

    name: str
    kind: str
    measure: str
    value: float
    error: float
    floor: float | None = None
    floor_error: float | None = None
    ratio: float | None = None
    reference: float | None = None
    reference_error: float | None = None
    frames: int | None = None
    relevance: str | None = None
    words: str | None = None


@dataclass(frozen=True)
class EnsembleComparison:
    """Everything that was compared, ready for a table, a figure or a verdict.

    ``freedoms`` come ranked, ``distances`` are Wasserstein distances, state populations, coverage and matching at a
    fixed sample size. ``copies`` is the share of generated frames (of ``copies.n`` looked at) that are frames of the
    reference, ``repeats`` the share that repeats another one. ``skipped`` says what could not be compared, and why.
    """

    generated: About
    reference: About
    freedoms: tuple[FreedomComparison, ...]
    maps: tuple[MapComparison, ...]
    distances: tuple[Divergence, ...]
    mode_coverage: Estimate | None
    hands: tuple[tuple[str, Estimate, Estimate], ...]
    ess: EffectiveSampleSize | None
    forward: Estimate | None
    pareto: ParetoK | None
    copies: Estimate | None
    repeats: float
    energies: EnergyMoments | None
    skipped: Mapping[str, str]

    @property
    def relevant(self) -> tuple[FreedomComparison, ...]:
        """What deserves a look: different, slow or multimodal, and no repetition of another."""
        return tuple(f for f in self.freedoms if f.relevance.reason != "ordinary" and not f.repeats)

    def rows(self) -> tuple[Row, ...]:
        """Every number, one after the other."""
        return tuple(self._rows())

    def _rows(self) -> Iterator[Row]:
        for f in self.freedoms:
            yield _divergence(f.freedom.name, f.freedom.kind, f.divergence, f.relevance.reason, f.words)
        for m in self.maps:
            yield _divergence(" x ".join(m.names), "map", m.divergence)
            for b in m.basins:
                yield _estimates(str(b), "basin", "share", b.generated, b.reference)
        for d in self.distances:
            yield _divergence("ensemble", "distance", d)
        for name, mine, known in self.hands:
            yield _estimates(name, "other hand", "share", mine, known)
        if self.energies is not None:
            e = self.energies
            yield _estimates("energy", "moment", "mean (kT)", e.generated_mean, e.reference_mean)
            yield _estimates("energy", "moment", "standard deviation (kT)", e.generated_std, e.reference_std)
        singles = {"mode coverage": self.mode_coverage, "forward ESS": self.forward, "copies": self.copies}
        for name, estimate in singles.items():
            if estimate is not None:
                yield _estimates(name, "ensemble", "share", estimate, None)
        if self.ess is not None:
            yield Row("ESS", "weights", "share", self.ess.fraction, self.ess.error, frames=self.ess.n)
        if self.pareto is not None:
            yield Row("k-hat", "weights", "Pareto shape", self.pareto.k, self.pareto.error)


def _divergence(name: str, kind: str, d: Divergence, reason: str | None = None, words: str | None = None) -> Row:
    return Row(name, kind, d.measure, d.value, d.error, d.floor, d.floor_error, d.ratio, frames=d.frames,
               relevance=reason, words=words)  # fmt: skip


def _estimates(name: str, kind: str, measure: str, a: Estimate, b: Estimate | None) -> Row:
    known = (None, None) if b is None else (b.value, b.error)
    return Row(name, kind, measure, a.value, a.error, reference=known[0], reference_error=known[1], frames=a.n)


def stands_out(d: Divergence) -> bool:
    """Whether a divergence is above its noise floor, by size and by significance.

    >>> from dataclasses import replace
    >>> d = Divergence("JSD", 0.010, 0.001, 0.009, 0.001, 0.011, 0.009, 1.1, 0.1, 0.01, 1000, 1000.0)
    >>> stands_out(d), stands_out(replace(d, value=0.03, ratio=3.3))
    (False, True)
    """
    return bool(d.ratio > ABOVE and d.value > d.floor_high and d.excess > SIGNIFICANT)


def standard_errors(a: Estimate, b: Estimate) -> float:
    """How far two estimates are apart, in standard errors; where nothing was seen, a quarter of the interval counts.

    >>> nothing, some = Estimate(0.0, 0.0, 0.0, 0.004, 0.0, 1000), Estimate(0.03, 0.003, 0.024, 0.036, 0.003, 1000)
    >>> standard_errors(nothing, some).__round__()
    9
    """
    errors = [e.error if e.error > 0 else (e.high - e.low) / 3.92 for e in (a, b)]
    return abs(a.value - b.value) / max(math.hypot(*errors), 1e-12)
