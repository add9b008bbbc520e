"""Internal coordinates: time per frame both ways, and the round trip on many frames.

Times in float32 on one core, alanine dipeptide; targets 1.5, 2.5 and 10 us per frame (to internal, back, back with
backward). Round trips over ``--frames`` jiggled frames of two shipped peptides and over trajectories of one molecule
(``--trajectory FILE ... --top PDB``, any format that ``molifold.data.load`` reads): at most 1e-5 nm in float32 and
1e-10 nm in float64, after superposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from measure import arguments, cpu_seconds, show

from molifold.data import example, load
from molifold.transforms import InternalCoordinates

TARGETS = {"to internal": 1.5, "back": 2.5, "back and backward": 10.0}
CHUNK = 2000


def jiggled(name: str, frames: int) -> np.ndarray:
    """The start structure with 0.005 nm of noise on every atom."""
    system = example(name)
    return system.x + 0.005 * np.random.default_rng(0).normal(size=(frames, system.molecule.n_atoms, 3))


def speed(batch: int, repeats: int) -> list[dict[str, object]]:
    internal = InternalCoordinates(example("alanine-dipeptide").molecule)
    # As a user's trajectory comes (frames first) one way, as a flow passes it on (batch last) the other.
    x = torch.tensor(jiggled("alanine-dipeptide", batch), dtype=torch.float32)
    y = internal(x)[0]
    leaf = y.T.contiguous().requires_grad_()

    def without_gradient(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                call()

        return run

    def backward() -> None:
        back, log_det = internal.inverse(leaf.T)
        (back.square().sum() + log_det.sum()).backward()

    cases = {
        "to internal": without_gradient(lambda: internal(x)),
        "back": without_gradient(lambda: internal.inverse(y)),
        "back and backward": backward,
    }
    seconds = cpu_seconds(cases, repeats=repeats)
    return [
        {"batch": batch, "task": name, "us per frame": seconds[name] / batch * 1e6, "target": TARGETS[name]}
        for name in cases
    ]


def worst(internal: InternalCoordinates, chunks: Iterator[np.ndarray], dtype: torch.dtype) -> tuple[int, float, float]:
    """Frames, and the largest error of an atom's position: the worst frame's and the 99.9th percentile of frames."""
    errors = []
    for x in chunks:
        given = torch.tensor(x - x.mean(1, keepdims=True), dtype=dtype)
        with torch.no_grad():
            back = internal.inverse(internal(given)[0])[0].double().numpy()
        errors.append(np.abs(_superposed(back, given.double().numpy()) - given.double().numpy()).max((1, 2)))
    error = np.concatenate(errors)
    return len(error), float(error.max()), float(np.quantile(error, 0.999))


def _superposed(x: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """``geometry.superpose`` frame on frame."""
    center = x.mean(1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("fai,faj->fij", x - center, onto))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return (x - center) @ (u @ vt) + onto.mean(1, keepdims=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="jiggled frames per shipped peptide")
    parser.add_argument("--trajectory", type=Path, nargs="*", default=[], help="trajectories of one molecule to check")
    parser.add_argument("--top", type=Path, help="its topology")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = [row for batch in (1024, 4096) for row in speed(batch, options.repeats)]
    show("Alanine dipeptide, float32, one core", times, to=options.json)

    sources = {
        name: (example(name).molecule, jiggled(name, options.frames)) for name in ("alanine-dipeptide", "ace-a5-nme")
    }
    if options.trajectory:
        ensembles = [load(path, top=options.top) for path in options.trajectory]
        sources["given"] = ensembles[0].molecule, np.concatenate([e.x for e in ensembles])
    rows: list[dict[str, object]] = []
    for name, (molecule, x) in sources.items():
        for dtype, target in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
            chunks = (np.asarray(x[i : i + CHUNK], dtype=np.float64) for i in range(0, len(x), CHUNK))
            frames, error, usual = worst(InternalCoordinates(molecule), chunks, dtype)
            rows.append(
                {
                    "source": name,
                    "atoms": molecule.n_atoms,
                    "frames": frames,
                    "precision": str(dtype).removeprefix("torch."),
                    "worst, nm": error,
                    "99.9 % below, nm": usual,
                    "target": target,
                }
            )
    show("Round trip", rows, to=options.json and options.json.with_suffix(".round_trip.json"))


if __name__ == "__main__":
    main()
