"""Rings: their torsions do not turn, so a flow that has learned nothing yet keeps them closed already.

Conformations are those of MMFF94 (RDKit's own implementation) at 300 K, and of AMBER for proline.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from molifold import Block, Molecule, Space
from molifold.data import example, from_force_field, structure
from molifold.energies import MolecularMechanics
from molifold.flows.recipes import graph_spline_coupling
from molifold.geometry import distances
from molifold.losses import nll
from molifold.perception import read_smiles
from molifold.simulation import langevin, minimize
from molifold.testing import check_transform
from molifold.topology import backbone_torsions, ring_bonds
from molifold.training import fit
from molifold.transforms import InternalCoordinates, Standardize, zmatrix

#: Bonds, angles, torsions that turn, torsions in rings, phases.
RINGS = {
    "benzene": ("c1ccccc1", [11, 10, 0, 5, 4]),
    "THF": ("C1CCOC1", [12, 11, 0, 3, 7]),
    "cyclohexane": ("C1CCCCC1", [17, 16, 0, 5, 10]),
    "toluene": ("Cc1ccccc1", [14, 13, 1, 5, 6]),
    "norbornane": ("C1CC2CCC1C2", [18, 17, 0, 6, 10]),
}


def mmff(smiles):
    """Molecule, start and the function [walkers, atoms, 3] -> (U, F) of kJ/mol and nm."""
    molecule, x = structure(smiles=smiles)
    mol = read_smiles(smiles)
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(10 * x[0])
    mol.AddConformer(conformer)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol))
    field.Initialize()

    def forces(x):
        frames = (10 * np.asarray(x, dtype=np.float64).reshape(len(x), -1)).tolist()
        # The gradient reads distances that the energy left behind, so the two must alternate.
        both = [(field.CalcEnergy(frame), field.CalcGrad(frame)) for frame in frames]
        u, gradient = np.array([u for u, _ in both]), np.array([g for _, g in both])
        return 4.184 * u, -41.84 * gradient.reshape(x.shape)

    return molecule, x, forces


@cache
def dynamics(name):
    smiles, _ = RINGS[name]
    molecule, x, forces = mmff(smiles)
    return langevin(
        forces, x, molecule=molecule, temperature=300, seed=0, walkers=30, steps=600, save_every=30, equilibration=200,
        friction=5.0,
    )  # fmt: skip


def cut(molecule):
    """The bonds that the tree leaves out: they follow from all others."""
    tree = zmatrix(molecule)
    return np.array(sorted(set(molecule.bonds) - {tuple(sorted((a, p))) for a, p in enumerate(tree.parent)}))


def closing(flow, ensemble):
    """Lengths of the bonds that close rings, nm: in the data, and in draws."""
    bonds = cut(ensemble.molecule)
    with torch.no_grad():
        x, _ = flow.sample(2000, generator=torch.Generator().manual_seed(0))
    return distances(np.asarray(ensemble.x, dtype=np.float64), bonds), distances(x.double().numpy(), bonds)


def small(ensemble):
    torch.manual_seed(0)
    return graph_spline_coupling(ensemble.molecule, ensemble, channels=8, couplings=2, rotation_couplings=2)


@pytest.mark.parametrize("name", RINGS)
def test_torsions_about_ring_bonds_are_a_block_of_their_own(name):
    smiles, sizes = RINGS[name]
    molecule = Molecule.from_smiles(smiles)
    space = InternalCoordinates(molecule).codomain
    found = {b.name: b.size for b in space.blocks}
    assert [found.get(n, 0) for n in ("bonds", "angles", "rotations", "rings", "phases")] == sizes
    # RDKit's ring perception is the reference.
    mol = read_smiles(smiles)
    theirs = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds() if b.IsInRing()}
    assert ring_bonds(molecule) == theirs


def test_of_prolines_backbone_phi_is_in_the_ring_and_psi_turns():
    molecule = Molecule.from_sequence("P")
    tree = zmatrix(molecule)
    ringed = {tree.quadruple(a) for a, ring in zip(tree.torsions, tree.in_ring, strict=True) if ring}
    turning = {tree.quadruple(a) for a in tree.torsions} - ringed
    phi, psi = (tuple(found[0].tolist()) for name, found in backbone_torsions(molecule).items() if name != "omega")
    assert {phi, phi[::-1]} & ringed
    assert {psi, psi[::-1]} & turning


@pytest.mark.parametrize("name", ["alanine-dipeptide", "ace-a5-nme", "butane"])
def test_without_rings_nothing_changes(name):
    """First children are on the backbone, or have the largest branch; no block, and so no weight, is new."""
    molecule = example(name).molecule
    internal = InternalCoordinates(molecule)
    tree = internal.tree
    assert [b.name for b in internal.codomain.blocks] == ["bonds", "angles", "rotations", "phases"]
    below = [1] * molecule.n_atoms
    for a in reversed(tree.order[1:]):
        if a not in tree.root:
            below[tree.parent[a]] += below[a]
    backbone = {int(a) for found in backbone_torsions(molecule).values() for a in found.ravel()}
    for a in tree.torsions:
        assert (tree.first[a] in backbone, below[tree.first[a]]) >= (a in backbone, below[a])


@pytest.mark.parametrize("name", ["benzene", "cyclohexane", "norbornane"])
def test_an_untrained_flow_keeps_rings_closed(name):
    ensemble = dynamics(name)
    data, drawn = closing(small(ensemble), ensemble)
    # As rotations they opened: deviations of 0.04 nm and lengths up to 0.5 nm.
    assert np.abs(drawn.mean(0) - data.mean(0)).max() < 0.001
    assert (drawn.std(0) < 1.7 * data.std(0)).all()
    assert drawn.max() < data.max() + 0.02


def test_a_ring_that_puckers_starts_loosely_closed_and_training_closes_it():
    """Pseudorotation makes angles quadratic in torsions, which no linear map of the marginals can follow."""
    ensemble = dynamics("THF")
    flow = small(ensemble)
    data, before = closing(flow, ensemble)
    assert np.abs(before.mean() - data.mean()) < 0.004
    assert before.std() < 0.04
    fit(flow, ensemble, losses=[(1.0, nll)], steps=80, batch_size=128, learning_rate=1e-2, ema=None, seed=0)
    _, after = closing(flow, ensemble)
    assert after.std() < 0.75 * before.std()


def test_an_untrained_flow_of_a_proline_keeps_its_ring_closed():
    system = from_force_field(*structure(sequence="P"), files=["amber99sbildn.xml", "amber99_obc.xml"])
    energy = MolecularMechanics.from_system(system.openmm_system(), temperature=300.0)
    start = minimize(energy, system.x).x
    ensemble = langevin(
        energy, start, molecule=system.molecule, temperature=300, seed=0, walkers=64, steps=1000, save_every=50,
        equilibration=500, friction=5.0,
    )  # fmt: skip
    data, drawn = closing(small(ensemble), ensemble)
    assert np.abs(drawn.mean() - data.mean()) < 0.003
    # Both puckers are there, and each bends the angles differently: 0.016 nm, and 0.05 as rotations.
    assert drawn.std() < 0.02


SPACE = Space((Block("angles", 1, "positive"), Block("rings", 2, "circle")))


def chairs(n=4000, *, wells=(-0.96, 0.96), seed=0):
    """Two torsions of opposite sign that flip together, as in cyclohexane, and an angle."""
    rng = np.random.default_rng(seed)
    first = rng.choice(wells, p=[0.8, 0.2], size=n) + 0.1 * rng.normal(size=n)
    second = 0.05 * rng.normal(size=n) - first
    return torch.tensor(np.stack([1.9 + 0.04 * rng.normal(size=n), first, second], axis=1))


def test_torsions_that_flip_together_stay_together():
    """Opened to a line and whitened, the flip is one coordinate and the sum of both torsions another, narrow one."""
    scale = Standardize(SPACE, chairs()).double()
    assert scale.codomain.supports == ("real",) * 3
    check_transform(scale, chairs(6, seed=1), tolerance=1e-7)
    z, _ = scale(chairs())
    assert torch.allclose(torch.cov(z.T), torch.eye(3, dtype=torch.float64), atol=1e-3)
    drawn, _ = scale.inverse(torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert (drawn[:, 1] + drawn[:, 2]).std() < 0.1  # 0.05 in the data; independent of each other it would be 1.1


@pytest.mark.parametrize("wells", [(-0.96, 0.96), (2.0, 3.9), (math.pi - 0.3, math.pi + 0.3)])
def test_a_density_on_the_opened_circle_is_normalised(wells):
    """Also across +-pi: the line covers the circle once, whatever its tails."""
    scale = Standardize(SPACE, chairs(wells=wells)).double()
    angle = torch.linspace(-math.pi, math.pi, 20_001, dtype=torch.float64)[:-1]
    y = torch.stack([torch.full_like(angle, 1.9), angle, torch.zeros_like(angle)], dim=1)
    z, log_det = scale(y)
    # The second row of a triangular map: density of the first torsion alone, given the angle.
    opened = 2 * torch.tan((y[:, 1:] - scale.center[1:, 0]) / 2)
    slope = (1 + opened[:, 0].square() / 4) * scale.whiten[1, 1]
    density = torch.exp(-0.5 * z[:, 1].square()) / math.sqrt(2 * math.pi) * slope
    assert density.mean() * 2 * math.pi == pytest.approx(1, abs=1e-6)
    rest = (1 + opened[:, 1].square() / 4) * scale.whiten[2, 2] * scale.whiten[0, 0]
    assert torch.allclose(log_det.exp(), slope * rest)


def test_a_ring_so_large_that_its_torsions_turn_has_rotations():
    rng = np.random.default_rng(0)
    y = torch.tensor(np.stack([1.9 + 0.04 * rng.normal(size=500), *rng.uniform(-np.pi, np.pi, (2, 500))], axis=1))
    assert Standardize(SPACE, y).codomain.supports == ("real", "circle", "circle")


def test_a_flow_of_a_ring_molecule_has_exact_densities():
    ensemble = dynamics("cyclohexane")
    flow = small(ensemble)
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=0.05)
    flow = flow.double()
    with torch.no_grad():
        x, log_q = flow.sample(50, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(flow.log_prob(x), log_q, atol=1e-6)
