"""Verdict: what is known of one site, and in plain words what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy import ndarray

from molifold.probes.expressivity.score import Score
from molifold.probes.expressivity.sites import NONLINEAR, UPSTREAM
from molifold.probes.expressivity.units import Added

Kind = Literal["under-powered", "under-trained", "doubtful", "sound"]

#: A step counts as long as it keeps at least this share of its promise.
KEPT = 0.3
#: A decrease below this share of the spread of losses between examples is not worth an alarm.
WORTHWHILE = 0.002

#: What to do about a missing source.
REMEDY: Mapping[str, str] = {
    UPSTREAM: "widen the layer before it",
    NONLINEAR: "add a hidden layer before it (what is missing is a nonlinear function of its input)",
}


@dataclass(frozen=True)
class Check:
    """New units (or the layer's own best update) really added, on rows that did not propose them.

    Attributes:
        ratio: measured over predicted decrease at a very small step; 1 if prediction and network agree.
        amplitude: where the loss of the held-out examples was lowest, of those that keep the promise.
        predicted: first-order decrease of the mean loss at that amplitude; of trained units that of the examples which
            they were trained on.
        measured: decrease that was measured there, with its standard error ``error`` (paired, over examples).
        spread: standard deviation of the loss between examples, the measure of what is worth an alarm.
        steps: for which the units were trained, 0 if they are as they were proposed. Then both decreases are those
            beyond the layer alone, trained likewise.
    """

    ratio: float
    amplitude: float
    predicted: float
    measured: float
    error: float
    spread: float
    steps: int = 0

    @property
    def t(self) -> float:
        """The measured decrease in units of its error."""
        return self.measured / self.error if self.error > 0 else 0.0

    @property
    def holds(self) -> bool:
        """Whether the promise is kept, and the decrease certain and large enough for an alarm."""
        return self.measured > max(KEPT * self.predicted, 2 * self.error, WORTHWHILE * self.spread)


@dataclass(frozen=True)
class NewUnits:
    """Hidden units to add, which read what the matrix ``hidden`` reads; ``trained``, or as they were proposed."""

    hidden: str
    added: Added = field(repr=False)
    trained: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one site could not follow, and why.

    Attributes:
        site: name of the parameter matrix.
        kind: "under-powered": new units would help, and a real step has confirmed it; "under-trained": the layer itself
            could still follow; "doubtful": the test says so, but no real step has confirmed that it lowers the loss by
            enough; "sound".
        source: what the site misses, of the named sources (under-powered only).
        under_trained, reducible_linear, reducible_nonlinear, irreducible: shares of the squared desired update on
            held-out rows; small negative numbers are noise. The nonlinear one is beyond the linear one.
        layer: the test of the layer's own best update.
        tests: the test of new units, for every source.
        check: the verification by an actual step, where one was made.
        examples, scores: indices of the held-out examples and how much each would gain from what is missing.
        bounded: these gains with what each example asks for bounded, see ``Score.bounded``.
        growth: the units that would help, where they can be added to the layer before it.
        positions: gain by position within the example (atoms, coordinates), where rows have positions.
        explained: the alarm, if any, beside which nothing of this is left: what the examples would gain here, cleared
            of what they would gain there, is not significant. Mend that one first.
    """

    site: str
    kind: Kind
    source: str
    under_trained: float
    reducible_linear: float
    reducible_nonlinear: float
    irreducible: float
    layer: Score
    tests: Mapping[str, Score]
    check: Check | None = None
    examples: ndarray = field(default_factory=lambda: np.zeros(0, int), repr=False)
    scores: ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    bounded: ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    positions: ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    growth: NewUnits | None = field(default=None, repr=False)
    explained: str = ""

    @property
    def test(self) -> Score:
        """The test that decides: of the missing source, or of the layer itself."""
        return self.tests.get(self.source, self.layer)

    @property
    def evidence(self) -> float:
        """The t of the test; of an alarm that with bounded examples, if it is larger."""
        return max(self.test.t, self.test.bounded) if self.kind == "under-powered" else self.test.t

    @property
    def share(self) -> float:
        """Share of what the layer leaves that the missing source explains."""
        return self.test.share

    @property
    def cut(self) -> float:
        """Decrease of the mean loss that is to be had: measured if it was, else 0."""
        return self.check.measured if self.check is not None else 0.0

    @property
    def worst(self) -> ndarray:
        """Indices of the held-out examples, those that gain most first."""
        return self.examples[np.argsort(-self.scores)]

    def cleared(self, other: Verdict) -> float:
        """The t that is left once the scores are cleared of those of another verdict (regression over examples).

        It is that of the efficient score of a step that follows a step of the other; infinite if the verdicts count
        other examples.
        """
        if len(self.scores) != len(other.scores):
            return math.inf
        pairs = ((self.scores, other.scores), (self.bounded, other.bounded))
        return max(_t(q - np.cov(q, p)[0, 1] / max(np.var(p, ddof=1), 1e-300) * p) for q, p in pairs)

    def words(self) -> str:
        """The verdict as one or two sentences."""
        if self.kind == "sound":
            return f"{self.site}: nothing to gain here"
        evidence = f"(t {self.evidence:.1f} over {self.test.groups} groups"
        evidence += ")" if self.evidence == self.test.t else f" with extreme ones held back, else {self.test.t:.1f})"
        if not self.source:
            text = f"{self.site} could still follow {self.under_trained:.1%} of what the loss asks {evidence}; train on"
        else:
            remedy = REMEDY.get(self.source, f"show it {self.source}")
            lacks = f"cannot follow {self.share:.1%} of what {self.source} could"
            lacks = lacks if self.share >= 0.0005 else f"lacks what {self.source} could add"
            text = f"{self.site} {lacks} {evidence}; {remedy}"
        if self.check is not None:
            found = self.check
            cut = f"the loss by {found.measured:.3g} +- {found.error:.1g}"
            if found.steps:
                text += f". Units there, trained for {found.steps} steps, lower {cut} more than the layer alone"
                text += f" ({found.predicted:.3g} where they were trained)"
            else:
                text += f". A real step lowers {cut} (promised {found.predicted:.3g})"
        if self.kind == "doubtful":
            text += "; no real step was taken" if self.check is None else ", too little for an alarm"
        return text + (f"; explained by {self.explained}" if self.explained else "")


@dataclass(frozen=True)
class Expressivity:
    """The verdicts of all sites, worst first.

    Attributes:
        verdicts: one per site.
        uncovered: parameter matrices that no site uses, of which nothing is known.
        examples: how many were used, half to propose and half to verify.
        loss: mean loss of the verifying half.
        level: chance of any false alarm among all ``tests``.
        notes: what else a reader must know, first of all whether the examples cover the data.
    """

    verdicts: tuple[Verdict, ...]
    uncovered: tuple[str, ...]
    examples: int
    loss: float
    level: float
    tests: int
    notes: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[Verdict, ...]:
        """Sites that lack power, as a real step has confirmed."""
        return tuple(v for v in self.verdicts if v.kind == "under-powered")

    def __getitem__(self, site: str) -> Verdict:
        return {v.site: v for v in self.verdicts}[site]

    def lines(self) -> list[str]:
        """The whole in plain words, most important first."""
        told = [v for v in self.verdicts if v.kind == "under-powered" or v.kind != "sound" and not v.explained]
        counts = f"{len(self.verdicts)} layers, {self.tests} tests, chance of any false alarm {self.level:.0%}"
        lines = [*self.notes, f"{self.examples} examples, mean loss {self.loss:.4g}; {counts}"]
        lines += [f"{i}. {v.kind}: {v.words()}" for i, v in enumerate(told, start=1)]
        for site in dict.fromkeys(v.site for v in self.alarms):
            more = [v.site for v in self.verdicts if v.explained == site and v.kind != "under-powered"]
            if more:
                lines.append(f"Explained by {site}, so mend that first: {_some(more)}")
        if not told:
            lines.append("No layer lacks power and none is under-trained, as far as these examples can tell.")
        if self.uncovered:
            lines.append(f"Not looked at (no product with activations): {_some(self.uncovered)}")
        return lines

    def __repr__(self) -> str:
        kinds = [v.kind for v in self.verdicts]
        counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        return f"Expressivity({self.examples} examples, {counts})"


def _t(values: ndarray) -> float:
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(values.mean() / error) if error > 0 else 0.0


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {'matrix' if len(names) == 1 else 'matrices'} ({shown})"
