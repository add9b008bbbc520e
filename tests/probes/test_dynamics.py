"""Probes of the dynamics of training against answers that are known: by construction, by theory, by dense algebra."""

import numpy as np
import pytest
import torch
from torch import nn

from molifold.interfaces import Moment
from molifold.probes import (
    DEFAULT,
    PASSIVE,
    LossSpikes,
    activations,
    alignment,
    curvature,
    feature_ranks,
    gradient_noise,
    representations,
    watch_curvature,
    weight_ranks,
)
from molifold.probes.activations import findings as activation_findings
from molifold.probes.alignment import findings as alignment_findings
from molifold.probes.curvature import findings as curvature_findings
from molifold.probes.gradient_noise import findings as noise_findings
from molifold.probes.layers import features, responses
from molifold.probes.ranks import findings as rank_findings
from molifold.probes.ranks import ranks
from molifold.testing import check_probe


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Atoms(nn.Module):
    """Layouts that occur: atoms first and examples last, a matrix on the left, one layer used twice, functional calls."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(normal(8, 3, seed=1))
        self.again = nn.Linear(8, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):  # [examples, atoms, 3]
        h = torch.tanh(self.first @ x.permute(1, 2, 0))  # [atoms, 8, examples]
        h = h.permute(2, 0, 1)
        for _ in range(2):
            h = torch.nn.functional.silu(self.again(h))
        return self.out(h).sum((1, 2))


@pytest.mark.parametrize("probe", [*DEFAULT, watch_curvature], ids=lambda p: p.__name__)
def test_law(probe):
    check_probe(probe)
    check_probe(probe, model=Atoms(), batch=normal(24, 5, 3), loss=lambda m, x: m(x).square())
    assert all("weights" in name or probe in PASSIVE for name in probe(Moment(1, Atoms())))  # the rest needs a batch


# ------------------------------------------------------------------ layers


def test_layers_are_seen_whatever_their_layout():
    model, x = Atoms(), normal(6, 5, 3)
    seen = {f.site: f for f in features(model, x)}
    assert {site: tuple(f.rows.shape) for site, f in seen.items()} == {
        "first": (30, 3), "again.weight": (60, 8), "out.weight": (30, 8),
    }  # fmt: skip
    assert torch.equal(seen["first"].examples.sort(1)[0], x.flatten(1).sort(1)[0])
    assert seen["again.weight"].examples.shape == (6, 80)
    with torch.no_grad():
        h = torch.tanh(x @ model.first.T)
    first = responses(model, x)[0]
    assert (first.site, first.function) == ("first", "tanh")
    assert first.value.shape == (30, 8)
    torch.testing.assert_close(first.value.sort(0)[0], h.flatten(0, 1).sort(0)[0])
    torch.testing.assert_close(first.slope, 1 - first.value**2)
    assert [r.function for r in responses(model, x)] == ["tanh", "silu", "silu"]


# ------------------------------------------------------------------ activations


def test_planted_dead_dormant_and_saturated_units_are_counted():
    """3 dead, 2 more that are dormant, of 20 ReLUs; 4 of 10 tanh at +-8."""
    first, second = nn.Linear(5, 20), nn.Linear(20, 10)
    with torch.no_grad():
        first.bias[:3] = -100.0
        first.weight[3:5] *= 1e-3
        first.bias[3:5] = 0.0
        second.weight[:4] = 0.0
        second.bias[:4] = torch.tensor([8.0, -8.0, 8.0, 8.0])
    found = activations(nn.Sequential(first, nn.ReLU(inplace=True), second, nn.Tanh()), normal(1000, 5))
    assert found.functions == ("relu", "tanh")
    assert found.names == ("0.weight", "2.weight")
    assert found.dead.tolist() == [3, 4]
    assert found.dormant.tolist() == [5, 0]
    assert found.saturated.tolist() == [3, 4]
    assert found.counts.sum(1).tolist() == [20_000, 10_000]
    told = activation_findings(found)
    assert [f.subject for f in told] == ["dead units", "saturated units", "dormant units"]
    assert "7 of 30 units in 2 of 2 layers, most in 2.weight (4 of 10)" in told[0].message


def test_mean_and_spread_are_those_of_the_values():
    """He (2015): ReLU layers with weights of variance 2 / inputs keep the second moment of their input."""
    layer = nn.Linear(400, 2000, bias=False)
    nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    found = activations(nn.Sequential(layer, nn.ReLU()), normal(200, 400))
    assert found.mean[0] ** 2 + found.spread[0] ** 2 == pytest.approx(1.0, rel=0.03)
    assert activation_findings(found)[0].level == "ok"


def test_a_layer_that_reads_a_constant_is_no_fault_but_a_dead_layer_is():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.units = nn.Linear(2, 6), nn.Linear(4, 6)
            nn.init.constant_(self.units.bias, -50.0)

        def forward(self, x):
            return torch.tanh(self.state(x.new_ones(len(x), 2))) + torch.relu(self.units(x))

    found = activations(Two(), normal(100, 4))
    assert found.dead.tolist() == [6, 6]
    assert found.constant.tolist() == [True, False]
    told = activation_findings(found)[0]
    assert "6 of 6 units in 1 of 1 layers, most in units.weight" in told.message


def test_units_are_found_behind_a_view():
    """A matrix on the left of rows [atoms * examples], seen again as [units, atoms, examples]."""
    model = nn.Module()
    model.w = nn.Parameter(normal(5, 3))
    model.forward = lambda x: torch.nn.functional.silu((model.w @ x.flatten(1)).view(5, 4, 7))
    (found,) = responses(model, normal(3, 4, 7))
    assert found.value.shape == (28, 5)
    torch.testing.assert_close(found.incoming, (normal(3, 4, 7).flatten(1).T @ model.w.T).detach())


def test_units_are_found_behind_a_sum_over_neighbours():
    """Dense messages [examples, atoms, atoms, units], summed over atoms, then bent; one unit is never positive."""
    layer = nn.Linear(3, 6)
    layer.weight.data = normal(6, 3, seed=1)
    layer.bias.data = torch.tensor([-50.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    model = nn.Module()
    model.layer = layer
    model.forward = lambda x: torch.relu(layer(x[:, :, None] * x[:, None]).sum(2) / 4)
    found = activations(model, normal(20, 4, 3))
    assert found.names == ("layer.weight",)
    assert found.rows.tolist() == [80]
    assert found.units.tolist() == [6]
    assert found.dead.tolist() == [1]


# ------------------------------------------------------------------ ranks


def test_ranks_by_construction():
    q = torch.linalg.qr(normal(40, 16).double())[0]
    spectrum = torch.tensor([4.0, 2.0, 1.0, *([0.0] * 13)]).double()
    found = ranks({"flat": q, "three": q * spectrum @ torch.linalg.qr(normal(16, 16, seed=2).double())[0]})
    share = np.array([4, 2, 1]) / 7
    np.testing.assert_allclose(found.effective, [16, np.exp(-(share * np.log(share)).sum())], rtol=1e-10)
    np.testing.assert_allclose(found.stable, [16, 21 / 16], rtol=1e-10)


def test_a_bottleneck_shows_in_the_features_behind_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 1), nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
    found = feature_ranks(model, normal(500, 12))
    behind = found.names.index("3.weight")
    assert found.largest[behind] == 32
    assert found.effective[behind] < 3 < 11 < found.effective[found.names.index("0.weight")]
    (low,) = rank_findings(weight_ranks(model), found)  # no weight matrix is large enough for a word
    assert "3.weight" in low.message
    assert low.level == "ok"  # a low rank alone is no fault


def test_stacked_matrices_are_ranked_one_by_one():
    model = nn.Module()
    model.stack = nn.Parameter(torch.stack([torch.eye(3), torch.ones(3, 3)]))
    found = weight_ranks(model)
    assert found.names == ("stack 0", "stack 1")
    np.testing.assert_allclose(found.effective, [3, 1], rtol=1e-6)


# ------------------------------------------------------------------ alignment


def test_alignment_of_the_same_the_turned_and_the_unrelated():
    """Debiased: unrelated features give 0 on average although there are more features than examples."""
    values = []
    for seed in range(20):
        a, b = normal(50, 80, seed=seed), normal(50, 80, seed=100 + seed)
        found = alignment({"a": a}, {"same": a * 2 - 1, "other": b})
        assert found.values[0, 0] == pytest.approx(1, abs=1e-6)
        values.append(found.values[0, 1])
    assert abs(np.mean(values)) < 3 * np.std(values) / 20**0.5
    biased = np.linalg.norm((a - a.mean(0)).T @ (b - b.mean(0))) ** 2
    biased /= np.linalg.norm((a - a.mean(0)).T @ (a - a.mean(0))) * np.linalg.norm((b - b.mean(0)).T @ (b - b.mean(0)))
    assert biased > 0.5  # what the plain formula would have said


def test_alignment_against_the_definition_written_out():
    """Song et al. (2012), equation 5, on two small matrices."""
    x, y = normal(24, 3).double(), (normal(24, 3) @ normal(3, 2, seed=5) + 0.5 * normal(24, 2, seed=7)).double()

    def hsic(a, b):
        n = len(a)
        k, m = (g - torch.diag(torch.diag(g)) for g in (a @ a.T, b @ b.T))
        one = torch.ones(n, dtype=torch.double)
        cross = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
        return (torch.trace(k @ m) + cross) / (n * (n - 3))

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()
    found = alignment({"x": x}, {"y": y})
    assert found.values[0, 0] == pytest.approx(float(expected), rel=1e-10)
    assert 0 < found.errors[0, 0] < 0.3


def test_alignment_error_is_that_of_repetition():
    pairs = [(normal(60, 4, seed=s), normal(60, 4, seed=500 + s)) for s in range(60)]
    found = [alignment({"x": x}, {"y": x + 1.5 * noise}) for x, noise in pairs]
    spread = np.std([f.values[0, 0] for f in found])
    assert np.mean([f.errors[0, 0] for f in found]) == pytest.approx(spread, rel=0.4)


def test_layers_that_do_the_same_are_told():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
    nn.init.orthogonal_(model[0].weight)
    found = alignment(representations(model, normal(100, 6)))
    told = alignment_findings(found)[0]
    assert "1 of 2 neighbouring pairs" in told.message
    assert "0.weight and 1.weight" in told.message
    assert "median 1.00" in alignment_findings(found, what="itself")[0].message


@pytest.mark.parametrize("given", [{"x": torch.ones(5, 2)}, {"x": torch.ones(30, 2), "y": torch.ones(31, 2)}])
def test_alignment_needs_the_same_examples(given):
    with pytest.raises(ValueError, match="expected the same examples everywhere, at least 20"):
        alignment(given)


# ------------------------------------------------------------------ gradient noise


def test_noise_scale_of_a_loss_whose_gradients_are_known():
    """Gradients of examples are (3, 0) + N(0, diag(4, 1)): |G|^2 = 9, tr(S) = 5, scale 5/9."""
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(2))
    model.idle = nn.Parameter(torch.zeros(2))

    def loss(m, x):
        return (torch.tensor([3.0, 0.0]) + x * torch.tensor([2.0, 1.0])) @ m.w

    found = [gradient_noise(model, loss, normal(320, 2, seed=s), parts=16) for s in range(200)]
    scale = np.array([f.scale for f in found])
    signal, noise = np.array([f.signal for f in found]), np.array([f.noise for f in found])
    assert signal.mean() == pytest.approx(9, abs=3 * signal.std() / 200**0.5)
    assert noise.mean() == pytest.approx(5, abs=3 * noise.std() / 200**0.5)
    assert np.median(scale) == pytest.approx(5 / 9, rel=0.1)
    assert np.mean([f.signal_error for f in found]) == pytest.approx(signal.std(), rel=0.15)
    assert np.mean([f.noise_error for f in found]) == pytest.approx(noise.std(), rel=0.15)
    assert np.mean([f.least <= 5 / 9 for f in found]) > 0.95
    assert found[0].names == ("w", "idle")
    assert np.isnan(found[0].scales[1])
    assert model.w.grad is None


def test_at_the_optimum_there_is_no_signal():
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    targets = normal(400, 1, seed=1)
    found = gradient_noise(model, lambda m, b: (m(b[0]) - b[1]).square().sum(1), (normal(400, 3), targets))
    assert found.least > 50
    assert "mostly noise" in noise_findings(found, batch_size=4)[0].remedy


def test_gradient_noise_errors_name_the_argument():
    with pytest.raises(ValueError, match="parts: got 8 for 5 examples"):
        gradient_noise(nn.Linear(1, 1), lambda m, x: m(x)[:, 0], torch.ones(5, 1))


# ------------------------------------------------------------------ curvature


def test_curvature_against_the_dense_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x, y = normal(64, 4).double(), normal(64, 2, seed=3).double()

    def loss(m, batch):
        return (m(batch[0]) - batch[1]).square().sum(1)

    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def mean(flat):
        parts = flat.split([s.numel() for s in shapes])
        given = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return (torch.func.functional_call(model, given, x) - y).square().sum(1).mean()

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    dense = torch.autograd.functional.hessian(mean, flat)
    exact = torch.linalg.eigvalsh(dense).numpy()
    found = curvature(model, loss, (x, y), top=3, tolerance=1e-8, vectors=64)
    np.testing.assert_allclose(found.top, exact[::-1][:3], rtol=1e-6)
    np.testing.assert_allclose(found.bottom, exact[:3], rtol=1e-6)
    assert found.trace == pytest.approx(exact.sum(), abs=3 * found.trace_error)
    assert found.trace_error < 0.3 * exact.sum()
    assert found.parameters == len(exact)
    assert all(p.grad is None for p in model.parameters())


def test_curvature_of_a_quadratic_with_a_saddle():
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(30, dtype=torch.double))
    scale = torch.tensor([5.0, 2.0, -3.0, *([0.1] * 27)]).double()
    found = curvature(model, lambda m, x: 0.5 * x[:, 0] * (scale * m.w.square()).sum(), torch.ones(8, 1).double())
    np.testing.assert_allclose(found.top, [5, 2, 0.1], rtol=1e-3)
    assert found.bottom[0] == pytest.approx(-3)
    assert found.trace == pytest.approx(scale.sum().item())  # a diagonal Hessian: every sign vector is exact
    (told,) = curvature_findings(found)
    assert (told.level, told.subject) == ("warning", "curvature")


def test_curvature_that_is_only_noise_does_not_hold_elsewhere():
    """Hessians of examples are +-1 at random: a batch has extreme directions, another batch is flat there."""
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(200, dtype=torch.double))

    def loss(m, signs):
        return 0.5 * signs @ m.w.square()

    signs = normal(80, 200).sign().double()
    found = curvature(model, loss, signs[:40], held_out=signs[40:], top=1)
    means = signs[:40].mean(0)
    assert found.top[0] == pytest.approx(means.max().item(), rel=1e-3)
    assert found.bottom[0] == pytest.approx(means.min().item(), rel=1e-3)
    assert found.bottom[0] < -0.35
    assert abs(found.bottom_elsewhere[0]) < 3 * found.bottom_errors[0]
    assert curvature_findings(found)[0].level == "ok"


# ------------------------------------------------------------------ spikes


def test_one_planted_spike_and_no_false_one():
    losses = 10 * np.exp(-np.arange(400) / 80) + 0.3 * np.random.default_rng(0).normal(size=400)
    losses[250] += 4.0
    spikes, found = LossSpikes(), []
    for step, loss in enumerate(losses):
        if (spike := spikes(step, float(loss))) is not None:
            found.append(spike)
    assert [s.step for s in found] == [250]
    assert found[0].score > 6
    assert "at step 250" in found[0].words()


def test_losses_that_are_not_finite_or_constant_are_no_spikes():
    spikes = LossSpikes(window=10)
    assert [spikes(step, 1.0 + 1e-9 * (step % 7)) for step in range(30)] == [None] * 30
    assert spikes(30, float("nan")) is None
    assert spikes(31, 2.0) is not None


@pytest.mark.parametrize("arguments", [{"window": 3}, {"threshold": 0.0}])
def test_spike_errors_name_the_argument(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}: got"):
        LossSpikes(**arguments)
