"""LatentMap: a few interpretable dimensions of a molecule's conformations, with an exact joint density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Generator, Tensor, nn

from molifold.ensemble import Ensemble
from molifold.flows.flow import Flow
from molifold.flows.latent_encoder import Encoder, Posterior
from molifold.flows.latent_generator import ConditionalFlow
from molifold.molecule import Molecule

if TYPE_CHECKING:
    from molifold.flows.latent_path import LatentPath, Sound
    from molifold.interfaces import Energy

#: Seed of the draws from q(z|x) inside ``log_prob``, which is a function of x alone.
FIXED = 0


@dataclass(frozen=True)
class Encoding:
    """Where conformations lie on the map: ``z`` and its width ``sigma`` [frames, latents]; ``circular`` [latents]."""

    z: Float[ndarray, "frames latents"]
    sigma: Float[ndarray, "frames latents"]
    circular: Bool[ndarray, " latents"]

    def columns(self) -> dict[str, ndarray]:
        """``z1``, ``z2``, ... as columns of an ensemble."""
        return {f"z{i + 1}": column for i, column in enumerate(self.z.T)}

    def __repr__(self) -> str:
        kinds = ", ".join("circle" if c else "real" for c in self.circular)
        return f"Encoding({len(self.z)} frames, latents {kinds}; width {np.median(self.sigma, axis=0).round(3)})"


class LatentMap(nn.Module):
    """Encoder q(z|x), prior flow p(z), generator p(x|z): a map one can read, and a generator with exact weights.

    The joint density ``log_joint = log p(z) + log p(x|z)`` is exact and normalised. Draws of it have the importance
    weights

        w = exp(-u(x)) q(z|x) / (p(z) p(x|z)) ,

    whose averages are unbiased for any encoder: the target is extended by q(z|x), which integrates to one. So
    ``sample`` returns ``log_q = log p(z) + log p(x|z) - log q(z|x)``, and everything that works with weights
    ``exp(-u - log_q)`` works with a map. With ``particles`` K > 1 the ratio is averaged over the z that was drawn and
    K - 1 more from q(z|x); the weights stay unbiased and vary less (Burda et al. 2016, arXiv 1509.00519).

    ``log_prob(x)`` estimates the marginal log p(x) the same way, from draws of q(z|x); its mean over frames is a lower
    bound of the log-likelihood, and with K = 1 the ELBO. ``prior`` and ``generator.at(z)`` are densities in the strict
    sense.

    Args:
        encoder, prior, generator: the three parts.
        propagator: p(z_{t + lag} | z_t), trained by ``losses.propagation``; None for a map without time.
        molecule: what the atoms are.
        particles: see above.
    """

    def __init__(
        self,
        encoder: Encoder,
        prior: Flow,
        generator: ConditionalFlow,
        *,
        molecule: Molecule,
        propagator: ConditionalFlow | None = None,
        particles: int = 1,
    ) -> None:
        super().__init__()
        if particles < 1:
            raise ValueError(f"particles: got {particles}, expected at least 1")
        self.encoder, self.prior, self.generator, self.propagator = encoder, prior, generator, propagator
        self.molecule, self.particles = molecule, particles

    @property
    def latents(self) -> int:
        """Number of latent dimensions."""
        return self.encoder.latent.size

    # ------------------------------------------------------------------ densities

    def log_joint(
        self, x: Float[Tensor, "batch atoms 3"], z: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, " batch"]:
        """Log p(z) + log p(x|z), exact."""
        return self.prior.log_prob(z) + self.generator.log_prob(x, z)

    def sample_joint(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n atoms 3"], Float[Tensor, "n latents"], Float[Tensor, " n"]]:
        """``n`` independent pairs (x, z) and their ``log_joint``."""
        z, log_prior = self.prior.sample(n, generator=generator)
        x, log_given = self.generator.sample(z, generator=generator)
        return x, z, log_prior + log_given

    def log_ratio(
        self, x: Float[Tensor, "batch atoms 3"], posterior: Posterior, z: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, " batch"]:
        """Log p(x, z) - log q(z|x): the integrand of the ELBO."""
        return self.log_joint(x, z) - posterior.log_prob(z).sum(1)

    def log_prob(self, x: Float[Tensor, "batch atoms 3"]) -> Float[Tensor, " batch"]:
        """Log p(x), estimated with ``particles`` draws of q(z|x) by a generator of its own; see the class."""
        source = Generator(device=x.device).manual_seed(FIXED)
        posterior = self.encoder(x)
        ratios = [self.log_ratio(x, posterior, posterior.sample(generator=source)) for _ in range(self.particles)]
        return torch.logsumexp(torch.stack(ratios), 0) - float(np.log(self.particles))

    def sample(
        self, n: int, *, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n atoms 3"], Float[Tensor, " n"]]:
        """``n`` independent conformations and the ``log_q`` of their importance weights; see the class."""
        x, z, log_joint = self.sample_joint(n, generator=generator)
        posterior = self.encoder(x)
        ratios = [log_joint - posterior.log_prob(z).sum(1)]
        for _ in range(self.particles - 1):
            ratios.append(self.log_ratio(x, posterior, posterior.sample(generator=generator)))
        return x, torch.logsumexp(torch.stack(ratios), 0) - float(np.log(self.particles))

    # ------------------------------------------------------------------ the map

    @torch.no_grad()
    def encode(self, ensemble: Ensemble, *, batch_size: int = 4096) -> Encoding:
        """Where the conformations of an ensemble lie on the map.

        Raises:
            ValueError: if the ensemble belongs to another molecule.
        """
        if ensemble.molecule.n_atoms != self.molecule.n_atoms:
            raise ValueError(f"ensemble: got {ensemble!r}, expected conformations of {self.molecule!r}")
        like = next(self.parameters())
        parts = []
        for start in range(0, len(ensemble), batch_size):
            x = torch.as_tensor(np.array(ensemble.x[start : start + batch_size])).to(like)
            posterior = self.encoder(x)
            parts.append(torch.stack([posterior.mean, posterior.sigma]).cpu().numpy())
        whole = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0, self.latents))
        return Encoding(whole[0], whole[1], self.encoder.latent.has("circle"))

    @torch.no_grad()
    def decode(
        self, z: Float[ndarray, "points latents"], *, each: int = 1, seed: int = 0, energy: Energy | None = None
    ) -> Ensemble:
        """Conformations at points of the map, drawn from p(x|z): ``each`` per point, one point after the other.

        ``log_q`` is log p(x|z), so the frames of one point have weights ``exp(-u - log_q)``; the columns ``z1``, ...
        say where they were drawn, ``point`` at which row of z.

        Raises:
            ValueError: if z has another number of latents, or ``each`` is not positive.
        """
        z = np.atleast_2d(np.asarray(z, dtype=float))
        if z.shape[1] != self.latents or each < 1:
            raise ValueError(f"z: got shape {z.shape} with each={each}, expected [points, {self.latents}], each >= 1")
        rows = torch.from_numpy(np.repeat(z, each, axis=0)).to(next(self.parameters()))
        source = Generator(device=rows.device).manual_seed(seed)
        x, log_given = self.generator.sample(rows, generator=source)
        columns: dict[str, Any] = {f"z{i + 1}": c for i, c in enumerate(np.repeat(z, each, axis=0).T)}
        columns["point"] = np.repeat(np.arange(len(z)), each)
        log_p = None if energy is None else -energy(x).double().cpu().numpy()
        return Ensemble(
            self.molecule, x.cpu().numpy(), log_p=log_p, log_q=log_given.double().cpu().numpy(), columns=columns,
            meta={"source": "molifold.flows.LatentMap.decode", "seed": seed},
        )  # fmt: skip

    def path(
        self,
        a: Float[ndarray, "atoms 3"],
        b: Float[ndarray, "atoms 3"],
        *,
        energy: Energy | None = None,
        images: int = 24,
        candidates: int = 64,
        sound: Sound | None = None,
        seed: int = 0,
    ) -> LatentPath:
        """A path through the map between two conformations, see ``latent_path.find_path``."""
        from molifold.flows.latent_path import find_path

        return find_path(self, a, b, energy=energy, images=images, candidates=candidates, sound=sound, seed=seed)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters() if p.requires_grad)
        parts = [f"encoder: {self.encoder!r}", f"prior: {self.prior!r}", f"generator: {self.generator!r}"]
        parts += [] if self.propagator is None else [f"propagator: {self.propagator!r}"]
        return f"LatentMap({count} parameters)\n" + "\n".join(p.replace("\n", "\n  ") for p in parts)
