"""Probes of flows: planted splines, the change of volume that the flow reports itself, and the law of probes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from molifold import Block, Ensemble, Space
from molifold.data import example
from molifold.flows import Flow
from molifold.flows.recipes import graph_spline_coupling
from molifold.interfaces import Moment
from molifold.runs import Run
from molifold.testing import check_probe
from molifold.training import fit
from molifold.training.flow_parts import coordinate_names, coupling_states
from molifold.training.flow_probes import EXAMINATIONS, FLOW, flow_invertibility, flow_jacobian, flow_similarity
from molifold.training.spline_bins import findings, spline_bins
from molifold.transforms import Chain, Coupling
from molifold.transforms.spline import UNIT_SLOPE

SYSTEM = example("butane")
X = SYSTEM.x + 0.003 * np.random.default_rng(0).normal(size=(500, SYSTEM.molecule.n_atoms, 3))
FRAMES = Ensemble(SYSTEM.molecule, X)
BATCH = torch.as_tensor(X[:20], dtype=torch.float32)


def flow_with(network, *, size=0.3):
    """A small flow of butane with random weights everywhere, so that every part of it does something."""
    torch.manual_seed(0)
    sizes = {"couplings": 2, "rotation_couplings": 2, "bins": 4, "channels": 8, "heads": 2, "hidden": (8,)}
    flow = graph_spline_coupling(SYSTEM.molecule, FRAMES, network=network, **sizes).eval()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(size * torch.randn(p.shape) / max(p.shape[-1:] or [1]) ** 0.5)
    return flow


@pytest.fixture(scope="module")
def flow():
    return flow_with("attention")


# ------------------------------------------------------------------------------------------------------ spline bins


class Constant(nn.Module):
    """A conditioner that always asks for the same spline, of 4 bins."""

    def __init__(self, support, raw):
        super().__init__()
        self.support, self.raw = support, nn.Parameter(torch.tensor(raw))

    def forward(self, known):
        return {self.support: self.raw[None, :, None].expand(-1, -1, known.shape[1])}


def used(support, raw, moved):
    """The bins of coordinate 0, which ``raw`` moves; coordinate 1 is given."""
    space = Space((Block("both", 2, support),))
    coupling = Coupling(space, torch.tensor([True, False]), conditioner=Constant(support, raw))
    x = torch.stack([torch.as_tensor(moved, dtype=torch.float32), torch.zeros(len(moved))], 1)
    return spline_bins(Flow(Chain([coupling])), x)


def circle(widths=(0.0,) * 4, slopes=(0.0,) * 4):
    return [0.0, *widths, *widths, *slopes]


def real(*, shift=0.0, scale=0.0):
    return [shift, scale, *[0.0] * 11]


TURN = np.linspace(-math.pi, math.pi, 400, endpoint=False)


def test_equal_angles_use_all_bins_and_one_angle_one():
    assert used("circle", circle(), TURN).in_use == pytest.approx([4])
    one = used("circle", circle(), np.full(100, 0.1))
    assert one.in_use == pytest.approx([1])
    assert one.names == ("transform.steps.0: latent 0",)


def test_two_thirds_in_one_bin():
    """exp of the entropy of (2/3, 1/3), by hand: 3 / 2^(2/3)."""
    angles = [0.1, 0.1, 2.0] * 50
    assert used("circle", circle(), angles).in_use == pytest.approx([3 / 2 ** (2 / 3)])


def test_a_bin_of_the_smallest_size_is_clamped():
    """Softmax of (30, 0, 0, 0): all other bins have the smallest size; the angles just below pi lie in the last."""
    pinned = circle(widths=(30.0, 0.0, 0.0, 0.0))
    top = used("circle", pinned, np.full(100, math.pi - 1e-4))
    assert (top.clamped[0], used("circle", pinned, np.full(100, 0.0)).clamped[0]) == (1, 0)
    (told,) = findings(top)
    assert (told.level, told.subject) == ("warning", "splines, clamped")
    assert "transform.steps.0: latent 0 (100%)" in told.message


def test_the_smallest_slope_is_flat():
    """softplus(-30) is 0, so that only the minimum is left at the first knot, the end of the first bin."""
    found = used("circle", circle(slopes=(0.0, -30.0 - UNIT_SLOPE, 0.0, 0.0)), [-3.0, -1.4, 1.4, 3.0])
    assert found.flat == pytest.approx([0.5])


def test_tails_and_scales():
    """A shift of 6 brings 0 beyond -5; the log-scale 2 is nearly reached from a raw 6 on."""
    found = used("real", real(shift=6.0), [0.0, 0.0, 6.0, 7.0])
    assert (found.tails[0], found.scaled[0]) == (0.5, 0)
    assert used("real", real(scale=6.0), np.zeros(4)).scaled == pytest.approx([1])
    assert {f.subject for f in findings(found)} == {"splines, tails"}
    assert findings(used("real", real(), np.linspace(-3, 3, 100)))[0].level == "ok"


# ------------------------------------------------------------------------------------------------------------ flows


@pytest.mark.parametrize("network", ["attention", "mlp"])
def test_the_flow_reports_the_volume_of_its_jacobian(network):
    found = flow_jacobian(flow_with(network), BATCH)
    assert found.disagreement.max() < 1e-8
    assert found.condition.min() > 1.5  # it does something
    assert found.lipschitz[0] >= found.singular[:, 0].mean()


def test_the_flow_is_a_bijection_to_rounding(flow):
    found = flow_invertibility(flow, BATCH)
    assert found.double.max() < 1e-9
    assert 1e-9 < found.single.max() < 1e-3
    assert found.names[-1].startswith(("rotation", "phase"))
    assert len(found.names) == 3 * SYSTEM.molecule.n_atoms - 6


def test_coordinates_are_called_after_their_atoms(flow):
    names = coordinate_names(flow)
    assert sum(n.startswith("bond of ") for n in names) == SYSTEM.molecule.n_atoms - 1
    assert coordinate_names(
        Flow(
            Chain(
                [
                    Coupling(
                        Space((Block("a", 2, "real"),)),
                        torch.tensor([True, False]),
                        conditioner=Constant("real", real()),
                    )
                ]
            )
        )
    ) == ("latent 0", "latent 1")


def test_a_flow_that_ignores_a_rotation_cannot_tell_conformations_apart_that_differ_in_it():
    """Its conditioners see nothing, and rotations are left alone: only stiff coordinates matter."""
    blind = flow_with("mlp", size=0.0)
    frozen = [p for name, p in blind.named_parameters() if "hidden" in name]
    with torch.no_grad():
        for p in frozen:
            p.zero_()
    for _, (coupling, _) in coupling_states(blind, BATCH).items():
        if coupling.domain.has("circle")[coupling.mask].any():
            coupling.requires_grad_(requires_grad=False)
    internal, scale = blind.transform.steps[:2]
    with torch.no_grad():
        u = scale(internal(BATCH)[0])[0].clone()
        u[1] = u[0]
        u[1, -1] += 2.0
        x = internal.inverse(scale.inverse(u)[0])[0]
    _, pairs = flow_similarity(blind, x)
    assert (pairs[0].first, pairs[0].second) == (0, 1)
    assert pairs[0].similarity == pytest.approx(1, abs=1e-4)
    assert pairs[0].difference == pytest.approx(math.degrees(2), abs=1)


@pytest.mark.parametrize("probe", FLOW, ids=lambda p: getattr(p, "__name__", type(p).__name__))
def test_probes_of_flows_keep_the_law(probe, flow):
    check_probe(probe, model=flow, batch=BATCH)
    assert probe(Moment(1, flow, batch=BATCH))
    assert probe(Moment(1, nn.Linear(3, 3), batch=BATCH)) == {}


def test_examinations_say_something_about_a_flow_and_keep_what_they_saw(flow):
    names, records = [], {}
    for name, probe, examination in EXAMINATIONS:
        told, seen = examination(flow, BATCH)
        assert told, name
        assert seen == {} or set(seen) == set(probe(Moment(1, flow, batch=BATCH)))
        names += [f.subject for f in told]
        records |= seen
    assert {"stretching", "inverse", "splines", "similarity", "oversquashing", "attention"} <= set(names)
    assert records["attention"][1]["heads"].shape[1:] == (SYSTEM.molecule.n_atoms,) * 2


def test_training_is_the_same_with_and_without_them(tmp_path):
    ends = []
    for probes in ((), FLOW):
        model = flow_with("attention")
        fit(model, FRAMES, steps=4, batch_size=20, seed=3, to=tmp_path / str(len(probes)), probes=probes, probe_every=2)
        ends.append([p.detach().clone() for p in model.parameters()])
    run = Run.open(tmp_path / str(len(FLOW)))
    assert [e["message"] for e in run.events()[0] if e["kind"] == "probe_failed"] == []
    assert {"attention", "jacobian", "input similarity", "sensitivity by distance"} <= set(run.records)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
