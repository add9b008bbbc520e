"""grow: add the hidden units that a diagnosis proposes, where it proposes them, and train on."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molifold.networks.filters import AtomLinear
from molifold.probes.expressivity import Verdict
from molifold.probes.expressivity.units import Unit
from molifold.runs import Run
from molifold.runs.files import read_json, write_json
from molifold.training.checkpoint import load_into, pad_checkpoint, read_weights
from molifold.training.diagnosis import diagnose_layers, evenly
from molifold.training.recipe import Recipe, build_flow
from molifold.training.restore import load_flow
from molifold.training.result import FitResult

#: What is copied from a run into the grown one; its ensembles are linked.
KEPT = ("run.json", "scalars.jsonl", "events.jsonl", "records")
#: Where the line search looks, as shares of the step that the verdict found best.
STEPS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

#: ``losses(model) -> [examples]``, of examples that did not propose the units.
Losses = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Growth:
    """``units`` hidden units to add between the matrices ``hidden`` and ``site``.

    Attributes:
        fan_in: what the units read; rows as in ``Product.seen``.
        fan_out: what they add to, per unit of their output.
        shift: what the site gives up of its own, since the units bring it.
        measured, error: decrease of the mean loss of the held-out examples when the units are added, and its standard
            error (paired, over examples).
    """

    site: str
    hidden: str
    units: int
    fan_in: Float[Tensor, "d units"] = field(repr=False)
    fan_out: Float[Tensor, "units out"] = field(repr=False)
    shift: Float[Tensor, "b out"] = field(repr=False)
    measured: float = 0.0
    error: float = 0.0

    def words(self) -> str:
        """One sentence."""
        added = f"{self.units} units added between {self.hidden} and {self.site}"
        return f"{added}; held-out loss lower by {self.measured:.3g} +- {self.error:.1g} at once"


def growable(model: nn.Module, verdict: Verdict) -> bool:
    """Whether the verdict proposes units that read what the layer before it reads, between two linear layers."""
    if verdict.growth is None:
        return False
    return all(_owner(model, name) is not None for name in (verdict.site, verdict.growth.hidden))


@torch.no_grad()
def grow_module(model: nn.Module, verdict: Verdict, *, losses: Losses, steps: Sequence[float] = STEPS) -> Growth:
    """Add the units that ``verdict`` proposes, in place, with the step that lowers the held-out loss most.

    Their fan-in is as long as that of the units that are there: units of short fan-in are linear where the data are,
    and long remain so. The step is in their fan-out; at 0 the model's function stays as it is, and training finds it. A
    unit with a kink at 0 comes as a pair of opposite signs; what the layer knows of its new inputs already, and the
    units' value at 0, are taken off its matrix and bias.

    Args:
        model: any module whose two layers are ``nn.Linear``, or molifold's linear layers of atoms.
        verdict: of ``expressivity``, with ``growable(model, verdict)``.
        losses: of examples that did not propose the units, say ``verdict.examples``.
        steps: to choose from, as shares of the step that the verdict found best.

    Raises:
        ValueError: if the verdict proposes no units that can be added.
    """
    if not growable(model, verdict):
        raise ValueError(f"verdict: got {verdict.words()!r}, which proposes no units between two linear layers")
    whole, before = _proposed(model, verdict), losses(model).double()

    def tried(step: float) -> Growth:
        growth = replace(whole, fan_out=step * whole.fan_out, shift=step * whole.shift)
        trial = copy.deepcopy(model)
        add_units(trial, growth)
        saved = torch.nan_to_num(before - losses(trial).double(), nan=-math.inf)
        return replace(growth, measured=float(saved.mean()), error=float(saved.std() / math.sqrt(len(saved))))

    best = max(map(tried, steps), key=lambda growth: growth.measured)
    add_units(model, best)
    return best


def _proposed(model: nn.Module, verdict: Verdict) -> Growth:
    """The units of a verdict; as they were trained, or the same to first order, but of longer fan-in."""
    assert verdict.growth is not None
    proposal, added = verdict.growth, verdict.growth.added
    site, hidden = _owner(model, verdict.site), _owner(model, proposal.hidden)
    assert site is not None
    assert hidden is not None
    assert added.fan_in is not None
    assert added.fan_out is not None
    # Of all inputs of all matrices that are mixed; the constants do not count.
    length = added.fan_in.reshape(-1, _inputs(hidden) + 1, added.fan_in.shape[1])[:, :-1].flatten(0, 1).norm(dim=0)
    usual = math.sqrt(hidden.weight.double().square().sum().item() / hidden.weight.shape[-2])
    longer = not proposal.trained and usual > 0 and bool((length > 0).all())
    scale = usual / length if longer else torch.ones_like(length)
    fan_out, shift = added.fan_out / scale[:, None], added.shift.clone()
    # The constant is the last column of the first (shared) matrix.
    shift[_inputs(site)] -= Unit.of(added.activation).value * fan_out.sum(0)
    return Growth(verdict.site, proposal.hidden, len(fan_out), scale * added.fan_in, fan_out, shift)


@torch.no_grad()
def add_units(model: nn.Module, growth: Growth) -> None:
    """Add the units to ``model``, in place; its weights may differ a little from those that they were found for.

    Raises:
        ValueError: if the model has no such layers.
    """
    site, hidden = _owner(model, growth.site), _owner(model, growth.hidden)
    if site is None or hidden is None:
        raise ValueError(f"growth: {growth.site} and {growth.hidden} are not both linear layers of the model")
    _shift(site, growth.shift)
    _add_outputs(hidden, growth.fan_in)
    _add_inputs(site, growth.fan_out)


def grow(
    path: str | Path,
    *,
    to: str | Path | None = None,
    more: float = 0.5,
    places: int = 3,
    frames: int = 4000,
    anyway: bool = False,
    trust: Sequence[str] = (),
    progress: Callable[[Mapping[str, float]], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> FitResult | None:
    """Diagnose a run, add units where that lowers the held-out loss, and train the larger flow on in a new run.

    Where no layer raises an alarm nothing is added, since units without evidence are a guess; this is told, and nothing
    is trained unless ``anyway``. A run that was grown can be grown again, until it says so.

    Args:
        path: a run that was made by a recipe; it stays as it is.
        to: the new run; default: beside it, ``-grown``.
        more: training budget to add, as a share of the run's own.
        places: layers that grow, at most, the most promising first.
        frames: of the reference that the diagnosis looks at.
        anyway: train on where nothing grows, too.
        trust: packages outside molifold whose functions the run may name, see ``load_flow``.
        progress: of the training, see ``fit``.
        tell: receives what was done, line by line.

    Returns:
        FitResult of the training; None if there was none.

    Raises:
        ValueError: if the run says too little about itself.
        FileExistsError: if ``to`` exists.
    """
    target = _target(path, to)
    reference = Run.open(path).ensemble("reference")
    flow = load_flow(path, checkpoint="last", trust=trust)
    found = diagnose_layers(flow, reference, frames=frames, checks=2 * places)
    _, x = evenly(reference, frames, like=flow)
    # The indices of layers that are tested by micro-batch count these.
    held_out = max((v.examples for v in found.verdicts), key=len)
    growths: list[Growth] = []
    grown = copy.deepcopy(flow)
    for verdict in _apart(flow, found.alarms)[:places]:
        trial = copy.deepcopy(grown)
        growth = grow_module(trial, verdict, losses=lambda model: -model.log_prob(x[torch.from_numpy(held_out)]))  # type: ignore[operator]
        if growth.measured > 2 * growth.error:
            growths.append(growth)
            grown = trial
            tell(growth.words())
        else:
            tell(f"{verdict.site}: units there would save nothing beyond what was added, so there are none")
    if not growths:
        for verdict in found.alarms:
            tell(verdict.words())
        tell(f"{path}: no layer lacks hidden units that can be added, so it stays as it is")
        if not anyway:
            tell("`molifold diagnose` says what else holds it back; `--anyway` trains it on as it is")
            return None
    return extend(path, growths, to=target, more=more, trust=trust, progress=progress)


def extend(
    path: str | Path,
    growths: Sequence[Growth] = (),
    *,
    to: str | Path | None = None,
    more: float = 0.5,
    trust: Sequence[str] = (),
    progress: Callable[[Mapping[str, float]], None] | None = None,
) -> FitResult:
    """Train a run on in a new one, with the units of ``growths`` added to its weights, averages and optimiser.

    Arguments and errors as in ``grow``.
    """
    from molifold.training.pipeline import train_recipe

    target, run = _target(path, to), Run.open(path)
    assert run.recipe is not None
    assert run.molecule is not None
    allowed = ("molifold", *trust)
    step, checkpoint = max(run.checkpoints.items())
    raw, reference = dict(run.recipe), run.ensemble("reference")
    before = load_flow(path, checkpoint="last", trust=trust)
    weights: dict[str, dict[str, Tensor]] = {}
    for file in checkpoint.glob("*.safetensors"):
        if file.stem == "optimizer":
            continue
        model = build_flow(raw["flow"], run.molecule, reference, trust=allowed).to(next(before.parameters()).dtype)
        load_into(model, read_weights(checkpoint, file.stem))
        for growth in growths:
            add_units(model, growth)
        weights[file.stem] = model.state_dict()
    widths = {n: list(p.shape) for n, p in model.named_parameters() if p.shape != before.get_parameter(n).shape}
    if widths:
        raw["flow"] = {**raw["flow"], "widths": {**raw["flow"].get("widths", {}), **widths}}
    raw["training"] = _longer(
        raw["training"], run, step=step, seconds=read_json(checkpoint / "state.json")["seconds"], more=more
    )
    _copy(run, target, raw)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    pad_checkpoint(checkpoint, target / "checkpoints" / checkpoint.name, weights=weights, parameters=names)
    return train_recipe(Recipe(raw, trust=allowed), to=target, progress=progress)


def _target(path: str | Path, to: str | Path | None) -> Path:
    run = Run.open(path)
    target = run.path.with_name(f"{run.path.name}-grown") if to is None else Path(to)
    if target.exists():
        raise FileExistsError(f"to: {target} exists already; choose another directory")
    if run.recipe is None or run.molecule is None or not run.checkpoints:
        raise ValueError(f"path: {path} keeps no recipe or no checkpoint, expected a run of `molifold train`")
    return target


def _apart(model: nn.Module, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that can grow, the first of any that share a matrix: the units of a second one would not fit any more."""
    kept: list[Verdict] = []
    touched: set[str] = set()
    for verdict in verdicts:
        if growable(model, verdict) and verdict.growth is not None:
            both = {verdict.site, verdict.growth.hidden}
            if not both & touched:
                kept.append(verdict)
                touched |= both
    return kept


