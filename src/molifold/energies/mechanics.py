"""MolecularMechanics: the batched energy of a force field."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from molifold.energies.autograd import with_forces
from molifold.energies.kernels import energy_forces
from molifold.energies.parameters import Parameters, cast
from molifold.energies.reading import read_system
from molifold.energies.torch_terms import TorchTerms
from molifold.units import kT

if TYPE_CHECKING:
    import openmm

Precision = Literal["float32", "float64"]


class MolecularMechanics:
    """Reduced potential energy of a force field in vacuum or implicit solvent, batched and differentiable.

    On the CPU a kernel evaluates 16 (float32) or 8 (float64) conformations at once and autograd uses its analytic
    forces. On a GPU, and for second derivatives, the same formulas run in torch. It knows harmonic bonds and angles,
    periodic and Ryckaert-Bellemans torsions, CMAP, Lennard-Jones and Coulomb with exceptions (no cutoff, or a cutoff
    with reaction field and switching), and the implicit solvents HCT, OBC1, OBC2, GBn and GBn2 with ACE surface term.

    In float64 it agrees with OpenMM's Reference platform to about 1e-13 in energies and 1e-14 in forces. In float32 the
    largest error over 1000 K conformations of alanine dipeptide is 6e-4 kJ/mol (2e-4 kT at 300 K) and 1e-5 of the force
    norm; of Ace-A5-Nme, 4e-3 kJ/mol and 2e-5. Atoms that coincide give large but finite energies.

    Args:
        table: the force field in float64, as ``read_system`` returns it; usually through ``from_system``.
        temperature: K.
        precision: of the evaluation; positions are shifted to the first atom before they are rounded to it.
        threads: CPU threads of one evaluation.

    Raises:
        ValueError: if an argument is out of its range.

    >>> import openmm
    >>> system, bonds = openmm.System(), openmm.HarmonicBondForce()
    >>> for _ in range(2):
    ...     _ = system.addParticle(1.0)
    >>> _ = bonds.addBond(0, 1, 0.1, 200.0), system.addForce(bonds)
    >>> energy = MolecularMechanics.from_system(system, temperature=300.0, precision="float64")
    >>> energy
    MolecularMechanics(2 atoms, 300 K, float64: 1 bonds)
    >>> x = torch.tensor([[[0.0, 0, 0], [0.2, 0, 0]]], dtype=torch.float64)
    >>> round(float(energy(x)) * kT(300.0), 6)
    1.0
    """

    def __init__(
        self, table: Parameters, *, temperature: float, precision: Precision = "float32", threads: int = 1
    ) -> None:
        if precision not in ("float32", "float64"):
            raise ValueError(f"precision: got {precision!r}, expected 'float32' or 'float64'")
        if threads < 1:
            raise ValueError(f"threads: got {threads}, expected at least 1")
        self.temperature = float(temperature)
        self.precision: Precision = precision
        self.threads = threads
        self.table = table
        self.atoms = round((1 + (1 + 8 * len(table.pair_a)) ** 0.5) / 2)
        self._kT = kT(temperature)
        self._parameters = cast(table, precision)
        self._terms: dict[torch.device, TorchTerms] = {}

    @classmethod
    def from_system(
        cls, openmm_system: openmm.System, *, temperature: float, precision: Precision = "float32", threads: int = 1
    ) -> MolecularMechanics:
        """Read an OpenMM System.

        Constraints are ignored, as in OpenMM's own energies; CMMotionRemover has no energy.

        Raises:
            UnsupportedForceError: if the System holds anything else than the forces above; it names the force and the
                fallback, ``OpenMMEnergy``.
        """
        return cls(read_system(openmm_system), temperature=temperature, precision=precision, threads=threads)

    def parameters(self, precision: Precision | None = None) -> Parameters:
        """The arrays that ``kernels.energy_forces_block`` takes."""
        return cast(self.table, precision or self.precision)

    def at(self, temperature: float) -> MolecularMechanics:
        """The same potential in units of another kT."""
        other = copy.copy(self)  # shares the parameters
        other.temperature, other._kT = float(temperature), kT(temperature)
        return other

    def __call__(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """u(x) in kT, of the dtype of ``x``; ``x`` in nm.

        Raises:
            ValueError: if ``x`` is not ``[batch, atoms, 3]``.
        """
        self._check(tuple(x.shape))
        if x.device.type != "cpu":
            return self._smooth(x)
        return with_forces(x, self._evaluate, smooth=self._smooth)

    def potential_and_forces(
        self, x: Float[ndarray, "batch atoms 3"]
    ) -> tuple[Float[ndarray, " batch"], Float[ndarray, "batch atoms 3"]]:
        """Potential energies (kJ/mol) and forces (kJ/mol/nm), in ``precision``."""
        self._check(x.shape)
        with np.errstate(invalid="ignore"):  # infinite positions are the caller's business and give NaN
            centred = x - x[:, :1]
        return energy_forces(centred, self._parameters, threads=self.threads)

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, force = self.potential_and_forces(x.detach().numpy())
        scale = 1 / self._kT
        return torch.from_numpy(u).to(x.dtype) * scale, torch.from_numpy(force).to(x.dtype) * scale

    def _smooth(self, x: Tensor) -> Tensor:
        dtype = getattr(torch, self.precision)
        if x.device not in self._terms:
            self._terms[x.device] = TorchTerms(self.table, device=x.device, dtype=dtype)
        return (self._terms[x.device]((x - x[:, :1]).to(dtype)) / self._kT).to(x.dtype)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[1:] != (self.atoms, 3):
            raise ValueError(f"x: got shape {list(shape)}, expected [batch, {self.atoms}, 3]")

    def __repr__(self) -> str:
        p = self.table
        counts = {
            "bonds": len(p.bond_k),
            "angles": len(p.angle_k),
            "torsions": len(p.torsion_atoms),
            "cmaps": len(p.cmap_atoms),
        }
        parts = [f"{n} {name}" for name, n in counts.items() if n]
        parts += ["implicit solvent"] * bool(len(p.gb_charge)) + [f"cutoff {p.cutoff[0]:g} nm"] * bool(p.cutoff[0])
        return f"MolecularMechanics({self.atoms} atoms, {self.temperature:g} K, {self.precision}: {', '.join(parts)})"
