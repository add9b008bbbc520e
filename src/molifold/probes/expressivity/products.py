"""Every product of a parameter matrix with activations in ANY network, seen as it happens and without hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Nodes of the autograd graph visited at most in one search.
SEARCH = 20_000

#: Torch functions that multiply matrices, and where their two factors stand among the arguments.
FACTORS: Mapping[str, tuple[int, int]] = {
    "linear": (0, 1), "matmul": (0, 1), "__matmul__": (0, 1), "__rmatmul__": (1, 0), "mm": (0, 1), "bmm": (0, 1),
    "addmm": (1, 2), "baddbmm": (1, 2),
}  # fmt: skip
KEYWORDS: Mapping[str, tuple[str, str]] = {
    "linear": ("input", "weight"), "matmul": ("input", "other"), "mm": ("input", "mat2"), "bmm": ("input", "mat2"),
    "addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"),
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One product of a parameter matrix with activations.

    Attributes:
        site: name of the parameter.
        x: the activations as they were multiplied.
        out: the product (plus bias).
        left: whether the matrix stood left of the activations, whose features are then the last axis but one.
        mixture: [matrices, shared] where every position has a matrix of its own that mixes shared ones; else None.
        mask: which entries the matrix has, where the others are 0 for good; else None.
    """

    site: str
    x: Tensor
    out: Tensor
    left: bool
    mixture: Float[Tensor, "matrices shared"] | None = None
    mask: Bool[Tensor, "out d"] | None = None

    def rows(self, tensor: Tensor) -> Float[Tensor, "rows features"]:
        """``x`` or ``out`` with one row per application of the matrix."""
        turned = tensor.mT if self.left else tensor
        return turned.reshape(-1, turned.shape[-1])

    def unrows(self, rows: Float[Tensor, "rows features"]) -> Tensor:
        """Back to the shape of ``out``."""
        turned = self.out.mT if self.left else self.out
        back = rows.reshape(turned.shape)
        return back.mT if self.left else back

    def seen(self) -> Float[Tensor, "rows d"]:
        """What the layer can be linear in: its input and 1, for every shared matrix that it mixes."""
        x = self.rows(self.x.detach())
        ones = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        if self.mixture is None:
            return ones
        weights = self.mixture.repeat_interleave(len(x) // len(self.mixture), dim=0)
        return (weights[:, :, None] * ones[:, None, :]).flatten(1)


#: Adds something to the output of a product: (position in the order of calls, all products so far) -> rows or None.
Edit = Callable[[int, Sequence[Product]], Tensor | None]


class Recorder(TorchFunctionMode):
    """While active, notes every ``Product`` in ``products``; with ``edit``, adds to their outputs.

    With ``cut``, every product passes on a leaf of its own, so that derivatives reach the products that feed a tensor
    directly and no others. ``mixtures`` (product by product) is filled with what was found to be mixed how; recorders
    of the same model that share it need not find out again.

    It sees ``linear``, ``matmul``, ``mm``, ``bmm``, ``addmm`` and ``baddbmm``, so a network needs no change and no
    hook, whether its layers are ``nn.Linear``, somebody's own linear class, bare parameters, or ``linear`` with a
    masked weight. Not seen: convolutions, recurrent layers and the fused attention of ``nn.MultiheadAttention``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> with Recorder(model) as recorder:
    ...     _ = model(torch.zeros(5, 2))
    >>> [(p.site, tuple(p.seen().shape)) for p in recorder.products]
    [('0.weight', (5, 3)), ('2.weight', (5, 4))]
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        edit: Edit | None = None,
        cut: bool = False,
        mixtures: dict[int, tuple[str, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self._mixtures = {} if mixtures is None else mixtures
        self._parameters = dict(model.named_parameters())
        self.products: list[Product] = []
        self.passed: list[Tensor] = []
        self._cut = cut
        self._stops: set[Any] = set()
        self._names = {id(p): name for name, p in self._parameters.items()}
        self._edit = edit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let ``func`` happen, and note it if it is a product with a parameter."""
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name not in FACTORS or not isinstance(out, Tensor) or not out.requires_grad or "out" in (kwargs or {}):
            return out
        factors = _factors(name, args, kwargs or {})
        found = None if factors is None else self._recognise(*factors, out=out, transposed=name == "linear")
        if found is None:
            return out
        self.products.append(found)
        self._stops.add(out.grad_fn)
        added = self._edit(len(self.products) - 1, self.products) if self._edit is not None else None
        if self._cut:
            self.passed.append(out.detach().requires_grad_())
            return self.passed[-1].clone()
        # A copy goes on, so that whatever happens to it in place does not change what was noted.
        return out.clone() if added is None else out + found.unrows(added).to(out)

    def feeding(self, tensor: Tensor) -> list[int]:
        """Products that ``tensor`` was computed from directly (``cut`` only)."""
        place = {id(passed): i for i, passed in enumerate(self.passed)}
        return sorted(place[id(leaf)] for leaf in _leaves(tensor, self._stops) if id(leaf) in place)

    def _recognise(self, a: Tensor, b: Tensor, *, out: Tensor, transposed: bool) -> Product | None:
        if a.ndim < 2 and not transposed or b.ndim < 2:
            return None
        if transposed:
            if name := self._parameter(b):
                return Product(name, a, out, left=False)
            derived = self._derived(b)
            return Product(derived[0], a, out, left=False, mask=derived[1]) if derived else None
        for weight, x, left in ((b, a, False), (a, b, True)):
            if weight.ndim == 2 and (name := self._parameter(weight)) and not self._parameter(x):
                return Product(name, x, out, left=left)
        for weight, x, left in ((a, b, True), (b, a, False)):
            if weight.ndim == x.ndim == 3 and weight.requires_grad and (mixed := self._mixed(weight)):
                return Product(mixed[0], x, out, left=left, mixture=mixed[1])
        return None

    def _parameter(self, weight: Tensor) -> str | None:
        """Name of the parameter that ``weight`` is, or is the transpose of."""
        if id(weight) in self._names:
            return self._names[id(weight)]
        if not weight.requires_grad or weight.grad_fn is None:
            return None
        if weight.grad_fn.name() in ("TBackward0", "TransposeBackward0", "PermuteBackward0", "TransposeBackward1"):
            source = weight.grad_fn.next_functions[0][0]
            return self._names.get(id(getattr(source, "variable", None)))
        return None

    def _derived(self, weight: Tensor) -> tuple[str, Tensor | None] | None:
        """Name of the one matrix that ``weight`` is a function of, and its mask if entries are 0 for good."""
        if not weight.requires_grad or weight.grad_fn is None:
            return None
        found = [p for p in _leaves(weight, self._stops) if p.ndim == 2 and id(p) in self._names]
        if len(found) != 1:
            return None
        name = self._names[id(found[0])]
        if not bool((weight == 0).any()):
            return name, None
        (factor,) = torch.autograd.grad(weight.sum(), found[0], retain_graph=True)
        off = None if factor.shape != weight.shape else float((found[0] * factor - weight).detach().abs().max())
        return (name, factor != 0) if off is not None and off <= 1e-6 * float(weight.detach().abs().max()) else None

    def _mixed(self, weight: Float[Tensor, "k out d"]) -> tuple[str, Tensor] | None:
        """As ``_mixture``; one that was found before and still holds is not looked for again."""
        place = len(self.products)
        known = self._mixtures.get(place)
        if known is not None and _rebuilt(known[1], self._parameters[known[0]], weight, within=1e-6):
            return known
        found = self._mixture(weight)
        if found is not None:
            self._mixtures[place] = found
        return found

    def _mixture(self, weight: Float[Tensor, "k out d"]) -> tuple[str, Tensor] | None:
        """The 3-D parameter whose matrices ``weight`` mixes, and with which coefficients [k, shared]."""
        for parameter in _leaves(weight, self._stops):
            o, d = weight.shape[1:]
            if parameter.ndim != 3 or id(parameter) not in self._names or parameter.shape[1] < o:
                continue
            # Entry [0, 0] of every matrix, differentiated: its coefficients, if it is a mixture at all.
            eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
            slopes: tuple[Tensor | None, ...] = torch.autograd.grad(
                weight[:, 0, 0], parameter, eye, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            if (slope := slopes[0]) is None:
                continue
            mixture = slope[:, :, 0, 0].detach()
            if _rebuilt(mixture, parameter, weight, within=1e-4):
                return self._names[id(parameter)], mixture
        return None


def _rebuilt(mixture: Float[Tensor, "k shared"], parameter: Tensor, weight: Tensor, *, within: float) -> bool:
    """Whether mixing the matrices of ``parameter`` gives ``weight``, to this share of its largest entry."""
    given = weight.detach()
    if mixture.shape != (len(given), len(parameter)):
        return False
    found = torch.einsum("kr,rod->kod", mixture, parameter.detach()[:, : given.shape[1], : given.shape[2]])
    return found.shape == given.shape and float((found - given).abs().max()) <= within * float(given.abs().max())


def _leaves(tensor: Tensor, stops: set[Any]) -> list[Tensor]:
    """Parameters (and other leaves that require gradients) that ``tensor`` was computed from, not through ``stops``."""
    if tensor.is_leaf:
        return [tensor] if tensor.requires_grad else []
    waiting: list[Any] = [tensor.grad_fn]
    seen: set[Any] = set()
    found: list[Tensor] = []
    while waiting and len(seen) < SEARCH:
        node = waiting.pop()
        if node is None or node in seen or node in stops:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.append(variable)
        waiting += [following for following, _ in node.next_functions]
    return found


def _factors(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    found = []
    for place, position in enumerate(FACTORS[name]):
        if position < len(args):
            found.append(args[position])
        elif name in KEYWORDS and KEYWORDS[name][place] in kwargs:
            found.append(kwargs[KEYWORDS[name][place]])
    both = len(found) == 2 and all(isinstance(f, Tensor) for f in found)
    return (found[0], found[1]) if both else None
