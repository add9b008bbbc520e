"""The parts of a flow that probes look at: what is learnt, what every coupling is given, its graph networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.flows.conditioners import GraphConditioner
from molifold.flows.flow import Flow
from molifold.interfaces import Moment
from molifold.networks.graph import Graph
from molifold.probes.view import View
from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Chain

#: Conformations that graph networks are looked at with: no size inside a network is likely to be the same.
FRAMES = 11


def coupled(model: nn.Module) -> bool:
    """Whether a model is a flow whose transform is a chain with couplings."""
    chain = model.transform if isinstance(model, Flow) else None
    return isinstance(chain, Chain) and any(isinstance(step, Coupling) for step in chain.steps)


def learnt(flow: nn.Module, x: Tensor) -> tuple[Chain, Float[Tensor, "batch size"]]:
    """The couplings of a flow from the first one on, and the standardised coordinates that they are given.

    Raises:
        TypeError: if the flow has no couplings.
    """
    if not coupled(flow):
        raise TypeError(f"flow: got {type(flow).__name__}, expected a Flow whose transform is a Chain with Couplings")
    steps = list(flow.transform.steps)  # type: ignore[union-attr,arg-type]
    first = next(i for i, step in enumerate(steps) if isinstance(step, Coupling))
    with torch.no_grad():
        for step in steps[:first]:
            x, _ = step(x)
    return Chain(steps[first:]), x  # type: ignore[arg-type]


@torch.no_grad()
def coupling_states(flow: nn.Module, x: Tensor) -> dict[str, tuple[Coupling, Float[Tensor, "batch size"]]]:
    """Every coupling of a flow by name, and what it is given to transform."""
    names = {module: name for name, module in flow.named_modules()}
    chain, state = learnt(flow, x)
    found = {}
    for step in chain.steps:
        if isinstance(step, Coupling):
            found[names[step]] = step, state
        state, _ = step(state)
    return found


def coordinate_names(flow: nn.Module) -> tuple[str, ...]:
    """Names of the coordinates that couplings move, such as "rotation of CA 8"."""
    internal, source = _origin(flow)
    if internal is None:
        return tuple(f"latent {i}" for i in range(int(flow.base.space.size)))  # type: ignore[union-attr,arg-type]
    blocks = [b.name for b in internal.codomain.blocks for _ in range(b.size)]
    labels = internal.molecule.atom_names or internal.molecule.elements
    return tuple(f"{blocks[i].removesuffix('s')} of {labels[internal.atoms[i]]} {internal.atoms[i]}" for i in source)


def coordinate_atoms(flow: nn.Module) -> tuple[int, ...]:
    """The atom that carries each of the coordinates that couplings move; empty where they are no internal ones."""
    internal, source = _origin(flow)
    return () if internal is None else tuple(internal.atoms[i] for i in source)


def _origin(flow: nn.Module) -> tuple[InternalCoordinates | None, ndarray]:
    """The internal coordinates of a flow, and which of them every coordinate of its couplings came from."""
    parts = list(flow.modules())
    internal = next((m for m in parts if isinstance(m, InternalCoordinates)), None)
    scale = next((m for m in parts if isinstance(m, Standardize)), None)
    if internal is None or scale is None or len(scale.source) != flow.base.space.size:  # type: ignore[union-attr]
        return None, np.zeros(0, int)
    return internal, scale.source


def conditioner_views(moment: Moment, *, frames: int = FRAMES) -> list[View]:
    """The graph networks of a flow's couplings, on the first conformations of the probe batch; [] for other models.

    Their graph distances end at ``networks.graph.MAX_HOPS``, which stands for "at least so many bonds".
    """
    if not coupled(moment.model) or moment.batch is None:
        return []
    internal = next((m for m in moment.model.modules() if isinstance(m, InternalCoordinates)), None)
    found = []
    for name, (coupling, state) in coupling_states(moment.model, moment.batch[:frames]).items():
        conditioner = coupling.conditioner
        if not isinstance(conditioner, GraphConditioner):
            continue
        known = coupling.known(state)
        graph = conditioner.graph
        if conditioner.geometry is not None:
            graph = graph.at(conditioner.geometry(known)[:, list(conditioner.nodes)])
        found.append(
            View(
                conditioner.network,
                conditioner.features(known),
                _with(conditioner.network, graph),
                graph.hops,
                name=f"{name}.conditioner.network",
                atoms=conditioner.nodes,
                total=0 if internal is None else internal.molecule.n_atoms,
            )
        )
    return found


def _with(network: nn.Module, graph: Graph) -> Callable[[Tensor], Tensor]:
    return lambda features: network(features, graph)
