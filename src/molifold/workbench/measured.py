"""What a page can show of an ensemble's frames: columns, structures; measured when first asked for, and kept."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold import analysis
from molifold.analysis.freedom import DegreeOfFreedom, degrees_of_freedom, values
from molifold.ensemble import Ensemble
from molifold.geometry import superpose
from molifold.plots.style import label
from molifold.workbench.grouped import LOOKED_AT, clusters
from molifold.workbench.pointed import Told, readable

#: Frames measured at a time, bytes of columns that are kept, frames to which principal components are fitted.
CHUNK, KEPT, FITTED = 16_384, 48_000_000, 20_000
#: Scattered frames read at a time: the system may map megabytes of the file around each of them.
READ = 16
#: Principal components offered.
COMPONENTS = ("pc1", "pc2", "pc3")
#: The column of clusters, for ensembles that bring none of their own, and the frames that it takes.
CLUSTER, FEWEST = "cluster", 100
KT = "kT"


@dataclass(frozen=True)
class Column:
    """One number per frame that a page can ask for; ``period`` is 2 pi for angles, else None."""

    name: str
    label: str
    unit: str
    period: float | None
    kind: str
    atoms: tuple[int, ...] = ()


def offered(columns: Sequence[Column]) -> dict[str, Any]:
    """Columns, the same in groups for a menu, and the two that a map has at first: phi and psi, or else the first.

    >>> phi, psi = (Column(n, n, "", 6.28, "torsion") for n in ("phi_2", "psi_2"))
    >>> found = offered([Column("omega", "omega", "", 6.28, "torsion"), psi, Column("u", "energy", "kT", None, "energy"), phi])
    >>> found["axes"], [(g["group"], len(g["options"])) for g in found["options"]]
    (['phi_2', 'psi_2'], [('torsion', 3), ('energy', 1)])
    """  # noqa: E501
    names, groups = [c.name for c in columns], dict.fromkeys(c.kind for c in columns)
    x = next((n for n in names if n.startswith("phi")), names[0])
    y = next((n for n in names if n.startswith("psi")), (names[1:] or names)[0])
    options = [
        {"group": kind, "options": [{"value": c.name, "label": c.label} for c in columns if c.kind == kind]}
        for kind in groups
    ]
    return {"columns": [asdict(c) for c in columns], "options": options, "axes": [x, y]}


class Measured:
    """An ensemble, its columns and its structures. Memory stays bounded: the last few columns are kept, maps let go.

    ``told`` is what records say of some of its frames.

    >>> from molifold import Molecule
    >>> butane = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))
    >>> x = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]] * 2)
    >>> m = Measured(Ensemble(butane, x))
    >>> m.column("C2_C3")
    array([1.5707964, 1.5707964], dtype=float32)
    """

    def __init__(self, ensemble: Ensemble, *, told: Mapping[str, Told] | None = None) -> None:
        self.ensemble, self.told = ensemble, dict(told or {})
        self.flat = ensemble.molecule.dimensions != 3
        self.freedoms = () if self.flat else degrees_of_freedom(ensemble.molecule)
        self._free = {f.name: f for f in self.freedoms}
        self.known = {c.name: c for c in self._columns()}
        self._kept: OrderedDict[str, ndarray] = OrderedDict()
        self._axes: tuple[ndarray, ndarray] | None = None
        self._clusters: Callable[[Ensemble], ndarray] | None = None

    def fits(self, ensemble: Ensemble, told: Mapping[str, Told]) -> bool:
        """Whether this is the same ensemble, grown or not, of which records say the same."""
        same = self.ensemble.molecule == ensemble.molecule and self.told.keys() == told.keys()
        return same and all(np.array_equal(a, b) for n, v in told.items() for a, b in zip(v, self.told[n], strict=True))

    def follow(self, ensemble: Ensemble) -> None:
        """Go on with the same store, grown: only its new frames will be measured.

        A store that shrank was written anew, so everything is measured again.
        """
        if len(ensemble) < len(self.ensemble):
            self._kept.clear()
            self._axes = self._clusters = None
        self.ensemble = ensemble

    def some(self, rows: Int[ndarray, " n"]) -> Measured:
        """The same of some frames, in rising order."""
        told = {n: (np.searchsorted(rows, i[np.isin(i, rows)]), v[np.isin(i, rows)]) for n, (i, v) in self.told.items()}
        return Measured(self.ensemble[rows], told=told)

    def column(self, name: str) -> Float[ndarray, " frames"]:
        """One column, float32.

        Raises:
            KeyError: if there is none of that name.
        """
        if name not in self.known:
            raise KeyError(f"column: got {name!r}, expected one of {', '.join(list(self.known)[:12])}, ...")
        have = self._kept.pop(name, np.empty(0, dtype=np.float32))
        if len(have) < len(self.ensemble):
            have = np.concatenate([have, self._fresh(name, len(have))])
        self._kept[name] = have
        # A copy: other threads answer for other columns meanwhile.
        while len(self._kept) > 1 and sum(c.nbytes for c in list(self._kept.values())) > KEPT:
            self._kept.popitem(last=False)
        return have

    def frames(
        self, rows: Int[ndarray, " n"], *, onto: Float[ndarray, "atoms 3"] | None = None
    ) -> Float[ndarray, "n atoms 3"]:
        """Structures (nm, float32) of some frames, superposed by their heavy atoms on the first.

        The first is superposed on ``onto``, so that several ensembles of one molecule lie in the same direction. Frames
        whose coordinates are not all finite stay as they are.

        Raises:
            ValueError: if ``onto`` has another number of atoms.
        """
        x = self._take(rows)
        if self.flat:
            return np.concatenate([x, np.zeros((*x.shape[:2], 3 - x.shape[2]), np.float32)], axis=2)[..., :3]
        heavy = np.array([e != "H" for e in self.ensemble.molecule.elements], dtype=float)
        if heavy.sum() < 3:
            heavy = np.ones_like(heavy)
        whole = np.isfinite(x).all((1, 2))
        if not whole.any():
            return x
        centred = x[whole] - (heavy[:, None] * x[whole]).sum(1, keepdims=True) / heavy.sum()
        if onto is not None and onto.shape != x.shape[1:]:
            raise ValueError(f"onto: got {len(onto)} atoms, expected the {x.shape[1]} of {self.ensemble.molecule!r}")
        first = centred[0] if onto is None else superpose(centred[:1], onto, weights=heavy)[0]
        x = x.astype(np.float32)
        x[whole] = superpose(centred, first, weights=heavy)
        return x

    def rows(self, rows: Int[ndarray, " n"]) -> Float[ndarray, "quantities n"]:
        """Every degree of freedom of some frames, float32, in the order of ``freedoms``."""
        if self.flat:
            return np.empty((0, len(rows)), np.float32)
        return values(self._take(rows), self.freedoms, molecule=self.ensemble.molecule, compiled=False).astype(
            np.float32
        )

    def _take(self, rows: ndarray) -> ndarray:
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self.ensemble)):
            raise ValueError(f"rows: got {rows.min()} to {rows.max()}, expected 0 to {len(self.ensemble) - 1}")
        x = np.empty((len(rows), *self.ensemble.x.shape[1:]), dtype=np.float32)
        for start in range(0, len(rows), READ):
            x[start : start + READ] = self.ensemble.x[rows[start : start + READ]]
            _let_go(self.ensemble.x)
        return x

    def _columns(self) -> Iterable[Column]:
        e, molecule = self.ensemble, self.ensemble.molecule
        if self.flat:
            for i in range(molecule.dimensions):
                for a in range(molecule.n_atoms):
                    name = f"{'xyz'[i]}{a if molecule.n_atoms > 1 else ''}"
                    yield Column(name, name, "", None, "coordinate", (a,))
        for f in self.freedoms:
            yield _described(f)
        if sum(f.kind == "torsion" for f in self.freedoms) > 1:
            for name in COMPONENTS:
                yield Column(name, f"principal component {name[-1]}", "", None, "collective")
            if CLUSTER not in e.columns and len(e) >= FEWEST:
                yield Column(CLUSTER, "cluster (density peaks)", "", None, "collective")
        if e.log_p is not None:
            yield Column("u", "reduced energy", KT, None, "energy")
        if e.log_q is not None:
            yield Column("log_q", "log q", "", None, "weight")
        if e.log_p is not None and e.log_q is not None:
            yield Column("log_w", "log weight", "", None, "weight")
        units = {"time": "ps", "temperature": "K", "energy": "kJ/mol"}
        for name, value in e.columns.items():
            if value.ndim == 1 and value.dtype.kind in "fiub" and name not in self._free:
                yield Column(name, name, units.get(name, ""), None, "kept")
        yield from (Column(name, readable(name), "", None, "kept") for name in self.told)
        yield Column("frame", "frame", "", None, "kept")

    def _fresh(self, name: str, start: int) -> ndarray:
        if name in self.told:
            index, numbers = self.told[name]
            whole = np.full(len(self.ensemble), np.nan, dtype=np.float32)
            whole[index] = numbers
            return whole[start:]
        e = self.ensemble
        out = np.empty(len(e) - start, dtype=np.float32)
        if name == "frame":
            out[:] = np.arange(start, len(e))
            return out
        for i in range(start, len(e), CHUNK):
            part = e[i : i + CHUNK]
            out[i - start : i - start + len(part)] = self._measure(name, part)
            for source in (e.x, e.log_p, e.log_q, e.columns.get(name)):
                _let_go(source)
        return out

    def _measure(self, name: str, part: Ensemble) -> ndarray:
        kind = self.known[name].kind
        if name == "u":
            return -np.asarray(part.log_p)
        if name in ("log_q", "log_w"):
            return np.asarray(getattr(part, name))
        if kind == "kept":
            return np.asarray(part.columns[name])
        if kind == "coordinate":
            return np.asarray(part.x[:, self.known[name].atoms[0], "xyz".index(name[0])])
        if name == CLUSTER:
            if self._clusters is None:
                rows = np.unique(np.linspace(0, len(self.ensemble) - 1, LOOKED_AT).astype(np.int64))
                self._clusters = clusters(Ensemble(self.ensemble.molecule, self._take(rows)))
            return self._clusters(Ensemble(part.molecule, part.x))
        if name in COMPONENTS:
            mean, axes = self._principal_axes()
            return (_turning(self._torsions(part)) - mean) @ axes[:, COMPONENTS.index(name)]
        if name in part.columns:
            return np.asarray(part.columns[name])
        return values(part.x, [self._free[name]], molecule=part.molecule, compiled=False)[0]

    def _torsions(self, part: Ensemble) -> ndarray:
        names = list(analysis.named_torsions(part.molecule))
        measured = analysis.measure(part, names=names)
        return np.stack([measured.columns[n] for n in names], axis=1)

    def _principal_axes(self) -> tuple[ndarray, ndarray]:
        if self._axes is None:
            rows = np.unique(np.linspace(0, len(self.ensemble) - 1, FITTED).astype(np.int64))
            features = _turning(self._torsions(Ensemble(self.ensemble.molecule, self._take(rows))))
            mean = features.mean(0)
            _, vectors = np.linalg.eigh(np.cov(features - mean, rowvar=False))
            axes = vectors[:, ::-1][:, : len(COMPONENTS)]
            # Eigenvectors have no sign of their own; the largest entry shall be positive, so that a map stays as it is.
            self._axes = mean, axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
        return self._axes


def _described(f: DegreeOfFreedom) -> Column:
    words = f.name.replace("_", " ") if f.kind != "torsion" or f.name.startswith("torsion") else label(f.name)
    return Column(f.name, words, f.unit, 2 * np.pi if f.support == "circle" else None, f.kind, f.atoms)


def _turning(angles: Float[ndarray, "frames torsions"]) -> Float[ndarray, "frames features"]:
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float64)


def _let_go(x: Any) -> None:
    """Give the pages of a memory map back to the system: they are on disk anyway."""
    while x is not None and not isinstance(x, mmap.mmap):
        x = getattr(x, "_mmap", None) or getattr(x, "base", None)
    if x is not None and hasattr(x, "madvise"):
        x.madvise(mmap.MADV_DONTNEED)
