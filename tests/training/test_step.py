"""The objective of one step."""

import torch
from toy_density import Toy, frames, nll

from molifold.losses import log_dispersion
from molifold.training.step import Objective


def test_losses_share_one_evaluation_of_the_density():
    calls = []

    class Counted(Toy):
        def log_prob(self, x):
            calls.append(len(x))
            return super().log_prob(x)

    ensemble = frames(64)
    x = torch.from_numpy(ensemble.x)
    log_p = torch.zeros(len(x), dtype=x.dtype)
    flow = Counted()
    total, terms = Objective(flow, [(1.0, nll), (0.5, log_dispersion)], [None])(x, log_p, None, 0, torch.Generator())
    assert calls == [64]
    assert torch.isclose(total, terms[0] + 0.5 * terms[1])
    total.backward()
    assert all(p.grad is not None for p in flow.parameters())
