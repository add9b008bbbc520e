"""The report in plain words: what is good, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from molifold.analysis import Divergence, EnsembleAnalysis
from molifold.analysis.verdict import (
    RATIO_BAD,
    RATIO_GOOD,
    Finding,
    Status,
    interval,
    percent,
    verdict,
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
#: Probability never seen so far: below the first an ensemble is well sampled, above the second it is not.
UNSEEN = (0.01, 0.05)
#: A cluster is stable from here on (Hennig 2007).
STABLE = 0.85


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
    out += weight_findings(None, None, results.forward)
    if results.comparison is not None:
        known = {f.title for f in out}
        compared = verdict(results.comparison).findings
        out += [f for f in compared if f.status != "good" and f.title not in known]
    return out


def state_findings(found: EnsembleAnalysis) -> list[Finding]:
    """What an analysis of one ensemble says about how well it was sampled."""
    out = []
    if found.undersampling is not None:
        unseen, names = found.undersampling.unseen, " and ".join(label(a.name) for a in found.undersampling.axes)
        status: Status = "good" if unseen.value < UNSEEN[0] else "fair" if unseen.value < UNSEEN[1] else "bad"
        text = f"is the chance that a new stretch of sampling falls where nothing was seen, on the map of {names}."
        advice = "" if status == "good" else "Sample longer; the bins that few blocks saw say where."
        out.append(Finding(status, "Never seen so far", percent(unseen), text, advice))
    if found.clusters is not None and found.clusters.stability is not None and len(found.clusters):
        worst = float(np.min(found.clusters.stability.value))
        status = "good" if worst >= STABLE else "fair"
        text = f"is the stability of the least stable of {len(found.clusters)} clusters ({found.clusters.method})."
        advice = "" if worst >= STABLE else "Below 0.6 it is an accident of the sample: look for fewer clusters."
        out.append(Finding(status, "Clusters", f"{worst:.2f}", text, advice))
    apart = [i for i, d in enumerate(found.differences, start=2) if not getattr(d, "agree", True)]
    if apart:
        text = (
            f"of cluster {', '.join(map(str, apart))} against the first: the two estimators disagree; no single number"
        )
        out.append(Finding("fair", "Free-energy differences", f"{len(apart)}", f"{text} should be quoted."))
    if found.kinetics is not None:
        test = found.kinetics.test
        status = "good" if test.passes else "bad"
        text = "standard errors between what the Markov model predicts and what is seen at longer lags, at most."
        advice = "" if test.passes else "The kinetics below is not that of the data: take a longer lag (--lag)."
        out.append(Finding(status, "Chapman-Kolmogorov test", f"{test.worst:.1f}", text, advice))
    return out


def overall(
    found: Sequence[Finding],
    *,
    words: tuple[str, str, str] = ("Trustworthy", "Usable with care", "Not to be trusted yet"),
) -> Finding:
    """The verdict: as good as its worst finding; ``words`` for good, fair and bad.

    >>> overall([Finding("good", "a", "", ""), Finding("bad", "tail", "", "")]).text
    'Look first at: tail.'
    """
    worst = [f for s in ("bad", "fair") for f in found if f.status == s]
    if not worst:
        return Finding("good", words[0], "", "Every check below is passed.")
    named = ", ".join(f.title for f in worst if f.status == worst[0].status)
    text = f"Look first at: {named}."
    if worst[0].status == "fair":
        return Finding("fair", words[1], "", text)
    return Finding("bad", words[2], "", text)


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
