"""Clusters, their matching, projections and the whole analysis. Truth: made-up basins; scikit-learn, deeptime, pymbar."""

import numpy as np
import pytest
from dipeptide import BASINS, draws, reference

from molifold import Ensemble, Molecule
from molifold.analysis import analyze_ensemble
from molifold.analysis.cluster_matching import match_clusters, same_clusters
from molifold.analysis.clusters import cluster
from molifold.analysis.correlation import autocorrelation, vamp_score
from molifold.analysis.landscape import pca, tica, umap
from molifold.analysis.methods import HDBSCAN, DensityPeaks, KCenters, KMeans
from molifold.analysis.multistate import mbar, mbar_temperatures
from molifold.units import kT

SHARES = sorted((share for *_, share in BASINS), reverse=True)


@pytest.fixture(scope="module")
def simulated():
    return reference(6000)


@pytest.mark.parametrize("method", [KMeans(3), HDBSCAN(100), DensityPeaks()], ids=repr)
def test_the_basins_are_found_with_their_populations(simulated, method):
    found = cluster(simulated, method, of=("phi", "psi"), refits=2)
    assert len(found) == 3
    for share, known in zip(found.populations, SHARES, strict=True):
        assert abs(share.value - known) < 3 * share.error + found.noise.value
    assert (found.stability.value > 0.85).all()
    assert found.silhouette.value > 0.5
    assert (found.labels[found.medoids] == np.arange(3)).all()


def test_k_centers_covers_every_frame_within_its_radius(simulated):
    found = cluster(simulated, KCenters(12), of=("phi", "psi"), refits=0)
    values, centres = found.of(simulated), found.assignment.points
    radius = np.linalg.norm(values - centres[found.labels.argsort().argsort() * 0], axis=1).max()
    nearest = np.linalg.norm(values[:, None] - centres[None], axis=2).min(1).max()
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    assert nearest <= apart[~np.eye(12, dtype=bool)].min() + 1e-9 <= radius + 1e-9  # Gonzalez' bound


def test_clusters_that_are_not_there_are_unstable(simulated):
    found = cluster(simulated, KMeans(9), of=("phi", "psi"), refits=4)
    assert found.stability.value.min() < 0.85


def test_a_lost_basin_shows_when_clusters_are_matched(simulated):
    known = cluster(simulated, DensityPeaks(), of=("phi", "psi"), refits=0)
    lost = draws(3000, shares=(0.5, 0.5, 0.0))
    same = same_clusters(known, lost)
    assert same.populations[2].value < 0.01
    assert same.populations[2].high < 0.02
    mine = cluster(lost, DensityPeaks(), of=("phi", "psi"), refits=0)
    matched = match_clusters(known, mine, lost)
    assert sum(p.second is None for p in matched.pairs) == 1
    assert matched.transition[:2].sum(1) == pytest.approx(1.0)


def test_weights_move_populations(simulated):
    e = draws(4000)
    found = cluster(e, KMeans(3), of=("phi", "psi"), refits=0)
    log_w = np.where(found.labels == 2, np.log(3.0), 0.0)
    p = np.bincount(found.labels) / len(e)
    moved = cluster(e, KMeans(3), of=("phi", "psi"), log_w=log_w, refits=0)
    assert min(x.value for x in moved.populations) == pytest.approx(3 * p[2] / (1 + 2 * p[2]), abs=0.01)


