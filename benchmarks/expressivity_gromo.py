"""The same statistics from gromo, the growing networks of TINY's authors: best update, its decrease, singular values.

gromo must be importable (PyPI, ``gromo``); it measures networks that are built of its own modules, so both look at the
same three-layer network, in double precision. Its new units are not cleared of what the layer explains (ours are), so
the singular values are compared as TINY defines them, from our sums.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import torch
from measure import arguments, show
from torch import nn

from molifold.probes.expressivity.score import propose
from molifold.probes.expressivity.sites import UPSTREAM, Sites
from molifold.probes.expressivity.statistics import Moments, inverse_root

#: gromo's update is subtracted from the weights.
SIGN = 1
SEEDS, ROWS, WIDTHS = 20, 2000, (10, 16, 12, 4)


def case(seed: int) -> dict[str, float]:
    """Largest relative differences over the two layers that can grow."""
    from gromo.modules.linear_growing_module import LinearGrowingModule

    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(3):
        layers.append(
            LinearGrowingModule(
                WIDTHS[i], WIDTHS[i + 1], post_layer_function=nn.Tanh() if i < 2 else nn.Identity(),
                previous_module=layers[-1] if layers else None, allow_growing=bool(layers),
            )
        )  # fmt: skip
    x, y = torch.randn(ROWS, WIDTHS[0]), torch.randn(ROWS, WIDTHS[-1])
    y = y + torch.tanh(x @ torch.randn(WIDTHS[0], WIDTHS[-1]))
    for layer in layers:
        layer.init_computation()
    model = nn.Sequential(*layers)
    (model(x) - y).square().sum().backward()
    for layer in layers:
        layer.update_computation()

    plain = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
    with torch.no_grad():
        for ours, theirs in zip((plain[0], plain[2], plain[4]), layers, strict=True):
            ours.weight.copy_(theirs.layer.weight)
            ours.bias.copy_(theirs.layer.bias)
    sites = Sites(plain, lambda m, b: (m(b[0]) - b[1]).square().sum(1), (x, y), features=0)
    rows = {r.site: r for r in sites.rows((x, y))[1]}
    worst = {"update": 0.0, "decrease": 0.0, "singular values": 0.0}
    for name, theirs in (("2.weight", layers[1]), ("4.weight", layers[2])):
        theirs.compute_optimal_updates(
            numerical_threshold=1e-12, statistical_threshold=0.0, dtype=torch.float64, update_previous=False
        )
        row, moments = rows[name], Moments()
        moments.add(
            row.b.flatten(0, 1), row.v.flatten(0, 1), {UPSTREAM: row.sources[UPSTREAM].flatten(0, 1)}, examples=ROWS
        )
        weights, sums = propose(moments).weights, moments.sources[UPSTREAM]
        delta = theirs.optimal_delta_layer
        update = torch.cat([delta.weight.T, delta.bias[None]]).detach()
        worst["update"] = max(worst["update"], float((weights + SIGN * update).abs().max() / weights.abs().max()))
        decrease = float((weights * moments.bv).sum()) / ROWS
        worst["decrease"] = max(worst["decrease"], abs(float(theirs.parameter_update_decrease) / decrease - 1))
        root, _ = inverse_root(sums.cc / ROWS, torch.diagonal(sums.cc), relative=1e-12)
        values = torch.linalg.svdvals(root.T @ (sums.cv - sums.cb @ weights)) / ROWS
        found = theirs.eigenvalues_extension.detach()
        worst["singular values"] = max(
            worst["singular values"], float((values[: len(found)] - found).abs().max() / values.max())
        )
    return worst


def main() -> None:
    """All seeds; the largest difference of any."""
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    cases = [case(seed) for seed in range(SEEDS)]
    rows = [
        {"quantity": name, "largest relative difference": f"{max(c[name] for c in cases):.1e}"} for name in cases[0]
    ]
    show(f"Agreement with gromo {version('gromo')} in {SEEDS} networks, {ROWS} rows", rows, to=given.json)
    if given.json is not None:
        about = json.loads(given.json.read_text(encoding="utf-8"))
        given.json.write_text(json.dumps({**about, "cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
