"""Internal coordinates against molifold.geometry and mdtraj, and the way back on whole molecules."""

import math
from functools import cache

import mdtraj
import numpy as np
import pytest
import torch

from molifold import geometry
from molifold.data import example
from molifold.data.structure import structure
from molifold.molecule import Molecule
from molifold.transforms import InternalCoordinates

SYSTEMS = {
    "alanine dipeptide": lambda: start("alanine-dipeptide"),
    "Ace-A5-Nme": lambda: start("ace-a5-nme"),
    "butane": lambda: start("butane"),
    "proline": lambda: structure(sequence="P"),
    "benzene": lambda: structure(smiles="c1ccccc1"),
    "cyclohexane": lambda: structure(smiles="C1CCCCC1"),
    "neopentane": lambda: structure(smiles="CC(C)(C)C"),
    "water": lambda: structure(smiles="O"),
    "a chain of 166 atoms": lambda: structure(sequence="YYDPETGTWY", caps=False),
}


@cache
def initial(name):
    return SYSTEMS[name]()


def start(name):
    system = example(name)
    return system.molecule, system.x


def jiggled(name, frames=300, *, spread=0.004, seed=0):
    """Conformations about as far from the start structure as thermal vibrations, turned and moved at random."""
    molecule, x = initial(name)
    rng = np.random.default_rng(seed)
    x = x + spread * rng.normal(size=(frames, molecule.n_atoms, 3))
    turn = np.linalg.qr(rng.normal(size=(frames, 3, 3)))[0]
    turn *= np.linalg.det(turn)[:, None, None]
    return molecule, np.einsum("fai,fij->faj", x, turn) + rng.normal(size=(frames, 1, 3))


def superposed(back, x):
    """``back`` moved onto ``x``, frame by frame."""
    return np.concatenate([geometry.superpose(b[None], a) for a, b in zip(x, back, strict=True)])


@pytest.fixture(params=SYSTEMS)
def system(request):
    return request.param


