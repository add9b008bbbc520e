"""The latent map as a collective variable: in OpenMM, and as a TorchScript file that PLUMED reads."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    import openmm

    from molifold.flows.latent import LatentMap


class CollectiveVariables(nn.Module):
    """Places on a map as smooth functions of flat positions: [batch, 3 atoms] nm to [batch, variables].

    A real latent is one variable (its posterior mean), a circular one two: its cosine and sine, since an angle
    jumps by 2 pi somewhere and its force would be infinite there. ``names`` says which is which. In double precision,
    apart from the map it was made of.
    """

    def __init__(self, flow: LatentMap) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(flow.encoder).double().eval().requires_grad_(requires_grad=False)
        self._circles: list[bool] = self.encoder.circle.tolist()
        self.names = tuple(
            name
            for i, circle in enumerate(self._circles, start=1)
            for name in ((f"cos_z{i}", f"sin_z{i}") if circle else (f"z{i}",))
        )

    def forward(self, positions: Float[Tensor, "batch coordinates"]) -> Float[Tensor, "batch variables"]:
        """The variables, in the order of ``names`` and the precision of the positions."""
        mean = self.encoder(positions.double().view(positions.shape[0], -1, 3)).mean
        columns = [
            column
            for i, circle in enumerate(self._circles)
            for column in ((mean[:, i].cos(), mean[:, i].sin()) if circle else (mean[:, i],))
        ]
        return torch.stack(columns, dim=1).type_as(positions)


def latent_force(flow: LatentMap, variable: str = "z1", *, particles: list[int] | None = None) -> openmm.PythonForce:
    """An OpenMM force whose energy is a collective variable: what ``CustomCVForce`` and ``app.BiasVariable`` take.

    ``openmm.PythonForce`` calls torch at every step, so that the package of OpenMM suffices: neither PLUMED nor a
    plugin is compiled. The molecule must be whole; nothing is wrapped into a periodic box.

    Args:
        flow: a trained map.
        variable: one of ``CollectiveVariables(flow).names``.
        particles: indices of the molecule's atoms among the particles of the System; default the first ones.

    Raises:
        ValueError: if there is no such variable, or ``particles`` are not as many as the molecule has atoms.

    Restrain z1 to 0.5 with 100 kJ/mol::

        bias = openmm.CustomCVForce("0.5 * 100 * (z - 0.5)^2")
        bias.addCollectiveVariable("z", latent_force(flow, "z1"))
        system.addForce(bias)
    """
    import openmm

    variables = CollectiveVariables(flow)
    if variable not in variables.names:
        raise ValueError(f"variable: got {variable!r}, expected one of {', '.join(variables.names)}")
    atoms = list(range(flow.molecule.n_atoms)) if particles is None else list(particles)
    if len(atoms) != flow.molecule.n_atoms:
        raise ValueError(f"particles: got {len(atoms)}, expected one for every atom of {flow.molecule!r}")
    force = openmm.PythonForce(_Reading(variables, variables.names.index(variable)))
    force.setParticles(atoms)
    return force


class _Reading:
    """A variable and minus its gradient, as ``PythonForce`` calls it; at the top level, since copies are pickled."""

    def __init__(self, variables: CollectiveVariables, index: int) -> None:
        self.variables, self.index = variables, index

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        from openmm import unit

        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        with torch.enable_grad():
            x = torch.tensor(np.asarray(positions, dtype=np.float64)).reshape(1, -1).requires_grad_()
            value = self.variables(x)[0, self.index]
            gradient = torch.autograd.grad(value, x)[0]
        return float(value.detach()), -gradient.view(-1, 3).numpy()


def export_torchscript(flow: LatentMap, path: str | Path) -> Path:
    """Write the encoder as a TorchScript file: flat positions (nm) [batch, 3 atoms] to ``CollectiveVariables``.

    The file is what PLUMED's ``PYTORCH_MODEL`` loads, and anything else that has LibTorch; ``plumed_input`` writes the
    lines. It takes float32 or float64 and is differentiable. A graph recorded for one conformation holds for all, since
    nothing in it depends on values; it is compared with the map at others before it is left.

    Raises:
        ValueError: if ``path`` does not end in .pt or .ptc.
        RuntimeError: if the file does not give what the map gives.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".ptc"):
        raise ValueError(f"path: got {path.name}, expected a name that ends in .pt or .ptc")
    variables = CollectiveVariables(flow)
    x = torch.randn(4, 3 * flow.molecule.n_atoms, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with warnings.catch_warnings():
        # Python values in the recorded graph are the molecule's, the same for all frames.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # PLUMED knows no other format than the one that torch calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(variables, x[:1].float().requires_grad_(), check_trace=False), str(path))
        loaded = torch.jit.load(str(path))
    worst = max(float((loaded(row[None]) - variables(row[None])).abs().max()) for row in x)
    if not worst < 1e-9:
        path.unlink()
        raise RuntimeError(f"path: the exported file differs from the map by {worst:.1e}; please report it")
    return path


def plumed_input(flow: LatentMap, model: str | Path, *, first: int = 1) -> str:
    """The lines of a PLUMED input that compute the variables of an exported map.

    Args:
        flow: the map.
        model: file from ``export_torchscript``.
        first: number of the molecule's first atom in the simulation, counted from 1; the others follow.
    """
    n = flow.molecule.n_atoms
    lines = [
        "# needs PLUMED 2.9 or newer with its pytorch module; lengths in nm (the default)",
        f"WHOLEMOLECULES ENTITY0={first}-{first + n - 1}",
        *(f"p{i}: POSITION ATOM={first + i} NOPBC" for i in range(n)),
        f"map: PYTORCH_MODEL FILE={Path(model).name} ARG="
        + ",".join(f"p{i}.{axis}" for i in range(n) for axis in "xyz"),
        *(f"# map.node-{i} is {name}" for i, name in enumerate(CollectiveVariables(flow).names)),
    ]
    return "\n".join(lines) + "\n"
