"""The shipped law accepts our probes and refuses what breaks it."""

import numpy as np
import pytest
import torch

from molifold.probes import PASSIVE
from molifold.testing import check_probe


@pytest.mark.parametrize("probe", PASSIVE, ids=lambda p: p.__name__)
def test_shipped_probes_pass(probe):
    check_probe(probe)


def probe_of(kind, **arrays):
    def probe(moment):
        """Healthy: always."""
        return {"r": (kind, arrays)}

    return probe


def leaves_hooks(moment):
    """Healthy: never."""
    moment.model.register_forward_hook(lambda *args: None)
    return {}


def throws_dice(moment, state=np.random.default_rng(0)):  # noqa: B008
    """Healthy: never."""
    return {"r": ("scalar", {"value": state.random()})}


def undocumented(moment):
    return {}


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (probe_of("hologram"), "kind 'hologram'"),
        (probe_of("histogram", counts=np.ones(3)), "lacks the array 'edges'"),
        (probe_of("histogram", counts=np.ones(3), edges=np.ones(3)), "one more edge"),
        (probe_of("table", a=np.ones(3), b=np.ones(2)), "differ in length"),
        (probe_of("scalar", value=torch.ones(())), "is a tensor"),
        (probe_of("text", text=np.array(object())), "dtype object"),
        (leaves_hooks, "left hooks"),
        (throws_dice, "differs when the same moment"),
        (undocumented, "docstring must say"),
    ],
)
def test_breaches_are_named(probe, message):
    with pytest.raises(AssertionError, match=message):
        check_probe(probe)
