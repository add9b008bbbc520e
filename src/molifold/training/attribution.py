"""How much every atom contributes to a dimension of a latent map, by captum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from molifold.ensemble import Ensemble
from molifold.probes.attribution import AtomAttribution, atom_attribution
from molifold.transforms.angles import wrap

if TYPE_CHECKING:
    from molifold.flows.latent import LatentMap
    from molifold.flows.latent_encoder import Encoder


@dataclass(frozen=True)
class Attribution:
    """Per atom: ``value`` [atoms], shares that sum to one, and the standard ``error`` of the mean over frames.

    ``atoms`` names them, as in ``ALA2_CB``.
    """

    latent: str
    method: str
    value: Float[ndarray, " atoms"]
    error: Float[ndarray, " atoms"]
    atoms: tuple[str, ...]

    def __repr__(self) -> str:
        order = np.argsort(-self.value)[:5]
        told = ", ".join(f"{self.atoms[i]} {self.value[i]:.2f} +- {self.error[i]:.2f}" for i in order)
        return f"{self.latent} by {self.method}: {told}"


def attribute(
    flow: LatentMap,
    ensemble: Ensemble,
    *,
    latent: int = 0,
    method: Literal["gradient", "integrated"] = "integrated",
    baseline: Ensemble | None = None,
) -> Attribution:
    """Shares of the atoms in a dimension of the map, averaged over frames.

    ``"gradient"``: the length of the gradient with respect to an atom's position, which is what the atom can do here.
    ``"integrated"``: what the coordinates that an atom carries (its bond, angle, torsion) contributed on the straight
    way from the baseline, in internal coordinates, angles the shorter way round; contributions add up to the difference
    in the latent (completeness; of a circular one, up to full turns). Distances, for networks that use them, stay those
    of the frame. A straight way between Cartesian positions would lead through other atoms, and one between
    standardised coordinates would mix those of neighbours.

    Args:
        flow: a trained map.
        ensemble: conformations to explain; a hundred are plenty.
        latent: which dimension. Of a circular one, the angle.
        method: see above.
        baseline: of ``"integrated"``: the mean of its coordinates (of angles, their direction) is where the way begins;
            default ``ensemble``.

    Raises:
        ValueError: if there is no such latent or method.

    Reference: Sundararajan, Taly, Yan (2017), arXiv 1703.01365; Kokhlikyan et al. (2020), arXiv 2009.07896 (captum).
    """
    if not 0 <= latent < flow.latents or method not in ("gradient", "integrated"):
        expected = f"a latent below {flow.latents}, and gradient or integrated"
        raise ValueError(f"latent, method: got {latent}, {method!r}; expected {expected}")
    encoder, like = flow.encoder, next(flow.parameters())
    x = torch.as_tensor(np.array(ensemble.x)).to(like)

    if method == "gradient":
        found = atom_attribution(lambda x: encoder(x).mean[:, latent], x, method="gradient")
    else:
        start = torch.as_tensor(np.array((baseline or ensemble).x)).to(like)
        found = _integrated(encoder, x, start, latent=latent)
    share, error = found.shares()
    m = ensemble.molecule
    names = zip(m.residue_names, m.residue_ids, m.atom_names, strict=True)
    return Attribution(
        latent=f"z{latent + 1}",
        method=method,
        value=share,
        error=error,
        atoms=tuple(f"{r}{i}_{a}" for r, i, a in names),
    )


def _integrated(
    encoder: Encoder, x: Float[Tensor, "frames atoms 3"], start: Float[Tensor, "others atoms 3"], *, latent: int
) -> AtomAttribution:
    """Contributions on the way from the mean of ``start`` to every frame: of coordinates, summed by their atoms."""
    internal, *scale = encoder.frame.steps  # type: ignore[union-attr,misc]
    circle = torch.from_numpy(internal.codomain.has("circle")).to(x.device)
    with torch.no_grad():
        y, others = internal(x)[0], internal(start)[0]
        direction = torch.atan2(others.sin().mean(0), others.cos().mean(0))
        away = y - torch.where(circle, direction, others.mean(0))
        away = torch.where(circle, wrap(away), away)

    def explained(y: Tensor, x: Tensor) -> Tensor:
        y = y[..., 0]
        for step in scale:
            y = step(y)[0]
        return encoder.posterior(encoder.spread(y), x).mean[:, latent]

    found = atom_attribution(explained, y[..., None], baseline=(y - away)[..., None], also=(x,))
    value = np.zeros((x.shape[1], len(x)))
    np.add.at(value, np.array(internal.atoms), found.value.T)
    return AtomAttribution(value.T, found.gap)
