"""View: a graph network at work, as probes of graphs look at it; ours, torch_geometric's, anybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from molifold.interfaces import Moment


@dataclass(frozen=True)
class View:
    """One graph network and one batch of features for it.

    Args:
        network: any module.
        features: its input on the atoms of every conformation. The outputs of inner modules are recognised by their
            shape, so take a number of conformations that is no other size inside (atoms, channels, heads), such as 7.
        run: calls the network: features in, output of every atom out. What else it takes is bound inside, for example
            ``lambda f: network(f, graph)``, or ``lambda f: network(f.flatten(0, 1), edge_index)`` for torch_geometric.
        hops: bonds between every two atoms (``molecule.hops``); 1 is a neighbour, negative is unconnected. Of an
            adjacency matrix, ``scipy.sparse.csgraph.shortest_path(adjacency, unweighted=True)`` counts them.
        name: goes before the names of layers.
        atoms: which atoms of the molecule these are; default all, in order.
        total: atoms of the molecule; default as many as in ``hops``.

    Raises:
        ValueError: if the shapes do not fit each other.
    """

    network: nn.Module
    features: Float[Tensor, "batch atoms channels"]
    run: Callable[[Tensor], Any]
    hops: Int[Tensor, "atoms atoms"]
    name: str = ""
    atoms: tuple[int, ...] = ()
    total: int = 0

    def __post_init__(self) -> None:
        size = len(self.hops)
        if self.features.ndim != 3 or self.features.shape[1] != size or self.hops.shape != (size, size):
            raise ValueError(
                f"features: got shape {tuple(self.features.shape)} with hops {tuple(self.hops.shape)}, expected "
                "[batch, atoms, channels] with [atoms, atoms]"
            )
        object.__setattr__(self, "atoms", tuple(self.atoms) or tuple(range(size)))
        object.__setattr__(self, "total", self.total or size)

    @property
    def neighbours(self) -> Float[Tensor, "atoms atoms"]:
        """1 for bonded pairs, else 0."""
        return (self.hops == 1).to(self.features)

    def on_atoms(self, output: Any) -> Float[Tensor, "batch atoms channels"] | None:
        """An output (of a tuple, its first tensor) by conformation and atom; None if it belongs to something else.

        Understood are [batch, atoms, ...], [batch * atoms, ...], [atoms, channels, batch] and [channels, atoms, batch].
        """
        batch, atoms = self.features.shape[:2]
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor) or output.ndim < 2:
            return None
        if output.ndim > 2 and output.shape[:2] == (batch, atoms):
            return output.flatten(2)
        if output.ndim == 3 and output.shape[2] == batch and atoms in output.shape[:2]:
            return output.permute(2, 0, 1) if output.shape[0] == atoms else output.permute(2, 1, 0)
        return output.reshape(batch, atoms, -1) if output.shape[0] == batch * atoms else None

    def label(self, layer: str) -> str:
        """Name of a layer, after the name of the view."""
        return ".".join(part for part in (self.name, layer) if part)

    def on_molecule(self, values: Float[ndarray, "*rows atoms"]) -> Float[ndarray, "*rows total"]:
        """Numbers of these atoms on all atoms of the molecule, 0 where an atom takes no part."""
        whole = np.zeros((*values.shape[:-1], self.total), dtype=values.dtype)
        whole[..., list(self.atoms)] = values
        return whole


#: Finds the graph networks in what a probe is given.
Views = Callable[[Moment], Sequence[View]]


@contextmanager
def followed(model: nn.Module, tell: Callable[[str, Any], None]) -> Iterator[list[str]]:
    """Yields the names of the modules that are running, the innermost last; ``tell(name, output)`` when one returns.

    The hooks that this takes are gone on leaving.
    """
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda module, args: running.append(name)

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            running.pop()
            tell(name, output)

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
        yield running
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def layer_states(view: View) -> dict[str, Float[Tensor, "batch atoms channels"]]:
    """Features of all atoms after every layer, by name, from "input" to "output".

    Layers are the members of the outermost ``nn.ModuleList`` whose outputs belong to atoms; in a network without one,
    its direct children.
    """
    outputs: dict[str, Tensor] = {}

    def tell(name: str, output: Any) -> None:
        if (state := view.on_atoms(output)) is not None:
            outputs[name] = state

    with followed(view.network, tell):
        result = view.on_atoms(view.run(view.features))
    parents = {n: m for n, m in view.network.named_modules() if isinstance(m, nn.ModuleList)}
    listed = [n for n in outputs if n.rpartition(".")[0] in parents]
    layers = [n for n in listed if not any(n.startswith(f"{other}.") for other in listed)]
    layers = layers or [n for n in outputs if n and "." not in n]
    states = {"input": view.features, **{n: outputs[n] for n in layers}}
    return states if result is None else {**states, "output": result}
