"""Verdicts in plain words: what is wrong, how sure that is, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from molifold.analysis.divergence import Divergence
from molifold.analysis.ensemble_comparison import (
    LOST,
    SIGNIFICANT,
    Basin,
    EnsembleComparison,
    FreedomComparison,
    standard_errors,
    stands_out,
)
from molifold.analysis.pareto import ParetoK
from molifold.analysis.uncertainty import Estimate
from molifold.analysis.weights import EffectiveSampleSize

Status = Literal["good", "fair", "bad"]

#: Effective fractions: above the first a generator is efficient, below the second averages hang on few frames.
ESS_GOOD, ESS_BAD = 0.30, 0.05
#: Divergence over noise floor: up to the first it is within the target, above the second plainly different.
RATIO_GOOD, RATIO_BAD = 1.5, 3.0
#: Share of frames that are copies of the reference (or of each other) before it is said.
COPIES, REPEATS = 1e-3, 0.01
#: Independent frames below which a reference can hardly tell anything apart.
FEW = 100
#: Degrees of freedom that are named one by one.
NAMED = 4


@dataclass(frozen=True)
class Finding:
    """One sentence of a verdict: a number, what it means, and what to do when it is not good."""

    status: Status
    title: str
    number: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a comparison comes to: one sentence, and the findings behind it, those that explain the others first."""

    status: Status
    sentence: str
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        lines = [f"{f.status}: {f.title}: {f.number} {f.text}" for f in self.findings]
        return "\n".join([self.sentence, *lines])


def verdict(found: EnsembleComparison) -> Verdict:
    """The verdict on ``found.generated``: causes before what follows from them, then what was looked at and is good.

    >>> from molifold import Ensemble, Molecule
    >>> from molifold.analysis import compare_ensembles
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(400, 14, 3))
    >>> e = Ensemble(Molecule.from_smiles("CCCC"), x)
    >>> print(verdict(compare_ensembles(e, e, samples=50, repeats=3)).sentence)
    Different from the reference: copies of the reference (certain).
    """
    made = [
        *_broken(found),
        *_copies(found),
        *_hands(found),
        *_basins(found),
        *_energies(found),
        *_freedoms(found),
        *_distances(found),
        *weight_findings(found.ess, found.pareto, found.forward),
        *_resolution(found),
    ]
    ordered = tuple(f for status in ("bad", "fair", "good") for f in made if f.status == status)
    worst = ordered[0].status if ordered else "good"
    named = [f.title for f in ordered if f.status == worst]
    if worst == "good":
        return Verdict("good", "No difference from the reference can be seen above the noise.", ordered)
    more = f"; {len(named) - 2} more" if len(named) > 2 else ""
    start = "Different from the reference" if worst == "bad" else "Close to the reference, with reservations"
    return Verdict(worst, f"{start}: {'; '.join(named[:2])}{more}.", ordered)


def sure(z: float) -> str:
    """How sure a difference of ``z`` standard errors is, in words.

    >>> sure(5.0), sure(1.0)
    ('certain', 'not clear')
    """
    return "certain" if z >= SIGNIFICANT else "likely" if z >= 2.5 else "not clear"


def _errors(z: float) -> str:
    return "more than 50 standard errors" if z > 50 else f"{z:.1f} standard errors"


def _broken(found: EnsembleComparison) -> Iterator[Finding]:
    side = found.generated
    if side.broken:
        share = 100 * side.broken / side.frames
        yield Finding(
            "bad" if share > 1 else "fair",
            "broken frames",
            f"{side.broken:,}",
            f"frames ({share:.2g} %) have coordinates that are not finite; they are left out everywhere.",
            "Draw with molifold sample, which gives them no weight; then look for overflowing networks.",
        )


def _copies(found: EnsembleComparison) -> Iterator[Finding]:
    if found.copies is not None and found.copies.value > COPIES:
        yield Finding(
            "bad",
            "copies of the reference (certain)",
            percent(found.copies),
            f"of the frames are frames of the reference, to the last digit ({found.copies.n:,} looked at). "
            "Agreement with a reference that was copied says nothing.",
            "Compare with frames that were not trained on; a memorising network needs more data.",
        )
    if found.repeats > REPEATS:
        yield Finding(
            "fair",
            "repeated frames",
            f"{100 * found.repeats:.2g} %",
            "of the frames occur more than once: they were resampled, or the generator is stuck. Errors "
            "count them as independent and are too small.",
            "Compare the weighted frames instead of resampled ones.",
        )


def _hands(found: EnsembleComparison) -> Iterator[Finding]:
    for name, mine, known in found.hands:
        z = standard_errors(mine, known)
        if mine.value > known.high and z > SIGNIFICANT:
            centre = "_".join(name.split("_")[1:3])
            yield Finding(
                "bad",
                f"swapped chirality at {centre} ({sure(z)})",
                percent(mine),
                f"of the frames have the other hand ({name} of opposite sign); reference {percent(known)}.",
                "A flow on distances cannot tell hands apart: use internal coordinates, or filter.",
            )


