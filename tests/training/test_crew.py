"""Threads that share a batch: the same gradient, reproducible, and resumable."""

import copy

import torch
from toy_density import Toy, frames, nll, reverse_kl

from molifold.training import fit
from molifold.training.crew import Crew
from molifold.training.step import Objective


def test_gradients_of_a_mean_do_not_depend_on_the_threads():
    """Reference: the same objective in one thread."""
    flow = Toy().double()
    x = torch.from_numpy(frames(101).x).double()
    objective = Objective(flow, [(1.0, nll)], [None])
    total, _ = objective(x, None, None, 0, torch.Generator())
    total.backward()
    expected = [p.grad.clone() for p in flow.parameters()]
    crew = Crew(objective, 3)
    shared, terms = crew(x, None, None, 0, torch.Generator())
    crew.close()
    assert torch.isclose(shared, total)
    assert torch.isclose(terms[0], total)
    for p, e in zip(flow.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, e, rtol=1e-12)


def test_training_with_threads_repeats_exactly_and_restores_torch():
    before = torch.get_num_threads()
    options = {"steps": 40, "batch_size": 64, "learning_rate": 0.01, "threads": 2, "losses": [(1.0, nll)]}
    first, second = (fit(copy.deepcopy(Toy()), frames(500), **options) for _ in range(2))
    assert torch.get_num_threads() == before
    for a, b in zip(first.flow.parameters(), second.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_thread_draws_its_own_samples():
    from toy_density import Spring

    seen = []

    def watched(flow, batch, energy, generator):
        x, _ = flow.sample(4, generator=generator)
        seen.append(x.detach())
        return reverse_kl(flow, batch, energy, generator)

    fit(Toy(), frames(500), energy=Spring(), losses=[(1.0, watched)], steps=1, batch_size=64, threads=2)
    assert not torch.equal(seen[0], seen[1])
