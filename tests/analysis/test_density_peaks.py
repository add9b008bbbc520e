"""Densities, clusters and intrinsic dimensions. Reference: DADApy 0.3.4 (compute_id_2NN, compute_density_kstarNN,
compute_clustering_ADP(Z=1.65), return_id_scaling_gride) on the same points; maxk 100."""

import numpy as np
import pytest

from molifold.analysis.density_peaks import density_peaks, local_density
from molifold.analysis.dimension import gride, neighbour_distances, two_nn


def three(rng):
    return np.concatenate([rng.normal(c, 0.4, size=(400, 2)) for c in (-2.0, 0.0, 2.0)])


def overlapping(rng):
    a = rng.normal(size=(1500, 2))
    a[:, 0] += np.where(rng.random(1500) < 0.3, -2.2, 1.2)
    return a


def pancake(rng):
    return rng.normal(size=(2000, 5)) * np.array([3, 2, 1, 0.5, 0.1])


def torus(rng):
    t = rng.vonmises(0, 2, size=(3000, 2)) + np.pi * (rng.random((3000, 2)) < 0.4)
    return np.concatenate([np.cos(t), np.sin(t)], axis=1)


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(3)
    return {make.__name__: make(rng) for make in (three, overlapping, pancake, torus)}


#: By DADApy: 2NN dimension, mean k*, mean log density, its mean error, sizes of the clusters, Gride at 1, 2 ... 32.
DADAPY = {
    "three": (2.129990787843768, 63.32, -1.9823584063769613, 0.13998949503672076, [400, 400, 400],
              [2.09, 2.04, 2.00, 2.04, 2.04, 2.01]),
    "overlapping": (2.067548797446131, 80.02133333333333, -3.3381570550327755, 0.11948006738314927, [1500],
                    [2.06, 2.07, 2.05, 2.02, 2.02, 2.05]),
    "pancake": (4.3735698256110656, 38.2225, -7.040175745937687, 0.18145051536881032, [2000],
                [4.42, 4.20, 4.09, 3.90, 3.70, 3.52]),
    "torus": (1.9876552259476283, 93.91866666666667, -3.4261018141920223, 0.10398747093286352, [1102, 717, 714, 467],
              [1.98, 1.97, 2.01, 2.02, 2.04, 2.07]),
}  # fmt: skip


@pytest.mark.parametrize("name", DADAPY)
def test_the_same_as_dadapy(points, name):
    dimension, k, height, error, sizes, scales = DADAPY[name]
    x = points[name]
    d = neighbour_distances(x, 64)
    assert two_nn(d[:, 0], d[:, 1]).value == pytest.approx(dimension, rel=1e-9)
    found = local_density(x)
    assert found.size.mean() == pytest.approx(k, rel=1e-12)
    assert found.log_density.mean() == pytest.approx(height, rel=1e-9)
    assert found.error.mean() == pytest.approx(error, rel=1e-9)
    assert sorted(np.bincount(density_peaks(x, density=found)), reverse=True) == sizes
    ours = [gride(d[:, i - 1], d[:, 2 * i - 1], i)[0] for i in (1, 2, 4, 8, 16, 32)]
    assert ours == pytest.approx(scales, abs=0.01)  # DADApy gives two digits


def test_one_peak_of_noise_is_one_cluster_and_more_demand_makes_fewer(points):
    flat = np.random.default_rng(0).random((2000, 2))
    found = local_density(flat)
    sizes = [density_peaks(flat, density=found, z=z).max() for z in (0.0, 1.0, 3.0)]
    assert sizes[0] > sizes[1] >= sizes[2] == 0
    assert density_peaks(points["torus"], z=100.0).max() == 0


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="got 5 points"):
        local_density(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="equal points"):
        local_density(np.zeros((50, 2)))
