"""The report in plain words: what is good, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from molifold.analysis import Divergence, Estimate
from molifold.plots.style import label
from molifold.workbench.results import Region, Results

Status = Literal["good", "fair", "bad"]

#: Effective fractions: above the first a generator is efficient, below the second averages hang on few frames.
ESS_GOOD, ESS_BAD = 0.30, 0.05
#: Divergence over noise floor: up to the first it is within the target, above the second plainly different.
RATIO_GOOD, RATIO_BAD = 1.5, 3.0
#: A basin that the raw draws visit less than this fraction of the reference's lower bound is lost.
LOST = 0.1
#: Relative error above which a population of the reference says little.
VAGUE = 0.25
#: A floor this many times that of independent frames says that the reference has not converged.
UNCONVERGED = 1.5


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict: a number, what it means, and what to do when it is not good."""

    status: Status
    title: str
    number: str
    text: str
    advice: str = ""


def findings(results: Results) -> list[Finding]:
    """Every finding, in the order in which they matter.

    >>> from molifold.workbench.results import Results
    >>> nothing = Results(None, 0, None, None, None, None, None, (), (), None, ())
    >>> [f.title for f in findings(nothing)]
    ['Importance weights']
    """
    out = [_dropped(results.dropped)] if results.dropped else []
    out += [_ess(results), *_pareto(results)] if results.ess else [_unweighted()]
    out += [_population(region) for region in results.regions if "reference" in region.differences]
    for result in results.ramachandran:
        key = "reweighted" if "reweighted" in result.kl else "raw"
        if key in result.kl:
            out += _divergence(result.kl[key], key, result.maps[key].names)
            out += _reference(result.jsd[key])
    return [*out, *_forward(results.forward)]


def overall(found: Sequence[Finding]) -> Finding:
    """The verdict: as good as its worst finding.

    >>> overall([Finding("good", "a", "", ""), Finding("bad", "tail", "", "")]).text
    'Look first at: tail.'
    """
    worst = [f for s in ("bad", "fair") for f in found if f.status == s]
    if not worst:
        return Finding("good", "Trustworthy", "", "Every check below is passed: reweighted averages can be used.")
    named = ", ".join(f.title for f in worst if f.status == worst[0].status)
    text = f"Look first at: {named}."
    if worst[0].status == "fair":
        return Finding("fair", "Usable with care", "", text)
    return Finding("bad", "Not to be trusted yet", "", text)


def _unweighted() -> Finding:
    return Finding(
        "fair", "Importance weights", "none", "The draws have no log p or no log q, so they cannot be reweighted.",
        "Draw with molifold sample and an energy; raw draws carry the bias of the generator.",
    )  # fmt: skip


def _dropped(count: int) -> Finding:
    return Finding(
        "bad", "Broken frames", f"{count:,}", "drawn frames have a weight that is NaN or infinite; they count as zero.",
        "A few NaN energies come from overflowing clashes and weigh nothing; an infinite weight is a bug in a density.",
    )  # fmt: skip


def _ess(results: Results) -> Finding:
    e = results.ess
    assert e is not None
    status: Status = "good" if e.fraction >= ESS_GOOD else "fair" if e.fraction >= ESS_BAD else "bad"
    text = (
        f"of {e.n:,} draws count ({e.ess:,.0f} independent ones); unclipped. With the top {e.clip:g} of the weights "
        f"clipped it would be {100 * e.clipped_fraction:.1f} %. The heaviest frame carries {100 * e.max_weight:.2g} %."
    )
    advice = "" if status == "good" else "Train longer, on more independent frames, or add the energy to the loss."
    return Finding(status, "Effective sample size", f"{100 * e.fraction:.1f} ± {100 * e.error:.1f} %", text, advice)


