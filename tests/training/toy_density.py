"""A small density with everything that resuming must get right: dropout, buffers, several parameters. Also a script."""

import json
import math
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from molifold import Ensemble, Molecule
from molifold.runs import Run
from molifold.training import fit

PAIR = Molecule(elements=("X", "X"), dimensions=2, name="pair")


class Toy(nn.Module):
    """p(a) p(b | a) of two particles in the plane, both normal."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Parameter(torch.zeros(2, 2))
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def log_prob(self, x):
        if self.training:
            self.calls += 1
        a, b = x[:, 0], x[:, 1]
        mean, log_scale = self.net(a).chunk(2, -1)
        return self._normal(a, self.first[0], self.first[1]) + self._normal(b, mean, log_scale)

    def sample(self, n, *, generator=None):
        z = torch.randn(n, 2, 2, generator=generator, dtype=self.first.dtype, device=self.first.device)
        a = self.first[0] + self.first[1].exp() * z[:, 0]
        mean, log_scale = self.net(a).chunk(2, -1)
        x = torch.stack([a, mean + log_scale.exp() * z[:, 1]], 1)
        return x, self.log_prob(x)

    @staticmethod
    def _normal(x, mean, log_scale):
        z = (x - mean) / log_scale.exp()
        return (-0.5 * z**2 - log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)


def nll(flow, batch, energy, generator):
    values = -flow.log_prob(batch.x)
    return (values if batch.weights is None else values * batch.weights).mean()


def reverse_kl(flow, batch, energy, generator):
    x, log_q = flow.sample(len(batch.x), generator=generator)
    return (log_q + energy(x)).mean()


class Spring:
    """u of two independent unit springs: -u is the log-density of a standard normal up to a constant."""

    temperature = 300.0

    def __call__(self, x):
        return 0.5 * x.square().sum((1, 2))


def frames(n=2000, seed=0):
    """Standard normal particles, the second pulled to the first's sine; exact entropy known."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 2))
    b = np.sin(a) + 0.5 * rng.normal(size=(n, 2))
    return Ensemble(PAIR, np.stack([a, b], 1).astype(np.float32))


#: Entropy of ``frames``: the smallest possible negative log-likelihood.
ENTROPY = 2 * (1 + math.log(2 * math.pi)) + 2 * math.log(0.5)


@contextmanager
def viewer(path, asks):
    """Whoever looks at a run from outside, while it is trained inside the block: ``asks(run, wait)``, then a stop.

    ``wait`` takes a condition. What goes wrong there fails the test, and stops the training, too.
    """
    failed = []

    def wait(condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    def look():
        while not (path / "run.json").exists():
            time.sleep(0.01)
        run = Run.open(path)
        try:
            asks(run, wait)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
        run.request("stop")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield
    thread.join()
    if failed:
        raise failed[0]


def main(path, options):
    """Train as a process of its own: fit(Toy, frames, to=path, **options); prints ``step N`` as it goes."""
    slow = options.pop("slow", 0.0)

    def progress(row):
        print("step", int(row["step"]), flush=True)
        time.sleep(slow)

    double = options.pop("double", False)
    flow = Toy(dropout=options.pop("dropout", 0.3))
    losses = (
        [(1.0, nll), (lambda step: 0.1 if step > 20 else 0.0, reverse_kl)]
        if options.pop("both", True)
        else [(1.0, nll)]
    )
    return fit(
        flow.double() if double else flow,
        frames(),
        energy=Spring(),
        losses=losses,
        to=path,
        progress=progress,
        **options,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for path, options in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(path, json.loads(options))
