"""Recipe of the latent map: chooses the parts and returns a plain ``LatentMap``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import nn

from molifold.ensemble import Ensemble
from molifold.flows.conditioners import GraphConditioner, MLPConditioner
from molifold.flows.flow import Flow
from molifold.flows.latent import LatentMap
from molifold.flows.latent_encoder import Encoder
from molifold.flows.latent_generator import ConditionalFlow
from molifold.flows.masks import rotation_masks, stiff_masks
from molifold.flows.named_networks import GraphNetwork, named_network
from molifold.flows.recipes import KIND
from molifold.molecule import Molecule
from molifold.networks.graph import MAX_HOPS, Graph, molecular_graph
from molifold.space import Block, Space
from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.marginal import Marginal
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Chain, Transform

#: Spline bins of the prior and the propagator: latents have sharp, well separated peaks.
LATENT_BINS = 16

#: Networks of the encoder and of the generator, by name.
READERS = ("graph", "attention", "gat", "schnet", "megnet")
WRITERS = ("graph", "attention", "mlp")


def latent_map(
    molecule: Molecule,
    reference: Ensemble,
    *,
    latents: Sequence[Literal["real", "circle"]] = ("real", "real"),
    encoder: Literal["graph", "attention", "gat", "schnet", "megnet"] | GraphNetwork = "graph",
    network: Literal["graph", "attention", "mlp"] | GraphNetwork = "graph",
    couplings: int = 4,
    rotation_couplings: int = 6,
    bins: int = 8,
    channels: int = 32,
    encoder_channels: int = 32,
    layers: int = 2,
    hidden: Sequence[int] = (128, 128),
    latent_hidden: Sequence[int] = (64, 64),
    time_lagged: bool = True,
    particles: int = 1,
) -> LatentMap:
    """A latent map: graph encoder, spline prior, graph-conditioned spline generator, and a propagator.

    In the generator every latent is a node of its own beside the atoms, known to all couplings and moved by none, so
    that any graph network can take z in without knowing of it.

    Args:
        molecule: connected.
        reference: conformations that set the scales (10,000 are plenty).
        latents: support of every dimension, in order of slowness if trained with ``losses.vamp2``. Circular ones suit
            processes that come back to where they started, such as the full turn of a torsion.
        encoder: graph network of q(z|x), by the names of ``recipes.graph_spline_coupling`` or a function that builds
            yours, called with ``features``, ``static`` and ``channels``; distances are at hand.
        network, couplings, rotation_couplings, bins, channels, layers, hidden: of p(x|z), as in
            ``recipes.graph_spline_coupling``; no network of distances (it has none) or of bonds (a latent has none).
        encoder_channels: width of the encoder's network.
        latent_hidden: hidden layers of the prior's and the propagator's conditioners.
        time_lagged: whether to build the propagator p(z_{t+lag}|z_t); needed by ``losses.propagation``.
        particles: draws of q(z|x) behind every weight, see ``LatentMap``.

    Raises:
        ValueError: if there is no latent, no such network, or the reference is too small or of another molecule.
    """
    if not latents:
        raise ValueError("latents: got none, expected at least one of 'real' and 'circle'")
    reading = named_network(
        encoder, argument="encoder", among=READERS, channels=encoder_channels, layers=layers, dynamic=True
    )
    writing = named_network(network, among=WRITERS, channels=channels, layers=layers, dynamic=True)
    assert reading is not None  # READERS are graph networks
    internal = InternalCoordinates(molecule)
    with torch.no_grad():
        x = torch.as_tensor(np.array(reference.x[:: max(1, len(reference) // 20_000)]), dtype=torch.float64)
        scale = Standardize(internal.codomain, internal(x)[0])
    frame = Chain([internal, scale])
    own = scale.codomain
    latent = Space(tuple(Block(f"z{i + 1}", 1, support) for i, support in enumerate(latents)))
    names = [b.name for b in internal.codomain.blocks for _ in range(b.size)]
    circle = own.has("circle")
    kinds = [KIND["rotations"] if circle[i] else KIND[names[s]] for i, s in enumerate(scale.source)]
    atoms = [internal.atoms[i] for i in scale.source]
    graph = molecular_graph(molecule)

    reader = Encoder(
        frame, atoms=atoms, kinds=kinds, graph=graph, channels=encoder_channels, latent=latent,
        network=reading,
    )  # fmt: skip
    joint = Space((*own.blocks, *latent.blocks))
    options: dict[str, Any] = {"hidden": hidden, "bins": bins} if writing is None else {
        "atoms": [*atoms, *range(molecule.n_atoms, molecule.n_atoms + latent.size)],
        "kinds": [*kinds, *(KIND["rotations"] if s == "circle" else KIND["bonds"] for s in latents)],
        "graph": _with_latent_nodes(graph, latent.size),
        "network": writing,
        "channels": channels,
        "bins": bins,
    }  # fmt: skip
    conditioner: Callable[..., nn.Module] = partial(MLPConditioner if writing is None else GraphConditioner, **options)

    def coupling(mask: ndarray, given: ndarray) -> Coupling:
        return _given_coupling(joint, mask, given, conditioner)

    stiff = stiff_masks(internal.tree, atoms=atoms, kinds=np.array(kinds), circle=circle, count=couplings)
    steps = [coupling(m, ~m) for m in stiff or [~circle] if m.any()]
    rotations = rotation_masks(internal.tree, atoms=atoms, circle=circle, count=rotation_couplings)
    steps += [coupling(m, circle & ~m) for m in rotations]
    if circle.any():  # the torsions by themselves, given z alone
        steps.append(coupling(circle, np.zeros_like(circle)))
    generator = ConditionalFlow(steps, own=own, frame=frame)
    dense: Callable[..., nn.Module] = partial(MLPConditioner, hidden=latent_hidden, bins=LATENT_BINS)
    return LatentMap(
        reader, _prior(latent, dense), generator, molecule=molecule, particles=particles,
        propagator=_propagator(latent, dense) if time_lagged else None,
    )  # fmt: skip


def _given_coupling(joint: Space, mask: ndarray, given: ndarray, conditioner: Callable[..., nn.Module]) -> Coupling:
    """A coupling of the first coordinates of ``joint``; the others are always given."""
    more = joint.size - len(mask)
    where = {
        "mask": torch.from_numpy(np.concatenate([mask, np.zeros(more, dtype=bool)])),
        "given": torch.from_numpy(np.concatenate([given, np.ones(more, dtype=bool)])),
    }
    return Coupling(joint, **where, conditioner=conditioner(joint, **where))


def _with_latent_nodes(graph: Graph, latents: int) -> Graph:
    """The graph with a node for every latent, as far from all others as can be, and a channel that names it."""
    hops = F.pad(graph.hops, (0, latents, 0, latents), value=MAX_HOPS).fill_diagonal_(0)
    names = torch.cat([torch.zeros(len(graph.nodes), latents), torch.eye(latents)])
    return replace(
        graph,
        nodes=F.pad(graph.nodes, (0, 0, 0, latents)),
        hops=hops,
        bonds=None if graph.bonds is None else F.pad(graph.bonds, (0, 0, 0, latents, 0, latents)),
        numbers=None if graph.numbers is None else F.pad(graph.numbers, (0, latents)),
    ).with_nodes(names)


def _prior(latent: Space, conditioner: Callable[..., nn.Module]) -> Flow:
    """p(z): every latent by itself, then each given the others, twice."""
    steps: list[Transform] = []
    if latent.size > 1:
        rows = [np.arange(latent.size) == i for i in range(latent.size)] * 2
        steps = [_given_coupling(latent, m, ~m, conditioner) for m in rows]
    return Flow(Chain([*steps, Marginal(latent, bins=LATENT_BINS)]))


def _propagator(latent: Space, conditioner: Callable[..., nn.Module]) -> ConditionalFlow:
    """p(z'|z): every latent given the past alone, then each given the others too."""
    joint = Space((*latent.blocks, *(Block(f"past_{b.name}", b.size, b.support) for b in latent.blocks)))
    every = np.ones(latent.size, dtype=bool)
    rows = [np.arange(latent.size) == i for i in range(latent.size)] if latent.size > 1 else []
    steps = [_given_coupling(joint, m, ~m, conditioner) for m in [*rows, every]]
    return ConditionalFlow(steps, own=latent)
