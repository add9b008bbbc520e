"""What is published: wheel and sdist build, and the wheel works where the repository is not."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.xdist_group("wheel")


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_the_wheel_holds_the_package(dist):
    """Every file of the package, data included, and no test."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    source = ROOT / "src"
    files = [p for p in (source / "molifold").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missing = {p.relative_to(source).as_posix() for p in files} - packed
    assert not missing
    assert any(name.endswith("LICENSE") for name in packed)
    assert not any(name.startswith("tests") for name in packed)


def test_the_sdist_holds_tests_and_lock(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"tests/test_wheel.py", "requirements.lock", "Makefile", "README.md", "docs/theory.md"} <= names


def test_the_wheel_runs_in_an_environment_of_its_own(dist, tmp_path):
    """Heavy dependencies are borrowed from this environment by path; molifold itself is the wheel's."""
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    site = sysconfig.get_path("purelib", vars={"base": tmp_path / "env", "platbase": tmp_path / "env"})
    run(
        sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel,
    )  # fmt: skip
    # Lines of a .pth are added after the environment's own packages, and .pth files beyond are not read: the
    # editable molifold of this environment stays invisible.
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = "import molifold, torch; print(molifold.__file__)"
    assert str(tmp_path) in run(scripts / "python", "-c", code, cwd=tmp_path).stdout
    assert "demo" in run(scripts / "molifold", "--help", cwd=tmp_path).stdout
    done = run(scripts / "molifold", "demo", "--quick", cwd=tmp_path)
    assert "ESS" in done.stdout
    assert (tmp_path / "runs" / "demo" / "report.html").stat().st_size > 10_000
