"""One million frames of alanine dipeptide: geometry, histograms and a whole comparison, beside mdtraj and others.

Time is CPU time of one thread: per million frames, and for ``compare_ensembles`` of two halves of a million frames on
disk, with the whole verdict. Memory is the largest resident size of the process that compares, pages of mapped files
included. Targets: below 30 s on two cores, below 1 GB, geometry at least as fast as mdtraj's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mdtraj
import numpy as np
from measure import arguments, cpu_seconds, show

from molifold import Ensemble, store
from molifold.analysis import compare_ensembles, degrees_of_freedom, ramachandran, verdict
from molifold.analysis.freedom import values
from molifold.analysis.histograms import Axis, jensen_shannon
from molifold.analysis.kernels import cells_into, count_into
from molifold.data import example

PIECE = 50_000


def frames(n: int, seed: int) -> np.ndarray:
    """The start structure with noise of 0.005 nm on every atom."""
    system = example("alanine-dipeptide")
    noise = 0.005 * np.random.default_rng(seed).normal(size=(n, system.molecule.n_atoms, 3))
    return (system.x + noise).astype(np.float32)


def geometry(repeats: int) -> list[dict[str, object]]:
    """All torsions, angles and bonds of a piece: ours and mdtraj's."""
    molecule, x = example("alanine-dipeptide").molecule, frames(PIECE, 0)
    trajectory = mdtraj.Trajectory(x, molecule.to_mdtraj())
    theirs = {
        "torsion": lambda atoms: mdtraj.compute_dihedrals(trajectory, atoms, periodic=False),
        "angle": lambda atoms: mdtraj.compute_angles(trajectory, atoms, periodic=False),
        "bond": lambda atoms: mdtraj.compute_distances(trajectory, atoms, periodic=False),
    }
    rows, everything, peers = [], [], []
    for kind, peer in theirs.items():
        known = degrees_of_freedom(molecule, kinds=[kind])  # type: ignore[list-item]
        atoms = np.array([f.atoms for f in known])
        cases = {"molifold": lambda k=known: values(x, k, molecule=molecule), "mdtraj": lambda a=atoms, p=peer: p(a)}
        rows += _rows(f"{len(known)} {kind}s", cpu_seconds(cases, repeats=repeats), "mdtraj")
        everything += known
        peers.append(cases["mdtraj"])
    together = {
        "molifold": lambda: values(x, everything, molecule=molecule),
        "mdtraj": lambda: [peer() for peer in peers],
    }
    return rows + _rows(f"all {len(everything)} in one pass", cpu_seconds(together, repeats=repeats), "mdtraj")


def counting(repeats: int) -> list[dict[str, object]]:
    """Histograms of 98 quantities of a piece; and the divergence of one pair of histograms."""
    from scipy.spatial.distance import jensenshannon

    rng = np.random.default_rng(0)
    measured = rng.normal(size=(98, PIECE))
    axis = Axis("q", "real", "nm", -5.0, 5.0, 64)
    low, scale = np.full(98, axis.low), np.full(98, axis.bins / (axis.high - axis.low))
    bins, circle, label, w = np.full(98, 64), np.zeros(98, dtype=bool), np.arange(PIECE) * 32 // PIECE, np.ones(PIECE)

    def ours() -> None:
        cell = np.empty(measured.shape, dtype=np.int32)
        cells_into(cell, measured, low, scale, bins, circle)
        count_into(np.zeros((98, 32, 66)), cell, label, w)

    rows = _rows("98 histograms in 32 blocks", cpu_seconds({
        "molifold": ours,
        "numpy": lambda: [np.histogram(q, 64, range=(-5, 5)) for q in measured],  # without blocks
    }, repeats=repeats), "numpy")  # fmt: skip
    p, q = rng.random((2, 1000, 64))
    rows += _rows("1000 Jensen-Shannon divergences", cpu_seconds({
        "molifold": lambda: jensen_shannon(p, q),
        "scipy": lambda: [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)],
    }, repeats=repeats), "scipy")  # fmt: skip
    return rows


def maps(repeats: int) -> list[dict[str, object]]:
    """A free-energy map of two torsions, 64 x 64 bins, from the angles: ours and deeptime's."""
    from deeptime.util import energy2d

    molecule = example("alanine-dipeptide").molecule
    phi, psi = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, PIECE))
    e = Ensemble(molecule, frames(PIECE, 0), columns={"phi": phi, "psi": psi})
    seconds = cpu_seconds({
        "molifold": lambda: ramachandran(e).free_energy,
        "deeptime": lambda: energy2d(phi, psi, bins=64, shift_energy=True),
    }, repeats=repeats)  # fmt: skip
    return _rows("free-energy map of two torsions", seconds, "deeptime")


def _rows(task: str, seconds: dict[str, float], peer: str) -> list[dict[str, object]]:
    ours, theirs = seconds["molifold"], seconds[peer]
    scale = 1_000_000 / PIECE if "divergences" not in task else 1.0
    return [{"task": task, "molifold, s": scale * ours, "peer": peer, "peer, s": scale * theirs,
             "times faster": theirs / ours, "memory, MB": ""}]  # fmt: skip


def whole(frames_a_side: int) -> list[dict[str, object]]:
    """The comparison of two stores in a process of its own, started fresh: compilation cached, imports counted."""
    with tempfile.TemporaryDirectory() as folder:
        for side in ("a", "b"):
            _write(Path(folder) / side, frames_a_side, "ab".index(side))
        for _ in range(2):  # the first fills the cache of compiled code
            done = subprocess.run(
                [sys.executable, __file__, "--whole", folder], capture_output=True, text=True, check=True
            )
    seconds, megabytes = map(float, done.stdout.split()[-2:])
    return [{"task": f"whole comparison of 2 x {frames_a_side:,} frames, verdict included", "molifold, s": seconds,
             "peer": "none", "peer, s": "", "times faster": "", "memory, MB": round(megabytes)}]  # fmt: skip


def _write(path: Path, n: int, seed: int) -> None:
    columns = {"trajectory": np.int64, "energy": np.float64, "temperature": np.float64}
    rng = np.random.default_rng(100 + seed)
    with store.Writer(path, example("alanine-dipeptide").molecule, columns=columns) as writer:
        for start in range(0, n, PIECE):
            m = min(PIECE, n - start)
            writer.append(frames(m, 1000 * seed + start), trajectory=np.full(m, start // PIECE),
                          energy=rng.normal(0, 12, m), temperature=np.full(m, 300.0))  # fmt: skip


def compare_folder(folder: Path) -> None:
    start = time.process_time()
    verdict(compare_ensembles(*(Ensemble.load(folder / side) for side in ("a", "b"))))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.process_time() - start, peak)


if __name__ == "__main__":
    if "--whole" in sys.argv:
        compare_folder(Path(sys.argv[-1]))
    else:
        parser = arguments(__doc__)
        parser.add_argument("--frames", type=int, default=500_000, help="on either side of the whole comparison")
        options = parser.parse_args()
        rows = geometry(options.repeats) + counting(options.repeats) + maps(options.repeats)
        show(
            "Analysis, CPU seconds per million frames of alanine dipeptide",
            rows + whole(options.frames),
            to=options.json,
        )
