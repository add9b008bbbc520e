"""Which layers of a network lack the power to follow their loss, what they miss, and whether adding it helps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from molifold.probes.expressivity.score import Score, Tally, Verification, propose, score
from molifold.probes.expressivity.sites import (
    NONLINEAR,
    PROPOSING,
    SUSPECTING,
    UPSTREAM,
    ExampleLoss,
    Rows,
    Sites,
    Sources,
    take,
)
from molifold.probes.expressivity.statistics import Moments
from molifold.probes.expressivity.step import Trials
from molifold.probes.expressivity.units import Added
from molifold.probes.expressivity.verdict import Check, Expressivity, Kind, NewUnits, Verdict
from molifold.probes.preserve import preserved

#: Examples on which the layers are wired together.
WIRING = 24
#: Fewer groups than this cannot be tested: the tail of their t is too heavy (static layers of large micro-batches).
GROUPS = 8
#: What a layer itself could still follow is not worth telling below this share, however significant.
WORTH = 0.01
#: A simpler source (the linear one, then named ones) is named if it explains at least this part of what any other does.
SIMPLER = 0.8


def expressivity(
    model: nn.Module,
    loss: ExampleLoss,
    batch: Any,
    *,
    sources: Sources | None = None,
    blocks: Sequence[str] = (),
    features: int = 64,
    chunk: int = 128,
    level: float = 0.01,
    checks: int = 8,
    trials: int = 60,
    seed: int = 0,
) -> Expressivity:
    """Test every layer of any network for power that it lacks; nothing in the network changes.

    Half of the examples propose, the other half verifies. A site is every product of a parameter matrix with
    activations (see ``Recorder``). For each: what its loss asks of its output; what the layer could still follow by
    itself (under-trained); what new units could follow that see the input of the layer before it, random nonlinear
    functions of that, or any source of yours (under-powered); the rest is noise, as far as these sources can tell.

    Args:
        model: any module.
        loss: ``loss(model, batch) -> [examples]``.
        batch: examples: tensors with examples first, in any nesting of tuples and dicts. Or a *list* of micro-batches
            that cannot be cut further (graphs of several sizes); each counts as one group, so give at least 20.
        sources: ``sources(micro_batch) -> {name: array}``, candidates for what is missing: [examples, c], or
            [examples, positions, c] for layers that have as many positions (atoms, ...), or [rows, c].
        blocks: prefixes of parameter names between which layers must not offer each other what they see.
        features: random nonlinear functions per layer; 0 leaves the nonlinear probe out.
        chunk: examples at a time; memory grows with it, results do not depend on it.
        level: chance of any false alarm (Bonferroni over all sites and sources).
        checks: at most this many alarms are verified by an actual step.
        trials: training steps of new units where a few examples hide from a straight step what they would save; 0
            leaves such trials out.
        seed: of the split and of the random functions.

    Returns:
        Verdicts, worst first; see ``Expressivity``.

    Raises:
        ValueError: if there are fewer than 20 examples (or micro-batches), if losses are not finite or not one per
            example, or if no layer is seen.

    Reference: see ``expressivity.score``.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(2000, 4, generator=generator)
    >>> _ = torch.manual_seed(0)
    >>> narrow = nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 2))
    >>> y = torch.stack([x[:, 0].tanh(), x[:, 1].tanh()], 1)
    >>> report = expressivity(narrow, lambda m, b: (m(b[0]) - b[1]).square().sum(1), (x, y))
    >>> ("2.weight", "upstream") in [(a.site, a.source) for a in report.alarms]
    True
    """
    whole = isinstance(batch, list)
    count = len(batch) if whole else _examples(batch)
    if count < 20:
        raise ValueError(f"batch: got {count} {'micro-batches' if whole else 'examples'}, expected at least 20")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    half = count // 2

    def cut(index: Tensor) -> list[tuple[Tensor, Any]]:
        if whole:
            return [(index[k : k + 1], batch[int(index[k])]) for k in range(len(index))]
        return [(part, take(batch, part, count)) for part in index.split(chunk)]

    proposing, verifying = cut(order[:half]), cut(order[half:])
    with preserved(model):
        for parameter in model.parameters():
            parameter.requires_grad_()
        first = proposing[0][1] if whole else take(batch, order[:WIRING], count)
        sites = Sites(model, loss, first, sources=sources, blocks=blocks, features=features, seed=seed, rolls=not whole)
        moments: dict[str, Moments] = {}
        for _, part in proposing:
            _, found = sites.rows(part)
            for rows in found:
                flat = {name: c.flatten(0, 1) for name, c in rows.sources.items()}
                again = _again(rows, found)
                wanted = (rows.v * rows.bounds(PROPOSING)[:, None, None]).flatten(0, 1)
                moments.setdefault(rows.site, Moments()).add(
                    rows.b.flatten(0, 1), wanted, flat, examples=0 if again else int(rows.sizes.sum())
                )
        verifications = {site: Verification.of(propose(m, masks=sites.masks(site))) for site, m in moments.items()}
        losses = []
        for _, part in verifying:
            values, found = sites.rows(part)
            losses.append(values.double())
            for rows in found:
                if rows.site in verifications:
                    again = _again(rows, found)
                    verifications[rows.site].add(
                        rows.b, rows.v, rows.sources, sizes=rows.sizes, bounds=rows.bounds(SUSPECTING), again=again
                    )
        held_out = torch.cat([index for index, _ in verifying]).numpy()
        before = torch.cat(losses)
        if not bool(before.isfinite().all()):
            raise ValueError(f"loss: {int((~before.isfinite()).sum())} of {len(before)} losses are not finite")
        tests = sum(t.groups >= GROUPS for v in verifications.values() for t in (v.layer, *v.units.values()))
        level_each = level / max(tests, 1)
        verdicts = [_judge(site, v, level_each, held_out) for site, v in verifications.items()]
        tries = Trials(sites, proposing, [part for _, part in verifying], before, trials, seed)
        suspects = _suspects(verdicts, level_each)
        verdicts = _confirm(verdicts, suspects, verifications, tries, checks=checks, level=level, held_out=held_out)
        verdicts = _explained(sorted(verdicts, key=_severity), level_each)
    return Expressivity(tuple(verdicts), tuple(sites.uncovered), count, float(before.mean()), level, tests)


def _again(rows: Rows, found: Sequence[Rows]) -> bool:
    """Whether the layer was used before on the same examples."""
    return any(other.position < rows.position and other.site == rows.site for other in found)


def _judge(site: str, found: Verification, level: float, held_out: np.ndarray) -> Verdict:
    """The verdict of the tests alone."""
    layer = score(found.layer)
    tests = {name: score(tally) for name, tally in found.units.items()}
    left = 1 - layer.share
    linear = tests[UPSTREAM].share * left if UPSTREAM in tests else 0.0
    nonlinear = tests[NONLINEAR].share * left - linear if NONLINEAR in tests else 0.0
    missing = {n: s for n, s in tests.items() if s.share > 0 and s.groups >= GROUPS and s.p_value() < level}
    source, kind = "", "sound"
    if missing:
        source, kind = _simplest(missing), "under-powered"
    elif layer.share > WORTH and layer.groups >= GROUPS and layer.p_value() < level:
        kind = "under-trained"
    rest = 1 - layer.share - max(linear, 0.0) - max(nonlinear, 0.0)
    return _located(
        Verdict(site, kind, source, layer.share, linear, nonlinear, rest, layer, tests),  # type: ignore[arg-type]
        found,
        held_out,
    )


def _suspects(verdicts: Sequence[Verdict], level: float) -> list[Verdict]:
    """What t cannot see because of a few examples: new units may help, which the loss must prove."""
    suspects = []
    for verdict in verdicts:
        likely = {n: s.bounded for n, s in verdict.tests.items() if s.groups >= GROUPS and s.p_value(s.bounded) < level}
        if likely:
            suspects.append(replace(verdict, kind="under-powered", source=max(likely, key=lambda n: likely[n])))
    return suspects


def _located(verdict: Verdict, found: Verification, held_out: np.ndarray) -> Verdict:
    """With the examples and positions that would gain from what is missing."""
    tally = found.units[verdict.source] if verdict.source else found.layer
    scores = torch.cat(tally.scores).cpu().numpy()
    examples = held_out if len(scores) == len(held_out) else np.arange(len(scores))
    bounded = torch.cat(tally.bounded).cpu().numpy()
    return replace(verdict, examples=examples, scores=scores, bounded=bounded, positions=_positions(tally))


def _simplest(missing: Mapping[str, Score]) -> str:
    """The source that explains most; one that is simpler to give, if it explains nearly as much."""
    named = sorted((n for n in missing if n not in (UPSTREAM, NONLINEAR)), key=lambda n: -missing[n].share)
    most = max(score.share for score in missing.values())
    return next(n for n in (UPSTREAM, *named, NONLINEAR) if n in missing and missing[n].share >= SIMPLER * most)


def _positions(tally: Tally) -> np.ndarray:
    same = {len(p) for p in tally.positions}
    if len(same) != 1:
        return np.zeros(0)
    examples = float(torch.cat(tally.sizes).sum())
    return (torch.stack(tally.positions).sum(0) / examples).cpu().numpy()


def _confirm(
    verdicts: list[Verdict],
    suspected: list[Verdict],
    found: dict[str, Verification],
    tries: Trials,
    *,
    checks: int,
    level: float,
    held_out: np.ndarray,
) -> list[Verdict]:
    """Take an actual step for the gravest verdicts; an alarm that does not keep its promise is doubtful.

    Where no step does, units are trained and tried. What a suspect saves must be as certain as a test, at this level
    for all checks together: the mean loss cannot be lowered where nothing is missing, whatever the gradients look like.
    """
    # Of a log-likelihood, t^2 / (2 groups) is the decrease to be had; shares and gains depend on units of the layer.
    told = {v.site: v for v in verdicts if v.kind != "sound"}
    suspects = {
        v.site: _located(v, found[v.site], held_out) for v in suspected if not (v.site in told and told[v.site].source)
    }
    gravest = sorted({**told, **suspects}.values(), key=lambda v: (not v.source, -max(v.test.t, v.test.bounded)))
    checked = {v.site: replace(v, kind="doubtful") for v in told.values() if v.source}
    for verdict in gravest[:checks]:
        sure = level / checks if verdict.site in suspects else math.inf
        proposal = found[verdict.site].proposal
        check, added = tries.step(verdict.site, verdict.source, proposal, slope=verdict.test.slope)
        convinces = _convinces(verdict, check, sure)
        if not convinces and tries.trains(verdict.site, verdict.source):
            trained, units = tries.train(verdict.site, verdict.source)
            convinces = _convinces(verdict, trained, sure)
            check, added = (replace(trained, ratio=check.ratio), units) if convinces else (check, added)
        if convinces or verdict.site not in suspects:
            kind: Kind = verdict.kind if convinces else "doubtful"
            growth = _growth(verdict, added, tries.sites, trained=check.steps > 0)
            checked[verdict.site] = replace(verdict, kind=kind, check=check, growth=growth)
    return [checked.get(v.site, v) for v in verdicts]


def _convinces(verdict: Verdict, check: Check, level: float) -> bool:
    return check.holds and verdict.test.p_value(check.t) < level


def _explained(verdicts: Sequence[Verdict], level: float) -> list[Verdict]:
    """Verdicts, worst first, with the first alarm above them that leaves nothing of them.

    Of two layers through which the same could be mended, each finds a gain in the same examples: the score of a layer
    cleared of an alarm's (regression over examples, the efficient score of a step that follows the alarm's) says what
    it would still gain.
    """
    alarms: list[Verdict] = []
    found = []
    for verdict in verdicts:
        if verdict.kind == "sound":
            found.append(verdict)
            continue
        same = (a.site for a in alarms if verdict.test.p_value(verdict.cleared(a)) >= level)
        found.append(replace(verdict, explained=next(same, "")))
        if verdict.kind == "under-powered" and not found[-1].explained:
            alarms.append(verdict)
    return found


def _growth(verdict: Verdict, added: Added, sites: Sites, *, trained: bool) -> NewUnits | None:
    """The units, if the layer is used once and reads one layer through a known function."""
    wires = [wire for wire in sites.wires if wire.site == verdict.site]
    if verdict.source != UPSTREAM or len(wires) != 1 or wires[0].activation in (None, "none") or wires[0].masks:
        return None
    return NewUnits(sites.wires[wires[0].upstream[0][0]].site, added, trained)


def _severity(verdict: Verdict) -> tuple[int, float]:
    """The gravest kind first, then by t: t^2 / (2 groups) is what a log-likelihood could gain."""
    order = ("under-powered", "under-trained", "doubtful", "sound")
    found = (
        [verdict.evidence, *(s.t for s in verdict.tests.values())] if verdict.kind == "sound" else [verdict.evidence]
    )
    return order.index(verdict.kind), -max(found)


def _examples(batch: Any) -> int:
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim]
    if not leaves:
        raise ValueError("batch: holds no tensor; expected tensors with examples first, or a list of micro-batches")
    return len(leaves[0])
