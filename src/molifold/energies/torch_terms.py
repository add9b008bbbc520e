"""The same energy written in torch: for GPUs, and for derivatives of any order.

Everything is a vector over (batch, terms); coordinates are three separate arrays because slices of a trailing axis of
three cost a quarter more time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molifold.energies.parameters import INTEGER, Parameters

Vector = tuple[Tensor, Tensor, Tensor]


class TorchTerms:
    """Parameters as tensors on one device, and the energy that they define.

    Args:
        parameters: of any precision.
        device, dtype: where and how to compute.
    """

    def __init__(self, parameters: Parameters, *, device: torch.device, dtype: torch.dtype) -> None:
        tensors = (
            torch.as_tensor(value, device=device).to(torch.int64 if name in INTEGER else dtype)
            for name, value in zip(Parameters._fields, parameters, strict=True)
        )
        self.p: Any = Parameters._make(tensors)  # tensors instead of arrays
        atoms = round((1 + math.sqrt(1 + 8 * len(self.p.pair_a))) / 2)
        self.i, self.j = torch.triu_indices(atoms, atoms, 1, device=device).unbind(0)
        self.cutoff = parameters.cutoff.tolist()
        self.solvent = parameters.gb_solvent.tolist()
        # The kernel's floors, see kernels_bonded.TINY and kernels_nonbonded.closest.
        self.tiny, self.closest = 1e-20, 1e-5 if dtype == torch.float32 else 1e-40

    def __call__(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """Potential energies, kJ/mol."""
        axes = (x[..., 0], x[..., 1], x[..., 2])
        u = self._bonds(axes) + self._angles(axes) + self._torsions(axes)
        if len(self.p.cmap_atoms):
            u = u + self._cmaps(axes)
        d = _difference(axes, self.i, self.j)
        r2 = _dot(d, d).clamp_min(self.closest)
        u = u + self._pairs(r2).sum(1)
        return u + self._born(r2) if len(self.p.gb_charge) else u

    def _bonds(self, x: Vector) -> Tensor:
        i, j = self.p.bond_atoms.unbind(1)
        d = _difference(x, i, j)
        stretch = _dot(d, d).clamp_min(self.tiny).sqrt() - self.p.bond_length
        return (0.5 * self.p.bond_k * stretch**2).sum(1)

    def _angles(self, x: Vector) -> Tensor:
        i, j, k = self.p.angle_atoms.unbind(1)
        a, b = _difference(x, j, i), _difference(x, j, k)
        c = _cross(a, b)
        bend = torch.atan2(_dot(c, c).clamp_min(self.tiny).sqrt(), _dot(a, b)) - self.p.angle_theta
        return (0.5 * self.p.angle_k * bend**2).sum(1)

    def _torsion(self, x: Vector, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine."""
        i, j, k, m = atoms.unbind(1)
        b1, b2, b3 = _difference(x, i, j), _difference(x, j, k), _difference(x, k, m)
        c1, c2 = _cross(b1, b2), _cross(b2, b3)
        scale = (_dot(c1, c1).clamp_min(self.tiny) * _dot(c2, c2).clamp_min(self.tiny)).rsqrt()
        return _dot(c1, c2) * scale, _dot(b2, b2).clamp_min(self.tiny).sqrt() * _dot(b1, c2) * scale

    def _torsions(self, x: Vector) -> Tensor:
        cosine, sine = self._torsion(x, self.p.torsion_atoms)
        u = self.p.torsion_cos[:, 0].expand_as(cosine)
        c, s = cosine, sine
        for order in range(1, self.p.torsion_cos.shape[1]):
            u = u + self.p.torsion_cos[:, order] * c + self.p.torsion_sin[:, order] * s
            c, s = c * cosine - s * sine, s * cosine + c * sine
        return u.sum(1)

    def _cmaps(self, x: Vector) -> Tensor:
        size = self.p.cmap_size
        cells, places = [], []
        for atoms in (self.p.cmap_atoms[:, :4], self.p.cmap_atoms[:, 4:]):
            cosine, sine = self._torsion(x, atoms)
            place = torch.atan2(sine, cosine) / (2 * math.pi) * size
            cell = place.detach().floor()
            cells.append(cell.long() % size)
            places.append(place - cell)
        c = self.p.cmap_patch[self.p.cmap_start + cells[0] * size + cells[1]].unflatten(-1, (4, 4))
        powers = [torch.stack([torch.ones_like(t), t, t**2, t**3], -1) for t in places]
        return torch.einsum("bca,bcd,bcad->b", powers[0], powers[1], c)

    def _pairs(self, r2: Tensor) -> Tensor:
        p = self.p
        inverse = r2.rsqrt()
        r6 = inverse**6
        lj, coulomb = (p.pair_a * r6 - p.pair_b) * r6, p.pair_charge * inverse
        cutoff, field, shift, switch = self.cutoff
        if cutoff == 0:
            return lj + coulomb
        r = r2 * inverse
        t = ((r - switch) / (cutoff - switch)).clamp_min(0) if switch > 0 else torch.zeros_like(r)
        switched = lj * (1 + t**3 * (-10 + t * (15 - t * 6)))
        regular = switched + coulomb + p.pair_charge * (field * r2 - shift)
        regular = torch.where(r < cutoff, regular, torch.zeros_like(r))
        return torch.where(p.pair_plain != 0, lj + coulomb, regular)

    def _born(self, r2: Tensor) -> Tensor:
        """Generalised Born and surface energy."""
        p = self.p
        solute, solvent, kappa, cutoff, _ = self.solvent
        near = r2 < cutoff**2 if cutoff else torch.ones_like(r2, dtype=torch.bool)
        radius = 1 / self._reciprocal_radii(r2.sqrt(), near)
        product = radius[:, self.i] * radius[:, self.j]
        f = (r2 + product * torch.exp(-r2 / (4 * product))).sqrt()
        charges = p.gb_charge[self.i] * p.gb_charge[self.j]
        shift = 1 / cutoff if cutoff else 0.0
        pairs = -charges * (solute - solvent * torch.exp(-kappa * f)) * (1 / f - shift)
        own = -0.5 * p.gb_charge**2 * (solute - solvent * torch.exp(-kappa * radius)) / radius
        surface = p.gb_surface / radius**6
        return torch.where(near, pairs, torch.zeros_like(pairs)).sum(1) + (own + surface).sum(1)

    def _reciprocal_radii(self, r: Tensor, near: Tensor) -> Tensor:
        p, zero = self.p, torch.zeros_like(r)
        integral = torch.zeros(len(r), len(p.gb_charge), device=r.device, dtype=r.dtype)
        for k, (i, j) in enumerate(((self.i, self.j), (self.j, self.i))):
            term = self._descreen(p.gb_inner[i], p.gb_scaled[j], r)
            if len(p.gb_neck):
                d = r - p.gb_neck[:, 2 * k + 1]
                neck = p.gb_neck[:, 2 * k] / (1 + 100 * d**2 + 3e5 * d**6)
                term = term + torch.where(r < p.gb_neck[:, 4], neck, zero)
            integral = integral.index_add(1, i, torch.where(near, term, zero))
        if len(p.gb_shape) == 0:
            return 1 / p.gb_inner - integral
        a, b, c = p.gb_shape.unbind(1)
        psi = integral * p.gb_inner
        return 1 / p.gb_inner - torch.tanh(psi * (a + psi * (psi * c - b))) / p.gb_radius

    def _descreen(self, inner: Tensor, scaled: Tensor, r: Tensor) -> Tensor:
        """See ``kernels_nonbonded.descreen``."""
        overlaps = r + scaled > inner
        upper = torch.where(overlaps, r + scaled, 1.0)  # a safe value where the result is not used
        gap = r - scaled
        lower = torch.maximum(gap.abs(), inner.expand_as(gap))
        u, v = 1 / upper, 1 / lower
        term = v - u + 0.25 * (r - scaled**2 / r) * (u**2 - v**2) + 0.5 * torch.log(lower * u) / r
        if self.solvent[4]:
            term = term + torch.where(gap < -inner, 2 / inner - 2 * v, torch.zeros_like(v))
        return torch.where(overlaps, 0.5 * term, torch.zeros_like(term))


def _difference(x: Vector, i: Tensor, j: Tensor) -> Vector:
    """x_j - x_i."""
    return x[0][:, j] - x[0][:, i], x[1][:, j] - x[1][:, i], x[2][:, j] - x[2][:, i]


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
