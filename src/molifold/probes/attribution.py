"""Attribution: how much every atom contributes to one number that a network computes, by captum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.interfaces import Moment, Record

#: Points of the integral over the way from the baseline.
POINTS = 32


@dataclass(frozen=True)
class AtomAttribution:
    """Contribution of every atom to a number, conformation by conformation.

    Attributes:
        value: [frames, atoms]. ``"integrated"``: parts of f(x) - f(baseline), with their signs. ``"gradient"``: length
            of the gradient with respect to what an atom carries.
        gap: [frames] what the parts miss of f(x) - f(baseline), the error of the integral; nan for gradients.
    """

    value: Float[ndarray, "frames atoms"]
    gap: Float[ndarray, " frames"]

    def shares(self) -> tuple[Float[ndarray, " atoms"], Float[ndarray, " atoms"]]:
        """Sizes of the contributions as shares that sum to one: mean over frames and its standard error."""
        size = np.abs(self.value)
        share = size / np.maximum(size.sum(1, keepdims=True), 1e-12)
        error = share.std(0, ddof=1) / len(share) ** 0.5 if len(share) > 1 else np.full(share.shape[1], np.nan)
        return share.mean(0), error

    def __repr__(self) -> str:
        share, error = self.shares()
        told = ", ".join(f"atom {i} {share[i]:.2f} +- {error[i]:.2f}" for i in np.argsort(-share)[:5])
        return f"AtomAttribution({len(self.value)} frames: {told})"


def atom_attribution(
    f: Callable[..., Tensor],
    x: Float[Tensor, "frames atoms channels"],
    *,
    method: Literal["integrated", "gradient"] = "integrated",
    baseline: Float[Tensor, "#frames atoms channels"] | None = None,
    also: tuple[Tensor, ...] = (),
    points: int = POINTS,
) -> AtomAttribution:
    """Attribute a number to the atoms that carry its input.

    Args:
        f: ``f(x, *also) -> [frames]``: an energy, a log-density, one output of a network.
        x: what every atom carries: features, or positions. Between positions a straight way leads through other atoms,
            so for those take ``"gradient"``.
        method: ``"integrated"`` gradients from the baseline, or the ``"gradient"`` at x.
        baseline: where the way begins, of all frames or of each; default the mean of ``x``.
        also: more inputs of ``f`` that are held fixed, one row per frame.
        points: of the integral.

    Raises:
        ValueError: if ``method`` is another one.

    Reference: Sundararajan, Taly, Yan (2017), arXiv 1703.01365; Kokhlikyan et al. (2020), arXiv 2009.07896 (captum).

    >>> weight = torch.tensor([1.0, 0.0, 3.0])
    >>> found = atom_attribution(lambda x: x[..., 0] @ weight, torch.ones(2, 3, 1), baseline=torch.zeros(1, 3, 1))
    >>> found.value.round(4).tolist(), found.shares()[0].round(4).tolist()
    ([[1.0, 0.0, 3.0], [1.0, 0.0, 3.0]], [0.25, 0.0, 0.75])
    """
    from captum.attr import IntegratedGradients, Saliency

    if method not in ("integrated", "gradient"):
        raise ValueError(f"method: got {method!r}, expected integrated or gradient")
    x = x.detach().requires_grad_()
    if method == "gradient":
        value = Saliency(f).attribute(x, abs=False, additional_forward_args=also or None).norm(dim=2)
        gap = torch.full((len(x),), torch.nan)
    else:
        start = (x.mean(0, keepdim=True) if baseline is None else baseline.detach()).expand_as(x)
        value, gap = IntegratedGradients(f).attribute(
            x, baselines=start, additional_forward_args=also or None, n_steps=points, return_convergence_delta=True
        )
        value = value.sum(2)
    return AtomAttribution(value.detach().double().cpu().numpy(), gap.detach().double().cpu().numpy())


class AttributionProbe:
    """Attribution: how much every atom contributes to one number that the network computes.

    Shows the share of every atom in the size of all contributions, mean over the batch and its standard error. Healthy:
    the atoms that chemistry would name, and a picture that stays the same between checkpoints. Otherwise: one atom that
    takes nearly all means that the network reads the number off a single coordinate, and atoms at 0 that should count
    are not seen: check the input, the reach of messages, and the data for a shortcut.

    Args:
        score: the number, ``score(model, x) -> [frames]``.
        method, baseline: see ``atom_attribution``.
    """

    def __init__(
        self,
        score: Callable[[nn.Module, Tensor], Tensor],
        *,
        method: Literal["integrated", "gradient"] = "integrated",
        baseline: Float[Tensor, "1 atoms channels"] | None = None,
    ) -> None:
        self.score, self.method, self.baseline = score, method, baseline

    def __call__(self, moment: Moment) -> dict[str, Record]:
        """Record ``attribution - atoms`` of the probe batch [frames, atoms, channels]."""
        found = atom_attribution(
            lambda x: self.score(moment.model, x), moment.batch, method=self.method, baseline=self.baseline
        )
        share, error = found.shares()
        names = np.arange(len(share)).astype(str)
        return {"attribution - atoms": ("table", {"name": names, "share": share, "error": error})}
