"""Low-dimensional views: PCA, TICA, UMAP; fitted on one ensemble, applied to any other of the molecule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.analysis.bands import Band, band
from molifold.analysis.clusters import temperature_of
from molifold.analysis.features import Features, features, subsample
from molifold.analysis.free_energy import blocks_of
from molifold.analysis.histograms import frame_weights
from molifold.analysis.time_order import time_order
from molifold.analysis.uncertainty import independent_blocks, trajectory_blocks
from molifold.ensemble import Ensemble

#: Frames that UMAP is fitted on.
LIMIT = 5_000


@dataclass(frozen=True)
class Projection:
    """A map from conformations to a few coordinates, fitted once; called with an ensemble: [frames, dimensions].

    ``strength`` says what every coordinate carries: its share of the variance (PCA), its timescale in ``unit`` (TICA,
    infinite where it does not decay); None for UMAP, whose distances mean little beyond neighbourhoods.
    """

    method: str
    of: Features
    dimensions: int
    strength: Band | None
    unit: str
    transform: Callable[[ndarray], ndarray]
    n: int
    fitted: int
    ess: float
    temperature: float

    def __call__(self, ensemble: Ensemble) -> Float[ndarray, "frames dimensions"]:
        """Coordinates of an ensemble of the same molecule."""
        return self.transform(self.of(ensemble))

    def assign(self, ensemble: Ensemble) -> Ensemble:
        """The ensemble with the coordinates as columns ``pca_1``, ``pca_2``, ... (``tica_1``, ``umap_1``)."""
        values = self(ensemble)
        return ensemble.assign(**{f"{self.method}_{i + 1}": values[:, i] for i in range(self.dimensions)})

    def __repr__(self) -> str:
        strength = "" if self.strength is None else f", {self.strength!r} {self.unit}".rstrip()
        return f"Projection({self.method} of {self.of!r}: {self.dimensions} coordinates{strength}; {self.n} frames)"


@dataclass(frozen=True)
class Linear:
    """``(values - mean) @ directions``."""

    mean: Float[ndarray, " features"]
    directions: Float[ndarray, "features dimensions"]

    def __call__(self, values: Float[ndarray, "frames features"]) -> Float[ndarray, "frames dimensions"]:
        """Coordinates of vectors."""
        return (values - self.mean) @ self.directions


def pca(
    ensemble: Ensemble,
    *,
    of: str | Sequence[str] | Features = "torsions",
    dimensions: int = 2,
    log_w: Float[ndarray, " frames"] | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> Projection:
    """Principal components of features; ``strength`` is the share of the variance, with errors from blocks.

    Args:
        ensemble: conformations.
        of: features (see ``features``).
        dimensions: components.
        log_w: log importance weights.
        repeats: bootstrap replicates over blocks of trajectories or draws.
        seed: of the bootstrap.

    Raises:
        ValueError: if there are fewer features than components, or weights are bad.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=(5000, 3)) * [2.0, 1.0, 1.0]
    >>> e = Ensemble(Molecule(elements=("X",)), np.zeros((5000, 1, 3)), log_q=np.zeros(5000), columns={"v": x})
    >>> pca(e, of=["v"]).strength
    [0.67... +- 0.005..., 0.16... +- 0.003...]
    """
    rule = of if isinstance(of, Features) else features(ensemble, of)
    values, w = rule(ensemble), frame_weights(log_w, len(ensemble))
    _enough(dimensions, values)
    mean = w @ values / w.sum()
    centred = values - mean
    label = _blocks(ensemble)
    blocks, size = int(label.max()) + 1, values.shape[1]
    order = np.argsort(label, kind="stable")
    edges = np.searchsorted(label[order], np.arange(blocks + 1))
    parts = (order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True))
    moments = np.stack([(centred[i] * w[i, None]).T @ centred[i] for i in parts]).reshape(blocks, -1)
    total = moments.sum(0).reshape(size, size) / w.sum()
    power, directions = np.linalg.eigh(total)
    chosen = np.argsort(-power)[:dimensions]
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), repeats)
    spectra = np.linalg.eigvalsh((drawn @ moments).reshape(repeats, size, size))[:, ::-1]
    share = (spectra / spectra.sum(1, keepdims=True))[:, :dimensions]
    return Projection(
        method="pca",
        of=rule,
        dimensions=dimensions,
        strength=band(power[chosen] / power.sum(), share, blocks=blocks),
        unit="",
        transform=Linear(mean, _signed(directions[:, chosen])),
        n=len(ensemble),
        fitted=len(ensemble),
        ess=float(w.sum() ** 2 / (w * w).sum()),
        temperature=temperature_of(ensemble),
    )


def tica(
    ensemble: Ensemble,
    lag: int,
    *,
    of: str | Sequence[str] | Features = "torsions",
    dimensions: int = 2,
    repeats: int = 50,
    seed: int = 0,
) -> Projection:
    """Time-lagged independent components: the slowest linear coordinates; ``strength`` is their timescales.

    Args:
        ensemble: with columns ``trajectory`` and, for times in ps, ``time``.
        lag: in frames.
        of: features (see ``features``).
        dimensions: components.
        repeats: bootstrap replicates over blocks of trajectories.
        seed: of the bootstrap.

    Raises:
        ValueError: if the frames are in no order of time, or there are fewer features than components.

    Reference: G. Perez-Hernandez et al., J. Chem. Phys. 139, 015102 (2013); C. Schwantes, V. Pande, J. Chem. Theory
    Comput. 9, 2000 (2013). The same numbers as deeptime's TICA.
    """
    order = time_order(ensemble)
    rule = of if isinstance(of, Features) else features(ensemble, of)
    values = rule(ensemble)[order.order]
    _enough(dimensions, values)
    start = order.starts(lag)
    first, second = values[start], values[start + lag]
    mean = 0.5 * (first.mean(0) + second.mean(0))
    first, second = first - mean, second - mean
    size = values.shape[1]
    block = order.block[start]
    moments = np.zeros((order.blocks, 2, size, size))
    for b in range(order.blocks):
        x, y = first[block == b], second[block == b]
        moments[b] = 0.5 * (x.T @ x + y.T @ y), 0.5 * (x.T @ y + y.T @ x)
    drawn = np.random.default_rng(seed).multinomial(order.blocks, np.full(order.blocks, 1 / order.blocks), repeats)
    eigenvalues, directions = _slowest(moments.sum(0), dimensions)
    replicates = [_slowest(np.tensordot(c.astype(float), moments, axes=1), dimensions)[0] for c in drawn]

    def timescale(value: ndarray) -> ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(
                (value > 0) & (value < 1), -lag * order.step / np.log(value), np.where(value >= 1, np.inf, 0.0)
            )

    return Projection(
        method="tica",
        of=rule,
        dimensions=dimensions,
        strength=band(timescale(eigenvalues), timescale(np.array(replicates)), blocks=order.blocks, log=True),
        unit=order.unit,
        transform=Linear(mean, _signed(directions)),
        n=len(ensemble),
        fitted=len(start),
        ess=float(len(ensemble)),
        temperature=temperature_of(ensemble),
    )


def _slowest(moments: ndarray, dimensions: int, *, epsilon: float = 1e-6) -> tuple[ndarray, ndarray]:
    """Generalised eigenvectors of (lagged, instant) in the space where the instant covariance is not singular."""
    instant, lagged = moments
    power, axes = np.linalg.eigh(instant)
    kept = power > epsilon * power.max()
    whiten = axes[:, kept] / np.sqrt(power[kept])
    values, vectors = np.linalg.eigh(whiten.T @ lagged @ whiten)
    chosen = np.argsort(-values)[:dimensions]
    found = np.zeros(dimensions)
    found[: len(chosen)] = values[chosen]
    directions = np.zeros((len(instant), dimensions))
    directions[:, : len(chosen)] = (whiten @ vectors)[:, chosen] * np.sqrt(_mass(instant))
    return found, directions


def _mass(instant: ndarray) -> float:
    return 1.0 if not np.trace(instant) > 0 else float(np.trace(instant)) / len(instant)


def umap(
    ensemble: Ensemble,
    *,
    of: str | Sequence[str] | Features = "torsions",
    dimensions: int = 2,
    neighbours: int = 15,
    limit: int = LIMIT,
    seed: int = 0,
) -> Projection:
    """UMAP of features, with a seed (one thread: the same picture every time).

    Args:
        ensemble: conformations.
        of: features (see ``features``).
        dimensions: coordinates.
        neighbours: of the graph; more shows coarser structure.
        limit: frames that it is fitted on, chosen at random; the others are placed among them.
        seed: of everything random.

    Raises:
        ValueError: if there are too few frames.

    Reference: L. McInnes, J. Healy, J. Melville, arXiv:1802.03426.
    """
    import warnings

    from umap import UMAP

    rule = of if isinstance(of, Features) else features(ensemble, of)
    chosen = subsample(len(ensemble), limit, seed=seed)
    if len(chosen) <= max(neighbours, dimensions + 1):
        raise ValueError(f"ensemble: got {len(chosen)} frames, expected more than {neighbours} (neighbours)")
    fit = UMAP(n_neighbors=neighbours, n_components=dimensions, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit.fit(rule(ensemble[chosen]))
    return Projection(
        method="umap", of=rule, dimensions=dimensions, strength=None, unit="", transform=fit.transform,
        n=len(ensemble), fitted=len(chosen), ess=float(len(ensemble)), temperature=temperature_of(ensemble),
    )  # fmt: skip


def _enough(dimensions: int, values: ndarray) -> None:
    if not 1 <= dimensions <= values.shape[1]:
        raise ValueError(f"dimensions: got {dimensions}, expected 1 to {values.shape[1]} (features)")


def _blocks(ensemble: Ensemble) -> ndarray:
    dependence = blocks_of(ensemble)
    if dependence["correlated"]:
        return trajectory_blocks(len(ensemble), trajectory=dependence["trajectory"])
    return independent_blocks(len(ensemble)) % 64


def _signed(directions: ndarray) -> ndarray:
    """The largest entry of every direction positive, so that a map does not flip from one fit to the next."""
    largest = np.abs(directions).argmax(axis=0)
    sign = np.sign(directions[largest, np.arange(directions.shape[1])])
    return directions * np.where(sign == 0, 1, sign)
