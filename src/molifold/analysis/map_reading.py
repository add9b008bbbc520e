"""What the dimensions of a map mean: which torsions and distances they follow, and which basins they separate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from molifold import geometry
from molifold.analysis.columns import measure
from molifold.analysis.map_quality import scattered, waves
from molifold.analysis.torsions import named_torsions
from molifold.analysis.uncertainty import Estimate
from molifold.ensemble import Ensemble

#: Frames are cut into this many blocks (or their trajectories) for errors.
BLOCKS = 10
#: Neighbours on the map that vote on where a frame goes next.
VOTERS = 50


@dataclass(frozen=True)
class Associations:
    """Correlation of every latent with every coordinate: ``value`` and ``error`` [latents, coordinates], 0 to 1.

    Circular where a latent or a coordinate is an angle: the largest canonical correlation of (cos, sin) with the other,
    which for two real quantities is |Pearson's r|.
    """

    latents: tuple[str, ...]
    coordinates: tuple[str, ...]
    value: Float[ndarray, "latents coordinates"]
    error: Float[ndarray, "latents coordinates"]

    def strongest(self, latent: int, *, count: int = 5) -> list[tuple[str, float, float]]:
        """Names, values and errors of the coordinates that a latent follows most."""
        order = np.argsort(-self.value[latent])[:count]
        return [(self.coordinates[i], float(self.value[latent, i]), float(self.error[latent, i])) for i in order]

    def __repr__(self) -> str:
        rows = [
            f"{name}: " + ", ".join(f"{c} {v:.2f} +- {e:.2f}" for c, v, e in self.strongest(i, count=3))
            for i, name in enumerate(self.latents)
        ]
        return "\n".join(rows)


def associations(
    z: Float[ndarray, "frames latents"], ensemble: Ensemble, *, circular: Bool[ndarray, " latents"] | None = None
) -> Associations:
    """Correlate every latent with every rotatable torsion and every distance of heavy atoms four or more bonds apart.

    Errors are the scatter over trajectories (column ``trajectory``) or 10 blocks of neighbouring frames.

    Args:
        z: coordinates on the map of the frames of ``ensemble``.
        ensemble: conformations.
        circular: latents that are angles.

    Raises:
        ValueError: if the numbers of frames differ.
    """
    if len(z) != len(ensemble):
        raise ValueError(f"z: got {len(z)} rows, expected one per frame ({len(ensemble)})")
    circular = np.zeros(z.shape[1], dtype=bool) if circular is None else np.asarray(circular)
    names = list(named_torsions(ensemble.molecule))
    columns = measure(ensemble, names=names).columns if names else {}
    pairs = _heavy_pairs(ensemble)
    distances = geometry.distances(np.asarray(ensemble.x, dtype=float), pairs)
    atoms = [f"{name}{i}" for i, name in enumerate(ensemble.molecule.elements)]
    angles = [_angle(columns[name]) for name in names]
    labels = [*names, *(f"{atoms[a]}-{atoms[b]}" for a, b in pairs)]
    latents = [
        _angle(c) if is_angle else c[:, None] for c, is_angle in zip(np.asarray(z, float).T, circular, strict=True)
    ]
    blocks = _blocks(ensemble)
    value = _canonical(latents, angles, distances)
    scatter = np.array([_canonical([a[r] for a in latents], [b[r] for b in angles], distances[r]) for r in blocks])
    return Associations(
        latents=tuple(f"z{i + 1}" for i in range(len(latents))),
        coordinates=tuple(labels),
        value=value,
        error=scatter.std(axis=0, ddof=1) / np.sqrt(len(blocks)),
    )


@dataclass(frozen=True)
class Separation:
    """How well places on the map tell which of two basins comes next: ``auc`` 0.5 for a guess, 1 for certainty.

    Of ``frames`` frames in neither basin that reach one; ``to_b`` of them reach b first.
    """

    auc: Estimate
    frames: int
    to_b: float

    def __repr__(self) -> str:
        return f"AUC {self.auc!r} of {self.frames} frames between the basins ({100 * self.to_b:.0f} % go to b)"


def committor_separation(
    z: Float[ndarray, "frames latents"],
    a: Bool[ndarray, " frames"],
    b: Bool[ndarray, " frames"],
    *,
    trajectory: ndarray,
    circular: Bool[ndarray, " latents"] | None = None,
) -> Separation:
    """Committor-like separation: predict from the place on the map which basin a frame between them reaches first.

    Every frame in neither basin is labelled by what its trajectory does next. Its probability of reaching b is the
    share of its 50 nearest neighbours on the map, taken from other trajectories (or, of one only, from its other half).
    The area under the ROC curve measures how well that orders the frames; the error is the scatter over trajectories.

    Args:
        z: coordinates on the map.
        a, b: frames that are in either basin.
        trajectory: of every frame, in order of time.
        circular: latents that are angles.

    Raises:
        ValueError: if the basins overlap, or fewer than 100 frames between them reach one.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import NearestNeighbors

    if (a & b).any():
        raise ValueError("a, b: the basins overlap; expected disjoint ones")
    ends = next_basin(a, b, trajectory=trajectory)
    between = np.flatnonzero(~a & ~b & (ends >= 0))
    if len(between) < 100:
        raise ValueError(f"a, b: only {len(between)} frames between the basins reach one, expected 100 or more")
    flat, label, group = waves(z, circular)[between], ends[between], np.asarray(trajectory)[between]
    if len(np.unique(group)) < 2:
        group = np.arange(len(between)) * 2 // len(between)
    probability, scores = np.empty(len(between)), []
    for name in np.unique(group):
        own, others = group == name, np.flatnonzero(group != name)
        search = NearestNeighbors(n_neighbors=min(VOTERS, len(others))).fit(flat[others])
        probability[own] = label[others][search.kneighbors(flat[own], return_distance=False)].mean(axis=1)
        if len(np.unique(label[own])) == 2:
            scores.append(roc_auc_score(label[own], probability[own]))
    value = float(roc_auc_score(label, probability)) if len(np.unique(label)) == 2 else float("nan")
    return Separation(scattered(scores, value=value), len(between), float(label.mean()))


