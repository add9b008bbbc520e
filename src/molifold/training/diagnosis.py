"""diagnose: what holds a trained flow back, in plain words, from its run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor, nn

from molifold.ensemble import Ensemble
from molifold.finding import Finding
from molifold.flows.conditioners import GraphConditioner
from molifold.flows.flow import Flow
from molifold.interfaces import Moment, Record
from molifold.molecule import Molecule
from molifold.probes.coverage import Coverage, coverage
from molifold.probes.expressivity import Expressivity, Verdict, expressivity, molecular_sources
from molifold.probes.expressivity.watching import source_map, verdict_table
from molifold.probes.expressivity.watching import watch_expressivity as _watch_expressivity
from molifold.probes.stein import Stein, stein
from molifold.runs import Run
from molifold.training.conditioner_gain import Gain, conditioner_gain
from molifold.training.flow_parts import coordinate_atoms, coordinate_names, coupled, coupling_states
from molifold.training.health import Health, examine, history_of
from molifold.training.restore import Which, load_flow
from molifold.transforms.coupling import Coupling
from molifold.transforms.internal import InternalCoordinates
from molifold.transforms.partial import PartialGeometry
from molifold.transforms.standardize import Standardize
from molifold.transforms.transform import Transform

#: Random functions per layer; the diagnosis has hundreds of layers.
FEATURES = 32
#: Findings of the latents that are told.
TOLD = 5


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a flow.

    Attributes:
        layers: the verdicts of all layers, conditioners included.
        latents: what one more layer could remove from the latents; None for a module that is no ``Flow`` of couplings.
        coordinates: names of the latents, in order.
        conditioned: [size, size] whether any coupling moves one of the two given the other.
        samples: whether the probed frames cover the reference.
        draws: whether the flow's own draws do.
        atoms: [atoms] gain by atom of everything told about the layers, and of the latents that an atom carries; 0
            where nothing is.
        frames, scores: indices in the reference of the verifying frames, and the gain of each.
        sites_atoms, sites_frames: the same gains of every layer that something is told about, by its name.
        health: units, ranks, gradients, curvature, and what the run's events say.
        gains: of findings of the latents that are told, what better parameters of the couplings would save.
    """

    layers: Expressivity
    latents: Stein | None
    coordinates: tuple[str, ...]
    conditioned: Bool[ndarray, "size size"]
    samples: Coverage | None
    draws: Coverage | None
    atoms: Float[ndarray, " atoms"]
    frames: ndarray
    scores: ndarray
    sites_atoms: Mapping[str, Float[ndarray, " atoms"]]
    sites_frames: Mapping[str, ndarray]
    health: Health = field(default_factory=Health)
    gains: Mapping[tuple[int, int], Gain] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The whole in plain words, most important first."""
        notes = []
        if self.samples is not None and not self.samples.holds:
            notes.append(self.samples.words())
        if self.draws is not None and not self.draws.holds:
            notes.append(self.draws.words("the flow's own draws"))
        head, *rest = self.layers.lines()
        return [*notes, head, *self.latent_lines(), *rest, *self.health.lines()]

    def latent_lines(self) -> list[str]:
        """One line per finding in the latents, the largest saving first."""
        if self.latents is None:
            return []
        found = self.pairs
        if not found:
            return ["latents: nothing that one more layer could remove"]
        lines = [self._latent(*pair) for pair in found[:TOLD]]
        return lines + ([f"latents: and {len(found) - TOLD} smaller findings"] if len(found) > TOLD else [])

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Findings of the latents (target, source), the largest saving first, be it of a layer or of conditioners."""
        if self.latents is None:
            return []
        nats = {p: float(self.latents.nats[p]) for p in self.latents.found}
        return sorted(nats, key=lambda p: -max(nats[p], self.gains[p].nats if p in self.gains else 0.0))

    def fault(self, target: int, source: int) -> str:
        """What a finding of the latents blames: "transform family", "mask", "conditioner" or "depth"."""
        if target == source:
            return "transform family"
        if not self.conditioned[target, source]:
            return "mask"
        gain = self.gains.get((target, source))
        if gain is None or self.latents is None:
            return "conditioner" if self.layers.alarms else "depth"
        return "conditioner" if gain.explains(float(self.latents.nats[target, source])) else "depth"

    def _latent(self, target: int, source: int) -> str:
        assert self.latents is not None
        evidence = f"{self.latents.nats[target, source]:.3g} nats, t {self.latents.t[target, source]:.1f}"
        a, b, fault = self.coordinates[target], self.coordinates[source], self.fault(target, source)
        mend = "mend the layers named below first" if self.layers.alarms else "widen them or train on"
        what, remedy = {
            "transform family": (f"{a} keeps a shape of its own", "more bins, or more couplings that move it"),
            "mask": (f"{a} and {b} depend on each other, but no coupling shows one to the other", "add couplings"),
            "conditioner": (f"{a} depends on {b}, which its conditioners see", mend),
            "depth": (f"{a} depends on {b}, although conditioners see it and lack nothing", "add couplings"),
        }[fault]
        gain = self.gains.get((target, source))
        if gain is not None and self.conditioned[target, source]:
            evidence += f"; better conditioners alone would save {gain.nats:.2g} +- {gain.error:.1g}"
        return f"{fault}: {what} ({evidence}); {remedy}"

    def records(self) -> dict[str, tuple[str, dict[str, ndarray], str]]:
        """Records of a run by name: kind, arrays, text."""
        found = {
            "diagnosis": ("text", {"text": np.array("\n".join(self.lines()))}, GUIDE["diagnosis"]),
            "expressivity": ("table", verdict_table(self.layers.verdicts), GUIDE["expressivity"]),
            "what is missing": ("map", source_map(self.layers.verdicts), GUIDE["what is missing"]),
        }
        if self.latents is not None:
            names, own = np.array(self.coordinates), np.arange(len(self.coordinates))
            coupled = {"values": self.latents.nats, "x": names, "y": names}
            found["latent dependence"] = ("map", coupled, GUIDE["latent dependence"])
            worst = {"name": names, "nats": self.latents.nats.sum(1), "shape_nats": self.latents.nats[own, own]}
            found["where it hurts - coordinates"] = ("table", worst, GUIDE["latent dependence"])
        if self.atoms.any():
            atoms = {"name": np.arange(len(self.atoms)).astype(str), "gain": self.atoms}
            found["where it hurts - atoms"] = ("table", atoms, GUIDE["where it hurts"])
        if len(self.scores):
            order = np.argsort(-self.scores)
            frames = {"name": self.frames[order].astype(str), "gain": self.scores[order]}
            found["where it hurts - frames"] = ("table", frames, GUIDE["where it hurts"])
        for rows, gains, columns in (
            ("atoms", self.sites_atoms, np.arange(len(self.atoms))),
            ("frames", self.sites_frames, self.frames),
        ):
            if gains:
                each = {"x": columns.astype(str), "y": np.array(list(gains)), "values": np.stack(list(gains.values()))}
                found[f"where it hurts by layer - {rows}"] = ("map", each, GUIDE["where it hurts"])
        if self.health.findings:
            found["findings"] = ("table", self.health.table(), GUIDE["findings"])
        return found | dict(self.health.records)


