"""Masked layers (MADE, arXiv 1502.03509): what is proposed for an output may not see what the output may not see."""

import pytest
import torch
from expressivity_cases import normal, squared
from torch import nn

from molifold.probes import expressivity
from molifold.probes.expressivity.score import Masks, propose
from molifold.probes.expressivity.sites import UPSTREAM, Sites
from molifold.probes.expressivity.statistics import Moments
from molifold.probes.expressivity.step import _adding
from molifold.probes.expressivity.units import Added

SIZE = 5


class Masked(nn.Linear):
    def __init__(self, before, after, *, strict):
        super().__init__(len(before), len(after), dtype=torch.float64)
        mask = after[:, None] > before if strict else after[:, None] >= before
        self.register_buffer("mask", mask.double())

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


def made(*hidden, seed=0):
    """Output i is a function of the inputs before i; hidden units have degrees in turn."""
    torch.manual_seed(seed)
    degrees = [torch.arange(SIZE)] + [torch.arange(n) % (SIZE - 1) for n in hidden]
    layers = []
    for a, b in zip(degrees, degrees[1:], strict=False):
        layers += [Masked(a, b, strict=False), nn.Tanh()]
    return nn.Sequential(*layers, Masked(degrees[-1], torch.arange(SIZE), strict=True))


def depends(function, x):
    return torch.autograd.functional.jacobian(lambda x: function(x).sum(0), x).abs().sum(1) > 0


def test_the_best_update_is_that_of_least_squares_with_the_entries_there_are():
    model, x = made(8), normal(400, SIZE, seed=1)
    batch = x, x + normal(400, SIZE, seed=2)
    sites = Sites(model, squared, batch, features=0)
    rows = sites.rows(batch)[1][1]
    moments = Moments()
    moments.add(rows.b.flatten(0, 1), rows.v.flatten(0, 1), {}, examples=400)
    masks = sites.wires[1].masks
    proposal = propose(moments, masks=Masks(masks.inputs, {}))
    for i in range(SIZE):
        seen = masks.inputs[i]
        expected = torch.linalg.lstsq(rows.b[:, 0, seen], rows.v[:, 0, i]).solution
        assert torch.allclose(proposal.weights[seen, i], expected, atol=1e-8)
        assert (proposal.weights[~seen, i] == 0).all()


@pytest.mark.parametrize("hidden", [(4,), (8, 8)])
def test_new_units_and_updates_keep_the_order_of_the_variables(hidden):
    model, x = made(*hidden), normal(600, SIZE, seed=1)
    batch = x, torch.tanh(x.cumsum(1)) + x.flip(1)
    sites = Sites(model, squared, batch, features=0)
    before = depends(model, x[:20])
    assert torch.equal(before, torch.ones(SIZE, SIZE).tril(-1).bool())
    moments = {}
    for rows in sites.rows(batch)[1]:
        flat = {n: c.flatten(0, 1) for n, c in rows.sources.items()}
        moments.setdefault(rows.site, Moments()).add(rows.b[:, 0], rows.v[:, 0], flat, examples=600)
    for wire in sites.wires:
        proposal = propose(moments[wire.site], masks=wire.masks)
        assert proposal.units.keys() == ({UPSTREAM} if wire.site != "0.weight" else set())
        for source in ("", *proposal.units):
            added = Added.step(proposal, source, "tanh", 0.5)

            def edited(x, wire=wire, source=source, added=added):
                out = []
                loss, sites.loss = sites.loss, lambda m, b: out.append(m(b[0])) or out[0].sum(1)
                sites.losses((x, x), _adding(sites, wire.site, source, added, (x, x)))
                sites.loss = loss
                return out[0]

            # What is added reads detached inputs, so that dependence shows where these are moved.
            assert (edited(x[:20]) - model(x[:20])).abs().max() > 1e-6
            for j in range(SIZE):
                moved = x[:20].clone()
                moved[:, j] += 1.0
                changed = (edited(moved) - edited(x[:20])).abs().amax(0) > 1e-12
                assert not changed[: j + 1].any()


def test_a_masked_layer_that_is_used_twice_may_read_what_all_uses_may():
    """Its first use stands behind a layer, its second behind something else."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            degrees = torch.arange(SIZE)
            self.first = Masked(degrees, degrees, strict=False)
            self.second = Masked(degrees, degrees, strict=False)

        def forward(self, x):
            h = self.second(self.first(x).tanh())
            return self.second(h + x)

    torch.manual_seed(0)
    model, x = Twice(), normal(400, SIZE, seed=1)
    batch = x, x.cumsum(1) + normal(400, SIZE, seed=2)
    masks = Sites(model, squared, batch, features=0).masks("second.weight")
    assert torch.equal(masks.inputs[:, :-1], model.second.mask.bool())
    assert masks.reads == {}
    assert expressivity(model, squared, batch)["second.weight"].tests == {}


def test_a_narrow_layer_is_found_and_what_no_output_may_see_is_not_missed():
    narrow, wide = made(4), made(64)
    x = normal(6000, SIZE, seed=1)
    y = wide(x).detach() + 0.3 * normal(6000, SIZE, seed=2)
    assert [a.site for a in expressivity(narrow, squared, (x, y)).alarms] == ["2.weight"]
    forbidden = narrow(x).detach() + torch.tanh(x) + 0.3 * normal(6000, SIZE, seed=3)
    assert expressivity(narrow, squared, (x, forbidden)).alarms == ()
