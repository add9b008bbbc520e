"""Property: an embedding and a readout around a graph network predict a number of a molecule, such as its energy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molifold.networks.attention import GAT, GraphAttention
from molifold.networks.graph import NODE_CHANNELS, Graph
from molifold.networks.megnet import MEGNet, Set2SetReadout
from molifold.networks.schnet import SchNet

#: Networks that a saved model may name.
NETWORKS: dict[str, Callable[..., nn.Module]] = {n.__name__: n for n in (GAT, GraphAttention, MEGNet, SchNet)}

#: Atomic numbers go up to here; 0 is padding or a particle without chemistry.
LAST_ELEMENT = 118

#: Molecules of more atoms than this use edges where the network has a cutoff; batches of different ones always do,
#: since padding and what is beyond the cutoff are most of their pairs.
DENSE_ATOMS = 128


class Property(nn.Module):
    """y(x) = scale * readout(network(embedding of the elements, graph at x)), one number per conformation.

    What the property is on average, per atom of every element, is kept apart as ``reference`` in double precision:
    total energies are so large that single precision would lose what conformations differ by.

    Args:
        network: a name in ``NETWORKS``, or a function that builds a network from ``features``, ``static``, ``out`` and
            the options.
        options: of the network, besides these three.
        readout: "sum" of the atoms' outputs (extensive properties), their "mean" (intensive ones), or "set2set" over
            atoms and bonds (of ``MEGNet`` only).
        embedding: channels of the embedding of the elements.
        chemistry: also show ``graph.nodes``; without, elements and positions are all that the network knows.
        unit: of the property ("kJ/mol", "kcal/mol", "eV", "hartree" for energies).

    >>> from molifold import Molecule
    >>> from molifold.networks.graph import molecular_graph
    >>> graph = molecular_graph(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2))))
    >>> model = Property("SchNet", options={"channels": 8, "layers": 1, "reach": 0.5}, embedding=8, unit="eV")
    >>> model(torch.randn(5, 3, 3), graph).shape
    torch.Size([5])
    """

    scale: Tensor
    offset: Tensor
    per_atom: Tensor

    def __init__(
        self,
        network: str | Callable[..., nn.Module],
        *,
        options: Mapping[str, Any],
        readout: Literal["sum", "mean", "set2set"] = "sum",
        embedding: int = 64,
        chemistry: bool = False,
        unit: str = "kJ/mol",
    ) -> None:
        super().__init__()
        if isinstance(network, str) and network not in NETWORKS:
            raise ValueError(f"network: got {network!r}, expected one of {', '.join(NETWORKS)}, or a function")
        self.about = {
            "network": network if isinstance(network, str) else None,
            "options": dict(options),
            "readout": readout,
            "embedding": embedding,
            "chemistry": chemistry,
            "unit": unit,
        }
        self.unit, self.cutoff = unit, options.get("cutoff")
        self.embedding = nn.Embedding(LAST_ELEMENT + 1, embedding)
        build = NETWORKS[network] if isinstance(network, str) else network
        out = None if readout == "set2set" else 1
        body = build(features=embedding, static=NODE_CHANNELS if chemistry else 0, out=out, **options)
        self.readout = Set2SetReadout(cast(MEGNet, body)) if readout == "set2set" else Pooled(body, how=readout)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))
        self.register_buffer("per_atom", torch.zeros(LAST_ELEMENT + 1, dtype=torch.float64))

    def forward(self, x: Float[Tensor, "batch atoms 3"], graph: Graph) -> Float[Tensor, " batch"]:
        """The property less its ``reference``; ``x`` in nm."""
        if graph.numbers is None:
            raise ValueError("graph: got one without atomic numbers; take it from molecular_graph(molecule)")
        features = self.embedding(graph.numbers).expand(len(x), -1, -1)
        if self.cutoff is None or (graph.mask is None and x.shape[1] <= DENSE_ATOMS):
            placed = graph.at(x)
        else:
            placed = graph.neighbours(x, cutoff=self.cutoff)
        return self.scale * self.readout(features, placed)

    def with_forces(
        self, x: Float[Tensor, "batch atoms 3"], graph: Graph, *, create_graph: bool = False
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch atoms 3"]]:
        """The property and its exact negative gradient, per nm; differentiable again with ``create_graph``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self(x, graph)
            (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=create_graph)
        return y if create_graph else y.detach(), -gradient

    def reference(self, graph: Graph) -> Float[Tensor, "*batch"]:
        """What to add to the output for the property itself: float64, one number per molecule of ``graph``."""
        assert graph.numbers is not None
        real = torch.ones_like(graph.numbers) if graph.mask is None else graph.mask
        return self.offset + (self.per_atom[graph.numbers] * real).sum(-1)

    @torch.no_grad()
    def standardize(self, y: Float[Tensor, " frames"], graph: Graph, *, scale: float | None = None) -> None:
        """Take the reference, and the scale of what is left, from training data.

        Sums get a contribution per atom of every element (least squares); means get one number for all.

        Args:
            y: the property in float64.
            graph: one molecule, or one per frame.
            scale: of the output; default the standard deviation of ``y`` less its reference.
        """
        assert graph.numbers is not None
        y = y.double()
        self.offset.zero_()
        self.per_atom.zero_()
        if self.about["readout"] == "sum":
            real = torch.ones_like(graph.numbers) if graph.mask is None else graph.mask
            counts = nn.functional.one_hot(graph.numbers * real, LAST_ELEMENT + 1).sum(-2).double()
            counts[..., 0] = 0  # padding
            # Smallest norm where molecules do not tell the elements apart.
            self.per_atom.copy_(
                torch.linalg.lstsq(counts.expand(len(y), -1), y[:, None], driver="gelsd").solution[:, 0]
            )
        self.offset.copy_((y - self.reference(graph)).mean())
        rest = float((y - self.reference(graph)).std()) if scale is None else scale
        self.scale.fill_(rest)

    def save(self, path: str | Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` into the directory ``path``."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, path / "model.safetensors")
        (path / "model.json").write_text(json.dumps(self.about, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path, *, network: Callable[..., nn.Module] | None = None) -> Property:
        """Read what ``save`` wrote, in eval mode; ``network`` builds a network that is not in ``NETWORKS``.

        Raises:
            ValueError: if the network has no name there and none is passed.
        """
        about = json.loads((Path(path) / "model.json").read_text())
        if about["network"] is None and network is None:
            raise ValueError(f"network: {path} holds a network of your own; pass the function that builds it")
        model = cls(network or about.pop("network"), **{k: v for k, v in about.items() if k != "network"})
        tensors = load_file(Path(path) / "model.safetensors")
        model.to(tensors["embedding.weight"].dtype)
        model.load_state_dict(tensors)
        return model.eval()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Property:  # noqa: FBT001, FBT002
        # The reference stays in double precision whatever the weights become.
        kept = self.offset, self.per_atom
        super()._apply(fn, recurse)
        self.offset, self.per_atom = (v.to(self.scale.device) for v in kept)
        return self

    def extra_repr(self) -> str:
        """Unit and scale."""
        return f"{self.about['readout']} in {self.unit}, scale {float(self.scale):g}"


class Pooled(nn.Module):
    """Sum or mean over the atoms of a network's output [batch, atoms, 1]."""

    def __init__(self, network: nn.Module, *, how: str) -> None:
        super().__init__()
        if how not in ("sum", "mean"):
            raise ValueError(f"readout: got {how!r}, expected 'sum', 'mean' or 'set2set'")
        self.network, self.how = network, how

    def forward(self, features: Float[Tensor, "batch atoms channels"], graph: Graph) -> Float[Tensor, " batch"]:
        """One number per conformation."""
        atoms = self.network(features, graph)[..., 0]
        if graph.mask is not None:
            atoms = atoms * graph.mask
        total = atoms.sum(1)
        if self.how == "sum":
            return total
        return total / (atoms.shape[1] if graph.mask is None else graph.mask.sum(-1))

    def extra_repr(self) -> str:
        """What happens to the atoms."""
        return f"{self.how} over atoms"
