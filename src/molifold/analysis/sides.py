"""One side of a comparison: its weights, its blocks, and the frames that are looked at more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.analysis.columns import CHUNK, ramachandran_pairs
from molifold.analysis.energies import energy_of
from molifold.analysis.freedom import DegreeOfFreedom, degrees_of_freedom
from molifold.analysis.histograms import Axis
from molifold.analysis.tally import FINGERPRINT, Plan, Quantities
from molifold.analysis.torsions import named_torsions, turns_hydrogens_only
from molifold.analysis.uncertainty import CORRELATED, Estimate, estimate_of_sums, trajectory_blocks
from molifold.ensemble import Ensemble

#: Frames, spread evenly over an ensemble, for what needs single frames: optimal transport, RMSD, copies.
SAMPLE = 8192
#: Runs in time, and frames of each, from which axes, autocorrelation and slow coordinates come.
RUNS, LENGTH = 16, 4096
#: Weights that are dealt to the reference, and weights that effective sample sizes are computed from, at most.
DEALT, WEIGHTS = 65_536, 5_000_000


@dataclass(frozen=True)
class About:
    """What an ensemble of a comparison is: frames, those not finite, and how they depend on each other.

    ``ess`` is Kish's effective sample size of the weights (the number of frames without weights); correlation in time
    is not in it.
    """

    name: str
    frames: int
    broken: int
    simulated: bool
    weighted: bool
    ess: float


@dataclass(frozen=True)
class Side:
    """An ensemble, ready to be counted (see ``side``)."""

    name: str
    ensemble: Ensemble
    quantities: Quantities
    simulated: bool
    weighted: bool
    top: float
    ess_fraction: float
    index: Int[ndarray, " sample"]
    values: Float[ndarray, "quantities sample"]
    series: tuple[Float[ndarray, "quantities frames"], ...] = field(default=())

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.ensemble)

    @property
    def blocks(self) -> int:
        """Blocks that errors come from."""
        return CORRELATED if self.name == "generated" else 2 * CORRELATED

    @property
    def trials(self) -> float:
        """Independent frames that a region without any frame is worth: blocks of a simulation, or the ESS of draws."""
        return float(self.blocks) if self.simulated else self.ess_fraction * self.frames

    def about(self, broken: int) -> About:
        """What is kept of it in a result."""
        return About(self.name, self.frames, broken, self.simulated, self.weighted, self.ess_fraction * self.frames)

    def plan(self, kept: int) -> Plan:
        """Blocks, and which frames are compared."""
        return Plan.of(self.ensemble, blocks=self.blocks, kept=kept)

    def weigh(self, where: slice) -> Float[ndarray, " frames"]:
        """Weights of a slice, the largest of all 1."""
        part = self.ensemble[where]
        return np.exp(log_weights(part) - self.top) if self.weighted else np.ones(len(part))

    def log_w(self) -> Float[ndarray, " frames"]:
        """Log weights of at most ``WEIGHTS`` frames, spread evenly; NaN and +inf count as weight zero."""
        return log_weights(self.ensemble[:: -(-self.frames // WEIGHTS)])

    def some_weights(self) -> Float[ndarray, " weights"]:
        """Weights to deal to the reference; none is zero, so that every half of it has a histogram."""
        stride = -(-self.frames // DEALT)
        return np.maximum(np.exp(log_weights(self.ensemble[::stride]) - self.top), 1e-30)

    @cached_property
    def sample_weights(self) -> Float[ndarray, " sample"]:
        """Weights of the sample; broken frames weigh nothing."""
        w = np.exp(log_weights(self.ensemble[self.index]) - self.top) if self.weighted else np.ones(len(self.index))
        return np.where(np.isfinite(self.values).all(0), w, 0.0)

    @cached_property
    def sample_blocks(self) -> Int[ndarray, " sample"]:
        """Block of every frame of the sample."""
        column = self.ensemble.columns.get("trajectory")
        chosen = None if column is None else np.asarray(column[self.index])
        return trajectory_blocks(len(self.index), trajectory=chosen, blocks=self.blocks)

    def series_of(self, quantity: int) -> list[Float[ndarray, "frames features"]]:
        """Runs of one quantity in time; cosine and sine of an angle that wraps."""
        return [self._vector(run[quantity], quantity) for run in self.series]

    def features(self, quantity: int) -> Float[ndarray, "frames features"]:
        """One quantity of the sample, likewise; broken frames left out."""
        return self._vector(self.values[quantity, self.sample_weights > 0], quantity)

    def _vector(self, row: ndarray, quantity: int) -> ndarray:
        return np.stack([np.cos(row), np.sin(row)], 1) if self.quantities.axes[quantity].circle else row[:, None]

    def moments(self, quantity: int, *, limit: float, seed: int = 0) -> tuple[Estimate, Estimate]:
        """Weighted mean and standard deviation of a quantity over the sample, values above ``limit`` cut to it."""
        w = self.sample_weights
        v = np.minimum(np.where(w > 0, self.values[quantity], 0.0), limit)
        origin = float((w * v).sum() / w.sum())
        columns = (w, w * (v - origin), w * (v - origin) ** 2)
        sums = np.stack([np.bincount(self.sample_blocks, weights=c) for c in columns], 1)
        sums = sums[sums[:, 0] > 0]
        mean = estimate_of_sums(sums, lambda s: origin + s[..., 1] / s[..., 0], frames=len(v), seed=seed)
        spread = estimate_of_sums(
            sums, lambda s: np.sqrt(np.maximum(s[..., 2] / s[..., 0] - (s[..., 1] / s[..., 0]) ** 2, 0)),
            frames=len(v), seed=seed,
        )  # fmt: skip
        return mean, spread


def log_weights(ensemble: Ensemble) -> Float[ndarray, " frames"]:
    """``log_p - log_q`` with NaN and +inf as -inf: broken frames weigh nothing.

    >>> from molifold import Molecule
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((2, 1, 3)), log_p=np.array([1.0, np.nan]), log_q=np.zeros(2))
    >>> log_weights(e)
    array([  1., -inf])
    """
    log_w = ensemble.log_w
    return np.where(np.isnan(log_w) | np.isposinf(log_w), -np.inf, log_w)


def simulated(ensemble: Ensemble) -> bool:
    """Whether frames are correlated: they have a ``trajectory``, or no density of a generator that drew them.

    >>> from molifold import Molecule
    >>> simulated(Ensemble(Molecule(elements=("X",)), np.zeros((2, 1, 3))))
    True
    """
    return "trajectory" in ensemble.columns or ensemble.log_q is None


def side(
    ensemble: Ensemble, quantities: Quantities, *, weighted: bool, name: str, series: Sequence[ndarray] = ()
) -> Side:
    """Look at the weights, in pieces, and measure a sample.

    Raises:
        ValueError: if all weights are zero.

    >>> from molifold import Molecule
    >>> butane = Molecule.from_smiles("CCCC")
    >>> e = Ensemble(butane, np.random.default_rng(0).normal(size=(100, 14, 3)))
    >>> quantities, _ = quantities_of(e, e)
    >>> side(e, quantities, weighted=True, name="generated").about(0)
    About(name='generated', frames=100, broken=0, simulated=True, weighted=False, ess=100.0)
    """
    time = simulated(ensemble)
    weigh = weighted and not time and ensemble.log_p is not None
    top, fraction = _look_at_weights(ensemble, name) if weigh else (0.0, 1.0)
    index = np.unique(np.linspace(0, len(ensemble) - 1, min(SAMPLE, len(ensemble))).astype(np.int64))
    part = ensemble[index]
    has_energy = any(f.kind == "energy" for f in quantities.freedoms)
    values = quantities.values(np.asarray(part.x), energy=energy_of(part) if has_energy else None)
    return Side(name, ensemble, quantities, time, weigh, top, fraction, index, values, tuple(series))


def _look_at_weights(ensemble: Ensemble, name: str) -> tuple[float, float]:
    """Largest log weight and Kish's effective fraction, chunk by chunk."""
    parts = [slice(start, start + CHUNK) for start in range(0, len(ensemble), CHUNK)]
    top = max(float(log_weights(ensemble[part]).max()) for part in parts)
    if top == -np.inf:
        raise ValueError(f"{name}: all {len(ensemble)} frames have weight zero (log_p is -inf or NaN)")
    total = square = 0.0
    for part in parts:
        w = np.exp(log_weights(ensemble[part]) - top)
        total, square = total + w.sum(), square + (w * w).sum()
    return top, float(total**2 / square / len(ensemble))