def _basins(found: EnsembleComparison) -> Iterator[Finding]:
    for basin in (basin for m in found.maps for basin in m.basins):
        z = standard_errors(basin.generated, basin.reference)
        numbers = (
            f"of the weight, 95 %: {interval(basin.generated)}; reference {percent(basin.reference)}, "
            f"95 %: {interval(basin.reference)}"
        )
        if basin.lost:
            yield Finding(
                "bad",
                f"lost {basin} ({sure(z)})",
                percent(basin.generated),
                f"{numbers}. No weight brings back what is never drawn.",
                "The effective sample size is blind to this. Train on data that visit it.",
            )
        elif basin.invented:
            yield Finding(
                "bad",
                f"invented {basin} ({sure(z)})",
                percent(basin.generated),
                f"{numbers}.",
                "Either the generator is wrong there, or the reference never got there.",
            )
        elif z > SIGNIFICANT:
            yield Finding(
                "bad" if _factor(basin) > 1.5 else "fair",
                f"wrong population of the {basin} ({sure(z)})",
                percent(basin.generated),
                f"{numbers}; {_errors(z)} apart.",
                "Reweight; then check that force field and temperature agree.",
            )


def _factor(basin: Basin) -> float:
    a, b = basin.generated.value, basin.reference.value
    return max(a, b) / max(min(a, b), 1e-12)


def _energies(found: EnsembleComparison) -> Iterator[Finding]:
    e = found.energies
    if e is None:
        return
    shift, wide = e.shift, e.spread
    off, apart = abs(shift.value) / shift.error, abs(math.log(wide.value)) / (wide.error / wide.value)
    if max(off, apart) <= SIGNIFICANT or (abs(shift.value) < 0.1 and abs(wide.value - 1) < 0.02):
        return
    text = (
        f"kT between the mean energies ({e.generated_mean.value:.1f} and {e.reference_mean.value:.1f} kT), and they "
        f"spread {wide.value:.3f} ± {wide.error:.3f} times as wide."
    )
    if apart > SIGNIFICANT:
        advice = "Raw draws strain bonds: reweight, or train longer. Otherwise compare temperatures and force fields."
    else:
        advice = "The same spread about another mean: a constant, another force field or another solvent model."
    title = f"shifted energy scale ({sure(max(off, apart))})"
    yield Finding(
        "bad" if abs(shift.value) > 1 or abs(wide.value - 1) > 0.1 else "fair",
        title,
        f"{shift.value:+.2f} ± {shift.error:.2f}",
        text,
        advice,
    )


def _freedoms(found: EnsembleComparison) -> Iterator[Finding]:
    apart = [f for f in found.relevant if f.relevance.reason == "different" and f.freedom.kind != "energy"]
    for f in apart[:NAMED]:
        d = f.divergence
        yield Finding(
            "bad" if d.ratio > RATIO_BAD else "fair",
            f"{_called(f)} {f.words} ({sure(d.excess)})",
            f"{_bits(d)}",
            f"{_errors(d.excess)} above the noise floor, {d.ratio:.1f} times as large.",
        )
    if len(apart) > NAMED:
        kinds = sorted({f.freedom.kind for f in apart[NAMED:]})
        yield Finding(
            "fair",
            "other degrees of freedom",
            f"{len(apart) - NAMED}",
            f"more differ ({', '.join(kinds)}); the table has all of them.",
        )


def _called(f: FreedomComparison) -> str:
    return (
        f.freedom.name if f.freedom.name.startswith(f.freedom.kind.split()[0]) else f"{f.freedom.kind} {f.freedom.name}"
    )


def _bits(d: Divergence) -> str:
    return f"{1000 * d.value:.3g} ± {1000 * d.error:.1g} mbit (floor {1000 * d.floor:.2g})"


def _distances(found: EnsembleComparison) -> Iterator[Finding]:
    for d in found.distances:
        if d.measure.startswith("COV"):
            low = d.floor - d.value
            if low > 0.05 and low > SIGNIFICANT * d.spread:
                of = "reference has a generated frame" if "COV-R" in d.measure else "draws have a reference frame"
                yield Finding(
                    "bad" if low > 0.2 else "fair",
                    d.measure.split()[0],
                    f"{100 * d.value:.0f} %",
                    f"of the {of} within {d.measure.split('(')[1][:-1]}; a perfect model {100 * d.floor:.0f} %.",
                )
        elif stands_out(d):
            yield Finding(
                "bad" if d.ratio > RATIO_BAD else "fair",
                d.measure,
                f"{d.value:.3g} ± {d.error:.1g}",
                f"is {d.ratio:.1f} times what two samples of the reference of {d.frames:,} frames have "
                f"({d.floor:.2g} ± {d.floor_error:.1g}).",
            )


