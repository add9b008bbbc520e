"""Probes of maps and of what a network tells apart, against maps that are known through and through."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from molifold.probes import invertibility, jacobian, similarity


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------------------------- jacobian


def test_a_diagonal_map_and_a_rotation():
    stretch = torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64)
    found = jacobian.jacobian(lambda x: (x * stretch, x.new_zeros(len(x))), normal(5, 3))
    assert found.condition == pytest.approx(100)
    assert found.lipschitz == pytest.approx((10, 10))
    assert found.volume == pytest.approx(0, abs=1e-12)
    turn = torch.linalg.qr(normal(3, 3))[0]
    assert jacobian.jacobian(lambda x: x @ turn, normal(5, 3)).condition == pytest.approx(1)


def test_a_curved_map_differs_from_place_to_place():
    """y = (x_0, x_1 exp(x_0)): log-volume x_0; the singular values are those of the matrix written out."""
    x = normal(6, 2)
    found = jacobian.jacobian(lambda x: (torch.stack([x[:, 0], x[:, 1] * x[:, 0].exp()], 1), x[:, 0]), x)
    assert found.volume == pytest.approx(x[:, 0].numpy())
    assert found.disagreement.max() < 1e-12
    a, b = x[2].tolist()
    written = np.linalg.svd([[1, 0], [b * math.exp(a), math.exp(a)]])[1]
    assert found.singular[2] == pytest.approx(written)


def test_a_wrong_volume_is_an_error_and_a_lost_direction_a_warning():
    wrong = jacobian.jacobian(lambda x: (2 * x, x.new_zeros(len(x))), normal(4, 3))
    assert wrong.disagreement == pytest.approx(3 * math.log(2))
    assert [(f.level, f.subject) for f in jacobian.findings(wrong)] == [("error", "volume")]
    flat = jacobian.jacobian(lambda x: x * torch.tensor([1.0, 1e-5]), normal(4, 2))
    assert [(f.level, f.subject) for f in jacobian.findings(flat)] == [("warning", "stretching")]
    assert jacobian.findings(jacobian.jacobian(lambda x: 2 * x, normal(4, 2)))[0].level == "ok"


# ---------------------------------------------------------------------------------------------------- invertibility


class Affine(nn.Module):
    """x -> (x * scale + shift) on coordinate 1 alone; ``back`` is added on the way back."""

    def __init__(self, scale=1.0, shift=0.0, back=0.0):
        super().__init__()
        self.scale, self.shift, self.back = scale, shift, back
        self.one = torch.tensor([0.0, 1.0])

    def forward(self, x):
        y = x + self.one.to(x) * (x * self.scale + self.shift - x)
        return y, x.new_full((len(x),), math.log(self.scale))

    def inverse(self, y):
        x = y + self.one.to(y) * ((y - self.shift) / self.scale - y + self.back)
        return x, y.new_full((len(y),), -math.log(self.scale))


def test_a_large_offset_loses_its_digits_in_float32_only():
    """1e6 leaves float32 steps of 1/16 and float64 steps of 1e-10 (IEEE 754)."""
    found = invertibility.invertibility(Affine(shift=1e6), normal(50, 2), names=("first", "second"))
    assert found.single[:, 0].max() < 1e-6
    assert 0.02 < found.single[:, 1].max() <= 1 / 32
    assert found.double.max() < 1.2e-10
    assert found.worst[1] == 1
    (told,) = invertibility.findings(found)
    assert (told.level, told.subject) == ("warning", "inverse")
    assert "second" in told.message
    kind, arrays = invertibility.records(found)["invertibility - coordinates"]
    assert (kind, arrays["float32"].argmax()) == ("table", 1)


def test_a_way_back_that_is_none_is_an_error():
    found = invertibility.invertibility(Affine(back=0.01), normal(20, 2))
    assert found.double[:, 1] == pytest.approx(0.01)
    assert [(f.level, f.subject) for f in invertibility.findings(found)] == [("error", "inverse")]


def test_a_full_turn_is_no_error_on_a_circle():
    turn = Affine(back=2 * math.pi)
    on_circle = np.array([False, True])
    assert invertibility.invertibility(turn, normal(20, 2), circle=on_circle).double.max() < 1e-12
    assert invertibility.invertibility(turn, normal(20, 2)).double.max() == pytest.approx(2 * math.pi)


def test_the_map_itself_stays_as_it_is():
    layer = nn.Linear(2, 2)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return x + self.layer.weight[0, 0], x.new_zeros(len(x))

        def inverse(self, y):
            return y - self.layer.weight[0, 0], y.new_zeros(len(y))

    invertibility.invertibility(Wrapped(), normal(3, 2))
    assert layer.weight.dtype == torch.float32


# ------------------------------------------------------------------------------------------------------- similarity


def test_a_linear_model_sees_the_angle_between_inputs():
    """The gradient of w.x + b is (x, 1): k(x, x') = (x.x' + 1) / sqrt((x.x + 1)(x'.x' + 1))."""
    x = normal(8, 3)
    model = nn.Linear(3, 1).double()
    gram = (x @ x.T + 1).numpy()
    size = np.sqrt(np.diag(gram))
    assert similarity.input_similarity(model, model, x).kernel == pytest.approx(gram / np.outer(size, size))


def test_several_outputs_follow_the_formula():
    """tr(K_xx^-1/2 K_xx' K_x'x'^-1/2) / d with scipy's matrix roots (arXiv 2102.05262)."""
    torch.manual_seed(0)
    x, model = normal(4, 3), nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    rows = []
    for one in x:
        out = model(one)
        rows.append(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(o, list(model.parameters()), retain_graph=True)])
                for o in out
            ]
        )
    g = np.array([[r.numpy() for r in row] for row in rows])

    def root(k):
        return np.linalg.inv(sqrtm(k).real)

    expected = [[np.trace(root(a @ a.T) @ (a @ b.T) @ root(b @ b.T)) / 2 for b in g] for a in g]
    found = similarity.input_similarity(model, model, x).kernel
    assert found == pytest.approx(np.array(expected), rel=1e-6)
    assert np.diag(found) == pytest.approx(1)


class Blind(nn.Module):
    """Sees the first coordinate of its input only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, x):
        return self.net(x[:, :1])


def test_a_network_that_ignores_a_coordinate_cannot_tell_what_differs_in_it():
    x = normal(6, 2)
    x[4] = x[1] + torch.tensor([0.0, 3.0])
    model = Blind()
    found = similarity.input_similarity(model, model, x)
    difference = (x[:, None] - x[None]).abs().amax(2).numpy()
    first, *others = found.pairs(difference, least=1.0)
    assert (first.first, first.second) == (1, 4)
    assert first.similarity == pytest.approx(1)
    assert first.difference == pytest.approx(3)
    (told,) = similarity.findings(found, [first], unit=" rad")
    assert told.level == "warning"
    assert "frames 1 and 4: 1.000 alike, 3 rad apart" in told.message
    seeing = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    able = similarity.input_similarity(seeing, seeing, x)
    assert similarity.findings(able, able.pairs(difference, least=1.0))[0].level == "ok"


def test_copies_of_an_input_look_like_all_of_themselves():
    model = Blind()
    assert similarity.input_similarity(model, model, normal(1, 2).expand(5, 2)).neighbours == pytest.approx(5)
    with pytest.raises(ValueError, match="no parameter"):
        similarity.input_similarity(model, lambda x: model(0 * x).detach().requires_grad_(), normal(2, 2))
