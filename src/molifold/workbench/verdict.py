"""The report in plain words: what is good, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from molifold.analysis import Divergence
from molifold.analysis.verdict import (
    RATIO_BAD,
    RATIO_GOOD,
    Finding,
    Status,
    interval,
    percent,
    weight_findings,
)
from molifold.plots.style import arc, label
from molifold.workbench.results import Region, Results

#: A basin that the raw draws visit less than this fraction of the reference's lower bound is lost.
LOST = 0.1
#: Relative error above which a population of the reference says little.
VAGUE = 0.25
#: A floor this many times that of independent frames says that the reference has not converged.
UNCONVERGED = 1.5


def findings(results: Results) -> list[Finding]:
    """Every finding, in the order in which they matter.

    >>> from molifold.workbench.results import Results
    >>> nothing = Results(None, 0, None, None, None, None, None, (), (), None, ())
    >>> [f.title for f in findings(nothing)]
    ['Importance weights']
    """
    out = [_dropped(results.dropped)] if results.dropped else []
    out += weight_findings(results.ess, results.pareto) if results.ess else [_unweighted()]
    out += [_population(region) for region in results.regions if "reference" in region.differences]
    for result in results.ramachandran:
        key = "reweighted" if "reweighted" in result.kl else "raw"
        if key in result.kl:
            out += _divergence(result.kl[key], key, result.maps[key].names)
            out += _reference(result.jsd[key])
    return [*out, *weight_findings(None, None, results.forward)]


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


def _population(region: Region) -> Finding:
    known = region.differences["reference"].population_a
    key = "reweighted" if "reweighted" in region.differences else "raw"
    found = region.differences[key].population_a
    name = f"P({arc(region.torsion)})"
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
