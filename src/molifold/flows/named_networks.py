"""Graph networks by name, as recipes use them: what a name means, and with which sizes it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from molifold.networks.attention import GAT, GraphAttention
from molifold.networks.filters import GraphFilters
from molifold.networks.megnet import MEGNet
from molifold.networks.schnet import SchNet

#: Builds a graph network from keyword arguments (numbers of channels).
GraphNetwork = Callable[..., nn.Module]

#: What SchNet and MEGNet see of distances in a flow: centres up to ``REACH`` every ``SPACING`` nm. Coarser than
#: for energies, which pays: centres cost most of the time, and the flow has the bonds and angles themselves.
REACH, SPACING = 1.5, 0.05


def named_network(
    which: str | GraphNetwork,
    *,
    argument: str = "network",
    among: Sequence[str] = ("graph", "attention", "gat", "schnet", "megnet", "mlp"),
    channels: int,
    layers: int,
    rank: int = 4,
    heads: int = 4,
    dynamic: bool = False,
    max_hops: int | None = None,
) -> GraphNetwork | None:
    """A function that builds the network from ``features`` and ``static``; None for "mlp", which is no graph network.

    Args:
        which: a name out of ``among``, or a function of your own, which also gets ``channels``.
        argument: what the caller calls ``which``, for the error.
        among: names that make sense where the network is used.
        channels, layers: of the network; its output has ``channels``, too.
        rank: of ``GraphFilters``; ``heads``, ``dynamic`` of attention.
        max_hops: how far messages go; the default is 1 for ``GAT`` and no limit for the others.

    Raises:
        ValueError: if there is no network of this name.

    >>> type(named_network("schnet", channels=8, layers=1)(features=2, static=3)).__name__
    'SchNet'
    """
    if callable(which):
        return partial(which, channels=channels)
    if which not in among:
        names = ", ".join(map(repr, among))
        raise ValueError(f"{argument}: got {which!r}, expected {names} or a function that builds a graph network")
    known: dict[str, GraphNetwork | None] = {
        "graph": partial(GraphFilters, channels=channels, layers=layers, rank=rank, max_hops=max_hops),
        "attention": partial(
            GraphAttention,
            out=None,
            channels=channels,
            heads=heads,
            layers=layers,
            dynamic=dynamic,
            max_hops=max_hops,
        ),
        # Dropout would give the two directions of a coupling different parameters.
        "gat": partial(
            GAT,
            out=channels,
            channels=channels // heads,
            heads=heads,
            layers=layers,
            max_hops=max_hops or 1,
            dropout=0.0,
        ),
        "schnet": partial(
            SchNet, channels=channels, layers=layers, reach=REACH, spacing=SPACING, gamma=0.5 / SPACING**2
        ),
        # Half as wide between blocks as it is outside: its dense layers are twice as wide again, for every pair.
        "megnet": partial(
            MEGNet,
            out=channels,
            channels=channels // 2,
            blocks=layers,
            reach=REACH,
            centres=1 + round(REACH / SPACING),
            width=2**0.5 * SPACING,
            bonds=True,
        ),
        "mlp": None,
    }
    return known[which]
