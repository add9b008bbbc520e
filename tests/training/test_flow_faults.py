"""One planted fault each in small flows: the diagnosis names the part that is at fault, and the remedy is one."""

import math

import numpy as np
import pytest
import torch
from test_diagnosis import normal

from molifold import Block, Ensemble, Molecule, Space
from molifold.data import example
from molifold.flows import Flow
from molifold.flows.conditioners import MLPConditioner
from molifold.flows.recipes import graph_spline_coupling
from molifold.training import fit
from molifold.training.diagnosis import diagnose_flow
from molifold.training.flow_parts import coordinate_atoms, coordinate_names
from molifold.transforms import Chain, Coupling, Transform

SPACE = Space((Block("x", 3, "real"),))
#: Every coordinate given both others, in turn.
ALL = [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))]
FRAMES = 4000


class Flat(Transform):
    """One particle: [batch, 1, 3] to [batch, 3]."""

    def __init__(self):
        super().__init__()
        self.domain = self.codomain = SPACE

    def forward(self, x):
        return x[:, 0], x.new_zeros(len(x))

    def inverse(self, y):
        return y[:, None], y.new_zeros(len(y))


def one(*places):
    mask = torch.zeros(3, dtype=torch.bool)
    mask[list(places)] = True
    return mask


def trained(couplings, x, *, bins=8, hidden=(16, 16), steps=200, batch=256, rate=1e-2):
    """A flow of couplings (moved, given), in the order from data to latents, after ``steps`` of Adam."""
    torch.manual_seed(0)
    made = []
    for moved, given in couplings:
        masks = {"mask": one(moved), "given": one(*given)}
        made.append(Coupling(SPACE, **masks, conditioner=MLPConditioner(SPACE, **masks, hidden=hidden, bins=bins)))
    flow = Flow(Chain([Flat(), *made]))
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (batch,), generator=generator)
        optimizer.zero_grad()
        (-flow.log_prob(x[rows]).mean()).backward()
        optimizer.step()
        schedule.step()
    return flow.eval()


def told(flow, x):
    """The faults that are told of the latents, the largest first: (what, target, source)."""
    found = diagnose_flow(flow, Ensemble(Molecule(elements=("C",)), x.numpy()), frames=FRAMES)
    return [(found.fault(*pair), *pair) for pair in found.pairs], found


def modes(n, distance, width, *, seed):
    """Numbers from ``n`` equal normal modes."""
    which = torch.randint(0, n, (FRAMES,), generator=torch.Generator().manual_seed(seed)) - (n - 1) / 2
    return distance * which + width * normal(FRAMES, seed=seed + 1)


def data(seed, **columns):
    x = normal(FRAMES, 1, 3, seed=seed)
    for place, values in columns.items():
        x[:, 0, int(place[1:])] = values(x[:, 0]) if callable(values) else values
    return x


@pytest.mark.parametrize(("weak", "n"), [(1, 2), (2, 3)], ids=["affine, two modes", "two bins, three modes"])
def test_a_transform_family_that_is_too_weak(weak, n):
    """One bin is an affine map; with eight bins little is left. The saving is that of the exact density."""
    values = modes(n, 1.5, 0.3, seed=10)
    x = data(0, x0=values)
    faults, found = told(trained(ALL, x, bins=weak, steps=150), x)
    assert faults[0] == ("transform family", 0, 0)
    assert len(faults) == 1  # no other latent is blamed for it
    centres = 1.5 * (torch.arange(n) - (n - 1) / 2)
    exact = torch.logsumexp(-0.5 * ((values[:, None] - centres) / 0.3) ** 2, 1) - math.log(n * 0.3)
    if weak == 1:
        lost = (values.var(correction=0).log() / 2 + 0.5 + exact.mean()).item()
        assert found.latents.nats[0, 0] == pytest.approx(lost, rel=0.5)
        _, after = told(trained(ALL, x, hidden=(8,), steps=150), x)
        assert after.latents.nats[0, 0] < 0.1 * lost


