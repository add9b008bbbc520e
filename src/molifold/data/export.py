"""Write conformations in the formats of other programs."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from molifold.ensemble import Ensemble

#: What ``write`` writes; all others that mdtraj knows need a unit cell.
EXTENSIONS = (
    ".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".h5", ".pdb", ".pdb.gz", ".cif", ".cif.gz", ".gro",
    ".xyz", ".xyz.gz", ".mdcrd", ".crd",
)  # fmt: skip


def check_writable(path: str | Path) -> Path:
    """``path``, if ``write`` could write it.

    Raises:
        ValueError: if the extension is unknown.
        FileNotFoundError: if the folder does not exist.
    """
    path = Path(path)
    if not path.name.lower().endswith(EXTENSIONS):
        raise ValueError(f"path: got {path.name!r}, expected one of the extensions {' '.join(EXTENSIONS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist; create it first")
    return path


def write(ensemble: Ensemble, path: str | Path) -> Path:
    """Write a trajectory in the mdtraj format that the extension names: xtc, dcd, trr, nc, h5, pdb, cif, gro, xyz ...

    Only coordinates and, if the ensemble has a column ``time`` (ps), times are written: no such format carries
    densities or weights, so keep the ensemble's store beside it. An existing file is replaced.

    Raises:
        ValueError: if the extension is unknown, a frame is not finite, or the particles are not in three dimensions.
        FileNotFoundError: if the folder does not exist.

    >>> import tempfile
    >>> from molifold.molecule import Molecule
    >>> water = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Ensemble(water, np.zeros((4, 3, 3))), f"{folder}/water.pdb").name
    'water.pdb'
    """
    import mdtraj

    path = check_writable(path)
    if ensemble.molecule.dimensions != 3:
        raise ValueError(f"ensemble: got {ensemble.molecule.dimensions}-dimensional particles; use ensemble.save")
    broken = int((~np.isfinite(ensemble.x).all(axis=(1, 2))).sum())
    if broken:
        raise ValueError(f"ensemble: {broken} of {len(ensemble)} frames are not finite; select the others first")
    x = np.asarray(ensemble.x, dtype=np.float32)
    trajectory = mdtraj.Trajectory(x, ensemble.molecule.to_mdtraj(), time=ensemble.columns.get("time"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "netCDF4 is not installed" is not the user's business
        trajectory.save(str(path))
    return path
