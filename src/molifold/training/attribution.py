"""How much every atom contributes to a dimension of a latent map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from molifold.ensemble import Ensemble
from molifold.probes.attribution import atom_attribution

if TYPE_CHECKING:
    from molifold.flows.latent import LatentMap


@dataclass(frozen=True)
class Attribution:
    """Per atom: ``value`` [atoms], shares that sum to one, and the standard ``error`` of the mean over frames."""

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
    way from the baseline, in the encoder's input; contributions add up to the difference in the latent (completeness;
    of an angle, up to full turns). Distances, for networks that use them, stay those of the frame. A straight way
    between Cartesian positions would lead through other atoms.

    Args:
        flow: a trained map.
        ensemble: conformations to explain; a hundred are plenty.
        latent: which dimension. Of a circular one, the angle.
        method: see above.
        baseline: of ``"integrated"``: the mean of its inputs is where the way begins; default ``ensemble``.

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
        with torch.no_grad():
            features, origin = encoder.features(x), encoder.features(start).mean(0, keepdim=True)
        found = atom_attribution(
            lambda f, x: encoder.posterior(f, x).mean[:, latent], features, baseline=origin, also=(x,)
        )
    share, error = found.shares()
    return Attribution(f"z{latent + 1}", method, value=share, error=error, atoms=ensemble.molecule.atom_names)
