import io

import matplotlib as mpl
import numpy as np
import pytest

from molifold import Ensemble, Molecule, plots
from molifold import analysis as A
from molifold.plots.torsions import milli
from molifold.plots.training import reduce

ATOM = Molecule(elements=("X",))


def angles(n, seed):
    rng = np.random.default_rng(seed)
    columns = {"phi": rng.vonmises(-1.2, 5, n), "psi": rng.vonmises(np.pi, 3, n)}
    u = rng.gamma(20, size=n)
    return Ensemble(ATOM, np.zeros((n, 1, 3)), log_p=-u, log_q=-u + rng.normal(0, 0.4, n), columns=columns)


@pytest.fixture(scope="module")
def two():
    return angles(4_000, 0), angles(9_000, 1)


def texts(picture):
    """All words of the figure that matplotlib draws."""
    return " ".join(t.get_text() for t in picture.figure().findobj(mpl.text.Text))


def test_drawing_leaves_matplotlib_as_it_was(two):
    before = dict(mpl.rcParams)
    plots.ramachandran({"raw": A.ramachandran(two[0])}).figure()
    assert dict(mpl.rcParams) == before


def test_map_shows_the_first_torsion_on_x_and_its_sizes(two):
    made = two[0]
    m = A.ramachandran(made, log_w=made.log_w)
    picture = plots.ramachandran({"reweighted": m}, temperature=300)
    axes = picture.figure().axes[0]
    drawn = axes.images[0].get_array()
    row, column = np.unravel_index(np.nanargmin(drawn), drawn.shape)
    assert m.free_energy[column, row] == 0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("φ", "ψ")
    assert "n 4,000 · ESS" in texts(picture)
    assert "300 K" in texts(picture)


def test_contours_close_over_the_seam():
    # psi centred on +-180: the lines must reach both edges of the panel
    figure = plots.ramachandran({"raw": A.ramachandran(angles(100_000, 3))}).figure()
    heights = np.concatenate([p.vertices[:, 1] for p in figure.axes[0].collections[0].get_paths() if len(p.vertices)])
    assert heights.max() > np.pi
    assert heights.min() < -np.pi


def test_torsions_print_divergence_and_floor(two):
    comparisons = A.torsion_comparison(*two, names=["phi", "psi"], log_w=two[0].log_w)
    text = texts(plots.torsions(comparisons))
    d = comparisons[0].reweighted_divergence
    assert f"reweighted {milli(d.value)}" in text
    assert f"floor {milli(d.floor)}" in text
    assert "ESS" in text


def test_weights_print_clipped_beside_unclipped():
    log_w = np.random.default_rng(0).normal(size=50_000)
    e, k = A.effective_sample_size(log_w), A.pareto_k(log_w)
    text = texts(plots.weights(log_w))
    assert f"unclipped {100 * e.fraction:.1f} ±" in text
    assert f"clipped (dashed) {100 * e.clipped_fraction:.1f} %" in text
    assert f"{k.k:.2f} ± {k.error:.2f}" in text


def test_free_energy_of_an_unseen_region_is_drawn_as_a_bound(two):
    made = two[0]
    none = A.free_energy_difference(made, np.zeros(len(made), dtype=bool))
    seen = A.free_energy_difference(made, made.columns["phi"] > -1)
    profile = A.circular_histogram(made.columns["phi"])
    text = texts(plots.free_energy({"reference": seen, "raw": none}, profiles={"raw": profile}))
    assert f"no frame inside: above {none.low:.1f} kT" in text


def test_a_profile_says_nothing_where_few_frames_count():
    rng = np.random.default_rng(3)
    angle = np.concatenate([rng.normal(0, 0.3, 5_000), np.full(2, 2.5), np.full(200, -2.5)])
    light = np.where(angle > 2, -20.0, 0.0)  # two frames that weigh nothing would be a spike of 28 kT
    profile = A.circular_histogram(angle, log_w=light)
    line = plots.free_energy({}, profiles={"reweighted": profile}).panels[0].marks[0]
    rare, common = np.searchsorted(profile.edges, [2.5, -2.5]) - 1
    assert profile.density[rare] > 0
    assert np.isnan(line.y[rare])
    assert line.y[common] == pytest.approx(-np.log(profile.density[common] / profile.density.max()))
    assert np.nanmax(line.y) < 10


def test_long_curves_are_reduced_without_losing_their_extremes_and_nan_is_left_out():
    rng = np.random.default_rng(0)
    points = np.stack([np.arange(10_000), rng.normal(size=10_000)], axis=1)
    points[5_000, 1] = np.nan
    step, low, middle, high = reduce(points)
    assert len(step) == 400
    assert (low.min(), high.max()) == (np.nanmin(points[:, 1]), np.nanmax(points[:, 1]))
    assert middle.mean() == pytest.approx(np.nanmean(points[:, 1]), abs=1e-2)


def test_training_takes_rows_with_gaps_text_and_dollars():
    rows = [{"step": s, "loss": 1.0 / s, "odd$name^": "NaN" if s % 2 else 3.0} for s in range(1, 30)]
    picture = plots.training(rows)
    picture.figure().savefig(io.BytesIO(), format="svg")
    assert len(picture.panels) == 2
    with pytest.raises(ValueError, match="without a finite number"):
        plots.training([{"step": 1, "loss": float("nan")}])


def test_energies_name_what_lies_outside(two):
    made, known = two
    log_p = np.array(made.log_p)
    log_p[:40] = -1e9
    strained = Ensemble(ATOM, made.x, log_p=log_p, log_q=made.log_q)
    assert "1 % of raw draws" in texts(plots.energies(A.energy_comparison(strained, known)))
