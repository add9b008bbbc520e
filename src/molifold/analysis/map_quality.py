"""How much of a conformation a map keeps, without any labels; and the maps that everybody compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from molifold.analysis.columns import measure
from molifold.analysis.torsions import named_torsions
from molifold.analysis.uncertainty import Estimate
from molifold.ensemble import Ensemble

#: Neighbours that overlap and trustworthiness look at.
NEIGHBOURS = 30
#: Frames of one subset, and how many disjoint ones: their scatter is the error, and ranks take time squared.
SUBSET, SUBSETS = 1000, 5
#: Frames that the autoencoder among the rivals is fitted to.
FITTED = 20_000


@dataclass(frozen=True)
class MapQuality:
    """Label-free quality of a map against a full description of the same frames.

    ``imbalance`` is the information imbalance map -> description: 0 if neighbours on the map are neighbours in truth,
    1 if the map says nothing. ``overlap`` is the share of true neighbours that are neighbours on the map, beside
    ``chance``. ``trustworthiness`` is 1 if no stranger is a neighbour on the map.
    """

    imbalance: Estimate
    overlap: Estimate
    trustworthiness: Estimate
    chance: float

    def __repr__(self) -> str:
        return (
            f"information imbalance {self.imbalance!r}; neighbourhood overlap {self.overlap!r} (chance "
            f"{self.chance:.3f}); trustworthiness {self.trustworthiness!r}"
        )


def map_quality(
    z: Float[ndarray, "frames latents"],
    description: Float[ndarray, "frames features"],
    *,
    circular: Bool[ndarray, " latents"] | None = None,
    seed: int = 0,
) -> MapQuality:
    """Information imbalance, neighbourhood overlap and trustworthiness of a map.

    Every figure is the mean over up to 5 disjoint random subsets of up to 1000 frames; ranks depend on how many frames
    there are, so maps are compared on the same frames and seed.

    Args:
        z: coordinates on the map.
        description: what the map leaves out, for example ``torsion_waves(ensemble)``.
        circular: latents that are angles.
        seed: of the subsets.

    Raises:
        ValueError: if the numbers of frames differ, or there are fewer than 200.

    Reference: Glielmo et al. (2022), doi:10.1093/pnasnexus/pgac039; Venna and Kaski (2001),
    doi:10.1007/3-540-44668-0_68.
    """
    from sklearn.manifold import trustworthiness

    n = len(z)
    if len(description) != n or n < 200:
        raise ValueError(f"z: got {n} frames with {len(description)} described, expected 200 or more of both")
    size = min(SUBSET, n // 2)
    order = np.random.default_rng(seed).permutation(n)
    subsets = [order[i * size : (i + 1) * size] for i in range(min(SUBSETS, n // size))]
    flat = waves(z, circular)
    rows = [
        (
            information_imbalance(flat[s], description[s]),
            neighbourhood_overlap(flat[s], description[s]),
            trustworthiness(description[s], flat[s], n_neighbors=NEIGHBOURS),
        )
        for s in subsets
    ]
    imbalance, overlap, trust = (scattered(column) for column in zip(*rows, strict=True))
    return MapQuality(imbalance, overlap, trust, chance=NEIGHBOURS / (size - 1))


def scattered(values: Sequence[float], *, value: float | None = None) -> Estimate:
    """The mean of independent repetitions (or a ``value`` of all data) with the error that their scatter gives.

    >>> scattered([1.0, 2.0, 3.0])
    2.00 +- 0.58 (95 %: 0.87 to 3.13)
    """
    center = float(np.mean(values)) if value is None else value
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Estimate(center, error, center - 1.96 * error, center + 1.96 * error, error, len(values))


def information_imbalance(
    a: Float[ndarray, "frames features"], b: Float[ndarray, "frames others"], *, neighbours: int = 1
) -> float:
    """Information imbalance a -> b: 2/N times the mean rank in b of the nearest neighbours in a.

    Near 0 if distances in a predict those in b, near 1 if they say nothing.

    Reference: Glielmo, Zeni, Cheng, Csanyi, Laio (2022), doi:10.1093/pnasnexus/pgac039, eq. 2.

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> information_imbalance(x, x), round(information_imbalance(x[:, :1], x[:, 1:]), 1)
    (0.004, 1.0)
    """
    n = len(a)
    nearest = _order(a)[:, :neighbours]
    ranks = np.empty((n, n), dtype=np.int32)
    np.put_along_axis(ranks, _order(b), np.arange(1, n)[None].repeat(n, 0), axis=1)
    return float(2 / n * np.take_along_axis(ranks, nearest, axis=1).mean())


def neighbourhood_overlap(
    a: Float[ndarray, "frames features"], b: Float[ndarray, "frames others"], *, neighbours: int = NEIGHBOURS
) -> float:
    """Mean share of the nearest neighbours in a that are nearest neighbours in b too; chance is k / (N - 1).

    Reference: Doimo et al. (2020), arXiv 2007.03506.

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> neighbourhood_overlap(x, 2 * x)
    1.0
    """
    first, second = _order(a)[:, :neighbours], _order(b)[:, :neighbours]
    shared = [len(np.intersect1d(p, q, assume_unique=True)) for p, q in zip(first, second, strict=True)]
    return float(np.mean(shared) / neighbours)


def torsion_waves(ensemble: Ensemble) -> Float[ndarray, "frames features"]:
    """Cosines and sines of every rotatable torsion that turns more than hydrogens: the usual description.

    >>> from molifold import Molecule
    >>> x = np.random.default_rng(0).normal(size=(5, 22, 3))
    >>> torsion_waves(Ensemble(Molecule.from_sequence("A"), x)).shape
    (5, 8)
    """
    known = named_torsions(ensemble.molecule)
    elements = ensemble.molecule.elements
    names = [n for n, (a, _, _, d) in known.items() if "H" not in (elements[a], elements[d])] or list(known)
    columns = measure(ensemble, names=names).columns
    angles = np.stack([columns[name] for name in names], axis=1).astype(float)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def waves(
    z: Float[ndarray, "frames latents"], circular: Bool[ndarray, " latents"] | None = None
) -> Float[ndarray, "frames features"]:
    """Real latents as they are, circular ones as cosine and sine."""
    z = np.asarray(z, dtype=float)
    if circular is None or not np.any(circular):
        return z
    circular = np.asarray(circular)
    return np.concatenate([z[:, ~circular], np.cos(z[:, circular]), np.sin(z[:, circular])], axis=1)


def rival_maps(
    description: Float[ndarray, "frames features"],
    *,
    dimensions: int,
    pairs: tuple[Int[ndarray, " pairs"], Int[ndarray, " pairs"]],
    seed: int = 0,
) -> Mapping[str, Float[ndarray, "frames dimensions"]]:
    """PCA, TICA and an MLP autoencoder (bottleneck of tanh units) of the same features.

    Args:
        description: features, for example ``torsion_waves``.
        dimensions: of the maps.
        pairs: frames a lag apart (``Ensemble.pairs``), for TICA.
        seed: of the autoencoder.

    Reference: TICA: Perez-Hernandez et al. (2013), doi:10.1063/1.4811489, by deeptime; PCA and MLP by scikit-learn.
    """
    from deeptime.decomposition import TICA
    from sklearn.decomposition import PCA
    from sklearn.neural_network import MLPRegressor

    scaled = (description - description.mean(0)) / np.maximum(description.std(0), 1e-6)
    now, later = pairs
    tica = TICA(dim=dimensions).fit_fetch((description[now], description[later]))
    hidden = (64, dimensions, 64)
    network = MLPRegressor(
        hidden_layer_sizes=hidden, activation="tanh", random_state=seed, max_iter=60, early_stopping=True
    )
    fitted = scaled[:: max(1, len(scaled) // FITTED)]
    network.fit(fitted, fitted)
    bottleneck = scaled
    for weight, bias in list(zip(network.coefs_, network.intercepts_, strict=True))[:2]:
        bottleneck = np.tanh(bottleneck @ weight + bias)
    return {
        "PCA": PCA(dimensions, random_state=seed).fit_transform(description),
        "TICA": tica.transform(description),
        "MLP autoencoder": bottleneck,
    }


def _order(x: Float[ndarray, "frames features"]) -> Int[ndarray, "frames others"]:
    """All other frames, nearest first."""
    from scipy.spatial.distance import cdist

    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :-1]
