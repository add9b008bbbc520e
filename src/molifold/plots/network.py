"""Network of states: how large they are, and how long it takes from one to another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from molifold.analysis.bands import Band
from molifold.analysis.markov import MarkovModel, equilibrium
from molifold.plots.marks import Network
from molifold.plots.picture import Panel, Picture
from molifold.plots.style import at, count, series

#: More states than this are no picture; arrows that carry less of the strongest flux than this are left out.
MOST, WEAK = 10, 0.02


def network(
    model: MarkovModel, passage: Band, *, sets: Int[ndarray, " labels"] | None = None, names: tuple[str, ...] = ()
) -> Picture:
    """States as discs (area: stationary weight), arrows with mean first-passage times (width: share of transitions).

    Args:
        model: Markov state model.
        passage: what ``mean_first_passage_times(model, sets=sets)`` gave.
        sets: set of every label (as of PCCA+); None takes every state of the model for itself.
        names: of the states; () numbers them.

    Raises:
        ValueError: if there are more than ten states, or shapes do not belong together.
    """
    group = np.arange(len(model.states)) if sets is None else np.asarray(sets)[model.states]
    n = int(group.max()) + 1
    if n > MOST:
        raise ValueError(f"sets: got {n} states, expected at most {MOST}; lump them by PCCA+ first")
    if passage.value.shape != (n, n) or (names and len(names) != n):
        raise ValueError(f"passage, names: got {passage.value.shape} and {len(names)}, expected ({n}, {n}) and {n}")
    member = np.eye(n)[group]
    share = model.stationary.value @ member
    # States of one set vary together, so its error is that of the sum, not the sum of errors.
    error = np.std([equilibrium(t) @ member for t in model.replicates], axis=0, ddof=1)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j and 0 < passage.value[i, j] < np.inf]
    flux = np.array([share[i] / passage.value[i, j] for i, j in pairs])
    strong = flux > WEAK * flux.max(initial=0)
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)[strong]
    turn = np.pi / 2 - 2 * np.pi * np.arange(n) / n if n > 2 else np.array([np.pi, 0.0])[:n]
    names = names or tuple(f"state {i + 1}" for i in range(n))
    shares = [f"{100 * s:.1f} ± {100 * e:.1f} %" for s, e in zip(share, error, strict=True)]
    mark = Network(
        x=np.cos(turn), y=np.sin(turn), share=share, edges=edges,
        strength=flux[strong] / flux.max(initial=1e-300),
        labels=tuple(f"{name}\n{text}" for name, text in zip(names, shares, strict=True)),
        edge_labels=tuple(_time(passage.value[i, j], passage.error[i, j], model.unit) for i, j in edges),
        colours=tuple(series(i) for i in range(n)),
    )  # fmt: skip
    about = f"n {count(model.n)} · lag {model.lag_time:g} {model.unit}{at(model.temperature)}"
    panel = Panel(marks=(mark,), title="mean first-passage times", caption=about)
    return Picture(name="network", panels=(panel,), size=(5.2, 4.7))


def _time(value: float, error: float, unit: str) -> str:
    """A time with its error, to two figures of the error.

    >>> _time(1234.0, 56.0, "ps"), _time(3.21, 0.4, "ps")
    ('1,234 ± 56 ps', '3.21 ± 0.40 ps')
    """
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if 0 < error < np.inf else 1
    return f"{value:,.{digits}f} ± {error:,.{digits}f} {unit}"