GUIDE: Mapping[str, str] = {
    "diagnosis": "What holds the flow back, most important first. Healthy: nothing to tell. Otherwise do what the "
    "first line says, train on, and diagnose again.",
    "findings": "How the network lives: units, ranks, gradients, curvature, spikes of the loss. Healthy: no warning. "
    "Otherwise do what the remedy says, the first row first.",
    "expressivity": "Every layer: what it could still follow by itself (under_trained), what new units could (linear "
    "and nonlinear), the rest (noise, or sources not offered). Healthy: kind is sound everywhere. An alarm counts when "
    "measured agrees with predicted: new units were really added, on frames that did not propose them.",
    "what is missing": "Significance t of every source at every layer. Healthy: no |t| above about 4. A column that "
    "stands out names what the network does not see.",
    "latent dependence": "Loss that one more layer would save, nats: it moves the row's coordinate by a function of "
    "itself (diagonal: the transform family, more bins) or of the column's (masks, conditioners, depth). Healthy: "
    "nothing above 0.002.",
    "where it hurts": "Gain of the loss, to first order, from everything that the diagnosis proposes. Healthy: absent. "
    "Otherwise look at the first rows: those atoms or frames are what the flow cannot express.",
}


def diagnose(
    path: str | Path,
    *,
    checkpoint: Which = "result",
    frames: int = 4000,
    samples: Ensemble | None = None,
    sources: Callable[[Any], Mapping[str, Any]] | None = None,
    against: str | Path | None = None,
    level: float = 0.01,
    seed: int = 0,
    trust: Sequence[str] = (),
) -> Diagnosis:
    """Diagnose the flow of a run and keep the findings in it as records.

    Args:
        path: the run, or one of its checkpoints (``RUN/checkpoints/step-00000200``).
        checkpoint: which weights of a run, see ``load_flow``.
        frames: of the reference, at most.
        samples: probe these frames instead; they are compared with the reference first.
        sources: more candidates for what is missing, see ``expressivity``; called with a micro-batch ``(x, index)``.
        against: another run or checkpoint of the same molecule, whose layers are compared with this one's.
        level: chance of any false alarm.
        seed: of the split and of the random functions.
        trust: packages outside molifold whose functions the run may name, see ``load_flow``.

    Raises:
        RunFormatError: if ``path`` is neither.
        RunBusyError: if a living process writes the run.
    """
    path, checkpoint = _named(path, checkpoint)
    run = Run.open(path)
    writer = Run.annotate(path)  # before the work, so that a busy run is told at once
    try:
        flow = load_flow(path, checkpoint=checkpoint, trust=trust)
        other = None
        if against is not None:
            second, which = _named(against, "result")
            label = f"{second.name} at step {which}" if isinstance(which, int) else second.name
            other = label, load_flow(second, checkpoint=which, trust=trust)
        found = diagnose_flow(
            flow, run.ensemble("reference"), frames=frames, samples=samples, sources=sources, other=other,
            batch_size=run.info["settings"].get("batch_size"), history=history_of(run), level=level, seed=seed,
        )  # fmt: skip
        step = checkpoint if isinstance(checkpoint, int) else max(run.checkpoints)
        for name, (kind, arrays, text) in found.records().items():
            if samples is not None and name.endswith(" - frames"):
                continue  # they count frames of the samples, which the run does not keep
            writer.record(step, name, kind=kind, arrays=arrays, text=text)
    finally:
        writer.close(run.info["state"])
    return found


