"""What one ensemble looks like: degrees of freedom, states, free energies, kinetics, landscape; one call for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.clusters import Clusters
from molifold.analysis.freedom import DegreeOfFreedom
from molifold.analysis.uncertainty import Estimate

if TYPE_CHECKING:
    from molifold.analysis.bands import Band
    from molifold.analysis.correlation import VampScore
    from molifold.analysis.dimension import IntrinsicDimension
    from molifold.analysis.free_energy import FreeEnergyDifference
    from molifold.analysis.landscape import Projection
    from molifold.analysis.markov import ChapmanKolmogorov, ImpliedTimescales, MarkovModel
    from molifold.analysis.pathways import Minimum, Pathway
    from molifold.analysis.relevance import Relevance
    from molifold.analysis.surfaces import Surface
    from molifold.analysis.two_estimators import TwoEstimates
    from molifold.analysis.undersampling import Undersampling


#: Told the name of every part before it starts.
Progress = Callable[[str], object]


@dataclass(frozen=True)
class FreedomSummary:
    """One degree of freedom: mean and standard deviation (circular for angles that wrap around), modes, memory.

    ``spread`` is the share outside the main mode, ``time`` the integrated autocorrelation time in frames (None without
    an order in time). ``repeats`` names the degree of freedom that says the same (another torsion about the same bond).
    """

    freedom: DegreeOfFreedom
    mean: Estimate
    std: float
    modes: int
    spread: float
    time: Estimate | None
    relevance: Relevance
    repeats: str | None


@dataclass(frozen=True)
class Kinetics:
    """Dynamics between the states of an ensemble; ``metastable`` is what PCCA+ makes of the states of ``model``.

    ``sets`` is the metastable state of each of these, and ``passage`` are mean
    first-passage times from every metastable state (row) to every other, in the unit of ``model``.
    """

    timescales: ImpliedTimescales
    model: MarkovModel
    test: ChapmanKolmogorov
    metastable: Clusters
    sets: Int[ndarray, " states"]
    passage: Band
    score: VampScore | None


@dataclass(frozen=True)
class Quantity:
    """One number of an analysis in a flat table; None where it does not apply."""

    kind: str
    name: str
    measure: str
    value: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    words: str | None = None


@dataclass(frozen=True)
class EnsembleAnalysis:
    """Everything that ``analyze_ensemble`` found. ``skipped`` says what was not computed, and why.

    Of ``total`` frames those at ``index`` were looked at; numbers of frames in ``clusters`` count them. ``medoids`` are
    the structures of the clusters' medoids (nm). ``differences[i]`` is F(cluster i + 1) - F(cluster 0).
    """

    total: int
    index: Int[ndarray, " frames"]
    weighted: bool
    simulated: bool
    ess: float
    temperature: float
    freedoms: tuple[FreedomSummary, ...]
    basins: dict[str, Estimate]
    clusters: Clusters | None
    medoids: Float[ndarray, "clusters atoms 3"]
    differences: tuple[TwoEstimates | FreeEnergyDifference, ...]
    surface: Surface | None
    minima: tuple[Minimum, ...]
    path: Pathway | None
    kinetics: Kinetics | None
    dimension: IntrinsicDimension | None
    undersampling: Undersampling | None
    components: Projection | None
    skipped: dict[str, str]

    @property
    def frames(self) -> int:
        """Number of frames that were looked at."""
        return len(self.index)

    @property
    def relevant(self) -> tuple[FreedomSummary, ...]:
        """Degrees of freedom that are slow or have several modes and do not repeat another, best first."""
        return tuple(f for f in self.freedoms if f.relevance.reason != "ordinary" and f.repeats is None)

    def rows(self) -> tuple[Quantity, ...]:
        """All numbers, one row each."""
        return tuple(self._rows())

    def _rows(self) -> Iterator[Quantity]:
        yield Quantity("ensemble", "frames", "count", self.frames, unit="frames")
        yield Quantity("ensemble", "effective sample size", "Kish", self.ess, unit="frames")
        for f in self.freedoms:
            name, unit = f.freedom.name, f.freedom.unit
            yield _row("degree of freedom", name, "mean", f.mean, unit, f.relevance.reason)
            yield Quantity("degree of freedom", name, "standard deviation", f.std, unit=unit)
            yield Quantity("degree of freedom", name, "share outside the main mode", f.spread)
            if f.time is not None:
                yield _row("degree of freedom", name, "autocorrelation time", f.time, "frames")
        for name, share in self.basins.items():
            yield _row("basin", name, "share", share)
        yield from self._state_rows()
        yield from self._kinetic_rows()
        if self.dimension is not None:
            yield _row("landscape", "intrinsic dimension", "2NN", self.dimension.two_nn)
        if self.undersampling is not None:
            u = self.undersampling
            yield _row("landscape", " x ".join(a.name for a in u.axes), "unseen mass", u.unseen)
            yield Quantity("landscape", " x ".join(a.name for a in u.axes), "weight of poor bins", u.poor_mass)

    def _state_rows(self) -> Iterator[Quantity]:
        if self.clusters is not None:
            for i, share in enumerate(self.clusters.populations):
                yield _row(
                    "cluster", str(i), "share", share, words=f"medoid frame {self.index[self.clusters.medoids[i]]}"
                )
            yield _row("cluster", "noise", "share", self.clusters.noise)
            yield _row("cluster", "all", "silhouette", self.clusters.silhouette)
        for i, difference in enumerate(self.differences, start=1):
            for measure, estimate in estimates_of(difference):
                yield _row("free energy", f"cluster {i} - cluster 0", measure, estimate, "kT")
        for m in self.minima:
            where = ", ".join(f"{x:.3f}" for x in m.position)
            yield Quantity("minimum", where, "free energy", m.free_energy, m.error, unit="kT")
        if self.path is not None:
            where = ", ".join(f"{x:.3f}" for x in self.path.saddle)
            yield _row("saddle", where, "barrier", self.path.barrier, "kT")

    def _kinetic_rows(self) -> Iterator[Quantity]:
        k = self.kinetics
        if k is None:
            return
        unit = k.model.unit
        for i, time in enumerate(k.timescales.lag_times):
            yield _entry("kinetics", "slowest", f"timescale at lag {time:g}", k.timescales.timescales, (i, 0), unit)
        for i, share in enumerate(k.metastable.populations):
            yield _row("metastable state", str(i), "share", share)
        for i in range(len(k.passage)):
            for j in range(len(k.passage)):
                if i != j:
                    yield _entry("kinetics", f"{i} to {j}", "mean first-passage time", k.passage, (i, j), unit)
        yield Quantity("kinetics", "Chapman-Kolmogorov", "largest difference", k.test.worst, unit="errors")


def estimates_of(
    difference: TwoEstimates | FreeEnergyDifference,
) -> tuple[tuple[str, Estimate | FreeEnergyDifference], ...]:
    """The numbers of a free-energy difference, with how each was computed."""
    from molifold.analysis.two_estimators import TwoEstimates

    if isinstance(difference, TwoEstimates):
        return tuple(zip(difference.names, (difference.first, difference.second), strict=True))
    return (("counts", difference),)


def _row(
    kind: str,
    name: str,
    measure: str,
    e: Estimate | FreeEnergyDifference,
    unit: str | None = None,
    words: str | None = None,
) -> Quantity:
    return Quantity(kind, name, measure, e.value, e.error, e.low, e.high, unit, words)


def _entry(kind: str, name: str, measure: str, band: Band, at: tuple[int, int], unit: str) -> Quantity:
    value, error, low, high = (float(a[at]) for a in (band.value, band.error, band.low, band.high))
    return Quantity(kind, name, measure, value, error, low, high, unit)
