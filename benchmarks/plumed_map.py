"""PLUMED itself on an exported map: values and the forces of a bias, over frames of a molecule that is not the first.

Needs ``plumed`` (2.9 or newer); where its pytorch module is a library of its own, ``--load`` names that::

    python benchmarks/plumed_map.py --plumed plumed --load PytorchModel.so --json benchmarks/results/plumed_map.json
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import arguments, show

from molifold import Ensemble
from molifold.data import example
from molifold.flows import LatentMap, latent_map
from molifold.simulation import CollectiveVariables, export_torchscript, plumed_input

#: Atoms before the molecule, its place (nm), and the bias: kJ/mol per unit squared, and where it is zero.
BEFORE, PLACE, STIFFNESS, AT = 2, 3.0, 200.0, 0.1
FRAMES = 20


def untrained(frames: Ensemble) -> LatentMap:
    """A map with a real and a circular latent that vary with the frames."""
    torch.manual_seed(1)
    flow = latent_map(frames.molecule, frames, latents=("real", "circle"), channels=8, encoder_channels=8)
    with torch.no_grad():
        flow.encoder.readout[-1].weight.mul_(20)
    return flow.eval()


def driven(flow: LatentMap, x: np.ndarray, *, plumed: str, load: Path | None) -> tuple[np.ndarray, np.ndarray, str]:
    """What PLUMED's driver makes of the exported map: values [frames, variables], forces of the bias, its version."""
    names = CollectiveVariables(flow).names
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_torchscript(flow, folder / "map.pt")
        lines = [] if load is None else [f"LOAD FILE={load.resolve()}"]
        lines += plumed_input(flow, "map.pt", first=BEFORE + 1).splitlines()
        lines += ["PRINT ARG=" + ",".join(f"map.node-{i}" for i in range(len(names))) + " FILE=values FMT=%.9f"]
        lines += [f"RESTRAINT ARG=map.node-0 KAPPA={STIFFNESS} AT={AT}"]
        (folder / "plumed.dat").write_text("\n".join(lines) + "\n")
        others = np.full((BEFORE, 3), 2 * PLACE) + np.arange(BEFORE)[:, None]
        with open(folder / "frames.xyz", "w") as file:
            for frame in x:
                rows = np.concatenate([others, frame + PLACE])
                file.write(f"{len(rows)}\n100 100 100\n")
                file.writelines(f"X {a:.9f} {b:.9f} {c:.9f}\n" for a, b, c in rows)
        command = [
            plumed,
            "--no-mpi",
            "driver",
            "--plumed",
            "plumed.dat",
            "--ixyz",
            "frames.xyz",
            "--length-units",
            "nm",
        ]
        command += ["--dump-forces", "forces", "--dump-forces-fmt", "%.9f"]
        said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        version = next(line for line in said.splitlines() if "Version" in line).split("Version:")[1].split("(")[0]
        rows = [line.split() for line in (folder / "forces").read_text().splitlines() if line.startswith("X")]
        forces = np.array([row[1:4] for row in rows], dtype=float).reshape(len(x), -1, 3)
        return np.loadtxt(folder / "values")[:, 1:], forces, version.strip()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--plumed", default="plumed", help="the program")
    parser.add_argument("--load", type=Path, help="the pytorch module, where it is a library of its own")
    options = parser.parse_args()
    system = example("alanine-dipeptide")
    x = system.x + 0.003 * np.random.default_rng(0).normal(size=(800, system.molecule.n_atoms, 3))
    flow = untrained(Ensemble(system.molecule, x))
    values, forces, version = driven(flow, x[:FRAMES], plumed=options.plumed, load=options.load)
    variables = CollectiveVariables(flow)
    flat = torch.from_numpy(x[:FRAMES]).reshape(FRAMES, -1).requires_grad_()
    z = variables(flat)
    slope = torch.autograd.grad(z[:, 0].sum(), flat)[0].view(FRAMES, -1, 3).numpy()
    known = z.detach().numpy()
    expected = -STIFFNESS * (known[:, :1, None] - AT) * slope
    largest = np.abs(expected).max()
    rows: list[dict[str, object]] = [
        {
            "figure": f"{name}, largest difference",
            "value": f"{np.abs(values[:, i] - known[:, i]).max():.1e}",
            "against": f"range {np.ptp(known[:, i]):.1e}",
        }
        for i, name in enumerate(variables.names)
    ]
    rows.append(
        {
            "figure": "force of a bias on z1, largest difference",
            "value": f"{np.abs(forces[:, BEFORE:] - expected).max():.1e} kJ/mol/nm",
            "against": f"largest {largest:.1e}; on other atoms {np.abs(forces[:, :BEFORE]).max():.1e}",
        }
    )
    show(
        f"PLUMED {version} with LibTorch {torch.__version__}, {FRAMES} frames; it calls in float32",
        rows,
        to=options.json,
    )


if __name__ == "__main__":
    main()
