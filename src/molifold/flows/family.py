"""Family: one set of weights on several molecules, and on molecules that were never simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from jaxtyping import Float
from numpy import ndarray
from torch import nn

from molifold.ensemble import Ensemble
from molifold.flows.conditioners import GraphConditioner
from molifold.flows.environments import Environments
from molifold.flows.flow import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.molecule import Molecule
from molifold.transforms.coupling import Coupling

#: How a family builds its flows unless told otherwise. To a network that hears of atoms far away, their number is news
#: on a larger molecule: the likelihood there falls as training goes on.
LOCAL = partial(graph_spline_coupling, max_hops=3)

#: Frames that set the scales of every molecule's flow.
REFERENCE_FRAMES = 20_000


class Family(nn.Module):
    """Flows on different molecules that share all weights.

    A conditioner on the graph has the same weights for any molecule, and the masks follow from the same rule on every
    z-matrix. What is left is the standardisation: means, widths, linear correlations and torsion marginals. They come
    from ``Environments`` of the training molecules, for all members alike, so that a new molecule needs no frames:
    ``on`` returns its flow from the molecular graph and one structure.

    Train it with ``fit(family.flows, ensembles)``; flows from ``on`` follow the training, their weights are the same
    tensors.

    Args:
        ensembles: conformations of one molecule each, at the target temperature.
        build: ``build(molecule, reference) -> Flow`` with graph conditioners; set its options by ``functools.partial``,
            ``max_hops`` among them (see ``LOCAL``, the default).
        seed: of the frames drawn from the environments.

    Raises:
        ValueError: if the flows have weights that do not fit each other.
    """

    def __init__(
        self,
        ensembles: Sequence[Ensemble],
        *,
        build: Callable[[Molecule, Ensemble], Flow] = LOCAL,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.environments = Environments(ensembles)
        self._build, self._seed = build, seed
        self.flows = nn.ModuleList()
        for ensemble in ensembles:
            self.flows.append(self.on(ensemble.molecule, ensemble.x[:1]))

    def on(self, molecule: Molecule, x: Float[ndarray, "1 atoms 3"]) -> Flow:
        """A flow on any molecule with the family's weights; its precision and mode are those of the family.

        Args:
            molecule: all its coordinates must have a like in the molecules of the family.
            x: one structure, nm, which says how the molecule is handed.

        Raises:
            ValueError: if a coordinate has no like (see ``Environments.radii`` for how alike they are).
        """
        reference = self.environments.draw(molecule, x, n=REFERENCE_FRAMES, seed=self._seed)
        flow = self._build(molecule, reference)
        if len(self.flows):
            first = self.flows[0]
            flow.to(next(first.parameters())).train(first.training)
            share_weights(first, flow)  # type: ignore[arg-type]
        return flow

    def __repr__(self) -> str:
        names = ", ".join(repr(m.name) for m in self.environments.molecules)
        count = sum(p.numel() for p in self.parameters())
        return f"Family({count} parameters on {names})"


def share_weights(source: Flow, target: Flow) -> None:
    """Let ``target``, a flow on another molecule built with the same options, use the weights of ``source``.

    Raises:
        ValueError: if the flows differ in their couplings, or one has weights that belong to single coordinates.
    """
    theirs, own = ([c for c in f.modules() if isinstance(c, Coupling)] for f in (source, target))
    if len(theirs) != len(own):
        raise ValueError(f"target: got {len(own)} couplings, expected {len(theirs)}; build both with the same options")
    for a, b in zip(theirs, own, strict=True):
        if not (isinstance(a.conditioner, GraphConditioner) and isinstance(b.conditioner, GraphConditioner)):
            raise ValueError(
                f"source: got a {type(a.conditioner).__name__}, whose weights belong to single coordinates; expected "
                "conditioners on the graph (network='graph', 'attention', 'gat', 'schnet', 'megnet')"
            )
        b.conditioner.share(a.conditioner)