def _resolution(found: EnsembleComparison) -> Iterator[Finding]:
    """How small a difference the reference could have shown."""
    basins = [b for m in found.maps for b in m.basins if b.reference.error > 0]
    if not basins or not found.reference.simulated:
        return
    # The most even split is what correlation in time blurs most.
    known = max(basins, key=lambda b: b.reference.value * (1 - b.reference.value)).reference
    worth = min(known.value * (1 - known.value) / known.error**2, float(found.reference.frames))
    yield Finding(
        "good" if worth >= FEW else "fair",
        "what the reference can tell",
        f"± {100 * known.error:.1f} %",
        f"is how well its {found.reference.frames:,} correlated frames know the population of their largest "
        f"basins, as {worth:,.0f} independent ones would; smaller differences stay unseen.",
        "" if worth >= FEW else "Simulate longer, with more replicas or trajectories.",
    )


def weight_findings(
    ess: EffectiveSampleSize | None, pareto: ParetoK | None, forward: Estimate | None = None
) -> list[Finding]:
    """What importance weights are worth; empty without weights.

    >>> weight_findings(None, None)
    []
    """
    found = [] if ess is None else [_ess(ess)]
    found += [] if pareto is None else [_pareto(pareto)]
    return found + ([] if forward is None else [_forward(forward, ess)])


def _ess(e: EffectiveSampleSize) -> Finding:
    status: Status = "good" if e.fraction >= ESS_GOOD else "fair" if e.fraction >= ESS_BAD else "bad"
    text = (
        f"of {e.n:,} draws count ({e.ess:,.0f} independent ones); unclipped. With the top {e.clip:g} of the weights "
        f"clipped it would be {100 * e.clipped_fraction:.1f} %. The heaviest frame carries {100 * e.max_weight:.2g} %."
    )
    advice = "" if status == "good" else "Train longer, on more independent frames, or add the energy to the loss."
    return Finding(status, "Effective sample size", f"{100 * e.fraction:.1f} ± {100 * e.error:.1f} %", text, advice)


def _pareto(k: ParetoK) -> Finding:
    status: Status = {"good": "good", "usable": "fair", "unreliable": "bad", "useless": "bad"}[k.verdict]  # type: ignore[assignment]
    text = {
        "good": "the weights have a finite variance: errors can be believed.",
        "usable": "the weights have a heavy tail: averages converge slowly, and their errors are too small.",
        "unreliable": "above the threshold: averages hang on a few frames and their errors mean little.",
        "useless": "above 1: the mean of the weights does not exist; no number of draws helps.",
    }[k.verdict]
    advice = (
        "" if status == "good" else "The generator is too narrow somewhere: draw more, train longer, or heat the base."
    )
    number = "bounded" if math.isinf(k.k) else f"{k.k:.2f} ± {k.error:.2f}".replace("-", "−")
    return Finding(status, "Tail of the weights (k-hat)", number, text, advice)


def _forward(forward: Estimate, ess: EffectiveSampleSize | None) -> Finding:
    status: Status = "good" if forward.value >= ESS_GOOD else "fair" if forward.value >= ESS_BAD else "bad"
    text = "is the effective sample size seen from the reference frames, which notices basins that the generator lost."
    advice = ""
    if ess is not None and forward.value < LOST * ess.fraction:
        status, advice = "bad", "Much smaller than the one of the draws: a basin is missing or thin."
    elif status != "good":
        advice = "Compare with that of the draws: much smaller means that a basin is missing or thin."
    number = f"{100 * forward.value:.1f} ± {100 * forward.error:.1f} %"
    return Finding(status, "Forward effective sample size", number, text, advice)


def percent(e: Estimate) -> str:
    """A probability with its error, in per cent.

    >>> percent(Estimate(0.0219, 0.0012, 0.0195, 0.0243, 0.001, 100))
    '2.19 ± 0.12 %'
    """
    digits = _digits(e)
    return f"{100 * e.value:.{digits}f} ± {100 * e.error:.{digits}f} %"


def interval(e: Estimate) -> str:
    """The 95 % interval of a probability, in per cent.

    >>> interval(Estimate(0.00002, 0.00001, 0.000005, 0.00008, 0.00001, 100))
    '0.0005 to 0.0080 %'
    """
    digits = _digits(e)
    return f"{100 * e.low:.{digits}f} to {100 * e.high:.{digits}f} %"


def _digits(e: Estimate) -> int:
    """Decimals that show two digits of the error (of the upper bound, where nothing was seen), in per cent."""
    size = 100 * (e.error if e.error > 0 else e.high)
    return min(max(2, 1 - math.floor(math.log10(size))), 5) if 0 < size < math.inf else 2
