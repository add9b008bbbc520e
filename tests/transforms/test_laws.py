"""Every transform, in float64, against the shipped law; and the normalisation of densities on a grid."""

import math

import numpy as np
import pytest
import torch

from molifold import Block, Ensemble, Molecule, Space
from molifold.flows import Base, Flow
from molifold.flows.conditioners import GraphConditioner, MLPConditioner
from molifold.flows.recipes import graph_spline_coupling
from molifold.networks import GraphAttention, molecular_graph
from molifold.testing import check_transform
from molifold.transforms import Chain, Coupling, InternalCoordinates, Inverse, Marginal, Standardize

ETHANOL = Molecule(
    elements=("C", "C", "O", "H", "H", "H", "H", "H", "H"),
    bonds=((0, 1), (0, 3), (0, 4), (0, 5), (1, 2), (1, 6), (1, 7), (2, 8)),
    name="ethanol",
)
CYCLOPROPANE = Molecule(
    elements=("C", "C", "C", *"HHHHHH"),
    bonds=((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 5), (1, 6), (2, 7), (2, 8)),
    name="cyclopropane",
)
WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
MIXED = Space((Block("a", 2, "real"), Block("b", 2, "circle"), Block("c", 2, "interval")))


def conformations(molecule, n, *, seed=0, spread=0.01):
    """A rigid random structure with bonds of about 0.1 nm, jiggled, rotated and moved."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(1, molecule.n_atoms, 3)) * 0.15
    x = start + spread * rng.normal(size=(n, molecule.n_atoms, 3))
    turn = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    turn *= np.linalg.det(turn)[:, None, None]
    return torch.tensor(np.einsum("fai,fij->faj", x, turn) + rng.normal(size=(n, 1, 3)))


def randomise(module, scale=0.5):
    for p in module.parameters():
        torch.nn.init.normal_(p, std=scale)
    return module.double()


def mixed_points(n=4):
    g = torch.Generator().manual_seed(1)
    unit = torch.rand(n, 6, generator=g, dtype=torch.float64)
    return torch.cat([6 * unit[:, :2] - 3, (unit[:, 2:4] - 0.5) * 2 * math.pi * 0.99, unit[:, 4:]], dim=1)


def mlp_coupling():
    mask = torch.tensor([True, False] * 3)
    return randomise(Coupling(MIXED, mask, conditioner=MLPConditioner(MIXED, mask, hidden=(16,))))


def graph_coupling(*, dynamic):
    space = Space((Block("reals", 3, "real"), Block("circles", 2, "circle")))
    mask = torch.tensor([True, False, True, False, True])
    conditioner = GraphConditioner(
        space,
        mask,
        atoms=[0, 1, 2, 3, 2],
        kinds=[0, 1, 2, 3, 3],
        graph=molecular_graph(ETHANOL),
        channels=8,
        network=lambda features, static: GraphAttention(
            features=features, static=static, out=None, channels=8, heads=2, dynamic=dynamic
        ),
    )
    return randomise(Coupling(space, mask, conditioner=conditioner), 0.3)


def partial_coupling():
    mask, given = torch.tensor([True, False, False] * 2), torch.tensor([False, True, False] * 2)
    return randomise(
        Coupling(MIXED, mask, given=given, conditioner=MLPConditioner(MIXED, mask, given=given, hidden=(8,)))
    )


def standardize(molecule=ETHANOL):
    internal = InternalCoordinates(molecule)
    y, _ = internal(conformations(molecule, 600))
    return Standardize(internal.codomain, y).double(), y[:4]


def flow(network, **options):
    reference = Ensemble(ETHANOL, conformations(ETHANOL, 600).numpy())
    options = {"channels": 8, "heads": 2, "hidden": (16,), "couplings": 4, "rotation_couplings": 2, **options}
    built = graph_spline_coupling(ETHANOL, reference, network=network, **options)
    return randomise(built, 0.1)


REALS_CIRCLES = torch.tensor([[0.3, -1.2, 0.7, 2.9, -0.4], [-2.0, 0.1, 5.7, -3.1, 1.0]], dtype=torch.float64)

LAWS = {
    "marginal": lambda: (randomise(Marginal(MIXED)), mixed_points()),
    "marginal, one bin": lambda: (randomise(Marginal(MIXED, bins=1)), mixed_points()),
    "mlp coupling": lambda: (mlp_coupling(), mixed_points()),
    "coupling that sees a part": lambda: (partial_coupling(), mixed_points()),
    "graph coupling, static attention": lambda: (graph_coupling(dynamic=False), REALS_CIRCLES),
    "graph coupling, dynamic attention": lambda: (graph_coupling(dynamic=True), REALS_CIRCLES),
    "standardize": standardize,
    "standardize a ring": lambda: standardize(CYCLOPROPANE),
    "chain": lambda: (Chain([mlp_coupling(), randomise(Marginal(MIXED)), mlp_coupling()]), mixed_points()),
    "inverse": lambda: (Inverse(mlp_coupling()), mixed_points()),
}


@pytest.mark.parametrize("name", LAWS)
def test_law(name):
    torch.manual_seed(0)
    transform, x = LAWS[name]()
    check_transform(transform, x, tolerance=1e-7)


@pytest.mark.parametrize("molecule", [WATER, ETHANOL, CYCLOPROPANE], ids=lambda m: m.name)
def test_internal_coordinates_obey_the_law_up_to_rigid_motions(molecule):
    check_transform(InternalCoordinates(molecule), conformations(molecule, 3), rigid=True, tolerance=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"network": "mlp"},
        {"network": "graph"},
        {"network": "graph", "geometry": True},
        {"network": "attention"},
        {"network": "attention", "dynamic": True},
        {"network": "gat"},
        {"network": "schnet"},
        {"network": "megnet"},
    ],
    ids=lambda o: " ".join(map(str, o.values())),
)
def test_whole_flows_obey_the_law(options):
    torch.manual_seed(0)
    built = flow(**options)
    x, log_q = built.sample(3, generator=torch.Generator().manual_seed(0))
    check_transform(built.transform, x.detach().double(), rigid=True, tolerance=1e-6)
    assert torch.allclose(built.log_prob(x), log_q, atol=1e-6)


def test_check_transform_names_a_wrong_log_determinant():
    class Wrong(Marginal):
        def inverse(self, y):
            x, log_det = super().inverse(y)
            return x, log_det + 0.1

        def forward(self, x):
            y, log_det = super().forward(x)
            return y, log_det - 0.1

    with pytest.raises(AssertionError, match="log_det of inverse against autograd: off by 0.1"):
        check_transform(randomise(Wrong(MIXED)), mixed_points())


@pytest.mark.parametrize("support", ["circle", "interval"])
def test_a_marginal_density_is_normalised_on_a_grid(support):
    torch.manual_seed(3)
    space = Space((Block("x", 1, support),))
    transform = randomise(Marginal(space), 1.0)
    low, high = (-math.pi, math.pi) if support == "circle" else (0.0, 1.0)
    grid = torch.linspace(low, high, 20001, dtype=torch.float64)[:-1, None] + (high - low) / 40000
    _, log_det = transform(grid)
    assert math.isclose(log_det.exp().mean().item(), 1.0, rel_tol=1e-6)


def test_a_coupling_density_is_normalised_on_a_grid():
    torch.manual_seed(4)
    space = Space((Block("r", 1, "real"), Block("t", 1, "circle")))
    masks = [torch.tensor([True, False]), torch.tensor([False, True])]
    steps = [randomise(Coupling(space, m, conditioner=MLPConditioner(space, m, hidden=(8,))), 0.3) for m in masks]
    density = Flow(Chain(steps)).double()
    r, t = torch.linspace(-12, 12, 1601).double(), torch.linspace(-math.pi, math.pi, 401).double()[:-1]
    grid = torch.cartesian_prod(r, t)
    mass = density.log_prob(grid).exp().sum() * (r[1] - r[0]) * (t[1] - t[0])
    # Trapezoidal sum of a density with kinks at the knots: second order in the spacing.
    assert abs(mass.item() - 1) < 1e-4


def test_base_density_matches_scipy():
    from scipy.stats import norm

    base = Base(Space((Block("r", 2, "real"), Block("t", 1, "circle"))))
    z = torch.tensor([[0.5, -1.0, 2.0]])
    assert math.isclose(float(base.log_prob(z)), norm.logpdf([0.5, -1.0]).sum() - math.log(2 * math.pi), rel_tol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flow_round_trip_in_both_precisions(dtype):
    torch.manual_seed(0)
    built = flow("graph").to(dtype)
    x, _ = built.sample(500, generator=torch.Generator().manual_seed(0))
    x = x.to(dtype).detach()
    z, _ = built.transform(x)
    back, _ = built.transform.inverse(z)
    assert (back - x).abs().max() < (2e-5 if dtype == torch.float32 else 1e-9)
