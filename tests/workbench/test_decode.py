"""Drawing at a place of a latent map from the page: torch comes with the first click, weights from safetensors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.cli.watch import decoder

WATER = Molecule(elements=("H", "O", "H"), bonds=((0, 1), (1, 2)), name="water")
TABLE = {
    "use": "molifold.flows:latent_map", "channels": 8, "encoder_channels": 8, "latent_hidden": (8,), "couplings": 1,
    "time_lagged": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from molifold.losses import nll
    from molifold.training import fit
    from molifold.training.recipe import build_flow

    rng = np.random.default_rng(0)
    x = np.array([[0.1, 0, 0], [0, 0, 0], [-0.03, 0.095, 0]]) + 0.004 * rng.normal(size=(400, 3, 3))
    data = Ensemble(WATER, x)
    flow = build_flow(TABLE, WATER, data, trust=("molifold.flows",))
    to = tmp_path_factory.mktemp("runs") / "water"
    fit(flow, data, losses=[(1.0, nll)], steps=2, batch_size=100, to=to, recipe={"flow": TABLE}, accelerator="cpu")
    return to


def test_it_draws_what_the_map_of_the_run_decodes(run):
    from molifold.workflows.latent import load_map

    decode, z = decoder(), np.array([0.2, -0.4])
    drawn, expected = decode(run, z), load_map(run).decode(z[None])
    np.testing.assert_array_equal(drawn.x, expected.x)
    np.testing.assert_array_equal(drawn.log_q, expected.log_q)
    np.testing.assert_array_equal(decode(run, z).x, drawn.x)  # the same place, the same structure


def test_torch_is_not_there_before_the_first_click():
    program = (
        "import sys; from molifold.cli.watch import decoder; from molifold.workbench.desk import Desk;"
        "from molifold.workbench.collection import Collection; Desk(Collection(['.']), decode=decoder());"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
