"""Whether two layers (of one network, two checkpoints or two runs) see the same: centred kernel alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from molifold.probes.layers import features

#: Blocks of examples left out in turn for the standard error.
BLOCKS = 10
#: Examples below which the debiased estimate is noise.
FEWEST = 20
#: Examples that are enough: the work grows with their square.
ENOUGH = 128
#: Layers in a record that a training keeps, at most.
LAYERS = 64
#: Layers more alike than this hold the same.
SAME = 0.98


@dataclass(frozen=True)
class Alignment:
    """Linear CKA of two sets of layers.

    Attributes:
        rows, columns: names of the layers.
        values: [rows, columns] debiased, 1 where two layers agree up to rotation and scale, 0 (noise either way) where
            they are unrelated.
        errors: [rows, columns] jackknife standard errors over examples.
        examples: how many.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[ndarray, "rows columns"]
    errors: Float[ndarray, "rows columns"]
    examples: int


def representations(model: nn.Module, batch: Any, *, loss: ExampleLoss | None = None) -> dict[str, Tensor]:
    """What every layer reads, [examples, all its features at all its positions]; layers without are left out.

    Args:
        model: any module, in eval mode.
        batch: what it is evaluated on.
        loss: how it is evaluated; default ``model(batch)``.
    """
    found = {f.site: f.examples for f in features(model, batch, loss=loss) if f.examples is not None}
    return {site: x for site, x in found.items() if float(x.std(0, correction=0).max()) > 0}


def alignment(
    first: Mapping[str, Float[Tensor, "examples a"]], second: Mapping[str, Float[Tensor, "examples b"]] | None = None
) -> Alignment:
    """Debiased linear CKA of every layer of ``first`` with every layer of ``second`` (default: of ``first``).

        CKA(X, Y) = <K~, L~> / sqrt(<K~, K~> <L~, L~>) ,   K = X X^T ,  L = Y Y^T ,

    where K~ is K without its diagonal and U-centred, which makes <K~, L~> / n(n-3) the unbiased HSIC (Song et al.).

    Args:
        first, second: representations of the *same* examples, say by ``representations``.

    Raises:
        ValueError: if there are fewer than 20 examples, or not equally many everywhere.

    References: Kornblith et al. (2019), arXiv 1905.00414; Song et al. (2012), JMLR 13:1393; Szekely and Rizzo (2014),
    arXiv 1310.2926, definition 2.

    >>> x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    >>> turned = 3 * x @ torch.linalg.qr(torch.randn(5, 5))[0] + 7
    >>> round(float(alignment({"x": x}, {"turned": turned}).values[0, 0]), 6)
    1.0
    """
    other = first if second is None else second
    sizes = {len(x) for x in (*first.values(), *other.values())}
    if len(sizes) > 1 or min(sizes, default=FEWEST) < FEWEST:
        raise ValueError(
            f"first: got {sorted(sizes)} examples, expected the same examples everywhere, at least {FEWEST}"
        )
    n = sizes.pop() if sizes else 0
    grams = [torch.stack([_gram(x) for x in given.values()]) for given in (first, other) if given]
    if len(grams) < 2:
        nothing = np.zeros((len(first), len(other)))
        return Alignment(tuple(first), tuple(other), nothing, nothing, n)
    whole = _aligned(*grams)
    parts = []
    for block in torch.arange(n).tensor_split(BLOCKS):
        kept = torch.ones(n, dtype=torch.bool)
        kept[block] = False
        parts.append(_aligned(*(g[:, kept][:, :, kept] for g in grams)))
    spread = torch.stack(parts).var(0, correction=0)
    errors = ((BLOCKS - 1) * spread).sqrt()
    return Alignment(tuple(first), tuple(other), whole.cpu().numpy(), errors.cpu().numpy(), n)


def _gram(x: Float[Tensor, "examples features"]) -> Float[Tensor, "examples examples"]:
    centred = x.double() - x.double().mean(0)
    size = centred.abs().max().clamp(min=1e-300)
    return (centred / size) @ (centred / size).mT


def _aligned(k: Float[Tensor, "rows n n"], m: Float[Tensor, "columns n n"]) -> Float[Tensor, "rows columns"]:
    k, m = _u_centred(k).flatten(1), _u_centred(m).flatten(1)
    scale = k.square().sum(1)[:, None] * m.square().sum(1)[None]
    return (k @ m.mT) / scale.sqrt().clamp(min=1e-300)


def _u_centred(k: Float[Tensor, "layers n n"]) -> Float[Tensor, "layers n n"]:
    n = k.shape[-1]
    k = k - torch.diag_embed(torch.diagonal(k, dim1=1, dim2=2))
    sums = k.sum(2)
    total = sums.sum(1)[:, None, None] / ((n - 1) * (n - 2))
    k = k - (sums[:, :, None] + sums[:, None, :]) / (n - 2) + total
    return k - torch.diag_embed(torch.diagonal(k, dim1=1, dim2=2))


def watch_layers(moment: Moment) -> dict[str, Record]:
    """Which layers see the same: debiased linear CKA between what all layers read, on the probe batch.

    Healthy: neighbours alike, and less and less alike with distance. A block of layers with values near 1 does one
    thing: its later layers add nothing, and could go. A layer unlike everything before it and of low rank has forgotten
    its input: a bottleneck, if ``expressivity`` says so too.
    """
    if moment.batch is None:
        return {}
    n = count(moment.batch)
    some = take(moment.batch, torch.arange(min(n, ENOUGH)), n)
    seen = representations(moment.model, some, loss=moment.loss)
    if len(seen) < 2 or n < FEWEST:
        return {}
    names = list(seen)[:: -(-len(seen) // LAYERS)]  # the map is kept at every look: a few of hundreds of layers do
    return records(alignment({name: seen[name] for name in names}))


def records(found: Alignment, *, name: str = "similarity of layers") -> dict[str, Record]:
    """The values as the map ``name``."""
    if not found.values.size:
        return {}
    return {name: ("map", {"values": found.values, "x": np.array(found.columns), "y": np.array(found.rows)})}


def findings(found: Alignment, *, what: str = "") -> Sequence[Finding]:
    """What there is to say: of one network (default), or of it and another one, which is called ``what``."""
    if not found.values.size:
        return []
    if what:
        shared = [name for name in found.rows if name in found.columns]
        values = [found.values[found.rows.index(name), found.columns.index(name)] for name in shared]
        if not shared:
            return [Finding("ok", "similarity of layers", f"no layer has the name of one of {what}")]
        least = int(np.argmin(values))
        told = f"CKA with the same layers of {what}: median {np.median(values):.2f}, least {shared[least]} "
        return [Finding("ok", "similarity of layers", told + f"({values[least]:.2f}; {found.examples} examples)")]
    pairs = [
        (found.values[i, i + 1], name, found.rows[i + 1])
        for i, name in enumerate(found.rows[:-1])
        if found.values[i, i + 1] - 2 * found.errors[i, i + 1] > SAME
    ]
    if not pairs:
        return [Finding("ok", "similarity of layers", "no two neighbouring layers read the same")]
    value, first, second = max(pairs)
    told = f"{len(pairs)} of {len(found.rows) - 1} neighbouring pairs read the same up to rotation and scale, "
    told += f"most of all {first} and {second} (CKA {value:.3f})"
    return [Finding("ok", "similarity of layers", told, "a layer between two that read the same adds little")]
