"""Flow recipes: functions that choose the parts and return a plain Flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy import ndarray
from torch import nn

from molifold.ensemble import Ensemble
from molifold.flows.conditioners import GraphConditioner, MLPConditioner
from molifold.flows.flow import Flow
from molifold.flows.masks import rotation_masks, stiff_masks
from molifold.flows.named_networks import GraphNetwork, named_network
from molifold.molecule import Molecule
from molifold.networks.graph import MAX_HOPS, molecular_graph
from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.partial import PartialGeometry
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Chain

#: Kinds of coordinates, in the order of the blocks of ``InternalCoordinates``.
KIND = {"bonds": 0, "angles": 1, "rings": 2, "phases": 2, "rotations": 3}


def graph_spline_coupling(
    molecule: Molecule,
    reference: Ensemble,
    *,
    network: Literal["graph", "attention", "gat", "schnet", "megnet", "mlp"] | GraphNetwork = "graph",
    couplings: int = 6,
    rotation_couplings: int = 6,
    bins: int = 8,
    channels: int = 32,
    heads: int = 4,
    layers: int = 2,
    rank: int = 4,
    dynamic: bool = False,
    max_hops: int | None = None,
    geometry: bool | None = None,
    hidden: Sequence[int] = (128, 128),
) -> Flow:
    """Spline coupling flow on internal coordinates, conditioned on the molecular graph.

    conformation -> internal coordinates -> standardised -> ``couplings`` of all stiff coordinates given the rest ->
    ``rotation_couplings`` of the rotations among themselves -> standard normal x uniform. So a sample first draws its
    torsions, then bonds, angles and phases given them.

    Args:
        molecule: connected.
        reference: conformations at the target temperature that set the scales (10,000 are plenty).
        network: ``"graph"``: graph filters (``GraphFilters``); ``"attention"``: attention over the whole graph
            (``GraphAttention``); ``"gat"``: over bonds (``GAT``); ``"schnet"``, ``"megnet"``: networks of distances
            (``SchNet``, ``MEGNet``); ``"mlp"``: fully connected baseline; or a function that builds a graph network of
            your own, called with ``features``, ``static`` and ``channels`` (input channels, static channels of the
            graph, output channels).
        couplings, rotation_couplings: number of coupling layers of either kind.
        bins: spline bins.
        channels, layers: of a graph network; ``rank`` of the filters; ``heads``, ``dynamic`` of the attention.
        max_hops: atoms neither know nor hear of what is more bonds away, layer by layer; for weights that shall serve
            other molecules (3 is good there). The default is 1 for GAT, whose neighbours are bonded, and no limit for
            graph filters and attention; networks of distances send messages between all atoms.
        geometry: give the network distances, from the coordinates known to the coupling (see ``PartialGeometry``); the
            default gives them to SchNet and MEGNet, which need them.
        hidden: hidden layers of the MLP.

    Raises:
        ValueError: if there is no such network, or the reference is too small or belongs to another molecule.
    """
    internal = InternalCoordinates(molecule)
    with torch.no_grad():
        x = torch.as_tensor(np.array(reference.x[:: max(1, len(reference) // 20_000)]), dtype=torch.float64)
        scale = Standardize(internal.codomain, internal(x)[0])
    space = scale.codomain
    graph = molecular_graph(molecule, max_hops=MAX_HOPS if max_hops is None else max_hops)

    atoms = [internal.atoms[i] for i in scale.source]
    names = [b.name for b in internal.codomain.blocks for _ in range(b.size)]
    circle = space.has("circle")
    kinds = np.array([KIND["rotations"] if circle[i] else KIND[names[s]] for i, s in enumerate(scale.source)])

    build = named_network(
        network, channels=channels, layers=layers, rank=rank, heads=heads, dynamic=dynamic, max_hops=max_hops
    )
    geometry = network in ("schnet", "megnet") if geometry is None else geometry

    def coupling(mask: ndarray, given: ndarray) -> Coupling:
        where = {"mask": torch.from_numpy(mask), "given": torch.from_numpy(given)}
        conditioner: nn.Module
        if build is None:
            conditioner = MLPConditioner(space, **where, hidden=hidden, bins=bins)
        else:
            conditioner = GraphConditioner(
                space,
                **where,
                atoms=atoms,
                kinds=kinds.tolist(),
                graph=graph,
                channels=channels,
                geometry=PartialGeometry(internal, scale, where["given"]) if geometry else None,
                bins=bins,
                network=build,
            )
        return Coupling(space, **where, conditioner=conditioner)

    stiff = stiff_masks(internal.tree, atoms=atoms, kinds=kinds, circle=circle, count=couplings)
    rotations = rotation_masks(internal.tree, atoms=atoms, circle=circle, count=rotation_couplings)
    steps = [coupling(m, ~m) for m in stiff] + [coupling(m, circle & ~m) for m in rotations]
    return Flow(Chain([internal, scale, *steps]))
