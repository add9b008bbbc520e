"""States and kinetics of alanine dipeptide (MSMBuilder's data set) against its published figures and against peers.

    python benchmarks/aldp_states.py FOLDER      # with trajectory-*.dcd and ala2.pdb, doi:10.6084/m9.figshare.1026131

AMBER99SB-ILDN + OBC, 300 K, frames 1 ps apart. The figures "published" are those of all ten trajectories; where
fewer are at hand the interval must hold them.
"""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
from measure import arguments, show

from molifold import analysis
from molifold.analysis.clusters import cluster
from molifold.analysis.landscape import tica
from molifold.analysis.markov import chapman_kolmogorov, implied_timescales
from molifold.analysis.metastable import mean_first_passage_times, metastable_states
from molifold.analysis.methods import KMeans
from molifold.analysis.surfaces import free_energy_surface
from molifold.data import load

#: Shares of all ten trajectories, and the slowest timescale (ps) of 60 states at lags of 10 to 100 ps.
PUBLISHED = {"C5": 0.267, "PII": 0.296, "alphaR": 0.437}
SLOWEST = (230.0, 250.0)
LAGS = (10, 20, 50, 100)


def row(what: str, ours: object, against: object, verdict: str) -> dict[str, object]:
    return {"figure": what, "molifold": str(ours), "against": str(against), "agreement": verdict}


def populations(ensemble) -> list[dict[str, object]]:
    found = analysis.alanine_basins(ensemble.columns["phi"], ensemble.columns["psi"])
    rows = []
    for name, inside in found.items():
        share = analysis.population(inside, trajectory=ensemble.columns["trajectory"])
        known = PUBLISHED.get(name, 0.0)
        rows.append(
            row(
                f"share of {name}",
                share,
                f"published {known:.3f}",
                "interval holds it" if known in share else "interval misses it",
            )
        )
        if name == "alphaR":
            free = analysis.reweighted_mean(inside.astype(float), None).error  # as if frames were independent
            rows.append(row("its error", f"{share.error:.4f}", f"independent frames: {free:.4f}", ""))
    return rows


def kinetics(ensemble) -> list[dict[str, object]]:
    from deeptime.decomposition import TICA
    from deeptime.markov import TransitionCountEstimator
    from deeptime.markov.msm import MaximumLikelihoodMSM

    fine = cluster(ensemble, KMeans(60), of=["phi", "psi"], refits=0)
    times = implied_timescales(ensemble, fine.labels, LAGS)
    rows = []
    runs = [fine.labels[ensemble.columns["trajectory"] == i] for i in np.unique(ensemble.columns["trajectory"])]
    for i, lag in enumerate(LAGS):
        slow = times.timescales[i, 0]
        counts = TransitionCountEstimator(lag, "sliding").fit_fetch(runs).submodel_largest()
        theirs = MaximumLikelihoodMSM().fit_fetch(counts).timescales(1)[0]
        off = abs(float(slow.value) / theirs - 1)
        shown = f"{slow.value:.0f} +- {slow.error:.0f} (95 %: {slow.low:.0f} to {slow.high:.0f})"
        meets = slow.low <= SLOWEST[1] and slow.high >= SLOWEST[0]
        verdict = f"interval {'meets' if meets else 'misses'} {SLOWEST[0]:.0f}-{SLOWEST[1]:.0f}; deeptime to {off:.0e}"
        rows.append(row(f"slowest timescale / ps, lag {lag} ps", shown, f"deeptime {theirs:.1f}", verdict))
    model = analysis.markov.markov_model(ensemble, fine.labels, 20)
    _, sets = metastable_states(ensemble, fine, model, 2)
    test = chapman_kolmogorov(ensemble, fine.labels, 20, sets=sets)
    rows.append(
        row(
            "Chapman-Kolmogorov of two PCCA+ states",
            f"{test.worst:.1f} errors",
            "3",
            "passes" if test.passes else "fails",
        )
    )
    passage = mean_first_passage_times(model, sets=sets)
    for a, b in ((0, 1), (1, 0)):
        rows.append(row(f"passage {a} to {b} / ps", f"{passage.value[a, b]:.0f} +- {passage.error[a, b]:.0f}", "", ""))
    ours = tica(ensemble, 10).strength.value[0]
    rule = tica(ensemble, 10, repeats=2).of
    values = rule(ensemble)
    parts = [values[ensemble.columns["trajectory"] == i] for i in np.unique(ensemble.columns["trajectory"])]
    theirs = TICA(lagtime=10, dim=2).fit_from_timeseries(parts).fetch_model().timescales()[0]
    rows.append(
        row(
            "TICA timescale / ps, lag 10 ps",
            f"{ours:.2f}",
            f"deeptime {theirs:.2f}",
            f"to {abs(ours / theirs - 1):.0e}",
        )
    )
    return rows


def geometry(ensemble, frames: mdtraj.Trajectory) -> list[dict[str, object]]:
    from scipy.stats import gaussian_kde

    phi, psi = (compute(frames)[1][:, 0] for compute in (mdtraj.compute_phi, mdtraj.compute_psi))
    gap = np.stack([phi, psi]) - [ensemble.columns["phi"], ensemble.columns["psi"]]
    wrong = np.abs(np.angle(np.exp(1j * gap))).max()
    rows = [row("phi, psi, largest difference / rad", f"{wrong:.1e}", "mdtraj", "same" if wrong < 1e-3 else "differ")]
    surface = free_energy_surface(ensemble, "psi", method="kde", bins=180, bandwidth=3.0)
    # frames are binned before they are smoothed, which adds the variance of a bin
    width = np.hypot(surface.bandwidth[0], surface.axes[0].width / np.sqrt(12))
    value = np.asarray(ensemble.columns["psi"], dtype=float)
    wrapped = np.concatenate([value - 2 * np.pi, value, value + 2 * np.pi])
    theirs = -np.log(3 * gaussian_kde(wrapped, bw_method=width / wrapped.std(ddof=1))(surface.axes[0].centres))
    off = np.abs(surface.free_energy.value - (theirs - theirs.min())).max()
    verdict = "within a tenth of kT" if off < 0.1 else "differ"
    rows.append(row("F(psi) by kernels, largest difference / kT", f"{off:.3f}", "scipy gaussian_kde", verdict))
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, help="with trajectory-*.dcd and ala2.pdb")
    options = parser.parse_args()
    files = sorted(options.folder.glob("trajectory-*.dcd"))
    top = options.folder / "ala2.pdb"
    ensemble = load(files, top=top)
    time = np.concatenate([np.arange(n, dtype=float) for n in np.bincount(ensemble.columns["trajectory"])])
    ensemble = analysis.measure(ensemble.assign(time=time), names=("phi", "psi"))
    frames = mdtraj.join(mdtraj.load(str(file), top=str(top)) for file in files)
    rows = [*populations(ensemble), *kinetics(ensemble), *geometry(ensemble, frames)]
    show(f"Alanine dipeptide, {len(ensemble)} frames of {len(files)} trajectories", rows, to=options.json)


if __name__ == "__main__":
    main()
