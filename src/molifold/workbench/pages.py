"""What the pages of the workbench say beside their panels, and which curves the page Training knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from molifold.workbench.guide import Help

#: How to read the panels that hold no picture of ``plots``; those with one have their help in ``guide``.
HELP: dict[str, Help] = {
    "runs": Help(
        "Every run under the folders that were named, running ones first. A run counts as crashed when it says that it "
        "is running and its process is gone.",
        "Healthy: loss and validation fall together, ESS rises, k-hat stays below 0.7.",
        "Otherwise: open the run and look at the page Training for jumps, Network for what the layers cannot express, "
        "Statistics for what the draws miss.",
    ),
    "ensembles": Help(
        "Conformations that are kept: draws of a generator, simulations, references. Click one to explore it.", "", ""
    ),
    "map": Help(
        "Every frame over two columns: as free energy in kT (lines every 2 kT), as density, or coloured by a third "
        "column. Reweighted counts frames by their importance weights.",
        "Healthy: the basins of the reference, connected where it is connected.",
        "Otherwise: select the odd region and read under the map how it differs from the rest, torsion by torsion.",
    ),
    "structures": Help(
        "The picked frame, or up to 200 frames of the selection, superposed by heavy atoms. Drag turns, wheel zooms.",
        "Healthy: one tight bundle means that the region is one conformation.",
        "Otherwise: several bundles mean that other columns would separate them: see the histograms, which are ordered "
        "by how much they tell.",
    ),
    "linked": Help(
        "Every torsion, angle, bond and distance: the selected frames (colour) against all frames (grey), unweighted, "
        "up to 5000 frames of each. JSD in bits says how different; in brackets, its noise floor: that of as many "
        "random frames against others.",
        "Healthy: only what defines the region differs.",
        "Otherwise: a bond or angle far up in this list is a strained or broken structure.",
    ),
    "side": Help(
        "All maps share axes, view and selection. Hold Shift and draw a lasso: its share of each ensemble stands below "
        "the map. A click picks a place in all of them.",
        "Healthy: the same basins at the same depth.",
        "Otherwise: lasso what one of them lacks and compare the shares and the structures below; what differs there, "
        "torsion by torsion, is on the page Conformations.",
    ),
    "difference": Help(
        "The first map minus the other one; grey where that is below three standard errors (from 20 blocks of frames "
        "in order, so frames that remember each other and heavy weights count for what they are worth). Below: the "
        "total variation between them, and that of noise alone.",
        "Healthy: grey, and a total variation near its noise.",
        "Otherwise: red where the first has too few frames (higher free energy), blue where it has too many; hold "
        "Shift and draw a lasso there.",
    ),
    "bodies": Help(
        "Structures of each ensemble in one direction and under one camera: of the selected region, nearest to the "
        "picked place, or some of all frames. Superposed by heavy atoms; turning one turns all.",
        "Healthy: bundles of the same shape and width.",
        "Otherwise: atoms that are spread in one bundle only, or a strained ring or bond, show what the generator has "
        "not learnt there.",
    ),
    "verdict": Help("What the numbers say in plain words, most important first.", "", ""),
    "events": Help(
        "What happened, newest first: stages, requests, batches that were skipped, probes that failed, the end.", "", ""
    ),
    "ask": Help(
        "Requests go through files in the run's inbox, so they reach a training on any machine that shares the folder. "
        "Evaluate draws so many conformations at once; their figures join the curves, their frames the ensemble "
        "history.",
        "", "",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Scalars whose name begins as the regular expression ``names`` says: how to read them, and on which axis."""

    names: str
    help: tuple[str, ...]
    log: bool = False


CURVES = (
    Curve("^loss(/|$)", (
        "The objective and its terms, at every logged step.", "Healthy: falls fast, then slowly, without jumps.",
        "Otherwise: a jump that does not come back is a learning rate too high or a broken batch: see the events.",
    )),
    Curve("^validation", (
        "Loss on frames that are never trained on, with averaged weights.", "Healthy: follows the training loss.",
        "Otherwise: it rises while the training loss falls: more data, or a smaller network.",
    )),
    Curve("^(ess|pareto|acceptance|distance|log_z)", (
        "Effective sample size (share of draws), Pareto k-hat, distance to the reference over its noise floor; from "
        "draws during training.",
        "Healthy: ESS rises, k-hat below 0.7, ratio falls towards 1.",
        "Otherwise: ESS flat while the loss falls: tails are not learnt; look at Network.",
    )),
    Curve("^gradient", (
        "Norm of the gradient before clipping.", "Healthy: within one power of ten, falling slowly.",
        "Otherwise: spikes far above the clip norm: lower the learning rate.",
    ), log=True),
    Curve("^learning_rate", ("What the schedule gives at every step.",)),
    Curve("^step_seconds", ("Time of one step without probes.",)),
    Curve("^(evaluation_seconds|probe_share)", (
        "Seconds that a look at draws takes, and the share of the time that probes and such looks take; their budgets "
        "keep it below 0.05 and 0.02 in the long run.",
    )),
)  # fmt: skip


def guide() -> dict[str, Any]:
    """All of that, JSON-able; answers that say nothing are left out."""
    return {
        "help": {name: [words for words in help_ if words] for name, help_ in HELP.items()},
        "curves": [asdict(curve) for curve in CURVES],
    }
