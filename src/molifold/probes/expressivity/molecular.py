"""Sources of a molecule: what a network of its atoms may not see, as columns that ``expressivity`` can offer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molifold.molecule import Molecule
from molifold.topology import chiral_centres, ring_bonds, rotatable_torsions

#: "Atoms k bonds away" are offered up to this k.
HOPS = 4
#: Gaussians of distances: centres every ``SPACING`` nm up to ``REACH``, as wide as they are apart.
REACH, SPACING = 0.8, 0.05
#: Harmonics of a torsion.
HARMONICS = 3


class _Plan(NamedTuple):
    """What depends on the molecule alone; every matrix averages or sums over atoms, [atoms, ...]."""

    hops: Int[Tensor, "atoms atoms"]
    ring: Float[Tensor, " atoms"]
    charge: Float[Tensor, " atoms"]
    heavy: Float[Tensor, " atoms"]
    chiral: Int[Tensor, "centres 4"]
    torsions: Int[Tensor, "torsions 4"]
    about: Float[Tensor, "atoms torsions"]
    beside: Float[Tensor, "atoms torsions"]


def molecular_sources(
    molecule: Molecule,
    x: Float[Tensor, "batch atoms 3"],
    *,
    features: Float[Tensor, "batch rows channels"] | None = None,
    atoms: Sequence[int] | None = None,
) -> dict[str, Float[Tensor, "batch rows columns"]]:
    """Candidates for what a network of atoms misses, by name; those that say nothing of this molecule are left out.

    * ``atoms k bonds away`` (k = 1 to 4): mean of ``features`` over these atoms: more message passing.
    * ``ring flag``, ``formal charge``: the flag itself, and times ``features``.
    * ``distances``: Gaussians of the distances to hydrogens and to other atoms, summed over these.
    * ``torsions``: waves of the torsion angles about the atom's rotatable bonds and about those next to it.
    * ``chirality``: the hand of a chiral centre (sine of its solid angle, nearly its sign), and times ``features``.

    Args:
        molecule: whose graph decides rings, charges, chiral centres and torsions.
        x: conformations, nm.
        features: what the network is given of every atom.
        atoms: the atoms that have rows in the network; default: all.

    Raises:
        ValueError: if ``x`` or ``features`` do not fit the atoms.

    >>> butane = Molecule.from_smiles("CCCC")
    >>> found = molecular_sources(butane, torch.randn(5, 14, 3), features=torch.randn(5, 14, 2))
    >>> {name: tuple(c.shape) for name, c in found.items()}["atoms 2 bonds away"]
    (5, 14, 2)
    >>> sorted(name for name in found if "bonds" not in name)
    ['distances', 'torsions']
    """
    rows = tuple(range(molecule.n_atoms)) if atoms is None else tuple(atoms)
    if x.ndim != 3 or x.shape[1:] != (molecule.n_atoms, 3):
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected [batch, {molecule.n_atoms}, 3] as {molecule}")
    if features is not None and features.shape[:2] != (len(x), len(rows)):
        raise ValueError(f"features: got shape {tuple(features.shape)}, expected [{len(x)}, {len(rows)}, channels]")
    plan, index = _plan(molecule), torch.tensor(rows, device=x.device)
    plan = _Plan(*(part.to(x if part.is_floating_point() else x.device) for part in plan))
    found = {}
    if features is not None:
        hops = plan.hops[index][:, index]
        for k in range(1, HOPS + 1):
            at = (hops == k).to(features)
            if at.any():
                found[f"atoms {k} bonds away"] = at / at.sum(1, keepdim=True).clamp(min=1.0) @ features

    def flagged(flag: Float[Tensor, "*batch rows"]) -> Tensor:
        columns = flag.expand(len(x), -1)[:, :, None]
        return columns if features is None else torch.cat([columns, columns * features], dim=-1)

    for name, flag in (("ring flag", plan.ring[index]), ("formal charge", plan.charge[index])):
        if (flag != flag[:1]).any():
            found[name] = flagged(flag)
    found["distances"] = _distances(x, plan)[:, index]
    if len(plan.torsions):
        found["torsions"] = _torsions(x, plan)[:, index]
    if len(plan.chiral):
        found["chirality"] = flagged(_hands(x, plan.chiral)[:, index])
    return found


def _distances(x: Float[Tensor, "batch atoms 3"], plan: _Plan) -> Float[Tensor, "batch atoms columns"]:
    centres = torch.arange(SPACING, REACH, SPACING, dtype=x.dtype, device=x.device)
    others = 1 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    kinds = torch.stack([plan.heavy, 1 - plan.heavy], dim=1)
    near = torch.exp(-0.5 * ((torch.cdist(x, x)[..., None] - centres) / SPACING).square()) * others[:, :, None]
    return torch.einsum("bijc,jk->bick", near, kinds).flatten(2)


def _torsions(x: Float[Tensor, "batch atoms 3"], plan: _Plan) -> Float[Tensor, "batch atoms columns"]:
    a, b, c, d = (x[:, plan.torsions[:, i]] for i in range(4))
    axis = c - b
    first, second = torch.linalg.cross(b - a, axis), torch.linalg.cross(axis, d - c)
    sine = (torch.linalg.cross(first, second) * axis).sum(-1) / axis.norm(dim=-1)
    angle = torch.atan2(sine, (first * second).sum(-1))
    waves = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
    return torch.cat([torch.stack(waves, -1).mT @ place.T for place in (plan.about, plan.beside)], 1).mT


def _hands(x: Float[Tensor, "batch atoms 3"], chiral: Int[Tensor, "centres 4"]) -> Float[Tensor, "batch atoms"]:
    """Triple product of unit vectors at every chiral centre, 0 elsewhere."""
    centre, *around = (x[:, chiral[:, i]] for i in range(4))
    u, v, w = (torch.nn.functional.normalize(part - centre, dim=-1) for part in around)
    found = x.new_zeros(x.shape[:2])
    found[:, chiral[:, 0]] = (torch.linalg.cross(u, v) * w).sum(-1)
    return found


@lru_cache(maxsize=16)
def _plan(molecule: Molecule) -> _Plan:
    hops = torch.from_numpy(molecule.hops.copy())
    ring = torch.zeros(molecule.n_atoms, dtype=torch.float64)
    for bond in ring_bonds(molecule):
        ring[list(bond)] = 1.0
    torsions = torch.tensor(list(rotatable_torsions(molecule).values()), dtype=torch.long).reshape(-1, 4)
    about, beside = (torch.zeros(molecule.n_atoms, len(torsions), dtype=torch.float64) for _ in range(2))
    for i, (_, b, c, _) in enumerate(torsions.tolist()):
        about[[b, c], i] = 1.0
        beside[sorted({*molecule.neighbors[b], *molecule.neighbors[c]} - {b, c}), i] = 1.0
    return _Plan(
        hops,
        ring,
        torch.tensor(molecule.formal_charges, dtype=torch.float64),
        torch.tensor([float(e != "H") for e in molecule.elements], dtype=torch.float64),
        torch.from_numpy(chiral_centres(molecule).copy()),
        torsions,
        about,
        beside,
    )