def test_a_mask_that_never_shows_one_coordinate_to_another():
    x = data(1, x0=lambda x: 0.6 * x[:, 1] + 0.8 * x[:, 0])
    faults, found = told(trained([(0, (2,)), (1, (2,))], x, steps=50), x)
    assert [(what, *sorted(pair)) for what, *pair in faults] == [("mask", 0, 1)]
    assert found.latents.nats.max() == pytest.approx(-math.log(0.8), rel=0.3)  # their mutual information


def test_a_conditioner_that_is_too_narrow():
    x = data(2, x0=lambda x: torch.sin(3 * x[:, 1]) + 0.3 * x[:, 0])
    faults, found = told(trained(ALL, x, hidden=(1,)), x)
    assert faults[0] == ("conditioner", 0, 1)
    gain = found.gains[0, 1]
    assert gain.nats > 2 * gain.error
    assert "better conditioners alone would save" in found.lines()[1]
    wide = trained(ALL, x)
    with torch.no_grad():  # the remedy saves at least what was measured
        assert -wide.log_prob(x).mean() < found.layers.loss - gain.nats


def test_too_few_couplings():
    """1 depends on v = 0 - 2 sin(2 * 2), but is moved before any coupling has freed v of 2: only one more layer helps.

    Every pair is shown to some coupling, the conditioners are wide, and the splines have bins enough.
    """
    x = normal(FRAMES, 1, 3, seed=4)
    v = x[:, 0, 0].clone()
    x[:, 0, 1] = torch.sin(2 * v) + 0.4 * x[:, 0, 1]
    x[:, 0, 0] = v + 2 * torch.sin(2 * x[:, 0, 2])
    order = [(1, (0,)), (1, (2,)), (0, (2,))]
    faults, found = told(trained(order, x, hidden=(32,), steps=600, batch=512, rate=2e-2), x)
    assert faults[0][0] == "depth"
    assert set(faults[0][1:]) == {0, 1}
    more = trained([*order, order[0]], x, hidden=(32,), rate=2e-2)
    with torch.no_grad():  # one more layer saves at least what the latents promise
        assert -more.log_prob(x).mean() < found.layers.loss - found.latents.nats.max()


def test_a_bent_latent_is_not_told_as_a_dependence():
    """60 latents of which six are bent: six findings, not hundreds (waves of a source have a mean)."""
    from molifold.probes.stein import stein

    z = normal(2000, 40, seed=6)
    bent = torch.arange(40) % 10 == 0
    z[:, bent] = z[:, bent].sign() * z[:, bent].abs() ** 0.5
    assert sorted(stein(z, torch.zeros(40, dtype=torch.bool)).found) == [(i, i) for i in (0, 10, 20, 30)]


def test_a_weak_atom_is_coloured_worst():
    """Butane whose one angle, at atom 6, swings with the bond of the same atom: too much for a narrow conditioner."""
    system = example("butane")
    rng = np.random.default_rng(0)
    start = Ensemble(system.molecule, system.x + 0.003 * rng.normal(size=(500, *system.x.shape[1:])))
    torch.manual_seed(0)
    sizes = {"couplings": 2, "rotation_couplings": 2, "bins": 4, "channels": 4, "layers": 1, "rank": 1}
    flow = graph_spline_coupling(system.molecule, start, **sizes)
    internal, scale = flow.transform.steps[:2]
    names, atoms = coordinate_names(flow), coordinate_atoms(flow)
    angle, bond = (
        next(i for i, n in enumerate(names) if n.startswith(kind) and atoms[i] == 6) for kind in ("angle", "bond")
    )
    with torch.no_grad():
        u = flow.base.sample(1500, generator=torch.Generator().manual_seed(1)).clone()
        u[:, angle] = 1.3 * torch.sin(3 * u[:, bond]) + 0.3 * u[:, angle]
        x = internal.inverse(scale.inverse(u)[0])[0]
    data = Ensemble(system.molecule, x.numpy())
    fit(flow, data, steps=30, batch_size=256, learning_rate=5e-3, seed=0)
    found = diagnose_flow(flow, data, frames=1500)
    assert found.atoms.argmax() == 6
    assert found.atoms[6] > 10 * np.delete(found.atoms, 6).max()
    target, source = found.latents.found[0]
    assert {target, source} == {angle, bond}
    assert found.fault(target, source) == "conditioner"
