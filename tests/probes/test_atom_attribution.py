"""Attribution of numbers whose parts are known, and against captum itself."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from molifold.probes.attribution import AttributionProbe, atom_attribution
from molifold.testing import check_probe


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, START = normal(6, 4, 3), normal(1, 4, 3, seed=1)


def test_a_sum_over_atoms_gives_every_atom_its_term():
    weight = normal(4, 3, seed=2)
    found = atom_attribution(lambda x: (x * weight).sum((1, 2)), X, baseline=START)
    assert found.value == pytest.approx(((X - START) * weight).sum(2).numpy())
    assert found.gap == pytest.approx(0, abs=1e-7)  # captum's weights of the points sum to 1 within 1e-9
    gradient = atom_attribution(lambda x: (x * weight).sum((1, 2)), X, method="gradient")
    assert gradient.value == pytest.approx(weight.norm(dim=1).expand(6, -1).numpy())


def test_contributions_add_up_and_are_those_of_captum():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def energy(x):
        return network(x)[:, 0]

    found = atom_attribution(energy, X, baseline=START, points=64)
    rise = (energy(X) - energy(START)).detach().numpy()
    assert found.value.sum(1) == pytest.approx(rise, abs=1e-6)
    assert found.value.sum(1) - rise == pytest.approx(found.gap, abs=1e-9)
    direct = IntegratedGradients(energy).attribute(X, baselines=START.expand_as(X), n_steps=64)
    assert found.value == pytest.approx(direct.sum(2).detach().numpy(), rel=1e-12)


def test_what_else_a_network_takes_is_held_fixed():
    scale = normal(6)
    found = atom_attribution(lambda x, s: s * x.sum((1, 2)), X, baseline=0 * START, also=(scale,))
    assert found.value == pytest.approx((scale[:, None] * X.sum(2)).numpy())


def test_the_probe_names_the_atom_that_matters_and_keeps_the_law():
    model = nn.Linear(3, 1).double()
    probe = AttributionProbe(lambda m, x: m(x[:, 2])[:, 0])
    check_probe(probe, model=model, batch=X)
    from molifold.interfaces import Moment

    kind, arrays = probe(Moment(1, model, batch=X))["attribution - atoms"]
    assert kind == "table"
    assert arrays["name"][np.argmax(arrays["share"])] == "2"
    assert arrays["share"] == pytest.approx([0, 0, 1, 0])


def test_other_methods_are_refused():
    with pytest.raises(ValueError, match="expected integrated or gradient"):
        atom_attribution(lambda x: x.sum((1, 2)), X, method="guess")
