"""How often the diagnosis cries wolf: exactly optimal spline flows, judged on their own draws.

Every flow has random weights and draws its data, so that nothing at all is missing anywhere. Every flow is told. Where
bins are narrow, gradients are far from normal: the largest t with bounded examples says what only a trial could clear.
"""

from __future__ import annotations

import numpy as np
import torch
from expressivity_localisation import loss, teacher
from measure import arguments, show

from molifold import Block, Space
from molifold.flows import Flow
from molifold.flows.conditioners import MLPConditioner
from molifold.probes import Expressivity, expressivity
from molifold.transforms.coupling import Coupling
from molifold.transforms.transform import Chain, Transform

SIZE, FRAMES, MANY, LEVEL = 6, 600, 8000, 0.05


def flow(seed: int) -> Flow:
    """Two spline couplings of six coordinates, in double precision."""
    torch.manual_seed(seed)
    space, mask = Space((Block("x", SIZE, "real"),)), torch.arange(SIZE) % 2 == 0
    steps = [Coupling(space, m, conditioner=MLPConditioner(space, m, hidden=(8, 8), bins=5)) for m in (mask, ~mask)]
    made = Flow(Chain(steps)).double()
    for step in steps:
        torch.nn.init.normal_(step.conditioner.head.weight, std=0.3)
    return made.eval()


def row(reports: list[Expressivity], about: str, frames: int) -> dict[str, object]:
    """What was told of exactly optimal flows."""
    t = np.array([test.t for report in reports for v in report.verdicts for test in (v.layer, *v.tests.values())])
    bounded = [max(s.bounded for v in report.verdicts for s in v.tests.values()) for report in reports]
    return {
        "flows": about, "number": len(reports), "frames": frames, "tests per flow": len(t) // len(reports),
        "share with an alarm": float(np.mean([bool(report.alarms) for report in reports])),
        "share with anything told": float(np.mean([any(v.kind != "sound" for v in r.verdicts) for r in reports])),
        "mean t": float(t.mean()), "deviation of t": float(t.std()), "largest bounded t": max(bounded),
    }  # fmt: skip


def main() -> None:
    """200 flows, and teachers of the localisation without a plant."""
    parser = arguments(__doc__)
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--teachers", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(given.flows):
        model = flow(seed)
        with torch.no_grad():
            x, _ = model.sample(FRAMES, generator=torch.Generator().manual_seed(seed))
        blocks = ["transform.steps.0", "transform.steps.1"]
        found.append(expressivity(model, loss, (x,), blocks=blocks, features=16, chunk=FRAMES, level=LEVEL, seed=seed))
    rows = [row(found, "two spline couplings of 6 numbers", FRAMES)] if found else []
    found = []
    for seed in range(given.teachers):
        model, x = teacher(seed)
        blocks = [name for name, m in model.named_modules() if isinstance(m, Transform)]
        x = x[:MANY]
        found.append(expressivity(model, loss, (x,), blocks=blocks, features=0, chunk=400, level=LEVEL, seed=seed))
        print(seed, found[-1], flush=True)
    rows += [row(found, "graph-conditioned, alanine dipeptide", MANY)] if found else []
    show("Exactly optimal flows, chance of any false alarm set to 5 %", rows, to=given.json)


if __name__ == "__main__":
    main()
