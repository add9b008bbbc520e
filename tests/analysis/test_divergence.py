import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.analysis import (
    compare,
    energy_comparison,
    jensen_shannon,
    kl_divergence,
    map_divergence,
    torsion_comparison,
)

ATOM = Molecule(elements=("X",))


def ensemble(n, seed, *, shift=0.0, log_q=False, trajectories=0):
    rng = np.random.default_rng(seed)
    phi = np.where(rng.random(n) < 0.9, rng.vonmises(-1.3, 8, n), rng.vonmises(1.0, 20, n)) + shift
    columns = {"phi": phi, "psi": rng.vonmises(2.3, 4, n)}
    if trajectories:
        columns["trajectory"] = np.arange(n) * trajectories // n
    return Ensemble(ATOM, np.zeros((n, 1, 3)), columns=columns)


def test_a_perfect_model_has_ratio_one():
    ratios = [map_divergence(ensemble(20_000, s), ensemble(60_000, 100 + s)).ratio for s in range(4)]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    d = map_divergence(ensemble(20_000, 0), ensemble(60_000, 1))
    assert d.frames == 20_000 == d.ess
    assert d.floor == pytest.approx(d.ideal_floor, rel=0.1)
    assert abs(d.ratio - 1) < 4 * d.ratio_error < 0.6


def test_a_shifted_model_stands_above_the_floor():
    model, reference = ensemble(60_000, 0, shift=0.1), ensemble(150_000, 1)
    kl, jsd = (map_divergence(model, reference, measure=m) for m in ("kl", "jsd"))
    assert kl.ratio > 1.5
    assert kl.value > kl.floor_high
    assert jsd.ratio > kl.ratio  # not diluted by bins that one side never visited
    with pytest.raises(ValueError, match="measure: got 'tv'"):
        map_divergence(model, reference, measure="tv")


def test_reweighting_a_wrong_model_brings_it_to_the_floor_at_its_effective_size():
    rng = np.random.default_rng(0)
    n = 60_000
    model, reference = rng.normal(0, 1.2, n), rng.normal(0, 1, 100_000)
    log_w = -0.5 * model**2 + 0.5 * (model / 1.2) ** 2
    as_cells = lambda x: np.clip((x + 5) * 6.4, 0, 63).astype(int)  # noqa: E731
    options = {"n_cells": 64, "measure": jensen_shannon, "name": "JSD (bits)"}
    raw = compare(as_cells(model), as_cells(reference), **options)
    fixed = compare(as_cells(model), as_cells(reference), log_w=log_w, **options)
    w = np.exp(log_w)
    assert raw.ratio > 5
    assert fixed.ratio == pytest.approx(1, abs=4 * fixed.ratio_error)
    assert fixed.ratio_error < 0.5
    assert fixed.frames == 50_000
    assert fixed.ess == pytest.approx(w[:50_000].sum() ** 2 / (w[:50_000] ** 2).sum())


def test_the_floor_is_fair_to_weighted_frames_in_a_map():
    # As in a molecule, most of the spread of the weights comes from coordinates that the map does not show.
    rng = np.random.default_rng(3)
    n = 60_000
    columns = {"phi": rng.vonmises(0.0, 5, n), "psi": rng.vonmises(0, 5, n)}
    log_w = 5 * (np.cos(columns["phi"] - 0.15) - np.cos(columns["phi"])) + rng.normal(0, 0.8, n)
    target = {"phi": rng.vonmises(0.15, 5, 2 * n), "psi": rng.vonmises(0, 5, 2 * n)}
    reference = Ensemble(ATOM, np.zeros((2 * n, 1, 3)), columns=target)
    model = Ensemble(ATOM, np.zeros((n, 1, 3)), columns=columns)
    assert map_divergence(model, reference).ratio > 1.4
    jsd = map_divergence(model, reference, log_w=log_w, measure="jsd")
    assert abs(jsd.ratio - 1) < 0.15
    # epsilon charges empty bins, of which weighted frames leave as few as there are frames: the floor must do so too
    kl = map_divergence(model, reference, log_w=log_w)
    assert abs(kl.ratio - 1) < 0.2
    heavy = map_divergence(model, reference, log_w=log_w + 1.4 * rng.normal(size=n))
    assert heavy.ess < 0.15 * heavy.frames
    assert abs(heavy.ratio - 1) < 0.25