def quantities_of(
    generated: Ensemble, reference: Ensemble, *, distances: tuple[tuple[int, int], ...] = ()
) -> tuple[Quantities, tuple[Float[ndarray, "quantities frames"], ...]]:
    """What is counted, and its runs in time in the reference.

    Axes come from those runs. Energies are counted if both ensembles have them.

    >>> from molifold import Molecule
    >>> butane = Molecule.from_smiles("CCCC")
    >>> e = Ensemble(butane, np.random.default_rng(0).normal(size=(100, 14, 3)))
    >>> len(quantities_of(e, e)[0].freedoms)
    65
    """
    molecule = reference.molecule
    freedoms = list(degrees_of_freedom(molecule, distances=distances))
    if not missing_energy(generated) and not missing_energy(reference):
        freedoms.append(DegreeOfFreedom("energy", "energy", (), "real", "kT"))
    bare = Quantities(molecule, tuple(freedoms), ())
    has_energy = freedoms[-1].kind == "energy"
    series = [bare.values(np.asarray(run.x), energy=energy_of(run) if has_energy else None) for run in _runs(reference)]
    whole = np.concatenate(series, axis=1)
    axes = tuple(
        Axis.around(row, name=f.name, support=f.support, unit=f.unit) for f, row in zip(freedoms, whole, strict=True)
    )
    place = {f.name: i for i, f in enumerate(freedoms)}
    pilot = reference[np.unique(np.linspace(0, len(reference) - 1, min(SAMPLE, len(reference))).astype(np.int64))]
    pairs = tuple((place[p], place[q]) for p, q in ramachandran_pairs(pilot))
    moving = [i for i, f in enumerate(freedoms) if f.kind in ("torsion", "angle") and np.nanstd(whole[i]) > 0.01]
    # Spread over the molecule: neighbours in the list share atoms.
    chosen = moving[:: max(len(moving) // FINGERPRINT, 1)][:FINGERPRINT]
    return Quantities(molecule, tuple(freedoms), axes, pairs, tuple(chosen)), tuple(series)


def missing_energy(ensemble: Ensemble) -> str:
    """Why an ensemble has no reduced energies; empty if it has.

    >>> from molifold import Molecule
    >>> atom = Molecule(elements=("X",))
    >>> missing_energy(Ensemble(atom, np.zeros((1, 1, 3)), columns={"energy": np.zeros(1)}))
    'has energies but no temperature'
    """
    if ensemble.log_p is not None or {"energy", "temperature"} <= ensemble.columns.keys():
        return ""
    return "has energies but no temperature" if "energy" in ensemble.columns else "has no energies"


def _runs(ensemble: Ensemble) -> list[Ensemble]:
    """Stretches in time of single trajectories, spread over the ensemble."""
    n, column = len(ensemble), ensemble.columns.get("trajectory")
    length = min(LENGTH, n)
    count = min(RUNS, max(n // length, 1))
    starts = np.linspace(0, n - length, count).astype(np.int64)
    found = []
    for start in starts:
        part = ensemble[int(start) : int(start) + length]
        if column is None:
            found.append(part)
            continue
        label = np.asarray(part.columns["trajectory"])
        found += [part[np.flatnonzero(label == name)] for name in np.unique(label)]
    return found


def slow_torsions(quantities: Quantities) -> list[int]:
    """One torsion of every rotatable bond that turns more than hydrogens (all of them if there is no such bond).

    >>> from molifold import Molecule
    >>> butane = Molecule.from_smiles("CCCC")
    >>> e = Ensemble(butane, np.random.default_rng(0).normal(size=(100, 14, 3)))
    >>> slow_torsions(quantities_of(e, e)[0])
    [1]
    """
    molecule = quantities.molecule
    known = named_torsions(molecule)
    rows = [i for i, f in enumerate(quantities.freedoms) if f.name in known]
    heavy = [i for i in rows if not turns_hydrogens_only(molecule, known[quantities.freedoms[i].name])]
    return heavy or rows