def _pareto(results: Results) -> list[Finding]:
    k = results.pareto
    if k is None:
        return []
    status: Status = {"good": "good", "usable": "fair", "unreliable": "bad", "useless": "bad"}[k.verdict]  # type: ignore[assignment]
    text = {
        "good": "the weights have a finite variance: errors below can be believed.",
        "usable": "the weights have a heavy tail: averages converge slowly, and their errors are too small.",
        "unreliable": "above the threshold: averages hang on a few frames and their errors mean little.",
        "useless": "above 1: the mean of the weights does not exist; no number of draws helps.",
    }[k.verdict]
    advice = (
        "" if status == "good" else "The generator is too narrow somewhere: draw more, train longer, or heat the base."
    )
    number = "bounded" if math.isinf(k.k) else f"{k.k:.2f} ± {k.error:.2f}".replace("-", "−")
    return [Finding(status, "Tail of the weights (k-hat)", number, text, advice)]


def _population(region: Region) -> Finding:
    known = region.differences["reference"].population_a
    key = "reweighted" if "reweighted" in region.differences else "raw"
    found = region.differences[key].population_a
    name = f"P({label(region.torsion)} > 0)"
    number = percent(found)
    text = f"{key}, 95 %: {interval(found)}; reference {percent(known)}, 95 %: {interval(known)}."
    if known.value == 0:
        return Finding("fair", name, number, text + " The reference never went there, so nothing is known of it.",
                       "Make the reference with replica exchange; plain dynamics at 300 K rarely crosses.")  # fmt: skip
    if region.differences["raw"].population_a.value < LOST * known.low:
        return Finding("bad", name, number, text + " The generator lost this basin, and no weight brings it back.",
                       "The effective sample size is blind to this. Train on data that visit it.")  # fmt: skip
    if found.low <= known.high and known.low <= found.high:
        if known.error <= VAGUE * known.value:
            return Finding("good", name, number, text + " The two agree.")
        return Finding("fair", name, number, text + " The two agree, but the reference hardly knows it.",
                       "Simulate longer, with more replicas or trajectories.")  # fmt: skip
    apart = abs(found.value - known.value) / math.hypot(found.error, known.error)
    status: Status = "fair" if apart < 4 else "bad"
    return Finding(status, name, number, text + f" They are {apart:.1f} standard errors apart.",
                   "Check that force field and temperature agree; then draw more or simulate longer.")  # fmt: skip


def _divergence(d: Divergence, key: str, names: tuple[str, str]) -> list[Finding]:
    status: Status = "good" if d.ratio <= RATIO_GOOD else "fair" if d.ratio <= RATIO_BAD else "bad"
    pair = ", ".join(label(n) for n in names)
    text = (
        f"times the noise floor: KL(reference ‖ {key}) = {d.value:.4f} ± {d.error:.4f} nats; halves of "
        f"the reference, one of them with the same weights, {d.floor:.4f} ± {d.floor_error:.4f} ({d.frames:,} frames "
        f"each). All frames, as papers print it: {d.plain:.4f}."
    )
    advice = (
        "" if status == "good" else "The maps below show where. A barrier that is too high or low needs data there."
    )
    return [Finding(status, f"Map of ({pair})", f"{d.ratio:.2f} ± {d.ratio_error:.2f}", text, advice)]


def _reference(d: Divergence) -> list[Finding]:
    excess = d.floor / d.ideal_floor if d.ideal_floor > 0 else 1.0
    if excess < UNCONVERGED:
        return []
    return [Finding(
        "fair", "Reference", f"{excess:.1f}×",
        "is how far its halves are apart, compared with independent frames (JSD of the map): it has not converged, and "
        "agreement with it means little.", "Simulate longer, with more replicas or trajectories.",
    )]  # fmt: skip


def _forward(forward: Estimate | None) -> list[Finding]:
    if forward is None:
        return []
    status: Status = "good" if forward.value >= ESS_GOOD else "fair" if forward.value >= ESS_BAD else "bad"
    text = "is the effective sample size seen from the reference frames, which notices basins that the generator lost."
    advice = (
        "" if status == "good" else "Compare with the one above: much smaller means that a basin is missing or thin."
    )
    return [
        Finding(
            status,
            "Forward effective sample size",
            f"{100 * forward.value:.1f} ± {100 * forward.error:.1f} %",
            text,
            advice,
        )
    ]


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
