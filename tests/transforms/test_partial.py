"""Partial geometry: what a conditioner learns of distances follows from the known coordinates alone."""

import numpy as np
import pytest
import torch
from torch import nn

from molifold import Ensemble
from molifold.data import example
from molifold.flows.recipes import graph_spline_coupling
from molifold.transforms import Coupling


class Listener(nn.Module):
    """Remembers what it is given."""

    def __init__(self, *, features, static, channels):
        super().__init__()
        self.channels = channels

    def forward(self, features, graph):
        self.seen = features, graph.distances
        return features.new_zeros(*features.shape[:2], self.channels)


@pytest.fixture(scope="module")
def flow():
    system = example("alanine-dipeptide")
    noise = 0.004 * np.random.default_rng(0).normal(size=(900, 22, 3))
    reference = Ensemble(system.molecule, system.x + noise)
    return graph_spline_coupling(system.molecule, reference, network=Listener, geometry=True).double()


def test_unknown_coordinates_change_nothing_that_a_conditioner_sees(flow):
    """Bit for bit: then the parameters are the same in both directions, and the coupling is inverted exactly."""
    couplings = [s for s in flow.transform.steps if isinstance(s, Coupling)]
    assert len(couplings) == 12
    generator = torch.Generator().manual_seed(0)
    for coupling in couplings:
        z = flow.base.sample(8, generator=generator)
        known = torch.zeros(z.shape[1], dtype=torch.bool)
        known[coupling._order[: coupling._sizes["given"]]] = True
        other = torch.where(known, z, flow.base.sample(8, generator=generator))
        seen = []
        for points in (z, other):
            coupling(points)
            seen.append(coupling.conditioner.network.seen)
        assert not torch.equal(z, other)
        for before, after in zip(*seen, strict=True):
            assert torch.equal(before, after)


def test_known_coordinates_change_the_distances(flow):
    coupling = flow.transform.steps[2]
    z = flow.base.sample(2, generator=torch.Generator().manual_seed(1))
    coupling(z)
    _, distances = coupling.conditioner.network.seen
    assert (distances[0] - distances[1]).abs().max() > 0.01


def test_at_the_reference_the_partial_geometry_is_the_whole_one(flow):
    """Unknown coordinates stand at zero, so where they are zero the distances are those of the conformation."""
    internal, scale, coupling = flow.transform.steps[:3]
    given = coupling._order[: coupling._sizes["given"]]
    z = torch.zeros(3, flow.base.space.size, dtype=torch.float64)
    z[:, given] = flow.base.sample(3, generator=torch.Generator().manual_seed(2))[:, given]
    coupling(z)
    x = internal.inverse(scale.inverse(z)[0])[0]
    nodes = coupling.conditioner._nodes
    expected = torch.cdist(x[:, nodes], x[:, nodes])
    assert torch.allclose(coupling.conditioner.network.seen[1], expected, atol=1e-7)


def test_a_flow_with_partial_geometry_saves_its_scale_once(flow):
    """The geometry borrows the flow's first steps: they appear once in the state, and move with the flow."""
    assert sum("whiten" in name for name in flow.state_dict()) == 1
    internal, scale = flow.transform.steps[:2]
    assert flow.transform.steps[2].conditioner.geometry._steps == (scale, internal)
