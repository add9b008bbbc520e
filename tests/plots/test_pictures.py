"""Every picture without drawing it (the backend "none"): the plain data says what would be seen."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from molifold import Ensemble, Molecule, analysis, plots
from molifold.analysis.clusters import cluster
from molifold.analysis.markov import chapman_kolmogorov, implied_timescales, markov_model
from molifold.analysis.metastable import mean_first_passage_times
from molifold.analysis.methods import KMeans
from molifold.analysis.surfaces import free_energy_surface
from molifold.plots import encoding, marks
from molifold.plots.marks import KINDS, Contours, Heatmap, Line, Network, Structure, Table, Text, arrays
from molifold.plots.molecules import aligned, image, structure
from molifold.plots.picture import Axis, Panel, Picture
from molifold.plots.style import PALETTE

BUTANE = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)))


def chain(n, seed):
    """Frames of a 3-state chain, whose phi sits at -2, at 0, or on the seam."""
    rng = np.random.default_rng(seed)
    state = np.zeros(n, dtype=int)
    jump, to = rng.random(n) < 0.05, rng.integers(0, 3, n)
    for i in range(1, n):
        state[i] = to[i] if jump[i] else state[i - 1]
    phi = np.array([-2.0, 0.0, 3.1])[state] + 0.2 * rng.normal(size=n)
    phi = (phi + np.pi) % (2 * np.pi) - np.pi
    psi = rng.vonmises(np.pi, 3, n)
    bent = np.array([[0.15, 0.1, 0], [0.15, 0, 0], [0, 0, 0], [-0.05, 0, 0]])
    x = np.repeat(bent[None], n, axis=0)
    x[:, 3, 1:] = -0.14 * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    columns = {"trajectory": np.arange(n) // (n // 10), "time": np.arange(n) % (n // 10) * 2.0, "phi": phi, "psi": psi}
    log_p = -rng.gamma(20, size=n)
    return Ensemble(BUTANE, x, log_p=log_p, columns=columns, meta={"temperature": 300.0}), state


@pytest.fixture(scope="module")
def made():
    """Every picture by name, from the results of one short chain and of its continuation."""
    e, state = chain(4000, 0)
    other, _ = chain(4000, 1)
    found = cluster(e, KMeans(3), of=["phi"], refits=1)
    model = markov_model(e, state, 1, repeats=5)
    torsions = analysis.torsion_comparison(e, other, names=["phi", "psi"])
    density = {
        s: plots.ramachandran({"raw": analysis.ramachandran(part)}, temperature=300) for s, part in ((1, e), (2, other))
    }
    profile = analysis.circular_histogram(e.columns["phi"])
    return {
        "ramachandran": density[1],
        "surface": plots.surface(free_energy_surface(e, ["phi", "psi"], bins=24, periodic=["phi", "psi"])),
        "curve": plots.surface(free_energy_surface(e, "phi", bins=24, periodic=["phi"])),
        "ridge": plots.ridge(torsions, temperature=300),
        "torsions": plots.torsions(torsions, temperature=300),
        "energies": plots.energies(analysis.energy_comparison(e, other), temperature=300),
        "weights": plots.weights(np.random.default_rng(0).normal(size=1000), temperature=300),
        "training": plots.training([{"step": s, "loss": 1 / s} for s in range(1, 30)]),
        "clusters": plots.clusters(found, e, behind=3),
        "timescales": plots.timescales(implied_timescales(e, state, (1, 2, 4), repeats=5, processes=1)),
        "chapman_kolmogorov": plots.chapman_kolmogorov(chapman_kolmogorov(e, state, 1, steps=3, repeats=5)),
        "network": plots.network(model, mean_first_passage_times(model)),
        "comparison": plots.comparison(analysis.compare_ensembles(e, other, repeats=2), temperature=300),
        "free_energy": plots.free_energy({}, profiles={"raw": profile}, temperature=300),
        "evolution": plots.evolution(density),
    }


NAMES = (
    "ramachandran", "surface", "curve", "ridge", "torsions", "energies", "weights", "training", "clusters", "timescales",
    "chapman_kolmogorov", "network", "comparison", "free_energy", "evolution",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_picture_survives_json_and_bytes(made, name, tmp_path):
    picture = made[name]
    path = picture.save(tmp_path / "p.json")
    again = Picture.load(path)
    assert again == picture
    assert again.save(tmp_path / "q.json").read_bytes() == path.read_bytes()
    for a, b in zip(picture.panels, again.panels, strict=True):
        assert (a.x, a.y, a.title, a.caption) == (b.x, b.y, b.title, b.caption)
        for p, q in zip(a.marks, b.marks, strict=True):
            assert type(p) is type(q)
            assert all(np.array_equal(v, arrays(q)[k], equal_nan=v.dtype.kind == "f") for k, v in arrays(p).items())


@pytest.mark.parametrize("name", NAMES)
def test_every_array_is_finite_or_a_gap_and_lies_where_the_file_says(made, name):
    text, data = made[name].encode()
    places = []
    json.loads(text, object_hook=lambda d: places.append(d) or d if "offset" in d else d)
    end = 0
    for p in places:
        assert p["offset"] % 8 == 0
        assert p["offset"] >= end  # one after the other, none over another
        a = np.frombuffer(data, p["dtype"], int(np.prod(p["shape"])), p["offset"])
        end = p["offset"] + a.nbytes
        assert not np.isinf(a).any()
    assert end == len(data)
    assert all(not np.isnan(a).all() for m in made[name].marks(marks.Mark) for a in arrays(m).values() if a.size)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_drawn(made, name, tmp_path):
    drawn = made[name].save(tmp_path / "p.png", dpi=30)
    assert np.ptp(mpl.image.imread(drawn)[..., :3]) > 0.5  # ink on paper


def test_same_picture_gives_the_same_bytes(made, tmp_path):
    for ending in ("png", "svg", "pdf"):
        first, second = (made["curve"].save(tmp_path / f"{i}.{ending}", dpi=30).read_bytes() for i in range(2))
        assert first == second, ending


@pytest.mark.parametrize("name", ["ramachandran", "surface", "curve"])
def test_periodic_axes_are_closed(made, name):
    panel = made[name].panels[0]
    assert panel.x.period == pytest.approx(2 * np.pi)
    assert panel.x.limits == pytest.approx((-np.pi, np.pi))
    closed = next(m for m in panel.marks if isinstance(m, Contours | Line))
    step = closed.x[1] - closed.x[0]
    assert closed.x[0] < -np.pi
    assert closed.x[-1] > np.pi
    assert closed.x[-2] + step - closed.x[0] == pytest.approx(2 * np.pi + step)
    values = closed.values if isinstance(closed, Contours) else closed.y
    assert np.array_equal(values[0], values[-2], equal_nan=True)
    assert np.array_equal(values[1], values[-1], equal_nan=True)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "training"])
def test_picture_says_how_many_frames_and_at_which_temperature(made, name):
    picture = made[name]
    words = [picture.title]
    for panel in picture.panels:
        words += [panel.caption, panel.x.unit, panel.y.unit]
        words += [getattr(m, key, "") for m in panel.marks for key in ("label", "bar", "text")]
    said = " ".join(words)
    assert re.search(r"\bn (4,000|2,000|1,000)\b", said), said
    assert "300 K" in said, said


def test_surface_holds_the_numbers_of_the_result():
    e, _ = chain(4000, 0)
    found = free_energy_surface(e, ["phi", "psi"], bins=24, periodic=["phi", "psi"])
    drawn = next(plots.surface(found).marks(Heatmap)).values
    assert np.nanmin(drawn) == 0
    assert np.isnan(drawn).sum() == np.isinf(found.free_energy.value).sum() > 0
    seen = np.isfinite(drawn)
    assert np.array_equal(drawn[seen], found.free_energy.value[seen])


def test_network_arrows_carry_equal_flux_both_ways_and_exact_weights(made):
    # Every state is left with the same probability for each other one: thirds, and 2 steps / (0.05 / 3) = 120 between two.
    mark = next(made["network"].marks(Network))
    # 2000 steps correlated over some 13: one standard error of a share is 0.055
    assert mark.share == pytest.approx([1 / 3] * 3, abs=0.2)
    assert len(mark.edges) == 6
    times = [float(text.split()[0].replace(",", "")) for text in mark.edge_labels]
    assert np.mean(times) == pytest.approx(120, rel=0.25)


def test_more_states_than_can_be_seen_are_refused():
    e, _ = chain(4000, 0)
    labels = np.random.default_rng(0).integers(0, 12, 4000)
    model = markov_model(e, labels, 1, repeats=4)
    with pytest.raises(ValueError, match="PCCA"):
        plots.network(model, mean_first_passage_times(model))


def test_gallery_turns_members_onto_their_medoid(made):
    for mark in made["clusters"].marks(Structure):
        assert len(mark.xyz) == 4
        # bonds 0-1 and 1-2 are rigid in this chain, the torsion is not: members scatter, but around the medoid
        assert np.abs(mark.xyz[1:] - mark.xyz[0]).max() < 0.12
        lengths = np.linalg.norm(mark.xyz[:, 0] - mark.xyz[:, 1], axis=1)
        assert lengths == pytest.approx(0.1)
    e, _ = chain(4000, 0)
    found = cluster(e, KMeans(3), of=["phi"], refits=0)
    with pytest.raises(ValueError, match="frames"):
        plots.clusters(found, e[:10])


def test_comparison_marks_what_differs():
    e, _ = chain(4000, 0)
    shifted = Ensemble(BUTANE, e.x, log_p=e.log_p - 5, columns=dict(e.columns))
    table = next(plots.comparison(analysis.compare_ensembles(shifted, e, repeats=2)).marks(Table))
    colour = {row[:2]: c for row, c in zip(table.rows, table.colours, strict=True)}
    assert colour["energy", "mean / kT"] == "bad"
    assert colour["energy", "deviation / kT"] == "good"


def test_structure_is_seen_where_its_atoms_are():
    left = Molecule(elements=("O", "C"), bonds=((0, 1),))
    mark = structure(left, aligned(left, np.array([[[0.0, 0, 0], [0, 0.2, 0]]])))
    pixels, (west, east, _, _) = image(mark, pixels=120)
    assert east - west == pytest.approx(0.32, abs=0.01)
    rows, columns = np.nonzero(pixels[..., 3] > 0.9)
    half = pixels.shape[1] / 2
    red = pixels[rows, columns]
    assert red[columns < half / 2, 0].mean() > 1.8 * red[columns < half / 2, 2].mean()  # oxygen is red, and left
    assert columns.min() == pytest.approx(120 * (0.06 - 0.036) / 0.32, abs=1)  # margin less the radius of oxygen


def test_evolution_puts_all_steps_on_the_same_axes(made):
    first, second = made["evolution"].panels
    assert (first.title, second.title) == ("step 1", "step 2")
    assert first.x.limits == second.x.limits


def test_small_multiples_keep_captions_and_drop_words_over_marks():
    rng = np.random.default_rng(0)
    large = {step: plots.weights(rng.normal(size=200), temperature=300) for step in (1, 2)}
    small = plots.evolution(large)
    assert next(large[1].marks(Text)).inside == "panel"
    assert not list(small.marks(Text))
    assert [p.caption for p in small.panels] == [p.panels[0].caption for p in large.values()]


def test_animation_has_one_frame_per_picture(made, tmp_path):
    from PIL import Image

    path = plots.animate({1: made["curve"], 7: made["curve"].__class__(**vars(made["curve"]) | {"title": "other"})},
                         tmp_path / "a.gif", dpi=30)  # fmt: skip
    with Image.open(path) as film:
        assert film.n_frames == 2


def test_plain_data_needs_no_matplotlib():
    code = (
        "import sys; from molifold import plots; from molifold.plots.marks import Line; "
        "from molifold.plots.picture import Panel, Picture; import numpy as np; "
        "p = plots.weights(np.random.default_rng(0).normal(size=100)); assert Picture.decode(*p.encode()) == p; "
        "assert not any(m.split('.')[0] in ('matplotlib', 'torch', 'deeptime', 'sklearn') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_damaged_files_are_refused(made):
    text, data = made["curve"].encode()
    with pytest.raises(ValueError, match="beyond"):
        Picture.decode(text, data[:-8])
    with pytest.raises(ValueError, match="version: got 99"):
        Picture.decode(text.replace('"version":1', '"version":99'), data)
    with pytest.raises(ValueError, match="expected one of"):
        Picture.decode(text.replace('"mark":"line"', '"mark":"script"'), data)


def test_marks_refuse_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="infinite"):
        Line(x=[0, 1], y=[0, np.inf])
    with pytest.raises(ValueError, match="along n"):
        Line(x=[0, 1], y=[0, 1, 2])
    with pytest.raises(ValueError, match="colour"):
        Line(x=[0], y=[0], colour="#ff0000")


def test_format_page_names_every_mark_field_and_colour():
    page = Path(encoding.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
    assert f"version {encoding.VERSION}" in page
    assert all(f"| `{name}` | `{colour}` |" in page for name, colour in PALETTE.items())
    marks_of = page.partition("## Marks")[2].partition("## Palette")[0]
    rows = {line.split("`")[1]: line for line in marks_of.splitlines() if line.startswith("| `")}
    for name, kind in KINDS.items():
        missing = [f.name for f in fields(kind) if f"`{f.name}`" not in rows[name]]
        assert not missing, (name, missing)
    words = {w for line in page.splitlines() if line.startswith("| `") for w in line.split("`")[1::2]}
    assert {f.name for cls in (Picture, Panel, Axis) for f in fields(cls)} <= words
