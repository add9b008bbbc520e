"""How to read each panel: what it shows, what healthy looks like, what to do otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from molifold.plots import Picture


class Help(NamedTuple):
    """Three answers that stand under a picture."""

    shows: str
    healthy: str
    otherwise: str

    def of(self, name: str) -> Help:
        """The same with ``{name}`` filled in.

        >>> Help("Along {name}.", "", "").of("φ").shows
        'Along φ.'
        """
        return Help(*(text.replace("{name}", name) for text in self))


@dataclass(frozen=True)
class Panel:
    """A picture, how to read it, and a table under it whose first row is the head; ``key`` names its file."""

    key: str
    title: str
    picture: Picture
    help: Help
    rows: tuple[tuple[str, ...], ...] = ()


MAP = Help(
    shows=(
        "−log of the density of two torsions in 64 × 64 bins, in kT; lines at every second kT. Raw draws "
        "count once each, reweighted ones by their importance weight. ESS is the number of independent frames "
        "that they are worth. In the table, a half of the reference, with the same weights, takes the place "
        "of the draws to give the floor."
    ),
    healthy=(
        "The reweighted map has the basins of the reference, at the same depth, and its divergence is near "
        "the floor. The raw map may differ by a kT in barriers."
    ),
    otherwise=(
        "A basin that is missing from the raw map cannot be reweighted back: train on data that visit it. "
        "Speckles in the reweighted map are few heavy frames: see the weights. A floor far above that of "
        "independent frames: simulate longer."
    ),
)

REGION = Help(
    shows=(
        "Left: −log p along {name}, with bands of 95 %. Right: free energy of 0° < {name} < 150° against all "
        "the rest, with 95 % intervals (bootstrap over draws; over trajectories for the reference)."
    ),
    healthy="The reweighted interval overlaps that of the reference, and is not wider than you need.",
    otherwise=(
        "A wide reference: simulate longer. A wide reweighted one: draw more. Intervals apart while both are "
        "narrow: another force field or temperature, or a reference that has not converged."
    ),
)

RIDGE = Help(
    shows=(
        "Every torsion in a row, the one that differs most from the reference at the top. Right: its divergence with "
        "95 % interval; the grey bar ends at what a perfect model exceeds once in twenty times."
    ),
    healthy="Points inside the grey bars.",
    otherwise="Points far to the right of their bars: begin with the torsion at the top.",
)

TORSIONS = Help(
    shows=(
        "Density of every rotatable torsion. JSD is the Jensen–Shannon divergence from the reference in "
        "thousandths of a bit; the floor is that between halves of the reference, one of them with the same "
        "weights."
    ),
    healthy="Reweighted values near the floor. Raw ones may be several times as large.",
    otherwise=(
        "Far above the floor after reweighting: the weights (below) do not carry it, or the two ensembles are "
        "of different systems. One torsion alone: that part of the generator is too weak; look at its "
        "neighbours in the graph."
    ),
)

ENERGIES = Help(
    shows=(
        "Histograms of the reduced energy U / kT, linear and logarithmic. 1 − overlap is the total variation "
        "from the reference."
    ),
    healthy="Reweighted lies on the reference. Raw is shifted up by a few kT at most, with a short tail.",
    otherwise=(
        "A raw histogram far to the right has strained bonds or clashes: train longer, or add reverse KL. A "
        "reweighted one that is off although the effective sample size is high: draws and reference were not "
        "given the same energy function."
    ),
)

WEIGHTS = Help(
    shows=(
        "How log weights spread, how the effective fraction changes as draws are added, and the Pareto shape "
        "k of the heaviest weights."
    ),
    healthy="Share of weight close to share of draws; a fraction that stays level; k below 0.5.",
    otherwise=(
        "A fraction that drops in steps, or k above 0.7: rare frames carry the average. Draw more, or improve "
        "the generator where the heavy frames are. None of this can see a basin that is never drawn."
    ),
)

TRAINING = Help(
    shows="What was logged, over optimiser steps: means over equal runs of steps, with their range as a band.",
    healthy="Losses fall and level out; validation stays with training; the gradient norm is steady.",
    otherwise=(
        "Validation turns up: too large a network or too few frames; stop there or simulate more. Spikes: "
        "lower the learning rate, or look for bad batches among the events. Still falling at the end: train "
        "longer."
    ),
)

MODULES = Help(
    shows=(
        "Every module of the network with the shapes of its parameters, their gradient (root mean square) and the "
        "median size of an update over its tensor as probes recorded them last, and what molifold diagnose says of the "
        "layer. A branch shows the worst that is in it."
    ),
    healthy=(
        "Gradients within two or three powers of ten of each other, updates near 1e-3 at the full learning rate, no "
        "verdict but sound."
    ),
    otherwise=(
        "An under-powered layer needs new units (molifold grow) or the source that it misses; an under-trained one "
        "needs more steps. “where” shows the atoms in 3D, and the frames on the map, at which that layer fails."
    ),
)

HEALTH = Help(
    shows=(
        "Layers, the first at the top, over the steps of the training: the median over the tensors of each, by powers "
        "of ten where values span more than a factor of 30."
    ),
    healthy="Even colours that change slowly.",
    otherwise=(
        "A dark row gets no signal; a bright one dominates the clipping; a column in which all rows change is an "
        "event: see the page Training at that step."
    ),
)

EVOLUTION = Help(
    shows=(
        "The same picture of raw draws at up to eight steps of the training, on the same axes. A step has few draws, "
        "so each is coarser than that of the final draws."
    ),
    healthy="The last steps look alike, and like the reference.",
    otherwise=(
        "Still changing at the end: train longer. A basin that comes and goes: lower the learning rate. One that never "
        "comes: the data do not visit it, or the flow cannot make it."
    ),
)

COMPARISON = Help(
    shows=(
        "Every number of the comparison of draws (weighted, if they have weights) with the reference: most relevant "
        "degrees of freedom first, then maps with their basins, distances of whole ensembles, energies."
    ),
    healthy="Green spots: within noise.",
    otherwise="Red spots differ for certain; the verdict above names them. Orange ones are at the edge of noise.",
)

SURFACE = Help(
    shows="Free energy by kernel density, with contours every kT where it is known to half a kT, and its error.",
    healthy="Small errors in all basins and on the way between them.",
    otherwise="Errors above half a kT at a saddle: barriers are guesses; draw or simulate more there.",
)

CLUSTERS = Help(
    shows=(
        "The medoid of every cluster of torsions with ten members behind it. Stability is the overlap with the same "
        "cluster found in half of the data; silhouette is how far clusters are apart."
    ),
    healthy="Stability above 0.85; bundles that are tight.",
    otherwise="Stability below 0.6: the cluster is an accident of the sample. Wide bundles: more clusters are in it.",
)

TIMESCALES = Help(
    shows="Implied timescales of a Markov model of fine clusters, by lag time, with 95 % bands.",
    healthy="Flat from some lag on: the model has no memory there.",
    otherwise="Still growing: longer trajectories, or more clusters along the slow coordinate.",
)

CHAPMAN_KOLMOGOROV = Help(
    shows="Probability to be in the same metastable state after some time: predicted by the model, and estimated.",
    healthy="Points on the line, within the band.",
    otherwise="Points off the line: take a longer lag, or another number of states.",
)

STATES = Help(
    shows="Metastable states (PCCA+): their medoids and members, with stationary shares.",
    healthy="States that differ by what you would name them by, such as a basin of two torsions.",
    otherwise="States that look alike: fewer of them would do.",
)

NETWORK = Help(
    shows="States with stationary weights, and mean first-passage times between them.",
    healthy="Times much shorter than the trajectories: the passage was seen often.",
    otherwise="Times with errors as large as themselves: simulate longer.",
)
