"""The latent map of alanine dipeptide and of chignolin: slow process, weights, a path, and quality beside other maps.

Needs the data folder; trains for ``--steps`` or ``--seconds`` (a killed training goes on), or judges a finished run in
``--work``::

    python benchmarks/latent_map.py DATA --work work --system aldp --json benchmarks/results/latent_map.json
    python benchmarks/latent_map.py DATA --work work --system chignolin --json benchmarks/results/latent_map.json

Rows of the file that are not measured again are kept (``--only slow weights`` measures some). VAMP-2 scores and
timescales are judged on trajectories that the map has not seen and on all, its weights and quality on all.
"""

from __future__ import annotations

import heapq
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from deeptime.clustering import KMeans
from deeptime.decomposition import TICA, VAMP
from deeptime.markov import TransitionCountEstimator
from deeptime.markov.msm import MaximumLikelihoodMSM
from deeptime.numeric import ZeroRankError
from latent_systems import TRAINING, alanine_dipeptide, chignolin
from measure import arguments, show

from molifold import Ensemble
from molifold.analysis import (
    effective_sample_size,
    map_divergence,
    measure,
    pareto_k,
    ramachandran_pairs,
    torsion_comparison,
)
from molifold.analysis.integrity import integrity
from molifold.analysis.map_doctor import diagnose
from molifold.analysis.map_quality import (
    information_imbalance,
    map_quality,
    neighbourhood_overlap,
    rival_maps,
    torsion_waves,
)
from molifold.analysis.map_reading import associations, committor_separation
from molifold.analysis.torsions import named_torsions
from molifold.geometry import distances
from molifold.runs import Run
from molifold.sampling import draw
from molifold.training.attribution import attribute
from molifold.workflows import train
from molifold.workflows.latent import energy_of, load_map

STATES = 60
#: Training ends after so many steps or seconds, whichever comes first; weighted draws.
STEPS, SECONDS = {"aldp": 2400, "chignolin": 400}, {"aldp": 1200, "chignolin": 300}
DRAWS = {"aldp": 16_000, "chignolin": 2000}
Rows = list[dict[str, object]]


@dataclass(frozen=True)
class Case:
    """A system, its trained map, all its frames and where they lie on it."""

    name: str
    lag: int
    unit: str
    training: int
    draws: int
    candidates: int
    run: Path
    frames: Ensemble
    angles: tuple[str, ...]

    def row(self, figure: str, value: object, against: object = "") -> dict[str, object]:
        """One line of the table."""
        return {"system": self.name, "figure": figure, "value": value, "against": against}


def msm(features: np.ndarray, case: Case, rows: np.ndarray) -> tuple[float, float]:
    """VAMP-2 of the slowest process and its timescale (frames), from a Markov model of k-means states."""
    states = KMeans(STATES, fixed_seed=1).fit_fetch(features[::10]).transform(features)
    trajectory = np.asarray(case.frames.columns["trajectory"])[rows]
    parts = [states[trajectory == k] for k in np.unique(trajectory)]
    counts = TransitionCountEstimator(case.lag, "sliding").fit_fetch(parts).submodel_largest()
    model = MaximumLikelihoodMSM(lagtime=case.lag).fit_fetch(counts)
    return 1 + float(model.eigenvalues(2)[1]) ** 2, float(model.timescales(1)[0])


def slow_process(case: Case, z: np.ndarray, waves: np.ndarray) -> Rows:
    """z1 alone against TICA and a Markov model on the torsions of the same frames."""
    trajectory, rows = np.asarray(case.frames.columns["trajectory"]), []
    z = z / z.std(axis=0)  # scores do not depend on it, but deeptime drops dimensions of small variance
    for name, kept in (("held out", trajectory >= case.training), ("all", trajectory >= 0)):
        at = np.flatnonzero(kept)
        now, later = case.frames[at].pairs(case.lag)
        features = waves[at]
        tica = TICA(dim=2).fit_fetch((features[now], features[later])).transform(features)
        try:
            score = VAMP().fit((z[at][now, :1], z[at][later, :1])).fetch_model().score(2)
        except ZeroRankError:  # a map that learnt nothing
            rows.append(case.row(f"VAMP-2 of z1, {name}", "1", "z1 stands still on these trajectories"))
            continue
        known, timescale = msm(tica, case, at)
        _, own = msm(z[at], case, at)
        text = f"TICA + MSM {known:.4f}: {100 * (score / known - 1):+.2f} %"
        rows.append(case.row(f"VAMP-2 of z1, {name}", f"{score:.4f}", text))
        rows.append(case.row(f"slowest timescale, {name}", f"{own:.0f} {case.unit}", f"TICA + MSM {timescale:.0f}"))
    return rows


