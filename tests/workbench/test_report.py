import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from molifold import Ensemble, Molecule, geometry
from molifold.analysis import analyze_ensemble
from molifold.data import example
from molifold.runs import Run
from molifold.workbench import (
    ReportParts,
    analyse,
    findings,
    overall,
    report_from_run,
    write_analysis,
    write_report,
)
from molifold.workbench.collection import Collection
from molifold.workbench.parts import parts_of_run
from molifold.workbench.statistics import statistics_of

ALANINE = Molecule.from_sequence("A")
VOID = {"meta", "input", "br", "img", "link", "hr"}


def ensemble(n, seed, *, molecule=ALANINE, positive=0.03, generated=False, spread=0.5, meta=None, **columns):
    """Angles of an alanine-like mixture as columns; log w has standard deviation ``spread``."""
    from molifold.analysis import named_torsions

    rng = np.random.default_rng(seed)
    angle = {name: rng.vonmises(rng.choice([-1, 1, np.pi], n), 12) for name in named_torsions(molecule)}
    if "phi" in angle:
        angle["phi"] = np.where(rng.random(n) < positive, rng.vonmises(1, 30, n), rng.vonmises(-1.3, 8, n))
    u = rng.gamma(30, size=n)
    x = np.zeros((n, molecule.n_atoms, 3), dtype=np.float32)
    log_q = -u - rng.normal(0, spread, n) if generated else None
    return Ensemble(molecule, x, log_p=-u, log_q=log_q, columns=angle | columns, meta=meta or {})


def history(n=60):
    return [{"step": s, "time": 0.0, "loss": 1 / s, "validation_nll": 2 / s, "gradient_norm": 1.0} for s in range(1, n)]


@pytest.fixture(scope="module")
def parts():
    trajectory = np.arange(6_000) // 250
    return ReportParts(
        ensemble(3_000, 0, generated=True), ensemble(6_000, 1, trajectory=trajectory), history(),
        {"force field": "amber96", "timings": {"train / s": 301.5}}, temperature=300.0, title="Alanine",
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "page.html"
    return write_report(parts, path, results=analyse(parts)).read_text(encoding="utf-8")


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_has_every_panel_and_reaches_nowhere(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in parser.links)
    assert {link[1:] for link in parser.links if link.startswith("#")} <= set(parser.ids)
    assert not re.search(r"https?:|@import|<script|url\((?!#)", page)
    assert "default-src 'none'" in page
    for panel in (
        "Free-energy map",
        "Free energy of 0° &lt; φ &lt; 150°",
        "All torsions",
        "Torsions, most different first",
        "Energies",
        "Importance weights",
        "Training",
        "Settings",
    ):
        assert f"<h2>{panel}" in page, panel
    assert page.count("<dt>Healthy</dt>") == page.count("<svg") == 7


def test_page_states_numbers_and_provenance(page, parts):
    results = analyse(parts)
    assert f"{100 * results.ess.fraction:.1f} ±" in page
    assert "clipped" in page
    assert "timings.train / s" in page
    assert "301.5" in page
    assert "amber96" in page
    assert "300 K" in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_parts_and_seed_give_the_same_page(parts, page, tmp_path):
    again = write_report(parts, tmp_path / "again.html", results=analyse(parts)).read_text(encoding="utf-8")
    strip = lambda text: re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)  # noqa: E731
    assert strip(again) == strip(page)


def test_hostile_names_stay_text(tmp_path):
    evil = (
        "</title><script>alert('x')</script><img src=http://evil.example/ onerror=alert(1)> $\\frac{ $title ${status}"
    )
    molecule = Molecule(
        elements=ALANINE.elements, bonds=ALANINE.bonds, atom_names=ALANINE.atom_names, residue_names=ALANINE.residue_names,
        residue_ids=ALANINE.residue_ids, name=evil,
    )  # fmt: skip
    parts = ReportParts(
        ensemble(500, 0, molecule=molecule, generated=True, meta={evil: {evil: evil}}), ensemble(600, 1, molecule=molecule),
        [{"step": 1, evil: 1.0}, {"step": 2, evil: 2.0, "loss": "NaN"}], {evil: [evil, {"a": evil}]}, title=evil,
    )  # fmt: skip
    page = write_report(parts, tmp_path / "page.html", results=analyse(parts)).read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page
    assert "<img" not in page
    assert not any("evil" in link for link in parser.links)
    assert "&lt;script&gt;" in page


