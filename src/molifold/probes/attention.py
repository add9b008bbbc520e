"""Attention: what every head of every layer attends to, seen in any network without changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from molifold.finding import Finding
from molifold.interfaces import Moment, Record
from molifold.probes.view import View, Views, followed

#: Entropy beyond this share of the uniform bound: a head that averages. Below its complement: one that copies.
UNIFORM = 0.99
#: Molecules up to this size have their attention kept atom by atom.
MOST_ATOMS = 128


@dataclass(frozen=True)
class Attention:
    """Attention of one layer.

    Attributes:
        layer: name of the module that attends.
        entropy: of the attention of an atom over its neighbours, as a share of the uniform bound log(neighbours): mean
            over atoms with at least two neighbours, and over conformations.
        error: its standard error over conformations; 0 where one attention serves them all.
        weights: [head, target, source] mean over conformations; None for molecules of more than ``MOST_ATOMS`` atoms
            and where the source of an edge could not be seen.
    """

    layer: str
    entropy: Float[ndarray, " heads"]
    error: Float[ndarray, " heads"]
    weights: Float[ndarray, "heads atoms atoms"] | None


@torch.no_grad()
def attention(view: View) -> tuple[Attention, ...]:
    """Attention of every layer of a graph network, in the order of the calls; empty for a network without any.

    Seen are a softmax over the last axis of [..., atoms, atoms]; exponentials that are divided by their sums over the
    edges that arrive at an atom (the softmax of sparse layouts, torch_geometric's among them);
    ``scaled_dot_product_attention`` and ``nn.MultiheadAttention``. Not seen is attention inside compiled extensions.

    Reference: Zhai et al. (2023), arXiv 2303.06296 (entropy of attention, and what its collapse does to training).

    >>> from torch import nn
    >>> x = torch.zeros(2, 3, 4)
    >>> layer = nn.MultiheadAttention(4, 2, batch_first=True)
    >>> (found,) = attention(View(layer, x, lambda x: layer(x, x, x), torch.ones(3, 3)))
    >>> found.entropy.round(3), found.weights.shape
    (array([1., 1.]), (2, 3, 3))
    """
    recorder = _Recorder(*view.features.shape[:2])
    with followed(view.network, lambda name, output: None) as recorder.running, recorder:
        view.run(view.features)
    return tuple(_summary(view, *seen) for seen in recorder.seen)


def _summary(view: View, layer: str, alpha: Tensor, allowed: Tensor, complete: bool) -> Attention:  # noqa: FBT001
    """Of attention [batch, heads, atoms, sources] and which sources an atom may attend to."""
    alpha = alpha.double()
    count = allowed.sum(-1)
    entropy = torch.special.entr(alpha).sum(-1) / count.clamp(min=2).double().log()
    open_ = (count > 1).to(alpha).expand(entropy.shape)
    share = (entropy * open_).sum(-1) / open_.sum(-1).clamp(min=1)  # [batch, heads]
    error = share.std(0) / len(share) ** 0.5 if len(share) > 1 else torch.zeros(share.shape[1])
    keep = complete and alpha.shape[-2] <= MOST_ATOMS
    weights = alpha.mean(0).float().cpu().numpy() if keep else None
    return Attention(view.label(layer), share.mean(0).cpu().numpy(), error.cpu().numpy(), weights)


class _Recorder(TorchFunctionMode):
    """Notes attention while active: (module, alpha [batch, heads, atoms, sources], allowed, sources are atoms)."""

    def __init__(self, batch: int, atoms: int) -> None:
        super().__init__()
        self.batch, self.atoms = batch, atoms
        self.running: list[str] = []
        self.seen: list[tuple[str, Tensor, Tensor, bool]] = []
        self._picked: dict[int, tuple[Tensor, Tensor]] = {}  # rows taken by an index, by memory
        self._added: dict[int, tuple[Tensor, Tensor]] = {}  # what was added up, by identity
        self._edges: tuple[Tensor, Tensor] | None = None  # sparse attention that waits for its sources

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let ``func`` happen, and look at what it does."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in ("softmax", "_softmax"):
            self._softmax(args[0] if args else kwargs["input"], out)
        elif name in ("__getitem__", "index_select", "gather"):
            self._pick(args, kwargs, out)
        elif name in ("index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_"):
            self._add(args, kwargs)
        elif name in ("div", "truediv", "true_divide", "__truediv__"):
            self._divide(args[0], out)
        elif name in ("mul", "__mul__", "__rmul__", "multiply"):
            self._multiply(args)
        elif name == "scaled_dot_product_attention":
            self._dot_product(args, kwargs)
        elif name == "multi_head_attention_forward":
            asked = {**kwargs, "need_weights": True, "average_attn_weights": False}
            self._note(func(*args, **asked)[1], None)
        return out

    # ------------------------------------------------------------------ dense

    def _softmax(self, scores: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.ndim > 1 and out.shape[-2:] == (self.atoms, self.atoms):
            rows = out.sum(-1)
            if torch.allclose(rows, torch.ones_like(rows), atol=1e-3):  # over the last axis, not another one
                self._note(out, ~torch.isneginf(scores))

    def _dot_product(self, args: Any, kwargs: Any) -> None:
        query, key = args[0], args[1]
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        scores = query @ key.mT * (kwargs.get("scale") or query.shape[-1] ** -0.5)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        if args[5] if len(args) > 5 else kwargs.get("is_causal", False):
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        if scores.shape[-2:] == (self.atoms, self.atoms):
            self._note(scores.softmax(-1), ~torch.isneginf(scores))

    def _note(self, alpha: Tensor, allowed: Tensor | None) -> None:
        """Of dense attention, [heads, atoms, atoms], [batch, atoms, atoms] or with both."""
        allowed = alpha > 0 if allowed is None else allowed.expand(alpha.shape)

        def whole(values: Tensor) -> Tensor:
            if values.ndim > 3:
                return values.flatten(1, -3)
            return values.view(-1, 1, *values.shape[-2:]) if len(values) == self.batch else values[None]

        if alpha.ndim == 2:
            alpha, allowed = alpha[None], allowed[None]
        self.seen.append((self._name, whole(alpha), whole(allowed), True))

    @property
    def _name(self) -> str:
        return self.running[-1] if self.running else ""

    # ------------------------------------------------------------------ sparse

    def _pick(self, args: Any, kwargs: Any, out: Any) -> None:
        index = kwargs.get("index", args[-1])
        if isinstance(index, Tensor) and index.dtype == torch.long and index.ndim == 1 and isinstance(out, Tensor):
            self._picked[_memory(out)] = out, index

    def _add(self, args: Any, kwargs: Any) -> None:
        named = dict(zip(("self", "dim", "index", "src"), args, strict=False)) | kwargs
        source, index = named.get("src", named.get("source")), named.get("index")
        if isinstance(source, Tensor) and isinstance(index, Tensor):
            self._added[id(source)] = source, index.reshape(len(index), -1)[:, 0]

    def _divide(self, weight: Any, out: Tensor) -> None:
        """Exponentials over what was gathered from their sums: attention [edges, heads]."""
        if id(weight) not in self._added or out.ndim > 2 or bool((out < 0).any()):
            return
        target = self._added[id(weight)][1]
        alpha = out.detach().reshape(len(out), -1)
        total = alpha.new_zeros(self.batch * self.atoms, alpha.shape[1])
        if len(target) != len(alpha) or int(target.max()) >= len(total):
            return
        total = total.index_add(0, target, alpha)
        if bool(((total - 1).abs() > 1e-3).logical_and(total > 0).any()):
            return
        # Edges in the order of arrival at each atom; the number of an edge there stands for its source until that is
        # known.
        order = torch.argsort(target, stable=True)
        count = torch.bincount(target, minlength=len(total))
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[target[order]]
        self.seen.append((self._name, *self._spread(alpha, target, place, int(count.max())), False))
        self._edges = alpha, target

    def _multiply(self, args: Any) -> None:
        """Attention times what was gathered from the sources of its edges."""
        if self._edges is None or not all(isinstance(a, Tensor) for a in args[:2]):
            return
        alpha, target = self._edges
        if {len(a) if a.ndim else 0 for a in args[:2]} != {len(alpha)}:
            return
        picked = [p for p in (self._picked.get(_memory(a)) for a in args[:2]) if p is not None]
        if len(picked) == 1 and len(picked[0][1]) == len(alpha):
            source = picked[0][1] % self.atoms
            self.seen[-1] = (self.seen[-1][0], *self._spread(alpha, target, source, self.atoms), True)
            self._edges = None

    def _spread(self, alpha: Tensor, target: Tensor, column: Tensor, columns: int) -> tuple[Tensor, Tensor]:
        """Attention of edges as [batch, heads, atoms, columns], and which entries are edges."""
        whole = alpha.new_zeros(self.batch * self.atoms, columns, alpha.shape[1])
        whole[target, column] = alpha
        edge = torch.zeros(whole.shape[:2], dtype=torch.bool, device=alpha.device)
        edge[target, column] = True
        shape = (self.batch, self.atoms, columns)
        return whole.view(*shape, -1).permute(0, 3, 1, 2), edge.view(self.batch, 1, self.atoms, columns)


def _memory(tensor: Tensor) -> int:
    """The same for views of a tensor: ``x`` and ``x.unsqueeze(-1)``."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def findings(found: Sequence[tuple[View, Attention]]) -> list[Finding]:
    """Warnings for layers whose heads all average, or all copy one atom."""
    layers = [a for _, a in found]
    if not layers:
        return []
    kinds = {
        "averages over all it may attend to": [a for a in layers if (a.entropy > UNIFORM).all()],
        "copies a single atom": [a for a in layers if (a.entropy < 1 - UNIFORM).all()],
    }
    remedies = ("train on, or fewer heads: a plain mean does the same", "a lower learning rate, or weight decay")
    told = []
    for (words, those), remedy in zip(kinds.items(), remedies, strict=True):
        if those:
            worst = max(those, key=lambda a: abs(a.entropy.mean() - 0.5))
            heads = ", ".join(f"{e:.2f}" for e in worst.entropy)
            message = (
                f"in {len(those)} of {len(layers)} layers every head {words}, most of all in {worst.layer} (entropy "
                f"over its bound: {heads})"
            )
            told.append(Finding("warning", "attention", message, remedy, severity=len(those) / len(layers)))
    entropy = np.concatenate([a.entropy for a in layers])
    message = f"entropy over its bound is {entropy.min():.2f} to {entropy.max():.2f} in {len(entropy)} heads"
    return told or [Finding("ok", "attention", message)]


class AttentionProbe:
    """Attention: the entropy of every head, and what each attends to.

    Shows the entropy of the attention of an atom over its neighbours, as a share of the uniform bound (1: averages; 0:
    copies one atom), and the attention itself between atoms. Healthy: heads differ, most between 0.2 and 0.95.
    Otherwise: heads all near 1 have learnt nothing yet (train on, or use fewer); heads all near 0 are saturated and
    hardly get gradients (lower the learning rate of the scores).

    Args:
        views: finds the graph networks in a moment.
    """

    def __init__(self, views: Views) -> None:
        self.views = views

    def __call__(self, moment: Moment) -> dict[str, Record]:
        """Records ``attention`` and ``attention entropy``."""
        return records([(view, layer) for view in self.views(moment) for layer in attention(view)])


def records(found: Sequence[tuple[View, Attention]]) -> dict[str, Record]:
    """Entropies of all heads, and the attention of the whole molecule, see ``runs/FORMAT.md``."""
    if not found:
        return {}
    names = np.array([f"{a.layer} head {k + 1}" for _, a in found for k in range(len(a.entropy))])
    entropy = {"entropy": np.concatenate([a.entropy for _, a in found])}
    error = {"error": np.concatenate([a.error for _, a in found])}
    out: dict[str, Record] = {"attention entropy": ("table", {"name": names, **entropy, **error})}
    drawn = [(v, a, a.weights) for v, a in found if a.weights is not None and v.total == found[0][0].total]
    if drawn:
        heads = np.concatenate([_on_both(v, w) for v, _, w in drawn])
        labels = [f"{a.layer} head {k + 1}" for _, a, _ in drawn for k in range(len(a.entropy))]
        ticks = np.arange(heads.shape[1])
        arrays = {"values": heads.mean(0), "x": ticks, "y": ticks, "heads": heads, "head": np.array(labels)}
        out["attention"] = ("map", arrays)
    return out


def _on_both(view: View, weights: Float[ndarray, "heads atoms atoms"]) -> Float[ndarray, "heads total total"]:
    return view.on_molecule(view.on_molecule(weights).swapaxes(-1, -2)).swapaxes(-1, -2)