def series():
    """Three Ornstein-Uhlenbeck series, rotated: relaxation times 50, 5, 1 frames."""
    rng = np.random.default_rng(0)
    memory = np.exp(-1 / np.array([50.0, 5.0, 1.0]))
    x = np.empty((8, 5000, 3))
    x[:, 0] = rng.normal(size=(8, 3))
    for t in range(1, 5000):
        x[:, t] = memory * x[:, t - 1] + np.sqrt(1 - memory**2) * rng.normal(size=(8, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    columns = {"v": x.reshape(-1, 3) @ turn, "slow": x[..., 0].ravel(), "trajectory": np.repeat(np.arange(8), 5000)}
    return Ensemble(Molecule(elements=("X",)), np.zeros((40_000, 1, 3)), columns=columns)


def test_tica_vamp_and_autocorrelation_know_the_relaxation_times():
    from deeptime.decomposition import TICA

    e = series()
    found = tica(e, 5, of=["v"])
    assert (np.abs(found.strength.value - [50, 5]) < 3 * found.strength.error).all()
    theirs = TICA(lagtime=5, dim=2).fit_from_timeseries(list(e.columns["v"].reshape(8, 5000, 3))).fetch_model()
    assert found.strength.value == pytest.approx(theirs.timescales()[:2], rel=0.02)
    assert abs(np.corrcoef(found(e)[:, 0], e.columns["slow"])[0, 1]) > 0.99
    time = autocorrelation(e, "slow").time
    exact = 0.5 + 1 / (np.exp(1 / 50) - 1)
    assert abs(time.value - exact) < 3 * time.error
    score = vamp_score(e, 5, of=["v"], dimensions=2)
    exact = 1 + np.exp(-2 * 5 / 50) + np.exp(-2 * 5 / 5)
    assert abs(score.score.value - exact) < 4 * score.score.error + 0.01


def test_pca_is_that_of_scikit_learn():
    from sklearn.decomposition import PCA

    e = series()
    found, theirs = pca(e, of=["v"]), PCA(2).fit(e.columns["v"])
    assert found.strength.value == pytest.approx(theirs.explained_variance_ratio_, rel=1e-6)
    assert np.abs(found(e)) == pytest.approx(np.abs(theirs.transform(e.columns["v"])), abs=1e-6)


def test_mbar_of_two_wells_is_exact_and_its_intervals_hold():
    hits, errors = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = np.concatenate([rng.normal(0, 1, 400), rng.normal(0, 0.5, 400)])
        u = np.stack([x**2 / 2, 2 * x**2])
        found = mbar(u, np.repeat([0, 1], 400), target=u[0], block=np.arange(800) % 40, repeats=40)
        hits.append(found.free_energies.low[1] < np.log(2) < found.free_energies.high[1])
        errors.append([found.free_energies.error[1], found.analytic_error[1]])
    assert np.mean(hits) >= 0.87
    ours, theirs = np.mean(errors, axis=0)  # frames are independent here, as pymbar's error supposes
    assert ours == pytest.approx(theirs, rel=0.1)


def test_mbar_over_temperatures_gives_the_mean_energy_of_another():
    rng = np.random.default_rng(0)
    temperature = np.repeat([300.0, 400.0, 500.0], 3000)
    x = rng.normal(size=9000) * np.sqrt(kT(300) * temperature / 300)  # U = x^2 / 2
    columns = {"temperature": temperature, "energy": x**2 / 2, "time": np.tile(np.arange(3000.0), 3)}
    e = Ensemble(Molecule(elements=("X",)), np.zeros((9000, 1, 3)), columns=columns)
    found = mbar_temperatures(e, 350.0, repeats=4)
    w = np.exp(found.log_w - found.log_w.max())
    assert w @ (x**2 / 2) / w.sum() == pytest.approx(kT(350) / 2, rel=0.05)
    assert found.least_overlap > 0.1


def test_the_whole_analysis_of_a_simulation_and_of_draws(simulated):
    found = analyze_ensemble(simulated, limit=1500)
    assert sum(p.value for p in found.clusters.populations[:3]) > 0.98
    assert {f.freedom.name for f in found.relevant} >= {"phi", "psi"}
    assert found.basins["0 < phi < 150 degrees"].low < SHARES[2] < found.basins["0 < phi < 150 degrees"].high
    assert found.kinetics.model.timescales.value[0] < 5  # frames are independent: no memory
    rows = found.rows()
    assert {"degree of freedom", "cluster", "free energy", "kinetics", "landscape"} <= {r.kind for r in rows}
    alone = analyze_ensemble(draws(800), limit=400)
    assert alone.frames == 400
    assert alone.kinetics is None
    assert "independent draws" in alone.skipped["kinetics"]


@pytest.mark.slow
def test_umap_keeps_far_clusters_apart_and_repeats_itself():
    rng = np.random.default_rng(0)
    side = np.arange(120) % 2
    columns = {name: rng.normal(np.where(side, 1.5, -1.5), 0.15) for name in "abcd"}
    two = Ensemble(Molecule(elements=("X",)), np.zeros((120, 1, 3)), columns=columns)
    found = umap(two, of=list(columns))
    z = found(two)
    centres = np.array([z[side == k].mean(0) for k in (0, 1)])
    spread = max(np.linalg.norm(z[side == k] - centres[k], axis=1).max() for k in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread, "no frame is nearer to the other cluster"
    np.testing.assert_array_equal(umap(two, of=list(columns))(two), z)
    with pytest.raises(ValueError, match=r"ensemble: got 15 frames, expected more than 15 \(neighbours\)"):
        umap(two[:15], of=list(columns))
