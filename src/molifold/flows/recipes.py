"""Flow recipes: functions that choose the parts and return a plain Flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy import ndarray
from torch import nn

from molifold.ensemble import Ensemble
from molifold.flows.conditioners import GraphConditioner, MLPConditioner
from molifold.flows.flow import Flow
from molifold.flows.masks import rotation_masks, stiff_masks
from molifold.molecule import Molecule
from molifold.networks.attention import GraphAttention
from molifold.networks.filters import GraphFilters
from molifold.networks.graph import molecular_graph
from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Chain

#: Builds a graph network from keyword arguments (numbers of channels).
GraphNetwork = Callable[..., nn.Module]

#: Kinds of coordinates, in the order of the blocks of ``InternalCoordinates``.
KIND = {"bonds": 0, "angles": 1, "phases": 2, "rotations": 3}


def graph_spline_coupling(
    molecule: Molecule,
    reference: Ensemble,
    *,
    network: Literal["graph", "attention", "mlp"] | GraphNetwork = "graph",
    couplings: int = 6,
    rotation_couplings: int = 6,
    bins: int = 8,
    channels: int = 32,
    heads: int = 4,
    layers: int = 2,
    rank: int = 4,
    dynamic: bool = False,
    hidden: Sequence[int] = (128, 128),
) -> Flow:
    """Spline coupling flow on internal coordinates, conditioned on the molecular graph.

    conformation -> internal coordinates -> standardised -> ``couplings`` of all stiff coordinates given the rest ->
    ``rotation_couplings`` of the rotations among themselves -> standard normal x uniform. So a sample first draws its
    torsions, then bonds, angles and phases given them.

    Args:
        molecule: connected.
        reference: conformations at the target temperature that set the scales (10,000 are plenty).
        network: ``"graph"``: graph filters (``GraphFilters``); ``"attention"``: graph attention (``GraphAttention``);
            ``"mlp"``: fully connected baseline; or a function that builds a graph network of your own, called with
            ``features``, ``static`` and ``channels`` (input channels, static channels of the graph, output channels).
        couplings, rotation_couplings: number of coupling layers of either kind.
        bins: spline bins.
        channels, layers: of a graph network; ``rank`` of the filters; ``heads``, ``dynamic`` of the attention.
        hidden: hidden layers of the MLP.

    Raises:
        ValueError: if the reference is too small or belongs to another molecule.
    """
    internal = InternalCoordinates(molecule)
    with torch.no_grad():
        x = torch.as_tensor(np.array(reference.x[:: max(1, len(reference) // 20_000)]), dtype=torch.float64)
        scale = Standardize(internal.codomain, internal(x)[0])
    space = scale.codomain
    graph = molecular_graph(molecule)

    atoms = [internal.atoms[i] for i in scale.source]
    names = [b.name for b in internal.codomain.blocks for _ in range(b.size)]
    circle = space.has("circle")
    kinds = np.array([KIND["rotations"] if circle[i] else KIND[names[s]] for i, s in enumerate(scale.source)])

    build: GraphNetwork
    if callable(network):
        build = partial(network, channels=channels)
    elif network == "attention":
        build = partial(GraphAttention, out=None, channels=channels, heads=heads, layers=layers, dynamic=dynamic)
    else:
        build = partial(GraphFilters, channels=channels, layers=layers, rank=rank)

    def coupling(mask: ndarray, given: ndarray) -> Coupling:
        where = {"mask": torch.from_numpy(mask), "given": torch.from_numpy(given)}
        conditioner: nn.Module
        if network == "mlp":
            conditioner = MLPConditioner(space, **where, hidden=hidden, bins=bins)
        else:
            conditioner = GraphConditioner(
                space,
                **where,
                atoms=atoms,
                kinds=kinds.tolist(),
                graph=graph,
                channels=channels,
                bins=bins,
                network=build,
            )
        return Coupling(space, **where, conditioner=conditioner)

    stiff = stiff_masks(internal.tree, atoms=atoms, kinds=kinds, circle=circle, count=couplings)
    rotations = rotation_masks(circle, count=rotation_couplings)
    steps = [coupling(m, ~m) for m in stiff] + [coupling(m, circle & ~m) for m in rotations]
    return Flow(Chain([internal, scale, *steps]))
