"""Write conformations in the formats of other programs."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from molifold.ensemble import Ensemble

#: What ``write`` writes: RDKit the last one, mdtraj all others (those that it knows besides need a unit cell).
EXTENSIONS = (
    ".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".h5", ".pdb", ".pdb.gz", ".cif", ".cif.gz", ".gro",
    ".xyz", ".xyz.gz", ".mdcrd", ".crd", ".sdf",
)  # fmt: skip

#: Ways to place multiple bonds that are tried before giving up.
ORDERS = 10_000


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
    """Write a trajectory in the format that the extension names: xtc, dcd, trr, nc, h5, pdb, cif, gro, xyz, sdf ...

    An SDF file carries one record per frame, with bond orders that RDKit finds from bonds and charges. Only
    coordinates and, if the ensemble has a column ``time`` (ps), times are written: no such format carries densities or
    weights, so keep the ensemble's store beside it. An existing file is replaced.

    Raises:
        ValueError: if the extension is unknown, a frame is not finite, the particles are not in three dimensions, or
            (SDF) no bond orders fit the bonds and charges.
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
    if path.suffix.lower() == ".sdf":
        path.write_text(_sdf(ensemble), encoding="utf-8")
        return path
    x = np.asarray(ensemble.x, dtype=np.float32)
    trajectory = mdtraj.Trajectory(x, ensemble.molecule.to_mdtraj(), time=ensemble.columns.get("time"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "netCDF4 is not installed" is not the user's business
        trajectory.save(str(path))
    return path


def _sdf(ensemble: Ensemble) -> str:
    import io

    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    molecule = ensemble.molecule
    mol = Chem.RWMol()
    for element, charge in zip(molecule.elements, molecule.formal_charges, strict=True):
        atom = Chem.Atom(0 if element == "X" else element)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)  # noqa: FBT003
        mol.AddAtom(atom)
    for i, j in molecule.bonds:
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(molecule.n_atoms)
    mol.AddConformer(conformer)
    try:
        with rdBase.BlockLogs():
            # A molecule holds bonds without orders.
            rdDetermineBonds.DetermineBondOrders(
                mol, charge=sum(molecule.formal_charges), embedChiral=False, maxIterations=ORDERS
            )
            Chem.Kekulize(mol)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"ensemble: RDKit finds no bond orders for {molecule!r} ({error}); write pdb, or give formal charges"
        ) from error
    mol.SetProp("_Name", molecule.name)
    out = io.StringIO()
    with Chem.SDWriter(out) as writer:
        for x in ensemble.x:
            mol.GetConformer().SetPositions(10 * np.asarray(x, dtype=np.float64))
            writer.write(mol)
    return out.getvalue()