def test_values_are_those_of_geometry(system):
    molecule, x = jiggled(system, 20)
    internal = InternalCoordinates(molecule)
    tree, y = internal.tree, internal(torch.from_numpy(x))[0].numpy()
    n = molecule.n_atoms
    parent = [(a, tree.parent[a]) for a in tree.order]
    assert np.allclose(y[:, : n - 1], geometry.distances(x, np.array(parent)), atol=1e-12)
    triples = [(a, tree.parent[a], tree.parent[tree.parent[a]]) for a in tree.angles]
    assert np.allclose(y[:, n - 1 : 2 * n - 3], geometry.angles(x, np.array(triples)), atol=1e-10)
    for column, atom in enumerate(internal.atoms[2 * n - 3 :], start=2 * n - 3):
        if tree.first[atom] == atom:
            expected = geometry.torsions(x, np.array([tree.quadruple(atom)]))
        else:
            _, j, k, first = tree.quadruple(atom)
            seen = [a for a in molecule.neighbors[k] if a != j] or [next(a for a in range(n) if a not in (atom, j, k))]
            about = np.array([(a, j, k, seen[0]) for a in (atom, first)])
            expected = geometry.torsions(x, about) @ np.array([[1.0], [-1.0]])
        gap = (y[:, [column]] - expected + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(gap).max() < 1e-9, (atom, tree.first[atom] == atom)


def test_rotations_are_those_of_mdtraj():
    molecule, x = jiggled("alanine dipeptide", 50)
    internal = InternalCoordinates(molecule)
    y = internal(torch.from_numpy(x))[0].numpy()[:, internal.codomain.slice("rotations")]
    tree = internal.tree
    quadruples = [tree.quadruple(a) for a, turns in zip(tree.torsions, tree.is_rotation, strict=True) if turns]
    trajectory = mdtraj.Trajectory(x, molecule.to_mdtraj())
    gap = y - mdtraj.compute_dihedrals(trajectory, quadruples)
    assert np.abs((gap + np.pi) % (2 * np.pi) - np.pi).max() < 1e-4  # mdtraj works in float32
    assert {tuple(q) for q in mdtraj.compute_phi(trajectory)[0]} <= {
        q for quadruple in quadruples for q in (quadruple, quadruple[::-1])
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_round_trip(system, dtype, tolerance):
    molecule, x = jiggled(system)
    x = torch.from_numpy(x - x.mean(1, keepdims=True)).to(dtype)
    internal = InternalCoordinates(molecule)
    y, log_det = internal(x)
    back, log_det_back = internal.inverse(y)
    assert y.dtype == back.dtype == log_det.dtype == dtype
    x = x.double().numpy()
    assert np.abs(superposed(back.double().numpy(), x) - x).max() <= tolerance
    assert (log_det + log_det_back).abs().max() <= 3 * molecule.n_atoms * torch.finfo(dtype).eps * 10


def test_nearly_straight_groups_lose_digits_in_proportion_to_their_bend():
    molecule, x = structure(smiles="CC#CC")
    x = x + 0.004 * np.random.default_rng(0).normal(size=(5000, molecule.n_atoms, 3))
    internal = InternalCoordinates(molecule)
    y, _ = internal(torch.from_numpy(x).float())
    back = internal.inverse(y)[0].double().numpy()
    bend = math.pi - y[:, internal.codomain.slice("angles")].max(1).values.double().numpy()
    error = np.abs(superposed(back, x) - x).max((1, 2))
    # The direction of a torsion is known to the rounding of a unit vector over the sine of the angle.
    assert (error * bend).max() < 10 * torch.finfo(torch.float32).eps
    assert error[bend > 0.03].max() < 1e-5


def test_coordinates_do_not_depend_on_rigid_motions_but_on_reflections():
    molecule, x = jiggled("alanine dipeptide", 5)
    internal = InternalCoordinates(molecule)
    y = internal(torch.from_numpy(x))[0]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    moved = internal(torch.from_numpy(x @ (turn * np.linalg.det(turn)) + 3.0))[0]
    assert torch.allclose(moved, y, atol=1e-10)
    mirrored = internal(torch.from_numpy(x * [1, 1, -1]))[0]
    circles = torch.tensor([s == "circle" for s in internal.codomain.supports])
    assert torch.allclose(mirrored[:, ~circles], y[:, ~circles])
    assert torch.allclose(mirrored[:, circles], -y[:, circles])


def test_the_sign_of_a_phase_is_the_chirality():
    molecule, x = jiggled("alanine dipeptide", 5)
    internal = InternalCoordinates(molecule)
    names = dict(zip(molecule.atom_names, range(molecule.n_atoms), strict=False))
    centre, rest = names["CA"], [names[n] for n in ("N", "C", "CB")]

    def handedness(x):
        return torch.sign(torch.linalg.det(x[:, rest] - x[:, [centre]]))

    y = internal(torch.from_numpy(x))[0]
    assert torch.equal(handedness(internal.inverse(y)[0]), handedness(torch.from_numpy(x)))
    phases = [i for i, a in enumerate(internal.atoms) if internal.tree.parent[a] == centre]
    phases = [i for i in phases if i in range(*internal.codomain.slice("phases").indices(y.shape[1]))]
    y[:, phases] *= -1
    assert torch.equal(handedness(internal.inverse(y)[0]), -handedness(torch.from_numpy(x)))


def test_hydrogens_of_a_methyl_group_keep_their_labels():
    molecule, x = jiggled("butane", 5)
    methyl = next(a for a in range(molecule.n_atoms) if len(hydrogens(molecule, a)) == 3)
    first, second, _ = hydrogens(molecule, methyl)
    exchanged = x.copy()
    exchanged[:, [first, second]] = x[:, [second, first]]
    internal = InternalCoordinates(molecule)
    y, z = (internal(torch.from_numpy(v))[0] for v in (x, exchanged))
    assert (y - z).abs().max() > 1
    back = internal.inverse(z)[0].numpy()
    assert np.abs(superposed(back, exchanged) - exchanged).max() < 1e-10


def hydrogens(molecule, atom):
    return [a for a in molecule.neighbors[atom] if molecule.elements[a] == "H"]


def test_log_determinant_of_water_is_its_textbook_volume_element():
    molecule, x = jiggled("water", 10)
    y, log_det = InternalCoordinates(molecule)(torch.from_numpy(x))
    r1, r2, theta = y.T
    assert torch.allclose(-log_det, (r1**2 * r2**2 * theta.sin()).log())


def test_gradients_are_finite_and_batch_last_memory_is_accepted():
    molecule, x = jiggled("a chain of 166 atoms", 4)
    internal = InternalCoordinates(molecule)
    x = torch.from_numpy(x).requires_grad_()
    y, log_det = internal(x)
    back, log_det_back = internal.inverse(y.T.contiguous().T)
    (gradient,) = torch.autograd.grad((back.square().sum(), log_det.sum(), log_det_back.sum()), x)
    assert gradient.isfinite().all()
    assert torch.equal(internal.inverse(y.contiguous())[0], back)


def test_errors_say_what_is_wrong():
    internal = InternalCoordinates(Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water"))
    with pytest.raises(ValueError, match=r"x: got shape \(1, 4, 3\), expected \[batch, 3, 3\]"):
        internal(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match=r"y: got shape \(1, 4\), expected \[batch, 3\]"):
        internal.inverse(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="unconnected parts"):
        InternalCoordinates(Molecule(elements=("C",) * 4, bonds=((0, 1), (2, 3))))
