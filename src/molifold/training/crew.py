"""Crew: threads that share the work of every batch on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from molifold.training.step import Objective

#: Fewer frames per thread than this are not worth the switching between threads.
LEAST_SHARE = 256


def automatic_threads(batch_size: int, *, cores: int) -> int:
    """As many threads as cores, but none with less than ``LEAST_SHARE`` frames.

    >>> automatic_threads(1024, cores=2), automatic_threads(300, cores=16)
    (2, 1)
    """
    return max(1, min(cores, batch_size // LEAST_SHARE))


class Crew:
    """Evaluates an objective and its gradient in several threads, each on its share of the batch.

    PyTorch's own threads meet after every operation, which costs more than it gains on molecule-sized tensors (1.0
    times the speed with two threads on two cores; this gives 1.5). Every thread has a replica of the modules that
    shares the weights but not their gradients; the gradients are added in a fixed order, so the result does not depend
    on timing. It does depend on the number of threads: a loss that is no mean over frames (a variance, say) is computed
    per share and averaged.

    Args:
        objective: what is trained; its modules must not draw from torch's global generator (dropout does).
        threads: how many.
    """

    def __init__(self, objective: Objective, threads: int) -> None:
        # Threads of torch's own in the calling thread would spin between steps and take the cores from the crew.
        self._torch_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._parameters = list(objective.parameters())
        self._replicas = [_replica(objective) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(
        self,
        x: Tensor,
        log_p: Tensor | None,
        weights: Tensor | None,
        step: int,
        generator: Generator,
        lagged: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The objective and its terms, as ``Objective.forward``; the gradients are in the parameters' ``grad``."""
        edges = [len(x) * k // len(self._replicas) for k in range(len(self._replicas) + 1)]

        def work(k: int) -> tuple[Tensor, Tensor]:
            share = slice(edges[k], edges[k + 1])
            own = Generator().manual_seed((generator.initial_seed() + k) % 2**63)
            replica = self._replicas[k]
            replica.zero_grad(set_to_none=True)
            log_p_part, weights_part, later = (None if a is None else a[share] for a in (log_p, weights, lagged))
            total, terms = replica(x[share], log_p_part, weights_part, step, own, later)
            part = (edges[k + 1] - edges[k]) / len(x)
            (part * total).backward()
            return part * total.detach(), part * terms

        results = list(self._pool.map(work, range(len(self._replicas))))
        self._collect()
        totals, terms = zip(*results, strict=True)
        return torch.stack(totals).sum(), torch.stack(terms).sum(0)

    def _collect(self) -> None:
        """Add the replicas' gradients into the parameters."""
        replicas = [list(r.parameters()) for r in self._replicas]
        for i, parameter in enumerate(self._parameters):
            grads = [g for p in replicas if (g := p[i].grad) is not None]
            parameter.grad = _sum(grads) if grads else None  # type: ignore[arg-type]

    def close(self) -> None:
        """Send the threads home."""
        self._pool.shutdown()
        torch.set_num_threads(self._torch_threads)


def _replica(objective: Objective) -> Objective:
    """The same flow in other modules: weights and buffers share memory, gradients do not."""
    flow = copy.deepcopy(objective.flow)
    for own, shared in zip(flow.parameters(), objective.flow.parameters(), strict=True):
        own.data = shared.data
    for buffer, common in zip(flow.buffers(), objective.flow.buffers(), strict=True):
        buffer.data = common.data
    return Objective(flow, objective.losses, objective.energies)


def _sum(grads: Sequence[Tensor]) -> Tensor:
    total = grads[0]
    for g in grads[1:]:
        total = total + g
    return total
