"""Distances at a fixed size against closed forms, brute force and other programs."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from scipy.optimize import linear_sum_assignment

from molifold import Molecule
from molifold.analysis.fixed_size import (
    Sample,
    at_fixed_size,
    coverage,
    torus_wasserstein_2,
    wasserstein_1,
    wasserstein_2,
)
from molifold.analysis.rmsd import heavy_symmetries, symmetric_rmsd


def sample(x, blocks=50):
    return Sample(x, np.ones(len(x)), np.arange(len(x)) * blocks // len(x))


def test_w2_of_gaussians_is_the_closed_form():
    """W2^2 = |m1 - m2|^2 + sum (s1 - s2)^2 for Gaussians of diagonal covariance (Dowson and Landau 1982)."""
    rng = np.random.default_rng(0)
    shift, scale = np.array([2.0, -1.0]), np.array([1.0, 3.0])
    a, b = shift + scale * rng.normal(size=(8000, 2)), rng.normal(size=(8000, 2))
    (found,) = at_fixed_size(wasserstein_2, ["W2"], model=sample(a), reference=sample(b), n=600, repeats=3)
    exact = np.sqrt((shift**2).sum() + ((scale - 1) ** 2).sum())
    assert found.value == pytest.approx(exact, abs=0.05 + 4 * found.error)


def test_w1_of_shifted_and_scaled_gaussians_is_the_closed_form():
    rng = np.random.default_rng(1)
    a, b = 2.5 + rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 1))
    (found,) = at_fixed_size(wasserstein_1, ["W1"], model=sample(a), reference=sample(b), n=5000, repeats=4)
    assert found.value == pytest.approx(2.5, abs=0.05)
    (found,) = at_fixed_size(wasserstein_1, ["W1"], model=sample(3 * b), reference=sample(b), n=5000, repeats=4)
    assert found.value == pytest.approx(2 * np.sqrt(2 / np.pi), abs=0.1)  # (3 - 1) E|z|


def test_w2_of_two_samples_of_one_law_is_not_zero_and_its_floor_says_so():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(4000, 4)), rng.normal(size=(4000, 4))
    small, large = (
        at_fixed_size(wasserstein_2, ["W2"], model=sample(a), reference=sample(b), n=n, repeats=4)[0] for n in (50, 400)
    )
    assert small.value > 0.5
    assert large.value < 0.75 * small.value, "it shrinks with the size: only at a fixed size can it be compared"
    for found in (small, large):
        assert found.ratio == pytest.approx(1, abs=0.15)


def test_torus_w2_is_the_best_assignment_around_the_circles():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-np.pi, np.pi, (2, 60, 3))
    cost = ((np.angle(np.exp(1j * (a[:, None] - b)))) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    exact = np.sqrt(cost[rows, columns].mean())
    assert torus_wasserstein_2(a, np.ones(60) / 60, b)[0] == pytest.approx(exact, rel=1e-9)
    assert torus_wasserstein_2(a + 2 * np.pi, np.ones(60) / 60, b)[0] == pytest.approx(exact, rel=1e-9)


def test_symmetric_rmsd_is_rdkits_best_and_the_brute_force_one():
    molecule = Molecule.from_smiles("CC(C)(C)C(=O)[O-]")
    rows = heavy_symmetries(molecule)
    assert len(rows) == 12  # 3! methyl groups, 2 oxygens
    x = np.random.default_rng(4).normal(0, 0.15, (3, molecule.n_atoms, 3))
    found = symmetric_rmsd(x[:1], x[1:], permutations=rows)[0]
    mol = Chem.RemoveHs(Chem.MolFromSmiles("CC(C)(C)C(=O)[O-]"))
    for k in range(2):
        pair = []
        for frame in (x[0], x[1 + k]):
            copy = Chem.Mol(mol)
            conformer = Chem.Conformer(mol.GetNumAtoms())
            for i, position in enumerate(frame[rows[0]]):
                conformer.SetAtomPosition(i, (10 * position).tolist())
            copy.AddConformer(conformer)
            pair.append(copy)
        best = rdMolAlign.GetBestRMS(*pair, symmetrizeConjugatedTerminalGroups=True) / 10
        assert found[k] == pytest.approx(best, abs=1e-6)


def test_rmsd_does_not_turn_a_mirror_image_over():
    x = np.random.default_rng(5).normal(size=(1, 5, 3))
    rows = np.arange(5)[None]
    assert symmetric_rmsd(x, x * [-1, 1, 1], permutations=rows)[0, 0] > 0.1
    best = min(symmetric_rmsd(x, x[:, list(p)], permutations=rows)[0, 0] for p in permutations(range(5)))
    assert best < 1e-6


def test_coverage_and_matching_by_hand():
    rng = np.random.default_rng(6)
    kinds = rng.normal(size=(3, 6, 3))
    generated, reference = kinds[[0, 0, 1]], kinds[[0, 1, 2, 2]]
    statistic = coverage(permutations=np.arange(6)[None], threshold=0.01)
    cov_r, mat_r, cov_p, mat_p = statistic(generated, np.ones(3) / 3, reference)
    nearest = symmetric_rmsd(kinds[2:], kinds[:2], permutations=np.arange(6)[None]).min()
    assert (cov_r, cov_p, mat_p) == (0.5, 1.0, 0.0)
    assert mat_r == pytest.approx(nearest / 2)