def _longer(training: Mapping[str, Any], run: Run, *, step: int, seconds: float, more: float) -> dict[str, Any]:
    """A budget that begins where the run ended, and the learning rate with it: new units need its full size.

    Reference: Loshchilov and Hutter (2017), arXiv 1608.03983 (warm restarts).
    """
    longer = dict(training)
    if "epochs" in longer:
        longer.pop("epochs")
        longer["steps"] = run.info["settings"]["steps"]
    if longer.get("steps") is not None:
        longer |= {"steps": step + max(1, round(more * longer["steps"])), "from_step": step}
    if longer.get("max_seconds") is not None:
        longer |= {"max_seconds": seconds + more * longer["max_seconds"], "from_seconds": seconds}
    return longer


def _copy(run: Run, target: Path, raw: Mapping[str, Any]) -> None:
    target.mkdir(parents=True)
    for name in KEPT:
        source = run.path / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        elif source.exists():
            shutil.copy2(source, target / name)
    shutil.copytree(run.path / "ensembles", target / "ensembles", copy_function=_link)
    info = read_json(target / "run.json")
    settings = {
        k: raw["training"].get(k, v) if k in ("steps", "max_seconds", "from_step", "from_seconds") else v
        for k, v in info["settings"].items()
    }
    write_json(target / "run.json", {**info, "recipe": dict(raw), "settings": settings, "state": "stopped"})


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


