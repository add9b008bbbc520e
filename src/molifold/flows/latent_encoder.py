"""Encoder of the latent map: a graph network that reads a conformation and returns q(z|x)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from molifold.flows.conditioners import HARMONICS, KINDS
from molifold.networks.graph import Graph
from molifold.space import Space
from molifold.transforms.angles import wrap
from molifold.transforms.transform import Transform

#: Means of real latents stay within this: a map of finite size, inside the splines of the prior (``spline.TAIL``).
EXTENT = 3.0
#: Smallest and largest width of q(z|x). The smallest keeps densities finite, the largest is flat on a circle.
NARROWEST, WIDEST = 0.02, 2.0
#: Images of a wrapped normal on either side: at ``WIDEST`` what lies beyond is below 1e-26.
IMAGES = 3


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of a batch: normal in real latents, wrapped normal in circular ones, independent given x.

    ``mean`` and ``sigma`` are [batch, latents], ``circle`` [latents]. Circular means lie in [-pi, pi].
    """

    mean: Float[Tensor, "batch latents"]
    sigma: Float[Tensor, "batch latents"]
    circle: Bool[Tensor, " latents"]

    def sample(self, *, generator: Generator | None = None) -> Float[Tensor, "batch latents"]:
        """One draw per conformation; gradients flow through it (Kingma and Welling 2014, arXiv 1312.6114)."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        z = self.mean + self.sigma * noise
        return torch.where(self.circle, wrap(z), z)

    def log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """Log-density of every latent by itself; their sum is log q(z|x)."""
        distance = torch.where(self.circle, wrap(z - self.mean), z - self.mean)
        plain = -0.5 * (distance / self.sigma).square()
        if self.circle.any():
            turns = 2 * math.pi * torch.arange(-IMAGES, IMAGES + 1).to(distance)
            images = -0.5 * ((distance[..., None] + turns) / self.sigma[..., None]).square()
            plain = torch.where(self.circle, torch.logsumexp(images, -1), plain)
        return plain - self.sigma.log() - 0.5 * math.log(2 * math.pi)


class Encoder(nn.Module):
    """A conformation's internal coordinates on their atoms -> graph network -> pooled -> q(z|x).

    The input is invariant under rotation and translation by construction: standardised bonds, angles and phases as they
    are, rotations as cosines and sines. Atoms are pooled with learned gates of their static features, so that one set
    of weights serves any molecule.

    Args:
        frame: Cartesian coordinates to standardised internal ones (``InternalCoordinates``, ``Standardize``).
        atoms, kinds: of the standardised coordinates, as in ``GraphConditioner``.
        graph: of the molecule.
        network: ``network(features=, static=)`` builds the graph network, whose output has ``channels``.
        channels: width of the network's output.
        latent: what the latents are: blocks of support "real" or "circle".

    Raises:
        ValueError: if a latent has another support.
    """

    _place: Tensor
    _plain: Tensor
    _turning: Tensor
    _static: Tensor
    _hops: Tensor
    _bonds: Tensor
    _numbers: Tensor
    circle: Tensor

    def __init__(
        self,
        frame: Transform,
        *,
        atoms: Sequence[int],
        kinds: Sequence[int],
        graph: Graph,
        network: Callable[..., nn.Module],
        channels: int,
        latent: Space,
    ) -> None:
        super().__init__()
        if not set(latent.supports) <= {"real", "circle"}:
            raise ValueError(f"latent: got {latent!r}, expected only real and circle supports")
        self.frame, self.latent = frame, latent
        n, static = graph.nodes.shape
        turning = torch.from_numpy(frame.codomain.has("circle"))
        self._width = len(KINDS) - 1 + 2 * HARMONICS
        slots = [(kinds[i], atoms[i]) for i in (~turning).nonzero()[:, 0].tolist()]
        slots += [
            (len(KINDS) - 1 + wave, atoms[i]) for wave in range(2 * HARMONICS) for i in turning.nonzero()[:, 0].tolist()
        ]
        place = torch.full((n * self._width,), len(slots))
        place[torch.tensor([a * self._width + slot for slot, a in slots])] = torch.arange(len(slots))
        for name, value in {
            "_plain": (~turning).nonzero()[:, 0], "_turning": turning.nonzero()[:, 0], "_place": place,
            "_static": graph.nodes, "_hops": graph.hops, "_bonds": graph.bonds, "_numbers": graph.numbers,
            "circle": torch.from_numpy(latent.has("circle")),
        }.items():  # fmt: skip
            self.register_buffer(name, value, persistent=False)
        self.network = network(features=self._width, static=static)
        self.gate = nn.Linear(static, channels)
        # A real latent reads a mean and a width, a circular one a vector for its direction and a width.
        self.readout = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, 3 * latent.size)
        )

    def forward(self, x: Float[Tensor, "batch atoms 3"]) -> Posterior:
        """q(z|x)."""
        return self.posterior(self.features(x), x)

    def posterior(
        self, features: Float[Tensor, "batch atoms channels"], x: Float[Tensor, "batch atoms 3"]
    ) -> Posterior:
        """q(z|x) from what the network sees of x; x itself gives the distances, to networks that use them."""
        first, second, width = self._read(features, x).chunk(3, dim=1)
        mean = torch.where(self.circle, torch.atan2(second, first), EXTENT * torch.tanh(first / EXTENT))
        span = math.log(WIDEST / NARROWEST)
        # A width of zero raw output is 0.1: informative from the start, since a posterior as wide as the prior is the
        # trap that an untrained decoder falls into.
        start = math.log(0.1 / NARROWEST) / span
        sigma = NARROWEST * torch.exp(span * torch.sigmoid(width + math.log(start / (1 - start))))
        return Posterior(mean, sigma, self.circle)

    def _read(
        self, features: Float[Tensor, "batch atoms channels"], x: Float[Tensor, "batch atoms 3"]
    ) -> Float[Tensor, "batch numbers"]:
        graph = Graph(self._static, self._hops, bonds=self._bonds, numbers=self._numbers).at(x)
        h = self.network(features, graph)
        pooled = (h * self.gate(self._static)).sum(1) / len(self._static) ** 0.5
        return self.readout(F.silu(pooled))

    def features(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, "batch atoms channels"]:
        """What the network sees of a conformation, on the atoms that carry it."""
        return self.spread(self.frame(x)[0])

    def spread(self, y: Float[Tensor, "batch size"]) -> Float[Tensor, "batch atoms channels"]:
        """What the network sees of standardised coordinates, on the atoms that carry them."""
        angle = y[:, self._turning]
        waves = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
        padded = F.pad(torch.cat([y[:, self._plain], *waves], dim=1), (0, 1))
        return padded[:, self._place].view(y.shape[0], -1, self._width)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        return f"Encoder({type(self.network).__name__}, {count} parameters -> {self.latent!r})"