def test_a_good_model_is_called_good_and_a_lost_basin_is_not():
    reference = ensemble(20_000, 1, trajectory=np.arange(20_000) // 500)
    good = findings(analyse(ReportParts(ensemble(10_000, 0, generated=True), reference)))
    assert overall(good).title == "Trustworthy"
    lost = findings(analyse(ReportParts(ensemble(10_000, 0, generated=True, positive=0.0), reference)))
    assert overall(lost).status == "bad"
    by_title = {f.title: f for f in lost}
    assert by_title["Effective sample size"].status == "good"  # which is the trap
    assert "lost this basin" in by_title["P(0° < φ < 150°)"].text
    assert by_title["P(0° < φ < 150°)"].advice


def test_bad_weights_an_unvisited_reference_and_a_stuck_one_are_said():
    reference = ensemble(8_000, 1, positive=0.0)
    found = {
        f.title: f for f in findings(analyse(ReportParts(ensemble(6_000, 0, generated=True, spread=3.0), reference)))
    }
    assert found["Effective sample size"].status == "bad"
    assert found["Tail of the weights (k-hat)"].status == "bad"
    assert "never went there" in found["P(0° < φ < 150°)"].text
    rng = np.random.default_rng(0)
    stuck = np.arange(8_000) // 2000  # four trajectories that never leave their basin
    phi = rng.vonmises(np.where(stuck == 1, 1.0, -1.5), 20)
    reference = ensemble(8_000, 1).assign(phi=phi, trajectory=stuck)
    made = ensemble(6_000, 0, generated=True, positive=0.25)
    found = {f.title: f for f in findings(analyse(ReportParts(made, reference)))}
    assert "hardly knows it" in found["P(0° < φ < 150°)"].text


def test_a_reference_of_few_independent_frames_shows_in_its_floor():
    # 60 states, each held for 200 frames
    rng = np.random.default_rng(0)
    held = {"phi": rng.vonmises(-1.3, 8, 60).repeat(200), "psi": rng.vonmises(2.0, 3, 60).repeat(200)}
    reference = ensemble(12_000, 1).assign(**held)
    found = {f.title: f for f in findings(analyse(ReportParts(ensemble(6_000, 0, generated=True), reference)))}
    assert "not converged" in found["Reference"].text


def test_broken_energies_are_dropped_aloud():
    made = ensemble(2_000, 0, generated=True)
    log_p = np.array(made.log_p)
    log_p[:3] = np.nan
    log_p[3] = np.inf
    log_p[4] = -np.inf  # a clash: weight zero, nothing wrong
    broken = Ensemble(made.molecule, made.x, log_p=log_p, log_q=made.log_q, columns=made.columns)
    results = analyse(ReportParts(broken, ensemble(3_000, 1)))
    assert results.dropped == 4
    assert findings(results)[0].title == "Broken frames"
    assert 0.7 < results.ess.fraction < 0.85


@pytest.mark.parametrize("smiles", ["CCCC", "CC", "CCCCCC", "O"])
def test_molecules_without_a_backbone(smiles, tmp_path):
    molecule = Molecule.from_smiles(smiles)
    parts = ReportParts(ensemble(800, 0, molecule=molecule, generated=True), ensemble(900, 1, molecule=molecule))
    page = write_report(parts, tmp_path / "page.html", results=analyse(parts)).read_text(encoding="utf-8")
    assert ("Free-energy map" in page) == (smiles in ("CCCC", "CCCCCC"))
    assert "Importance weights" in page


def test_draws_alone_make_a_report(tmp_path):
    made = ensemble(300, 0)
    bare = Ensemble(made.molecule, made.x, columns=made.columns)
    parts = ReportParts(bare)
    page = write_report(parts, tmp_path / "page.html", results=analyse(parts)).read_text(encoding="utf-8")
    assert "cannot be reweighted" in page
    assert "no reference" in page


def test_a_model_of_one_effective_frame_still_makes_a_report(tmp_path):
    parts = ReportParts(ensemble(1_000, 0, generated=True, spread=400.0), ensemble(1_500, 1), history())
    results = analyse(parts)
    assert results.ess.ess < 1.5
    assert overall(findings(results)).title == "Not to be trusted yet"
    write_report(parts, tmp_path / "page.html", results=results)


def test_nothing_or_another_molecule_is_an_error():
    with pytest.raises(ValueError, match="generated: got no frames"):
        analyse(ReportParts(ensemble(0, 0)))
    with pytest.raises(ValueError, match="reference: got Molecule"):
        analyse(ReportParts(ensemble(10, 0), ensemble(10, 1, molecule=Molecule.from_smiles("CCCC"))))


def test_report_of_a_run_takes_the_reference_at_the_target_temperature(tmp_path, monkeypatch):
    with Run.create(
        tmp_path / "run", seed=7, settings={"batch": 512}, recipe={"energy": {"temperature": 300.0}}
    ) as writer:
        for row in history():
            writer.scalar(row["step"], loss=row["loss"])
        said = {"text": np.array("300 examples\nwarning: dead units: 3 of 64 <b>")}
        writer.record(row["step"], "diagnosis", kind="text", arrays=said)
    ensemble(2_000, 0, generated=True).save(tmp_path / "run" / "ensembles" / "generated")
    ladder = np.tile([300.0, 450.0], 3_000)
    ensemble(6_000, 1, temperature=ladder).save(tmp_path / "run" / "ensembles" / "reference")
    monkeypatch.setattr("molifold.workbench.report.analyse", lambda parts, **options: analyse(parts))
    path = report_from_run(tmp_path / "run")
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "run" / "report.html"
    assert "3,000 reference frames" in page
    assert "settings.batch" in page
    assert "<h2>Training" in page
    assert "<h2>Inside the network" in page
    assert "<li>warning: dead units: 3 of 64 &lt;b&gt;</li>" in page


def test_a_run_without_draws_or_without_the_temperature_says_what_to_do(tmp_path):
    Run.create(tmp_path / "run").close()
    with pytest.raises(ValueError, match="expected 'generated' among them"):
        report_from_run(tmp_path / "run")
    ensemble(50, 0, generated=True, meta={"temperature": 310.0}).save(tmp_path / "run" / "ensembles" / "generated")
    ensemble(50, 1, temperature=np.full(50, 300.0)).save(tmp_path / "run" / "ensembles" / "reference")
    with pytest.raises(ValueError, match=r"has frames at \[300.0\] K"):
        report_from_run(tmp_path / "run")


def butane(n, seed, *, gauche=0.3, generated=False, **columns):
    """Frames of butane turned about its middle bond: trans, and a share of gauche."""
    system = example("butane")
    rng = np.random.default_rng(seed)
    angle = rng.normal(rng.choice([np.pi, 1.15, -1.15], n, p=[1 - gauche, gauche / 2, gauche / 2]), 0.15)
    x = np.repeat(np.asarray(system.x, dtype=float), n, axis=0)
    known = geometry.torsions(x[:1], np.array([[0, 4, 7, 10]]))[0, 0]
    axis, turned = x[0, 7] - x[0, 4], np.arange(8, 14)
    k, rest, t = axis / np.linalg.norm(axis), x[0, turned] - x[0, 7], (angle - known)[:, None, None]
    # Rodrigues' formula
    x[:, turned] = x[0, 7] + rest * np.cos(t) + np.cross(k, rest) * np.sin(t) + np.outer(rest @ k, k) * (1 - np.cos(t))
    x += 0.003 * rng.normal(size=x.shape)
    u = rng.gamma(20, size=n)
    log_q = -u - rng.normal(0, 0.3, n) if generated else None
    return Ensemble(system.molecule, x.astype(np.float32), log_p=-u, log_q=log_q, columns=columns)


@pytest.fixture(scope="module")
def run_with_history(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    with Run.create(path, settings={"temperature": 300.0}) as writer:
        for row in history():
            writer.scalar(row["step"], loss=row["loss"])
    butane(600, 0, generated=True).save(path / "ensembles" / "generated")
    butane(800, 1, trajectory=np.arange(800) // 50).save(path / "ensembles" / "reference")
    parts = [butane(100, s, gauche=0.9 - s / 100, generated=True, step=np.full(100, s)) for s in (10, 20, 60)]
    Ensemble.concat(parts).save(path / "ensembles" / "history")
    return path


def test_a_report_shows_comparison_clusters_and_how_the_distribution_grew(run_with_history):
    page = report_from_run(run_with_history).read_text(encoding="utf-8")
    for panel in (
        "During training: map of", "During training: profile", "During training: energies",
        "During training: importance weights", "Everything that was compared", "Free-energy surface", "Clusters",
    ):  # fmt: skip
        assert f"<h2>{panel}" in page, panel
    assert "step 10" in page
    assert "step 60" in page
    assert page.count("300 K") > 8
    assert page.count('class="finding') > 4


def test_a_run_that_still_learns_is_judged_by_its_last_draws(run_with_history, tmp_path):
    shutil.copytree(run_with_history, tmp_path / "run", ignore=shutil.ignore_patterns("generated"))
    parts = parts_of_run(tmp_path / "run")
    assert parts.title.endswith("draws at step 60")
    np.testing.assert_array_equal(parts.generated.columns["step"], 60)
    listed = statistics_of(Collection([tmp_path / "run"]), run="run", ensemble="").listed()
    assert {"evolution_map", "energies", "weights"} <= {p["key"] for p in listed["pictures"]}
    assert listed["findings"]


def test_an_analysis_is_a_page_in_the_same_form(tmp_path):
    ensemble = butane(800, 1, trajectory=np.arange(800) // 50)
    found = analyze_ensemble(ensemble)
    page = write_analysis(found, ensemble, tmp_path / "page.html").read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<h2>Clusters" in page
    assert "Never seen so far" in page
    assert "not computed" in page


def test_the_report_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, molifold.workbench; assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
