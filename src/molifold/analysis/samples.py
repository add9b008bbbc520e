"""Distances between two samples of frames: energies, torsions, slow coordinates, states, and coverage by RMSD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.divergence import Divergence, compare
from molifold.analysis.fixed_size import (
    Sample,
    at_fixed_size,
    coverage,
    torus_wasserstein_2,
    wasserstein_1,
    wasserstein_2,
)
from molifold.analysis.histograms import jensen_shannon
from molifold.analysis.rmsd import heavy_symmetries
from molifold.analysis.sides import Side, missing_energy, slow_torsions
from molifold.analysis.tally import Quantities

#: States of k-means, fitted on the reference (as many as the transferable-samplers benchmark takes).
STATES = 20
#: Metastable sets that are looked for, at most.
MOST_SETS = 5
#: RMSD (nm) below which two conformations count as the same: of small and of larger molecules (GEOM, arXiv 2006.05531).
NEAR_SMALL, NEAR_LARGE, LARGE = 0.05, 0.125, 15

Project = Callable[[ndarray], ndarray]


def sample_distances(
    a: Side, b: Side, quantities: Quantities, *, samples: int, repeats: int, lag: int, seed: int
) -> tuple[dict[str, str], tuple[Divergence, ...]]:
    """Every distance that needs samples of a fixed size, and why the others were left out."""
    skipped: dict[str, str] = {}
    found: list[Divergence] = []
    options = {"repeats": repeats, "seed": seed}
    energy = [i for i, f in enumerate(quantities.freedoms) if f.kind == "energy"]
    if energy:
        high = quantities.axes[energy[0]].high
        pair = [_sample(s, np.minimum(s.values[energy].T, high)) for s in (a, b)]
        found += at_fixed_size(
            wasserstein_1, ["energy W1 (kT)"], model=pair[0], reference=pair[1], n=4 * samples, **options
        )
    else:
        reasons = [f"{s.name} {why}" for s in (a, b) if (why := missing_energy(s.ensemble))]
        skipped["energies"] = "; ".join(reasons)
    torsions = slow_torsions(quantities)
    if torsions:
        pair = [_sample(s, s.values[torsions].T) for s in (a, b)]
        found += at_fixed_size(
            torus_wasserstein_2, ["torus W2 (rad)"], model=pair[0], reference=pair[1], n=samples, **options
        )
        project, why = slow_coordinates(b, torsions, lag=lag)
        if project is None:
            skipped["TICA W2"] = why
        else:
            slow = [_sample(s, project(_features(s.values[torsions]))) for s in (a, b)]
            found += at_fixed_size(
                wasserstein_2, [f"TICA W2 (lag {lag})"], model=slow[0], reference=slow[1], n=samples, **options
            )
        found += state_divergences(a, b, torsions, project, lag=lag, seed=seed)
    else:
        skipped["torsions"] = "the molecule has no rotatable bond"
    found += _coverage(a, b, samples=samples, **options)
    return skipped, tuple(found)


def _sample(s: Side, features: ndarray) -> Sample:
    w = s.sample_weights
    return Sample(np.where(np.isfinite(features), features, 0.0), w, s.sample_blocks)


def _features(angles: Float[ndarray, "torsions frames"]) -> Float[ndarray, "frames features"]:
    angles = np.nan_to_num(angles)
    return np.concatenate([np.cos(angles), np.sin(angles)]).T


def slow_coordinates(b: Side, torsions: Sequence[int], *, lag: int) -> tuple[Project | None, str]:
    """The first two TICA coordinates of the reference's torsions, or why there are none.

    Reference: Perez-Hernandez et al., J. Chem. Phys. 139, 015102 (2013), doi:10.1063/1.4811489.
    """
    if not b.simulated:
        return None, "the reference are independent draws, which have no order in time"
    series = [_features(s[list(torsions)]) for s in b.series if s.shape[1] > 3 * lag]
    if sum(len(s) for s in series) < 100:
        return None, f"the reference has no runs longer than {3 * lag} frames"
    from deeptime.decomposition import TICA

    try:
        model = TICA(lagtime=lag, dim=2).fit_from_timeseries(series).fetch_model()
    except (ValueError, np.linalg.LinAlgError, ZeroDivisionError) as error:
        return None, f"TICA of the reference failed ({error})"
    return model.transform, ""


def state_divergences(
    a: Side, b: Side, torsions: Sequence[int], project: Project | None, *, lag: int, seed: int
) -> Iterator[Divergence]:
    """Jensen-Shannon divergences of the populations of states that were fitted on the reference.

    States are clusters of k-means on slow coordinates (on torsions where there are none), and, given the order in
    time, what PCCA+ makes of a Markov model between them.
    """
    from sklearn.cluster import KMeans

    def place(angles: Float[ndarray, "torsions frames"]) -> Float[ndarray, "frames features"]:
        return _features(angles) if project is None else project(_features(angles))

    points = [place(s.values[list(torsions)]) for s in (a, b)]
    model = KMeans(min(STATES, len(points[1]) // 10), n_init=1, random_state=seed).fit(points[1])
    cells = [model.predict(p) for p in points]
    word = "torsion" if project is None else "slow"
    yield _state_divergence(a, b, cells, model.n_clusters, f"JSD of {model.n_clusters} {word} states (bits)", seed)
    if project is not None:
        runs = [model.predict(place(run[list(torsions)])) for run in b.series]
        macro = metastable(runs, model.n_clusters, lag=lag)
        n = int(macro.max()) + 1
        if n > 1:
            yield _state_divergence(a, b, [macro[c] for c in cells], n, f"JSD of {n} MSM states (bits)", seed)


def metastable(runs: Sequence[Int[ndarray, " frames"]], states: int, *, lag: int) -> Int[ndarray, " states"]:
    """Metastable set of every state: PCCA+ on the Markov model of ``runs``, cut at the largest gap of its timescales.

    All zero where the runs do not connect two states. States that the model leaves out are in the largest set.

    Reference: S. Roeblitz, M. Weber, Adv. Data Anal. Classif. 7, 147 (2013), doi:10.1007/s11634-013-0134-6.

    >>> rng = np.random.default_rng(0)
    >>> slow = np.cumsum(rng.random(20_000) < 0.01) % 2
    >>> metastable([2 * slow + rng.integers(0, 2, 20_000)], 4, lag=2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    from deeptime.markov import TransitionCountEstimator
    from deeptime.markov.msm import MaximumLikelihoodMSM

    found = np.zeros(states, dtype=np.int64)
    runs = [run for run in runs if len(run) > lag]
    if not runs:
        return found
    counts = TransitionCountEstimator(lag, "sliding", n_states=states).fit_fetch(runs).submodel_largest()
    if counts.n_states < 3:
        return found
    msm = MaximumLikelihoodMSM().fit_fetch(counts)
    times = msm.timescales(min(MOST_SETS, counts.n_states - 1))
    sets = 2 + int(np.argmax(times[:-1] / np.maximum(times[1:], 1e-9)))
    assigned = msm.pcca(sets).assignments
    populations = np.bincount(assigned, weights=msm.stationary_distribution, minlength=sets)
    found[:] = int(populations.argmax())
    found[counts.state_symbols] = assigned
    return found


def _state_divergence(a: Side, b: Side, cells: Sequence[ndarray], states: int, name: str, seed: int) -> Divergence:
    with np.errstate(divide="ignore"):
        log_w = np.log(a.sample_weights)
    # Draws lie in no order; frames of a simulation are dealt so that groups are runs.
    order = np.argsort(_dealt(len(log_w)), kind="stable") if a.simulated else np.arange(len(log_w))
    return compare(
        cells[0][order], cells[1], n_cells=states, measure=jensen_shannon, name=name, log_w=log_w[order],
        trajectory=b.sample_blocks, seed=seed,
    )  # fmt: skip


def _dealt(n: int, groups: int = 32) -> ndarray:
    """Rank within its run of every frame: sorting by it makes every 32nd frame one of the same run."""
    run = np.arange(n) * groups // n
    return np.arange(n) - np.searchsorted(run, run)


def _coverage(a: Side, b: Side, *, samples: int, repeats: int, seed: int) -> tuple[Divergence, ...]:
    permutations = heavy_symmetries(b.ensemble.molecule, most=64)
    heavy = permutations.shape[1]
    if heavy < 3:
        return ()
    near = NEAR_SMALL if heavy <= LARGE else NEAR_LARGE
    # The work grows with the square of the frames and with the symmetries.
    n = min(samples, max(int((250_000 / len(permutations)) ** 0.5), 50))
    pair = [_sample(s, np.asarray(s.ensemble.x[s.index])) for s in (a, b)]
    names = [f"COV-R ({near:g} nm)", "MAT-R (nm)", f"COV-P ({near:g} nm)", "MAT-P (nm)"]
    statistic = coverage(permutations=permutations, threshold=near)
    return at_fixed_size(statistic, names, model=pair[0], reference=pair[1], n=n, repeats=repeats, seed=seed)
