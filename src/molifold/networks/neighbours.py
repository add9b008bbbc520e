"""Neighbour lists of batches of conformations."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def neighbour_pairs(
    x: Float[Tensor, "batch atoms 3"], *, cutoff: float, mask: Bool[Tensor, "*batch atoms"] | None = None
) -> Int[Tensor, "3 pairs"]:
    """Member of the batch, target and source of every pair closer than ``cutoff``, both ways; no periodic images.

    Args:
        x: conformations; no gradient passes through the list.
        cutoff: in the unit of ``x``.
        mask: atoms that count; the others are padding.

    >>> neighbour_pairs(torch.tensor([[[0.0, 0, 0], [1, 0, 0], [9, 0, 0]]]), cutoff=2.0).tolist()
    [[0, 0], [0, 1], [1, 0]]
    """
    from vesin import NeighborList

    find = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    points = x.detach().cpu().double().numpy()
    real = np.ones(points.shape[:2], bool) if mask is None else mask.cpu().expand(points.shape[:2]).numpy()
    found = []
    for member, (conformation, atoms) in enumerate(zip(points, real, strict=True)):
        rows = np.flatnonzero(atoms)
        pairs = find.compute(conformation[rows], box=np.zeros((3, 3)), periodic=False, quantities="ij")
        target, source = (rows[p.astype(np.int64)] for p in pairs)
        found.append(np.stack([np.full(len(target), member), target, source]))
    return torch.from_numpy(np.concatenate(found, axis=1)).to(x.device)
