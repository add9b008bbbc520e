"""Conformations in three dimensions without a window: spheres and cylinders with a depth buffer, in NumPy.

Seen along z without perspective, every sphere and cylinder has a closed form per pixel, so atoms and bonds cut each
other as they should; light, distance and outlines are added to the whole picture at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold import geometry
from molifold.molecule import Molecule
from molifold.plots.marks import Structure
from molifold.plots.style import PALETTE

#: Colours of elements: Corey, Pauling and Koltun's in the shades that are usual now; carbon is chosen by the picture.
ELEMENTS = {
    "H": "#eef1f4", "N": "#3f63d6", "O": "#d8352c", "S": "#e3bd2b", "P": "#ee8a2a", "F": "#79c850", "Cl": "#43b24a",
    "Br": "#96413a", "I": "#7d3f98", "Na": "#8f7ad1", "K": "#8f5bc4", "Mg": "#57a04a", "Ca": "#6fae5c",
}  # fmt: skip
#: Radii of balls, nm: about a quarter of van der Waals radii; and of sticks, in front and behind.
BALL = {"H": 0.024, "C": 0.037, "N": 0.036, "O": 0.036, "S": 0.045, "P": 0.045}
STICK, THIN = 0.0135, 0.0065
#: Above this many atoms, hydrogens on carbon are left out.
CROWDED = 40
#: Finer than the picture by this factor, and then averaged: smooth edges.
OVERSAMPLING = 2
#: Where the light comes from: over the left shoulder of who looks.
LIGHT = np.array([-0.45, 0.6, 0.66]) / np.linalg.norm([-0.45, 0.6, 0.66])


def structure(molecule: Molecule, x: Float[ndarray, "conformations atoms 3"], *, colour: str = "muted") -> Structure:
    """The mark that shows conformations as they are turned already (see ``aligned``), the first in front.

    Hydrogens on carbon are left out of molecules of more than 40 atoms.

    >>> ethane = Molecule(elements=("C", "C", "H"), bonds=((0, 1), (0, 2)))
    >>> structure(ethane, np.zeros((1, 3, 3))).elements
    ('C', 'C', 'H')
    """
    shown = np.arange(molecule.n_atoms)
    if len(shown) > CROWDED:
        on_carbon = [
            e == "H" and all(molecule.elements[j] == "C" for j in near)
            for e, near in zip(molecule.elements, molecule.neighbors, strict=True)
        ]
        shown = shown[~np.array(on_carbon)]
    place = {int(old): new for new, old in enumerate(shown)}
    bonds = [(place[i], place[j]) for i, j in molecule.bonds if i in place and j in place]
    return Structure(
        xyz=x[:, shown], bonds=np.array(bonds, dtype=np.int64).reshape(-1, 2), colour=colour,
        elements=tuple(molecule.elements[i] for i in shown),
    )  # fmt: skip


def aligned(molecule: Molecule, x: Float[ndarray, "conformations atoms 3"]) -> Float[ndarray, "conformations atoms 3"]:
    """Conformations superposed on the first by heavy atoms; it lies flat, longest extent along x, next along y.

    Mirror images stay mirror images. Toy systems of two dimensions get z = 0.

    >>> line = Molecule(elements=("C", "C"), bonds=((0, 1),))
    >>> aligned(line, np.array([[[0, 0, 0], [0, 0, 0.15]]])).round(3)[0].tolist()
    [[-0.075, 0.0, 0.0], [0.075, 0.0, 0.0]]
    """
    x = np.asarray(x, dtype=np.float64)
    x = np.concatenate([x, np.zeros((*x.shape[:2], 3 - x.shape[2]))], axis=2)
    heavy = np.array([e != "H" for e in molecule.elements])
    heavy = heavy if heavy.any() else ~heavy
    x = geometry.superpose(x, x[0], weights=heavy.astype(float))
    centre = x[0, heavy].mean(0)
    x, core = x - centre, x[0, heavy] - centre
    axes = np.linalg.svd(core, full_matrices=True)[2]
    # The sign of an axis is nobody's choice: first atom left, the longer tail up, and right-handed.
    axes[0] *= -1 if core[0] @ axes[0] > 0 else 1
    axes[1] *= -1 if ((core @ axes[1]) ** 3).sum() < 0 else 1
    axes[2] = np.cross(axes[0], axes[1])
    return x @ axes.T


@dataclass(frozen=True)
class _Buffer:
    """Depth, direction of the surface and colour of every pixel; ``x`` and ``y`` are places of pixels in nm."""

    x: Float[ndarray, " width"]
    y: Float[ndarray, " height"]
    depth: Float[ndarray, "height width"]
    normal: Float[ndarray, "height width 3"]
    colour: Float[ndarray, "height width 3"]

    @classmethod
    def empty(cls, x: ndarray, y: ndarray) -> _Buffer:
        shape = (len(y), len(x))
        vectors = (np.zeros((*shape, 3), dtype=np.float32) for _ in range(2))
        return cls(x, y, np.full(shape, -np.inf, dtype=np.float32), *vectors)

    def _window(self, low: ndarray, high: ndarray) -> tuple[slice, slice]:
        a, b = np.searchsorted(self.x, [low[0], high[0]])
        c, d = np.searchsorted(self.y, [low[1], high[1]])
        return slice(c, d), slice(a, b)

    def _put(
        self, window: tuple[slice, slice], at: tuple[ndarray, ...], hit: ndarray, z: ndarray, normal: ndarray,
        colour: ndarray,
    ) -> None:  # fmt: skip
        """Pixels ``at`` of the window that are hit in front of what is there."""
        front = hit & (z > self.depth[window][at])
        place = tuple(i[front] for i in at)
        self.depth[window][place] = z[front]
        self.normal[window][place] = normal[front]
        self.colour[window][place] = np.broadcast_to(colour, normal.shape)[front]

    def ball(self, centre: ndarray, radius: float, colour: ndarray) -> None:
        window = self._window(centre[:2] - radius, centre[:2] + radius)
        dx, dy = self.x[window[1]][None, :] - centre[0], self.y[window[0]][:, None] - centre[1]
        near = np.nonzero(dx**2 + dy**2 < radius**2)
        dx, dy = dx[0, near[1]], dy[near[0], 0]
        dz = np.sqrt(np.maximum(radius**2 - dx**2 - dy**2, 0))
        normal = np.stack([dx, dy, dz], axis=-1) / radius
        self._put(window, near, np.ones(len(dx), dtype=bool), centre[2] + dz, normal, colour)

    def stick(self, start: ndarray, end: ndarray, radius: float, colours: tuple[ndarray, ndarray]) -> None:
        """A cylinder without ends, half in the colour of each atom."""
        way = end - start
        length = float(np.linalg.norm(way))
        along = way / max(length, 1e-9)
        across = 1 - along[2] ** 2
        if across < 1e-6:
            return  # seen from its end: it is behind its atom
        window = self._window(np.minimum(start, end)[:2] - radius, np.maximum(start, end)[:2] + radius)
        dx, dy = self.x[window[1]][None, :] - start[0], self.y[window[0]][:, None] - start[1]
        # Few pixels of the rectangle around a slanted stick are near it.
        near = np.nonzero(np.abs(dx * along[1] - dy * along[0]) <= radius * np.sqrt(across))
        dx, dy = dx[0, near[1]], dy[near[0], 0]
        # |w - (w . along) along| = radius with w = (dx, dy, z): a quadratic in z, whose larger root is in front.
        flat = dx * along[0] + dy * along[1]
        half = flat * along[2]
        root = half**2 - across * (dx**2 + dy**2 - flat**2 - radius**2)
        z = (half + np.sqrt(np.maximum(root, 0))) / across
        s = flat + z * along[2]
        normal = (np.stack([dx, dy, z], axis=-1) - s[:, None] * along) / radius
        colour = np.where((s < 0.5 * length)[:, None], colours[0], colours[1])
        self._put(window, near, (s >= 0) & (s <= length), start[2] + z, normal, colour)

    def lit(self, *, near: float, far: float) -> Float[ndarray, "height width 4"]:
        """Pixels with light, shade in hollows, outlines, and mist far away."""
        from scipy.ndimage import maximum_filter, uniform_filter

        there = np.isfinite(self.depth)
        depth = np.where(there, self.depth, np.float32(far - 0.1))
        towards = LIGHT + np.array([0, 0, 1])
        towards = towards / np.linalg.norm(towards)
        bright = 0.42 + 0.62 * np.maximum(self.normal @ LIGHT, 0)
        gloss = 0.32 * np.maximum(self.normal @ towards, 0) ** 38
        pixel = self.x[1] - self.x[0]
        around = uniform_filter(uniform_filter(depth, round(0.1 / pixel)), round(0.1 / pixel))
        hollow = np.clip((around - depth) / 0.16, 0, 0.4)
        edge = maximum_filter(depth, size=3 * OVERSAMPLING // 2) - depth > 0.035
        rgb = self.colour * (bright * (1 - hollow))[..., None] + gloss[..., None]
        rgb = np.where(edge[..., None], 0.45 * rgb, rgb)
        mist = 0.38 * np.clip((near - depth) / max(near - far, 1e-9), 0, 1)[..., None]
        return np.concatenate([np.clip(rgb + (1 - rgb) * mist, 0, 1), there[..., None]], axis=-1)


def image(
    mark: Structure, *, pixels: int = 560
) -> tuple[Float[ndarray, "height width 4"], tuple[float, float, float, float]]:
    """Picture of the conformations (red, green, blue, opacity) and where it lies: left, right, bottom, top in nm."""
    low, high = mark.xyz.min((0, 1)) - 0.06, mark.xyz.max((0, 1)) + 0.06
    step = float((high - low)[:2].max()) / (pixels * OVERSAMPLING)
    width, height = (OVERSAMPLING * int(np.ceil(side / step / OVERSAMPLING)) for side in (high - low)[:2])
    x, y = low[0] + step * (np.arange(width) + 0.5), low[1] + step * (np.arange(height) + 0.5)
    colours = np.array([_rgb(ELEMENTS.get(e, PALETTE[mark.colour])) for e in mark.elements])
    layers = [_layer(mark, mark.xyz[:1], colours, x, y)]
    if len(mark.xyz) > 1:
        layers.append(_layer(mark, mark.xyz[1:], 0.6 * colours + 0.4, x, y, thin=True))
    front, *behind = (_averaged(layer.lit(near=high[2], far=low[2])) for layer in layers)
    for layer in behind:
        opacity = front[..., 3:] + 0.75 * layer[..., 3:] * (1 - front[..., 3:])
        colour = front[..., :3] * front[..., 3:] + layer[..., :3] * (opacity - front[..., 3:])
        front = np.concatenate([colour / np.maximum(opacity, 1e-9), opacity], axis=-1)
    extent = (float(low[0]), float(low[0] + step * width), float(low[1]), float(low[1] + step * height))
    return front[::-1], extent


def _layer(mark: Structure, xyz: ndarray, colours: ndarray, x: ndarray, y: ndarray, *, thin: bool = False) -> _Buffer:
    """Balls and sticks, or the thin sticks between heavy atoms that stand behind."""
    buffer = _Buffer.empty(x, y)
    radius = THIN if thin else STICK
    shown = [not thin or e != "H" for e in mark.elements]
    for atoms in xyz:
        for i, j in mark.bonds:
            if shown[i] and shown[j]:
                buffer.stick(atoms[i], atoms[j], radius, (colours[i], colours[j]))
        for i in np.flatnonzero(shown):
            buffer.ball(atoms[i], radius if thin else BALL.get(mark.elements[i], 0.04), colours[i])
    return buffer


def _averaged(rgba: ndarray) -> ndarray:
    height, width, _ = rgba.shape
    blocks = rgba.reshape(height // OVERSAMPLING, OVERSAMPLING, width // OVERSAMPLING, OVERSAMPLING, 4)
    opacity = blocks[..., 3:].mean((1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).mean((1, 3)) / np.maximum(opacity, 1e-9)
    return np.concatenate([colour, opacity], axis=-1)


def _rgb(colour: str) -> Sequence[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