def next_basin(a: Bool[ndarray, " frames"], b: Bool[ndarray, " frames"], *, trajectory: ndarray) -> ndarray:
    """For every frame: 0 if its trajectory is next in a, 1 if in b, -1 if in neither before it ends.

    >>> a, b = np.array([1, 0, 0, 0, 0], bool), np.array([0, 0, 1, 0, 0], bool)
    >>> next_basin(a, b, trajectory=np.zeros(5)).tolist()
    [0, 1, 1, -1, -1]
    """
    out = np.full(len(a), -1)
    for name in np.unique(trajectory):
        rows = np.flatnonzero(trajectory == name)
        hits = np.where(a[rows], 0, np.where(b[rows], 1, -1))
        at = np.where(hits >= 0, np.arange(len(rows)), len(rows))
        following = np.minimum.accumulate(at[::-1])[::-1]
        out[rows] = np.append(hits, -1)[following]
    return out


def _angle(angle: ndarray) -> Float[ndarray, "frames 2"]:
    angle = np.asarray(angle, dtype=float)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _canonical(
    latents: Sequence[Float[ndarray, "frames p"]],
    angles: Sequence[Float[ndarray, "frames 2"]],
    distances: Float[ndarray, "frames distances"],
) -> Float[ndarray, "latents coordinates"]:
    """Largest canonical correlation of every latent with every angle, then with every distance."""
    straight = distances - distances.mean(axis=0)
    length = np.linalg.norm(straight, axis=0)
    straight /= np.where(length > 0, length, 1.0)
    turning, rows = [_basis(b) for b in angles], []
    for basis in map(_basis, latents):
        with_angles = [np.linalg.norm(basis.T @ b, 2) if basis.size and b.size else 0.0 for b in turning]
        rows.append(np.concatenate([with_angles, np.linalg.norm(basis.T @ straight, axis=0)]))
    return np.minimum(np.array(rows), 1.0)


def _basis(x: Float[ndarray, "frames p"]) -> Float[ndarray, "frames rank"]:
    """Orthonormal functions of the frames that span the columns of x, their means removed."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return u[:, s > 1e-9 * max(s.max(), 1e-300)]


def _heavy_pairs(ensemble: Ensemble) -> ndarray:
    molecule = ensemble.molecule
    hops = np.asarray(molecule.hops)
    heavy = [i for i, e in enumerate(molecule.elements) if e != "H"]
    return np.array(
        [(i, j) for n, i in enumerate(heavy) for j in heavy[n + 1 :] if hops[i, j] >= 4], dtype=int
    ).reshape(-1, 2)


def _blocks(ensemble: Ensemble) -> list[ndarray]:
    trajectory = np.asarray(ensemble.columns.get("trajectory", np.zeros(len(ensemble), dtype=int)))
    names = np.unique(trajectory)
    if len(names) > 2:
        return [np.flatnonzero(trajectory == name) for name in names]
    return list(np.array_split(np.arange(len(ensemble)), BLOCKS))
