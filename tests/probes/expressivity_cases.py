"""Networks and data with known lacks of power."""

import torch
from torch import nn

DOUBLE = {"dtype": torch.float64}


def mlp(*widths, act=nn.Tanh):
    layers = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b, **DOUBLE), act()]
    return nn.Sequential(*layers[:-1])


def squared(model, batch):
    x, y = batch[:2]
    return (model(x) - y).square().sum(1)


def trained(model, x, y, *, steps, lr=3e-3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (256,), generator=generator)
        optimizer.zero_grad()
        squared(model, (x[rows], y[rows])).mean().backward()
        optimizer.step()
    return model


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)