def _named(path: str | Path, checkpoint: Which) -> tuple[Path, Which]:
    """The run, and which of its weights: a path may be that of a checkpoint."""
    path = Path(path)
    if re.fullmatch(r"step-\d+", path.name):
        return path.parents[1], int(path.name[5:])
    return path, checkpoint


def diagnose_flow(
    flow: nn.Module,
    reference: Ensemble,
    *,
    frames: int = 4000,
    samples: Ensemble | None = None,
    sources: Callable[[Any], Mapping[str, Any]] | None = None,
    other: tuple[str, nn.Module] | None = None,
    batch_size: int | None = None,
    history: Sequence[Finding] = (),
    level: float = 0.01,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose any flow with ``log_prob``; arguments as in ``diagnose``, ``other`` to ``history`` as in ``examine``."""
    given = reference if samples is None else samples
    index, x = evenly(given, frames, like=flow)
    couplings = {n: m for n, m in flow.named_modules() if isinstance(m, Coupling)}
    layers = diagnose_layers(flow, given, frames=frames, sources=sources, level=level, seed=seed)
    told = [v for v in layers.verdicts if v.kind in ("under-powered", "under-trained")]
    whole = [v for v in told if len(v.scores) == len(index) - len(index) // 2]
    by_atom = _atoms(told, couplings, reference.molecule.n_atoms)
    latents = stein(*_latents(flow, x), level=level) if isinstance(flow, Flow) and couplings else None
    conditioned = _conditioned(list(couplings.values()))
    pairs = [] if latents is None else [p for p in latents.found[:TOLD] if p[0] != p[1] and conditioned[p]]
    return Diagnosis(
        layers=layers,
        latents=latents,
        coordinates=() if latents is None else coordinate_names(flow),
        conditioned=conditioned,
        samples=None if samples is None else _covered(x, evenly(reference, frames, like=flow)[1], reference.molecule),
        draws=_draws(flow, evenly(reference, frames, like=flow)[1], reference.molecule, seed=seed),
        atoms=sum(by_atom.values(), _carriers(flow, latents, reference.molecule.n_atoms)),
        frames=index[whole[0].examples] if whole else np.zeros(0, int),
        scores=np.sum([v.scores for v in whole], axis=0) if whole else np.zeros(0),
        sites_atoms=by_atom,
        sites_frames={v.site: v.scores for v in whole},
        health=examine(flow, x, batch_size=batch_size, other=other, history=history, seed=seed),
        gains={pair: conditioner_gain(flow, x, *pair, seed=seed) for pair in pairs},
    )


def diagnose_layers(
    flow: nn.Module,
    reference: Ensemble,
    *,
    frames: int = 4000,
    sources: Callable[[Any], Mapping[str, Any]] | None = None,
    level: float = 0.01,
    checks: int = 8,
    seed: int = 0,
) -> Expressivity:
    """Verdicts of all layers on ``evenly(reference, frames)``; arguments as in ``diagnose`` and ``expressivity``."""
    index, x = evenly(reference, frames, like=flow)

    def offered(batch: Any) -> Mapping[str, Any]:
        return {**_molecular_sources(flow, batch[0]), **(sources(batch) if sources is not None else {})}

    return expressivity(
        flow,
        lambda module, batch: -module.log_prob(batch[0]),  # type: ignore[operator]
        (x, torch.from_numpy(index)),
        sources=offered,
        blocks=_blocks(flow),
        features=FEATURES,
        level=level,
        checks=checks,
        seed=seed,
    )


def evenly(ensemble: Ensemble, frames: int, *, like: nn.Module) -> tuple[ndarray, Tensor]:
    """Indices of ``frames`` frames at most, and their coordinates [frames, atoms, 3] as the module wants them."""
    p = next(like.parameters())
    index = np.unique(np.linspace(0, len(ensemble) - 1, frames).astype(int))
    return index, torch.as_tensor(np.array(ensemble.x[index]), dtype=p.dtype, device=p.device)


def watch_expressivity(moment: Moment, *, features: int = 16, level: float = 0.01) -> dict[str, Record]:
    """What ``probes.watch_expressivity`` does, for a flow: its conditioners offer each other nothing."""
    return _watch_expressivity(moment, blocks=_blocks(moment.model), features=features, level=level)


watch_expressivity.__doc__ = _watch_expressivity.__doc__


def _blocks(flow: nn.Module) -> list[str]:
    """Parts of a flow whose layers must not offer each other what they see."""
    return [name for name, m in flow.named_modules() if isinstance(m, Transform)]


def _molecular_sources(flow: nn.Module, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """What the conditioners may see, in the ways a graph network may miss it; nothing that a coupling moves."""
    found: dict[str, dict[str, Tensor]] = {}
    if not coupled(flow):
        return found
    internal, scale, *_ = flow.transform.steps  # type: ignore[union-attr,misc]
    if not isinstance(internal, InternalCoordinates) or not isinstance(scale, Standardize):
        return found
    for name, (coupling, state) in coupling_states(flow, x).items():
        known, inside = coupling.known(state), f"{name}.conditioner.network"
        conditioner = coupling.conditioner
        if not isinstance(conditioner, GraphConditioner):
            continue
        features = conditioner.features(known)
        shape = PartialGeometry(internal, scale, torch.from_numpy(coupling.given))(known)
        columns = molecular_sources(internal.molecule, shape, features=features, atoms=conditioner.nodes)
        whole = features.flatten(1)
        for source, values in {**columns, "all known coordinates": whole[:, whole.abs().sum(0) > 0]}.items():
            found.setdefault(source, {})[inside] = values
    return found


def _latents(flow: Flow, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        z = torch.cat([flow.transform(part)[0] for part in x.split(1024)])
    return z, torch.from_numpy(flow.transform.codomain.has("circle"))


def _conditioned(couplings: list[Coupling]) -> Bool[ndarray, "size size"]:
    if not couplings:
        return np.zeros((0, 0), bool)
    seen = np.any([np.outer(c.mask, c.given) for c in couplings], axis=0)
    return seen | seen.T


def _shape(x: Float[Tensor, "frames atoms 3"], molecule: Molecule) -> Float[Tensor, "frames features"]:
    """Distances between heavy atoms, which no rotation changes; of large molecules between evenly chosen ones."""
    heavy = [i for i, element in enumerate(molecule.elements) if element != "H"]
    atoms = torch.tensor(heavy if len(heavy) > 3 else list(range(molecule.n_atoms)))
    chosen = x[:, atoms[torch.linspace(0, len(atoms) - 1, min(len(atoms), 24)).long().unique()]]
    first, second = torch.triu_indices(chosen.shape[1], chosen.shape[1], offset=1)
    return (chosen[:, first] - chosen[:, second]).norm(dim=-1)


def _covered(x: Tensor, data: Tensor, molecule: Molecule) -> Coverage | None:
    """None where shapes or numbers do not allow a comparison."""
    if molecule.n_atoms < 2 or min(len(x), len(data)) < 100:
        return None
    return coverage(_shape(x, molecule), _shape(data, molecule))


def _draws(flow: nn.Module, data: Tensor, molecule: Molecule, *, seed: int) -> Coverage | None:
    with torch.no_grad():
        generator = torch.Generator(device=data.device).manual_seed(seed)
        x, _ = flow.sample(len(data), generator=generator)  # type: ignore[operator]
    return _covered(x[x.isfinite().all(2).all(1)], data, molecule)


def _carriers(flow: nn.Module, latents: Stein | None, n: int) -> Float[ndarray, " atoms"]:
    """What is to be saved in the latents, on the atoms that carry them."""
    gain = np.zeros(n)
    if latents is not None and (atoms := coordinate_atoms(flow)):
        for target, source in latents.found:
            gain[atoms[target]] += latents.nats[target, source]
    return gain


def _atoms(told: list[Verdict], couplings: Mapping[str, Coupling], n: int) -> dict[str, Float[ndarray, " atoms"]]:
    found = {}
    for verdict in told:
        prefix = max((p for p in couplings if verdict.site.startswith(f"{p}.")), key=len, default=None)
        conditioner = None if prefix is None else couplings[prefix].conditioner
        if isinstance(conditioner, GraphConditioner) and len(verdict.positions) == len(conditioner.nodes):
            found[verdict.site] = np.zeros(n)
            found[verdict.site][list(conditioner.nodes)] = verdict.positions
    return found
