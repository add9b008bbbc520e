"""Sources of a molecule: their columns by hand, what moves them, and that they show a coupling nothing it moves."""

import numpy as np
import pytest
import torch

from molifold import Molecule
from molifold.data import example, structure
from molifold.ensemble import Ensemble
from molifold.flows.recipes import graph_spline_coupling
from molifold.probes import expressivity, molecular_sources
from molifold.probes.expressivity.score import Tally, score
from molifold.training.diagnosis import _molecular_sources

ZWITTERION, X = structure(smiles="C[C@@H](C([O-])=O)[NH2+]Cc1ccccc1")
X = torch.as_tensor(X, dtype=torch.float64)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_columns_by_hand():
    features = normal(3, ZWITTERION.n_atoms, 2, seed=0)
    found = molecular_sources(ZWITTERION, X.expand(3, -1, -1), features=features)
    names = [f"atoms {k} bonds away" for k in (1, 2, 3, 4)]
    assert list(found) == [*names, "ring flag", "formal charge", "distances", "torsions", "chirality"]
    hops = ZWITTERION.hops
    for k, name in enumerate(names, start=1):
        atom = 7
        assert torch.allclose(found[name][:, atom], features[:, hops[atom] == k].mean(1))
    ring = found["ring flag"]
    assert ring[0, :, 0].sum() == 6  # phenyl
    assert torch.equal(ring[..., 1:], ring[..., :1] * features)
    assert found["formal charge"][0, :, 0].tolist() == [float(q) for q in ZWITTERION.formal_charges]
    assert found["distances"].sum().item() == pytest.approx(
        3 * sum(
            float(torch.exp(-0.5 * ((torch.cdist(X[0], X[0]) - c) / 0.05).square()).fill_diagonal_(0).sum())
            for c in np.arange(0.05, 0.8, 0.05)
        )
    )  # fmt: skip


def test_mirror_images_differ_in_chirality_and_in_the_sines_of_torsions_alone():
    turned = torch.stack([-X[0], X[0] @ torch.linalg.qr(normal(3, 3, seed=1))[0] + 1.0])
    hand = torch.linalg.det(torch.linalg.qr(normal(3, 3, seed=1))[0])
    left, right = (molecular_sources(ZWITTERION, x) for x in (X, turned))
    assert torch.allclose(right["distances"], left["distances"].expand(2, -1, -1))
    assert torch.allclose(right["chirality"][0], -left["chirality"][0])
    assert torch.allclose(right["chirality"][1], hand * left["chirality"][0])
    assert torch.allclose(right["torsions"][0, :, 0::2], left["torsions"][0, :, 0::2])  # cosines
    assert torch.allclose(right["torsions"][0, :, 1::2], -left["torsions"][0, :, 1::2])  # sines
    assert (left["chirality"] != 0).sum() == 1


def test_what_says_nothing_is_left_out():
    butane = Molecule.from_smiles("CCCC")
    assert list(molecular_sources(butane, normal(2, 14, 3, seed=2))) == ["distances", "torsions"]
    with pytest.raises(ValueError, match=r"x: got shape \(2, 13, 3\), expected \[batch, 14, 3\]"):
        molecular_sources(butane, normal(2, 13, 3, seed=2))
    with pytest.raises(ValueError, match=r"features: got shape \(2, 14, 1\), expected \[2, 3, channels\]"):
        molecular_sources(butane, normal(2, 14, 3, seed=2), features=normal(2, 14, 1, seed=3), atoms=(0, 1, 2))


def test_a_coupling_is_shown_nothing_that_it_moves():
    system = example("butane")
    x = system.x + 0.003 * np.random.default_rng(0).normal(size=(400, *system.x.shape[1:]))
    size = {"couplings": 2, "rotation_couplings": 2, "channels": 4, "layers": 1, "rank": 1, "bins": 3}
    flow = graph_spline_coupling(system.molecule, Ensemble(system.molecule, x), **size).double()
    moved = flow.transform.steps[2]
    first = torch.as_tensor(x[:5])
    with torch.no_grad():
        y = flow.transform.steps[1](flow.transform.steps[0](first)[0])[0]
        y[:, torch.from_numpy(moved.mask)] += 0.3
        other = flow.transform.steps[0].inverse(flow.transform.steps[1].inverse(y)[0])[0]
    inside = "transform.steps.2.conditioner.network"
    before, after = (_molecular_sources(flow, frames) for frames in (first, other))
    assert {"distances", "torsions", "atoms 2 bonds away"} <= before.keys()
    for name in before:
        assert torch.allclose(before[name][inside], after[name][inside], atol=1e-9), name


def test_a_withheld_hand_is_named_first():
    """A network of elements and bonds alone; the value at the chiral centre has the sign of the hand."""
    x = X + 0.005 * normal(600, *X.shape[1:], seed=4)
    x[::2] *= -1
    h = normal(600, ZWITTERION.n_atoms, 2, seed=5)
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    y = model(h)[..., 0].detach() + 0.3 * normal(600, ZWITTERION.n_atoms, seed=6)
    y[:, 1] += 0.5 * torch.tensor([1.0, -1.0]).repeat(300)
    report = expressivity(
        model,
        lambda m, b: (m(b[0])[..., 0] - b[1]).square().sum(1),
        (h, y, x),
        sources=lambda b: molecular_sources(ZWITTERION, b[2], features=b[0]),
        features=16,
    )
    assert report.alarms[0].source == "chirality"


def test_one_group_alone_is_never_significant():
    tally = Tally()
    rows = normal(1, 5, 2, seed=7)
    tally.add(rows, rows, rows, torch.ones(1, dtype=torch.float64), batch=0)
    assert score(tally).t == 0
    assert score(tally).p_value() == pytest.approx(0.5)