# ---------------------------------------------------------------- linear layers, and those that mix matrices per atom


def _owner(model: nn.Module, site: str) -> nn.Linear | AtomLinear | None:
    prefix, _, name = site.rpartition(".")
    module = model.get_submodule(prefix)
    return module if name == "weight" and isinstance(module, nn.Linear | AtomLinear) else None


def _inputs(layer: nn.Linear | AtomLinear) -> int:
    return int(layer.weight.shape[-1])


def _shift(layer: nn.Linear | AtomLinear, rows: Float[Tensor, "d out"]) -> None:
    """Add ``rows`` to matrix (and constant), in the order of ``Product.seen``."""
    matrices = rows.reshape(-1, _inputs(layer) + 1, rows.shape[1]).to(layer.weight)
    if isinstance(layer, nn.Linear):
        layer.weight.add_(matrices[0, :-1].T)
        if layer.bias is not None:
            layer.bias.add_(matrices[0, -1])
        return
    layer.weight.add_(matrices[:, :-1].transpose(1, 2))
    _add_constants(layer, matrices[:, -1])


def _add_outputs(layer: nn.Linear | AtomLinear, fan_in: Float[Tensor, "d units"]) -> None:
    matrices = fan_in.reshape(-1, _inputs(layer) + 1, fan_in.shape[1]).to(layer.weight)
    units = fan_in.shape[1]
    if isinstance(layer, nn.Linear):
        layer.weight = nn.Parameter(torch.cat([layer.weight, matrices[0, :-1].T]))
        if layer.bias is not None:
            layer.bias = nn.Parameter(torch.cat([layer.bias, matrices[0, -1]]))
        layer.out_features += units
        return
    layer.weight = nn.Parameter(torch.cat([layer.weight, matrices[:, :-1].transpose(1, 2)], 1))
    layer.bias.weight = nn.Parameter(
        torch.cat([layer.bias.weight, layer.bias.weight.new_zeros(units, layer.bias.in_features)])
    )
    layer.bias.bias = nn.Parameter(torch.cat([layer.bias.bias, layer.bias.bias.new_zeros(units)]))
    layer.bias.out_features += units
    constants = matrices.new_zeros(len(matrices), layer.bias.out_features)
    constants[:, -units:] = matrices[:, -1]
    _add_constants(layer, constants)


def _add_inputs(layer: nn.Linear | AtomLinear, fan_out: Float[Tensor, "units out"]) -> None:
    new = fan_out.T.to(layer.weight)
    if isinstance(layer, nn.Linear):
        layer.weight = nn.Parameter(torch.cat([layer.weight, new], 1))
        layer.in_features += len(fan_out)
        return
    only_shared = torch.cat([new[None], new.new_zeros(len(layer.weight) - 1, *new.shape)])
    layer.weight = nn.Parameter(torch.cat([layer.weight, only_shared], 2))


def _add_constants(layer: AtomLinear, constants: Float[Tensor, "shared out"]) -> None:
    """A constant per mixed matrix is a linear function of the static features: one that its bias can hold."""
    first, others = constants[0], constants[1:]
    layer.bias.weight.add_(others.T @ layer.mixing.weight)
    layer.bias.bias.add_(first + others.T @ layer.mixing.bias)
