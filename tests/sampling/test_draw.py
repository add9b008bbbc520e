"""draw against distributions whose normalisation and means are known in closed form."""

import math

import numpy as np
import pytest
import torch

from molifold import Ensemble, Molecule
from molifold.sampling import draw
from molifold.units import kT

POINT = Molecule(elements=("X",), name="point")


class Gauss:
    """Isotropic normal distribution of one particle; ``sigma`` in nm."""

    def __init__(self, sigma=1.0, *, broken=()):
        self.sigma = sigma
        self.broken = broken
        self.calls = []

    def log_prob(self, x):
        return -0.5 * (x / self.sigma).square().sum((1, 2)) - 3 * math.log(self.sigma * math.sqrt(2 * math.pi))

    def sample(self, n, *, generator=None):
        self.calls.append(n)
        x = self.sigma * torch.randn(n, 1, 3, generator=generator, dtype=torch.float64)
        log_q = self.log_prob(x)
        for index, (target, value) in enumerate(self.broken):
            (x[:, 0, 0] if target == "x" else log_q)[index] = value
        return x, log_q


class Harmonic:
    """u = |x|^2 / 2, whose normalised density is the unit normal distribution."""

    temperature = 300.0

    def __call__(self, x):
        return 0.5 * x.square().sum((1, 2))

    def at(self, temperature):
        raise AssertionError("draw must not change the temperature")


def test_weights_have_the_right_constant_and_mean():
    e = draw(Gauss(1.3), 40_000, molecule=POINT, energy=Harmonic(), seed=3)
    w = np.exp(e.log_w)
    # E_q[w] = Z_p = (2 pi)^(3/2); E_p[|x|^2] = 3. Five standard errors.
    assert abs(w.mean() - (2 * math.pi) ** 1.5) < 5 * w.std() / math.sqrt(len(w))
    r2 = (np.asarray(e.x, dtype=np.float64) ** 2).sum((1, 2))
    assert np.average(r2, weights=w) == pytest.approx(3.0, abs=0.06)
    assert np.allclose(e.columns["energy"], -e.log_p * kT(300.0))
    assert e.meta["invalid"] == 0
    assert e.meta["temperature"] == 300.0


def test_same_seed_same_frames_and_no_global_state():
    before = torch.get_rng_state()
    a, b, c = (draw(Gauss(), 50, molecule=POINT, seed=s, batch_size=16) for s in (1, 1, 2))
    assert np.array_equal(a.x, b.x)
    assert np.array_equal(a.log_q, b.log_q)
    assert not np.array_equal(a.x, c.x)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_are_bounded_and_progress_counts_frames():
    flow, seen = Gauss(), []
    e = draw(flow, 100, molecule=POINT, seed=1, batch_size=32, progress=lambda done, n: seen.append((done, n)))
    assert flow.calls == [32, 32, 32, 4]
    assert seen == [(32, 100), (64, 100), (96, 100), (100, 100)]
    assert len(e) == 100
    assert e.log_p is None


def test_progress_tells_the_effective_fraction_so_far():
    seen = []
    options = {"molecule": POINT, "energy": Harmonic(), "seed": 3, "batch_size": 100}
    e = draw(Gauss(1.3), 1000, **options, progress=lambda done, n, *, ess: seen.append((done, ess)))
    for done, ess in seen:
        w = np.exp(e.log_w[:done])
        assert ess == pytest.approx(w.sum() ** 2 / (done * (w**2).sum()), rel=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_draws_stay_with_weight_zero_and_are_counted(value):
    flow = Gauss(broken=[("x", value), ("log_q", value)])
    e = draw(flow, 64, molecule=POINT, energy=Harmonic(), seed=1)
    assert len(e) == 64
    assert e.meta["invalid"] == 2
    assert np.array_equal(np.flatnonzero(e.log_w == -np.inf), [0, 1])
    assert np.isfinite(e.log_w[2:]).all()


def test_a_store_holds_the_same_as_memory(tmp_path):
    options = {"molecule": POINT, "energy": Harmonic(), "seed": 5, "batch_size": 30}
    kept, stored = draw(Gauss(), 100, **options), draw(Gauss(), 100, to=tmp_path / "s", **options)
    assert isinstance(stored.x, np.memmap)
    again = Ensemble.load(tmp_path / "s")
    for e in (stored, again):
        assert np.array_equal(e.x, kept.x)
        assert np.array_equal(e.log_w, kept.log_w)
        assert e.meta == kept.meta


def test_errors_say_what_came():
    with pytest.raises(ValueError, match="n: got 0"):
        draw(Gauss(), 0, molecule=POINT, seed=1)
    with pytest.raises(ValueError, match="flow: draws frames of shape"):
        draw(Gauss(), 5, molecule=Molecule(elements=("X", "X")), seed=1)