def test_both_sides_are_matched_at_half_the_reference_when_that_is_smaller():
    d = map_divergence(ensemble(50_000, 0), ensemble(20_000, 1))
    assert d.frames == 10_000 == d.ess
    plain = [
        np.histogram2d(e.columns["phi"], e.columns["psi"], 64, range=[[-np.pi, np.pi]] * 2)[0]
        for e in (ensemble(20_000, 1), ensemble(50_000, 0))
    ]
    assert d.plain == pytest.approx(
        float(kl_divergence(plain[0].ravel(), plain[1].ravel(), area=(2 * np.pi / 64) ** 2))
    )


def test_a_reference_that_did_not_converge_shows_in_its_floor():
    rng = np.random.default_rng(0)
    # 8 trajectories, each stuck in a basin of its own
    trajectory = np.repeat(np.arange(8), 4000)
    phi = rng.vonmises(np.where(trajectory % 2, -1.5, 1.0), 20)
    reference = Ensemble(
        ATOM,
        np.zeros((32_000, 1, 3)),
        columns={"phi": phi, "psi": rng.vonmises(0, 4, 32_000), "trajectory": trajectory},
    )
    model = reference[rng.permutation(32_000)[:10_000]]
    d = map_divergence(model, reference, measure="jsd")
    mixed = reference[rng.permutation(32_000)]
    mixed = map_divergence(
        model, Ensemble(ATOM, mixed.x, columns={k: mixed.columns[k] for k in ("phi", "psi")}), measure="jsd"
    )
    assert d.floor > 1.3 * d.ideal_floor
    assert mixed.floor == pytest.approx(mixed.ideal_floor, rel=0.3)


def test_error_of_a_divergence_is_the_spread_over_models():
    reference = ensemble(60_000, 99)
    found = [map_divergence(ensemble(8_000, s, shift=0.15), reference, splits=4) for s in range(20)]
    spread = np.std([d.value for d in found])
    assert 0.7 * spread < np.mean([d.error for d in found]) < 2 * spread


def test_every_torsion_is_compared_raw_and_reweighted():
    a, b = ensemble(8_000, 0), ensemble(20_000, 1, trajectories=10)
    log_w = 0.3 * np.random.default_rng(0).normal(size=8_000)
    phi, psi = torsion_comparison(a, b, names=["phi", "psi"], log_w=log_w)
    assert (phi.name, psi.name) == ("phi", "psi")
    assert phi.reweighted.ess == pytest.approx(8_000 * np.exp(-0.09), rel=0.05)
    assert phi.reweighted_divergence.ess < phi.raw_divergence.ess == 8_000
    assert torsion_comparison(a, b, names=["phi"])[0].reweighted is None


def test_energies_overlap_after_reweighting_and_clashes_are_counted():
    # Gamma(30) reference; the model is Gamma(33), so w = u^-3
    rng = np.random.default_rng(0)
    u = rng.gamma(33, size=40_000)
    u[:400] = 1e9
    u[400] = np.nan
    log_p, log_q = -u, -u + 3 * np.log(u)
    log_w = np.where(np.isnan(u), -np.inf, log_p - log_q)
    v = rng.gamma(30, size=100_000)
    made = Ensemble(ATOM, np.zeros((len(u), 1, 3)), log_p=log_p, log_q=log_q)
    known = Ensemble(ATOM, np.zeros((len(v), 1, 3)), log_p=-v)
    e = energy_comparison(made, known, log_w=log_w)
    assert e.outside == pytest.approx(401 / 40_000, rel=0.2)
    assert e.raw_variation.ratio > 5
    assert e.reweighted_variation.ratio < 2
    assert abs(e.reweighted_mean.value - 30) < 4 * e.reweighted_mean.error
    assert 30 in e.reference_mean or abs(e.reference_mean.value - 30) < 4 * e.reference_mean.error


def test_energies_from_columns_and_their_absence():
    from molifold.analysis import reduced_energy
    from molifold.units import kT

    e = Ensemble(
        ATOM,
        np.zeros((2, 1, 3)),
        columns={"energy": np.array([kT(300), 2 * kT(600)]), "temperature": np.array([300.0, 600.0])},
    )
    np.testing.assert_allclose(reduced_energy(e), [1, 2])
    with pytest.raises(ValueError, match="neither log_p nor columns"):
        reduced_energy(Ensemble(ATOM, np.zeros((2, 1, 3))))


def test_too_small_a_reference_is_an_error():
    with pytest.raises(ValueError, match="reference: got 3 frames"):
        map_divergence(ensemble(10, 0), ensemble(3, 1))
