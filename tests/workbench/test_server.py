"""The server: a token, this machine only, no path of a visitor's choosing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from molifold.runs import Run
from molifold.workbench.collection import Collection
from molifold.workbench.desk import Desk
from molifold.workbench.packing import unpack
from molifold.workbench.server import application


@pytest.fixture
def client(tmp_path):
    with Run.create(tmp_path / "one", seed=1) as writer:
        writer.scalar(1, loss=1.0)
    return TestClient(application(Desk(Collection([tmp_path])), token="sesame"), base_url="http://127.0.0.1:6060")


TOKEN = {"x-molifold-token": "sesame"}


def test_the_page_and_its_answers_need_the_token(client):
    assert client.get("/").status_code == 403
    page = client.get("/?token=sesame")
    assert page.status_code == 200
    assert 'src="views.js"' in page.text  # relative, so that a proxy may put the page anywhere
    assert client.post("/api/items").status_code == 403
    assert unpack(client.post("/api/items", headers=TOKEN).content)["runs"][0]["name"] == "one"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:6060", "localhost.evil:80", ""])
def test_a_foreign_host_is_refused(client, host):
    for answer in (
        client.get("/?token=sesame", headers={"host": host}),
        client.post("/api/items", headers={**TOKEN, "host": host}),
    ):
        assert answer.status_code == 403
        assert "not this machine" in answer.json()["error"]


def test_a_foreign_origin_is_refused_and_ours_is_not(client):
    assert client.post("/api/items", headers={**TOKEN, "origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/items", headers={**TOKEN, "origin": "http://localhost:6060"}).status_code == 200


def test_a_named_proxy_is_allowed(tmp_path):
    app = application(Desk(Collection([tmp_path])), token="sesame", hosts=["hpc.example"])
    client = TestClient(app, base_url="http://hpc.example")
    assert client.post("/api/items", headers=TOKEN).status_code == 200


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/server.py", "/..%2fserver.py", "/page.html", "/views.js/../../desk.py"]
)
def test_no_other_file_is_served(client, path):
    assert client.get(path).status_code == 404


def test_scripts_come_from_here_only(client):
    policy = client.get("/?token=sesame").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy


def test_wrong_questions_get_a_sentence(client):
    answer = client.post("/api/run", headers=TOKEN, json={"name": "../../etc"})
    assert answer.status_code == 404
    assert answer.json()["error"] == "run: got '../../etc', expected one of one"
    assert client.post("/api/run", headers=TOKEN, json={"nme": "one"}).status_code == 400
    assert client.post("/api/run", headers=TOKEN, content=b"{").status_code == 400
    assert client.post("/api/run", headers={**TOKEN, "content-length": "9999999"}, content=b"{}").status_code == 413


@pytest.mark.skipif(sys.platform != "linux", reason="an allocator that is not asked for anything")
def test_memory_of_freed_arrays_goes_back_to_the_system():
    program = """
import numpy as np
from molifold.workbench.server import give_back_freed_arrays
def megabytes():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
give_back_freed_arrays()
np.ones(3_500_000)  # from here on glibc alone would keep blocks of up to 28 MB
before, kept = megabytes(), [np.ones(125_000) for _ in range(100)]
full = megabytes()
del kept[:-1]
print(before, full, megabytes())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    before, full, after = map(float, found.split())
    assert full - before > 90
    assert after - before < 10
