"""Two ensembles of one molecule side by side: everything that can differ, with errors and noise floors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis import modes
from molifold.analysis.divergence import Divergence, divergence_of
from molifold.analysis.ensemble_comparison import (
    LOST,
    Basin,
    EnergyMoments,
    EnsembleComparison,
    FreedomComparison,
    MapComparison,
    stands_out,
)
from molifold.analysis.free_energy import population_of
from molifold.analysis.freedom import DegreeOfFreedom
from molifold.analysis.histograms import Map, histogram_of, jensen_shannon
from molifold.analysis.pareto import pareto_k
from molifold.analysis.relevance import echoes, rank, relevance
from molifold.analysis.samples import sample_distances
from molifold.analysis.sides import Side, quantities_of, side
from molifold.analysis.tally import Quantities, Tally, tally
from molifold.analysis.uncertainty import Estimate, autocorrelation_time
from molifold.analysis.weights import effective_sample_size, forward_effective_sample_size
from molifold.ensemble import Ensemble

#: Frames that make a basin, at least.
FEW = 20


def compare_ensembles(
    generated: Ensemble,
    reference: Ensemble,
    *,
    weighted: bool = True,
    distances: tuple[tuple[int, int], ...] = (),
    samples: int = 500,
    repeats: int = 8,
    lag: int = 10,
    seed: int = 0,
    client: Any = None,
) -> EnsembleComparison:
    """Compare everything: every degree of freedom, maps, basins, energies, weights, coverage, handedness, copies.

    Either ensemble may be a memory map larger than the memory: each is read once, in pieces (and some thousands of
    frames once more). An ensemble with ``log_q`` is of independent draws; one without is molecular dynamics, whose
    errors come from blocks of trajectories (column ``trajectory``).

    Args:
        generated: what is judged; weighted by ``log_p - log_q`` if it has both.
        reference: what it should be.
        weighted: False compares the raw draws.
        distances: pairs of atoms to add.
        samples: frames a side for distances that need a fixed size (optimal transport, RMSD).
        repeats: random halves for those.
        lag: of TICA, in frames of the reference.
        seed: of everything random.
        client: ``dask.distributed.Client`` whose processes count.

    Raises:
        ValueError: if the molecules differ, an ensemble has fewer than 64 frames, the reference has frames that are
            not finite, or all weights are zero.

    >>> from molifold import Molecule
    >>> butane = Molecule.from_smiles("CCCC")
    >>> x = np.random.default_rng(0).normal(size=(400, 14, 3))
    >>> found = compare_ensembles(Ensemble(butane, x[:200]), Ensemble(butane, x[200:]), samples=50, repeats=3)
    >>> len(found.freedoms), found.copies.value
    (65, 0.0)
    """
    a, b, quantities, kept = side_by_side(generated, reference, weighted=weighted, distances=distances, seed=seed)
    known = np.unique(quantities.fingerprints(a.values))
    count_a = tally(a.ensemble, quantities, plan=a.plan(kept), weigh=a.weigh, client=client)
    dealt = a.some_weights() if a.weighted else None
    count_b = tally(
        b.ensemble, quantities, plan=b.plan(2 * kept), weigh=b.weigh, dealt=dealt, known=known, seed=seed, client=client
    )
    if count_b.broken:
        raise ValueError(f"reference: got {count_b.broken} frames that are not finite, expected none; leave them out")
    ess = a.ess_fraction * kept
    maps = tuple(_map(k, quantities, count_a, count_b, a, b, ess, kept, seed) for k in range(len(quantities.pairs)))
    skipped, found = sample_distances(a, b, quantities, samples=samples, repeats=repeats, lag=lag, seed=seed)
    basins = [basin for m in maps for basin in m.basins if basin.reference.low > 0]
    log_w = a.log_w() if a.weighted else None
    return EnsembleComparison(
        generated=a.about(count_a.broken),
        reference=b.about(0),
        freedoms=_freedoms(quantities, count_a, count_b, a, b, ess, kept, seed),
        maps=maps,
        distances=found,
        mode_coverage=_coverage(basins),
        hands=_hands(quantities, count_a, count_b, a, b),
        ess=None if log_w is None else effective_sample_size(log_w, seed=seed),
        forward=_forward(b, seed),
        pareto=pareto_k(log_w) if log_w is not None and len(log_w) >= 25 else None,
        copies=_copies(quantities, a, count_b),
        repeats=1 - len(known) / len(a.index) if quantities.fingerprint else 0.0,
        energies=_energies(quantities, a, b, seed),
        skipped=skipped,
    )


def side_by_side(
    generated: Ensemble, reference: Ensemble, *, weighted: bool, distances: tuple, seed: int
) -> tuple[Side, Side, Quantities, int]:
    """Both sides, what is counted of them, and how many frames are compared."""
    for name, ensemble in (("generated", generated), ("reference", reference)):
        if len(ensemble) < 64:
            raise ValueError(f"{name}: got {len(ensemble)} frames, expected at least 64 to say anything")
    if (
        generated.molecule.elements != reference.molecule.elements
        or generated.molecule.bonds != reference.molecule.bonds
    ):
        raise ValueError(
            f"reference: got {reference.molecule!r}, expected the molecule of the other ensemble, "
            f"{generated.molecule!r}, with the same atoms and bonds in the same order"
        )
    quantities, b_pilot = quantities_of(generated, reference, distances=distances)
    a = side(generated, quantities, weighted=weighted, name="generated")
    b = side(reference, quantities, weighted=weighted, name="reference", series=b_pilot)
    return a, b, quantities, min(len(reference) // 2, len(generated))


def _jsd(
    groups: ndarray, plain: ndarray, dealt: ndarray, *, all_a: ndarray, all_b: ndarray, ess: float, kept: int, seed: int
) -> Divergence:
    some = [h[h.sum(1) > 0] for h in (groups, plain)]
    return divergence_of(
        some[0], some[1], weighted=dealt[plain.sum(1) > 0], measure=jensen_shannon, name="JSD (bits)",
        plain=float(jensen_shannon(all_b, all_a)), frames=kept, ess=ess, seed=seed,
    )  # fmt: skip


def _freedoms(
    quantities: Quantities, count_a: Tally, count_b: Tally, a: Side, b: Side, ess: float, kept: int, seed: int
) -> tuple[FreedomComparison, ...]:
    times = [autocorrelation_time(b.series_of(i)) if b.simulated else None for i in range(len(quantities.axes))]
    usual = float(np.median([t.value for t in times if t is not None] or [np.inf]))
    found = []
    for i, (freedom, axis) in enumerate(zip(quantities.freedoms, quantities.axes, strict=True)):
        cells = slice(0, axis.n_cells)
        groups, plain, dealt = count_a.thinned(i), count_b.thinned(i), count_b.thinned(i, dealt=True)
        all_a, all_b = count_a.all(i)[:, cells], count_b.all(i)[:, cells]
        d = _jsd(groups[:, cells], plain[:, cells], dealt[:, cells], all_a=all_a.sum(0), all_b=all_b.sum(0),
                 ess=ess, kept=kept, seed=seed)  # fmt: skip
        histograms = [histogram_of(axis, h, n=s.frames, ess=s.ess_fraction * s.frames)
                      for h, s in ((all_a, a), (all_b, b))]  # fmt: skip
        label = modes.modes(histograms[1].density, circle=axis.circle)
        spread = 1 - np.bincount(label, weights=histograms[1].density).max() / histograms[1].density.sum()
        why = relevance(
            excess=d.value - d.floor, significant=stands_out(d), time=times[i], usual_time=usual, spread=float(spread)
        )
        words = modes.in_words(histograms[0].density, histograms[1].density, axis=axis)
        found.append(FreedomComparison(freedom, axis, histograms[0], histograms[1], d, words, times[i], why))
    order = rank([f.relevance for f in found])
    repeated = echoes(
        [b.features(i)[::4] for i in range(len(found))], order, group=[_bond(f) for f in quantities.freedoms]
    )
    names = [f.name for f in quantities.freedoms]
    return tuple(replace(found[i], repeats=names[repeated[i]] if i in repeated else "") for i in order)


def _bond(freedom: DegreeOfFreedom) -> frozenset[int] | None:
    """The bond that a torsion turns about: torsions about one bond say the same."""
    return frozenset(freedom.atoms[1:3]) if freedom.kind == "torsion" else None


def _map(
    k: int, quantities: Quantities, count_a: Tally, count_b: Tally, a: Side, b: Side, ess: float, kept: int, seed: int
) -> MapComparison:
    i, j = quantities.pairs[k]
    names = (quantities.freedoms[i].name, quantities.freedoms[j].name)
    bins = quantities.axes[i].bins
    all_a, all_b = count_a.pairs[0, k].sum(0), count_b.pairs[0, k].sum(0)
    d = _jsd(count_a.pairs[0, k, 0], count_b.pairs[0, k, 0], count_b.pairs[-1, k, 0],
             all_a=all_a.sum(0), all_b=all_b.sum(0), ess=ess, kept=kept, seed=seed)  # fmt: skip
    area = (2 * np.pi / bins) ** 2
    drawn = [
        Map(names, quantities.axes[i].edges, (h.sum(0) / h.sum() / area).reshape(bins, bins), s.frames,
            s.ess_fraction * s.frames)
        for h, s in ((all_a, a), (all_b, b))
    ]  # fmt: skip
    return MapComparison(names, drawn[0], drawn[1], d, _basins(names, all_a, all_b, bins, a, b))


def _basins(
    names: tuple[str, str], all_a: Float[ndarray, "blocks joint"], all_b: Float[ndarray, "blocks joint"], bins: int,
    a: Side, b: Side,
) -> tuple[Basin, ...]:  # fmt: skip
    mean = (all_a.sum(0) / all_a.sum() + all_b.sum(0) / all_b.sum()).reshape(bins, bins) / 2
    state = modes.modes(mean, circle=True, smallest=max(modes.SMALLEST, FEW / min(a.frames, b.frames)))
    centre = np.exp(1j * (-np.pi + (np.arange(bins) + 0.5) * 2 * np.pi / bins))
    found = []
    for k in range(int(state.max()) + 1):
        inside = (state == k).ravel()
        p = mean * (state == k)
        middle = tuple(float(np.angle((p.sum(axis) * centre).sum())) for axis in (1, 0))
        populations = [
            population_of(h[:, inside].sum(1), h.sum(1), frames=s.frames, trials=s.trials)
            for h, s in ((all_a, a), (all_b, b))
        ]
        found.append(Basin(names, (middle[0], middle[1]), populations[0], populations[1]))
    return tuple(sorted(found, key=lambda basin: -basin.reference.value))


def _coverage(basins: list[Basin]) -> Estimate | None:
    """Share of the reference's basins that the generator visits; the interval is where the intervals leave doubt."""
    if not basins:
        return None
    seen = float(np.mean([not basin.lost for basin in basins]))
    low = float(np.mean([basin.generated.low >= LOST * basin.reference.high for basin in basins]))
    high = float(np.mean([basin.generated.high >= LOST * basin.reference.low for basin in basins]))
    return Estimate(seen, 0.5 * (high - low), min(low, seen), max(high, seen), float("nan"), len(basins))


