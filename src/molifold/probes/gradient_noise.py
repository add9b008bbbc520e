"""Gradient noise scale: the batch size below which a larger batch makes a step as much better as it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.finding import Finding
from molifold.interfaces import ExampleLoss, Moment, Record
from molifold.probes.expressivity.sites import count, take

#: Micro-batches whose gradients are compared.
PARTS = 8


@dataclass(frozen=True)
class GradientNoise:
    """Signal and noise of the gradient.

    Attributes:
        scale: tr(S) / |G|^2 in examples, S the covariance of single examples' gradients, G their mean; infinite where
            no signal is seen.
        least: its lower bound with 97.5 % confidence, from the error of the signal.
        signal, signal_error: |G|^2, unbiased (it can come out negative), and its jackknife standard error.
        noise, noise_error: tr(S), likewise.
        examples, parts: seen, in so many micro-batches.
        names, scales: [tensors] the same for every parameter tensor.
    """

    scale: float
    least: float
    signal: float
    signal_error: float
    noise: float
    noise_error: float
    examples: int
    parts: int
    names: tuple[str, ...]
    scales: Float[ndarray, " tensors"]


def gradient_noise(model: nn.Module, loss: ExampleLoss, batch: Any, *, parts: int = PARTS) -> GradientNoise:
    """Measure the noise scale of the mean of ``loss`` from the gradients of ``parts`` micro-batches.

    With g_k the gradients of m micro-batches of b examples and g their mean,

        tr(S) = b / (m - 1) sum_k |g_k - g|^2 ,   |G|^2 = |g|^2 - tr(S) / (b m) .

    Args:
        model: any module; no gradient is left in it.
        loss: ``loss(model, batch) -> [examples]``.
        batch: tensors with examples first, in any nesting of tuples and dicts; a remainder is left out.
        parts: number of micro-batches.

    Raises:
        ValueError: if there are fewer examples than ``parts``, or fewer than three parts.

    Reference: McCandlish, Kaplan, Amodei et al. (2018), arXiv 1812.06162, appendix A.

    >>> x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1.0)
    >>> found = gradient_noise(model, lambda m, x: m(x)[:, 0] * 2 + 4 * m.weight[0, 0], x, parts=40)
    >>> bool(abs(found.signal - 16) < 1 and abs(found.noise - 4) < 1)  # gradient 4 + 2 x
    True
    """
    n = count(batch)
    if parts < 3 or n < parts:
        raise ValueError(f"parts: got {parts} for {n} examples, expected at least 3, and an example for each")
    size = n // parts
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients: list[list[Tensor]] = []
    for k in range(parts):
        with torch.enable_grad():
            mean = loss(model, take(batch, torch.arange(k * size, (k + 1) * size), n)).mean()
            # Not backward(): that would write .grad, and wake the hooks of a distributed wrapper.
            found = torch.autograd.grad(mean, list(named.values()), allow_unused=True)
        gradients.append([torch.zeros_like(p) if g is None else g for p, g in zip(named.values(), found, strict=True)])
    flat = [torch.stack([g[i].flatten() for g in gradients]).double() for i in range(len(named))]
    grams = torch.stack([g @ g.mT for g in flat]).cpu().numpy()
    signal, noise = _split(grams.sum(0), size)
    errors = _jackknife(grams.sum(0), size)
    each = [_scale(*_split(gram, size)) for gram in grams]
    bound = signal + 2 * errors[0]
    return GradientNoise(
        scale=_scale(signal, noise),
        least=max(0.0, noise - 2 * errors[1]) / bound if bound > 0 else math.inf,
        signal=signal,
        signal_error=errors[0],
        noise=noise,
        noise_error=errors[1],
        examples=size * parts,
        parts=parts,
        names=tuple(named),
        scales=np.array(each),
    )


def _split(gram: Float[ndarray, "parts parts"], size: int) -> tuple[float, float]:
    """|G|^2 and tr(S) from the inner products of the micro-batches' gradients."""
    m = len(gram)
    square = float(gram.sum()) / m**2
    spread = (float(np.trace(gram)) - m * square) / (m - 1)
    return square - spread / m, size * spread


def _jackknife(gram: Float[ndarray, "parts parts"], size: int) -> tuple[float, float]:
    m = len(gram)
    kept = [np.delete(np.arange(m), k) for k in range(m)]
    found = np.array([_split(gram[np.ix_(rows, rows)], size) for rows in kept])
    signal, noise = np.sqrt((m - 1) * found.var(0))
    return float(signal), float(noise)


def _scale(signal: float, noise: float) -> float:
    return noise / signal if signal > 0 else (math.inf if noise > 0 else math.nan)


def watch_gradient_noise(moment: Moment) -> dict[str, Record]:
    """Gradient noise scale on the probe batch: examples per step beyond which a larger batch stops paying.

    Healthy: of the order of the batch size, growing as the loss settles, because the signal vanishes at the optimum and
    the noise does not. Far above the batch size the steps are mostly noise: a larger batch, a lower learning rate or an
    average of the weights will help. Far below it, a smaller batch would learn as much from each step.
    """
    if moment.batch is None or moment.loss is None or count(moment.batch) < PARTS:
        return {}
    return records(gradient_noise(moment.model, moment.loss, moment.batch))


def records(found: GradientNoise) -> dict[str, Record]:
    """The result as the scalar "gradient noise scale" and the table "gradient noise" of all parameter tensors."""
    table = {"name": np.array(found.names), "scale": found.scales}
    return {
        "gradient noise scale": ("scalar", {"value": np.array(found.scale), "least": np.array(found.least)}),
        "gradient noise": ("table", table),
    }


def findings(found: GradientNoise, *, batch_size: int | None = None) -> Sequence[Finding]:
    """What there is to say, compared with the batch size of the training if that is known."""
    if not found.noise > 0:
        return []
    seen = f"tr(S) {found.noise:.3g} +- {found.noise_error:.1g}, |G|^2 {found.signal:.3g} +- {found.signal_error:.1g}"
    known = math.isfinite(found.scale)
    about = f"about {found.scale:.3g} examples" if known else "no signal above the noise"
    told = f"{about}, at least {found.least:.3g} ({seen}, {found.examples} examples)"
    if batch_size is None or found.least <= 10 * batch_size:
        return [Finding("ok", "gradient noise scale", told)]
    remedy = f"steps of {batch_size} are mostly noise, as they should be at the end of a training; before its end "
    remedy += "take larger batches or let the learning rate fall"
    return [Finding("ok", "gradient noise scale", told, remedy)]