def weights(case: Case, flow: torch.nn.Module, energy: object) -> Rows:
    """Draws with their weights against all frames."""
    drawn = measure(draw(flow, case.draws, molecule=flow.molecule, energy=energy, seed=1), names=case.angles)
    rows = [case.row("ESS", repr(effective_sample_size(drawn.log_w)), repr(pareto_k(drawn.log_w)))]
    for c in torsion_comparison(drawn, case.frames, names=case.angles[:4], log_w=drawn.log_w):
        rows.append(case.row(f"JSD of {c.name}, reweighted", repr(c.reweighted_divergence), f"raw {c.raw_divergence}"))
    if set(case.angles) == {"phi", "psi"}:
        both = map_divergence(drawn, case.frames, log_w=drawn.log_w, measure="jsd")
        rows.append(case.row("JSD of phi and psi, reweighted", repr(both)))
    sound = integrity(drawn[: case.draws // 8], case.frames[:: max(1, len(case.frames) // 5000)])
    return [*rows, case.row("geometry of draws", repr(sound))]


def minimax(free: np.ndarray, a: tuple[int, int], b: tuple[int, int]) -> float:
    """Lowest highest point between two cells of a periodic map, above the lower of the two (kT)."""
    heap, seen = [(free[a], a)], set()
    while heap:
        height, cell = heapq.heappop(heap)
        if cell == b:
            return float(height - min(free[a], free[b]))
        if cell in seen:
            continue
        seen.add(cell)
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            there = tuple((c + s) % len(free) for c, s in zip(cell, step, strict=True))
            heapq.heappush(heap, (max(height, free[there]), there))
    raise AssertionError("unreachable")


def ends(case: Case) -> tuple[int, int, float]:
    """Frames at either end of the path, and the barrier between them (nan where no free energy is known)."""
    if case.name == "chignolin":
        alpha = [i for i, name in enumerate(case.frames.molecule.atom_names) if name == "CA"]
        span = distances(np.asarray(case.frames.x), np.array([[alpha[0], alpha[-1]]]))[:, 0]
        return int(span.argmin()), int(span.argmax()), float("nan")
    phi, psi = (np.asarray(case.frames.columns[name]) for name in ("phi", "psi"))
    basins = np.radians([[-75, 150], [-70, -20]])
    near = [int(np.argmin(2 - np.cos(phi - p) - np.cos(psi - s))) for p, s in basins]
    counts, edges, _ = np.histogram2d(phi, psi, bins=36, range=[[-np.pi, np.pi]] * 2)
    free = -np.log(np.maximum(counts, 0.1))
    cells = [tuple(int(np.searchsorted(edges, v[i])) - 1 for v in (phi, psi)) for i in near]
    return *near, minimax(free, *cells)


def path(case: Case, flow: torch.nn.Module, energy: object) -> Rows:
    """A path between two conformations: energies, geometry, and how far it turns at once."""
    a, b, barrier = ends(case)
    judges = case.frames[:: max(1, len(case.frames) // 5000)]
    x = case.frames.x
    found = flow.path(x[a], x[b], energy=energy, candidates=case.candidates, sound=lambda e: integrity(e, judges).whole)
    u = found.energy
    highest = f"highest {u.max():.1f}"
    rows = [case.row("path: energies (kT above the lower end)", f"90 % below {np.quantile(u, 0.9):.1f}, {highest}")]
    if np.isfinite(barrier):
        share = f"{100 * np.mean(u < barrier + 5):.0f} %"
        rows = [case.row("path: images below barrier + 5 kT", share, f"barrier {barrier:.1f} kT; {highest} kT")]
    told = measure(found.ensemble, names=case.angles).columns
    turns = {n: np.degrees(np.abs(np.angle(np.exp(1j * np.diff(told[n])))).max()) for n in case.angles}
    widest = max(turns, key=lambda n: turns[n])
    text = f"{turns[widest]:.0f} degrees of {widest}"
    rows.append(
        case.row("path: widest turn between images", text, f"of all torsions {np.degrees(found.turns.max()):.0f}")
    )
    return [*rows, case.row("path: geometry", repr(integrity(found.ensemble, judges)))]


def quality(case: Case, z: np.ndarray, waves: np.ndarray, dadapy: str | None) -> Rows:
    """Label-free quality of the map and its rivals, of the same frames; DADApy's figures for the first 1000 of them."""
    maps = {"latent map": z, **rival_maps(waves, dimensions=z.shape[1], pairs=case.frames.pairs(case.lag))}
    rows = []
    for name, places in maps.items():
        q = map_quality(places, waves)
        figures = ((k, getattr(q, k)) for k in ("imbalance", "overlap", "trustworthiness"))
        rows.append(case.row(f"quality: {name}", ", ".join(f"{k} {v.value:.3f} +- {v.error:.3f}" for k, v in figures)))
    if dadapy is not None:
        some = np.random.default_rng(0).permutation(len(z))[:1000]
        np.savez(case.run.parent / "maps.npz", description=waves[some], **{k: v[some] for k, v in maps.items()})
        script = [dadapy, str(Path(__file__).with_name("dadapy_quality.py")), str(case.run.parent / "maps.npz")]
        theirs = json.loads(subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for name, known in theirs.items():
            b, d = maps[name][some], waves[some]
            own = f"imbalance {information_imbalance(b, d):.4f}, overlap {neighbourhood_overlap(b, d):.4f}"
            text = f"DADApy {known['imbalance']:.4f}, {known['overlap']:.4f}"
            rows.append(case.row(f"quality of 1000 frames: {name}", own, text))
    return rows


def single_torsions(case: Case, *, count: int = 3) -> str:
    """The torsions that are slowest by themselves: TICA on three harmonics of each."""
    names, times = list(named_torsions(case.frames.molecule)), {}
    columns, (now, later) = measure(case.frames, names=names).columns, case.frames.pairs(case.lag)
    for name in names:
        angle = np.asarray(columns[name], dtype=float)
        x = np.stack([f(k * angle) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1)
        times[name] = float(TICA(dim=1).fit_fetch((x[now], x[later])).timescales(lagtime=case.lag)[0])
    order = sorted(names, key=lambda n: -times[n])[:count]
    return ", ".join(f"{n} {times[n]:.0f} {case.unit}" for n in order)


def reading(case: Case, z: np.ndarray, there: object) -> Rows:
    """What the latents follow and separate, and what the doctor finds."""
    thin = case.frames[:: max(1, len(case.frames) // 10_000)]
    followed = associations(z[:: max(1, len(case.frames) // 10_000)], thin, circular=there.circular)
    rows = [
        case.row(f"{name} follows", ", ".join(f"{c} {v:.2f} +- {e:.2f}" for c, v, e in followed.strongest(i, count=3)))
        for i, name in enumerate(followed.latents)
    ]
    rows.append(case.row("slowest single torsions", single_torsions(case)))
    trajectory = np.asarray(case.frames.columns["trajectory"])
    if case.name != "chignolin":
        phi, psi = (np.degrees(case.frames.columns[name]) for name in ("phi", "psi"))
        a, b = (np.abs(psi - 150) < 30) & (phi < 0), (np.abs(psi + 20) < 30) & (phi < 0)
        found = committor_separation(z[:, :1], a, b, trajectory=trajectory)
        rows.append(case.row("z1 tells where a frame between C7eq and alphaR goes", repr(found)))
    found = diagnose(z, sigma=there.sigma, circular=there.circular, trajectory=trajectory, lag=case.lag)
    return [*rows, case.row("doctor", "; ".join(map(repr, found.findings)))]


def atoms(case: Case, flow: torch.nn.Module) -> Rows:
    """The atoms whose coordinates make the latents what they are."""
    frames = case.frames[:: len(case.frames) // 100]
    return [case.row(f"atoms behind z{i + 1}", repr(attribute(flow, frames, latent=i))) for i in range(flow.latents)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--system", choices=["aldp", "chignolin"], default="aldp")
    parser.add_argument("--steps", type=int, help=f"of training, at most  [default: {STEPS}]")
    parser.add_argument("--seconds", type=int, help=f"of training, at most  [default: {SECONDS}]")
    parser.add_argument("--dadapy", help="a Python that has DADApy (and so NumPy 1), to compare figures of quality")
    parser.add_argument("--only", nargs="*", default=["slow", "weights", "path", "quality", "reading", "atoms"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    small = options.system == "aldp"
    work = options.work / options.system
    if not (work / "run" / "run.json").exists() or Run.open(work / "run").state != "finished":
        steps = options.steps or STEPS[options.system]
        seconds = options.seconds or SECONDS[options.system]
        recipe = (alanine_dipeptide if small else chignolin)(options.data, work, steps=steps, seconds=seconds)
        train(recipe, to=work / "run")
    # Of chignolin every fifth frame, which is its lag: encoding all would take longer than its training.
    frames = Ensemble.load(work / "all.ens")[:: 1 if small else 5]
    angles = tuple(dict.fromkeys(n for pair in ramachandran_pairs(frames[::500]) for n in pair))
    about = {"lag": 20, "unit": "ps", "training": TRAINING} if small else {"lag": 1, "unit": "lags", "training": 20}
    name = "alanine dipeptide" if small else "chignolin"
    about |= {"draws": DRAWS[options.system], "candidates": 64 if small else 16}
    case = Case(name, run=work / "run", frames=measure(frames, names=angles), angles=angles, **about)
    flow, energy = load_map(case.run), energy_of(case.run)
    there, waves = flow.encode(case.frames), torsion_waves(case.frames)
    parts = {
        "slow": lambda: slow_process(case, there.z, waves),
        "weights": lambda: weights(case, flow, energy),
        "path": lambda: path(case, flow, energy),
        "quality": lambda: quality(case, there.z, waves, options.dadapy),
        "reading": lambda: reading(case, there.z, there),
        "atoms": lambda: atoms(case, flow),
    }
    last = Run.open(case.run).scalars()[0][-1]
    rows = [case.row("training", f"{last['step']} steps", f"{last['seconds']:.0f} s on a core that others used too")]
    for part in options.only:  # what is measured is kept at once: the next part may take long
        rows += parts[part]()
        if options.json is not None and options.json.exists():
            new = {(row["system"], row["figure"]) for row in rows}
            known = json.loads(options.json.read_text())["rows"]
            rows = [row for row in known if (row["system"], row["figure"]) not in new] + rows
        show("Latent maps of two dimensions, trained on one core", rows, to=options.json)


if __name__ == "__main__":
    main()