def _hands(
    quantities: Quantities, count_a: Tally, count_b: Tally, a: Side, b: Side
) -> tuple[tuple[str, Estimate, Estimate], ...]:
    """Share of frames whose chiral centres have the hand that is rarer in the reference."""
    found = []
    for i in quantities.chiral:
        half = quantities.axes[i].bins // 2
        negative = count_b.all(i)[:, :half].sum() > 0.5 * count_b.all(i).sum()
        other = slice(half, 2 * half) if negative else slice(0, half)
        shares = [
            population_of(h[:, other].sum(1), h.sum(1), frames=s.frames, trials=s.trials)
            for h, s in ((count_a.all(i), a), (count_b.all(i), b))
        ]
        found.append((quantities.freedoms[i].name, shares[0], shares[1]))
    return tuple(found)


def _forward(b: Side, seed: int) -> Estimate | None:
    """From a simulation whose frames carry the density of the generator."""
    if not b.simulated or b.ensemble.log_p is None or b.ensemble.log_q is None:
        return None
    log_w = b.log_w()
    return forward_effective_sample_size(log_w, seed=seed) if np.isfinite(log_w).all() else None


def _energies(quantities: Quantities, a: Side, b: Side, seed: int) -> EnergyMoments | None:
    for i, freedom in enumerate(quantities.freedoms):
        if freedom.kind == "energy":
            (mean_a, std_a), (mean_b, std_b) = (s.moments(i, limit=quantities.axes[i].high, seed=seed) for s in (a, b))
            return EnergyMoments(mean_a, mean_b, std_a, std_b)
    return None


def _copies(quantities: Quantities, a: Side, count_b: Tally) -> Estimate | None:
    if not quantities.fingerprint:
        return None
    prints = quantities.fingerprints(a.values)
    same = np.isin(prints, np.array(sorted(count_b.copies), dtype=np.uint64)).astype(float)
    return population_of(*_in_groups(same), frames=len(same), trials=float(len(same)))


def _in_groups(flags: ndarray, groups: int = 64) -> tuple[ndarray, ndarray]:
    label = np.arange(len(flags)) % min(groups, len(flags))
    return np.bincount(label, weights=flags), np.bincount(label).astype(float)
