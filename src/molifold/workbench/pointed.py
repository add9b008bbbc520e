"""What records say of single atoms and single frames, as values to colour by; FORMAT.md says how they are named."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from molifold.runs import Run
from molifold.workbench.inside import shortened

#: Rows of a map (layers, say) that are offered, those with the largest sums first.
MOST = 24


def atom_values(run: Run) -> dict[str, Float[ndarray, " atoms"]]:
    """Values per atom by name, from the last of every record whose name ends in " - atoms"."""
    size = 0 if run.molecule is None else run.molecule.n_atoms
    return {name: values for name, values in _found(run, "atoms", size=size) if size}


def frame_values(run: Run, *, frames: int) -> dict[str, Float[ndarray, " frames"]]:
    """Values per frame of the ensemble ``reference``, nan where none was recorded, from ``where it hurts``."""
    return dict(_found(run, "frames", size=frames))


def placed(index: ndarray, values: ndarray, size: int) -> ndarray | None:
    """Values at their numbers, nan elsewhere; None if a number is none of ``size`` things."""
    try:
        at = index.astype(np.int64)
    except ValueError:
        return None
    if len(at) != len(values) or (len(at) and (at.min() < 0 or at.max() >= size)):
        return None
    out = np.full(size, np.nan)
    out[at] = values
    return out


def readable(name: str) -> str:
    """The name of such values with the layer that it speaks of in short.

    >>> readable("where it hurts: transform.steps.2.conditioner.network.layers.0.update.weight")
    'where it hurts: steps.2…layers.0.update'
    """
    what, colon, layer = name.partition(": ")
    return f"{what}{colon}{shortened(layer)}"


def _found(run: Run, what: str, *, size: int) -> Iterator[tuple[str, ndarray]]:
    for record in run.records:
        # Frames of other records are those of a probe's batch, which the run does not keep.
        meant = record.endswith(f" - {what}") and (what == "atoms" or record.startswith("where it hurts"))
        if not meant or not run.records[record]:
            continue
        kind, arrays = run.record(record)
        name = record.removesuffix(f" - {what}")
        if kind == "table":
            numbers = [v for k, v in arrays.items() if k != "name" and v.dtype.kind in "fiu"]
            if numbers and (values := placed(arrays["name"], numbers[0], size)) is not None:
                yield name, values
        elif kind == "map":
            order = np.argsort(-np.nansum(arrays["values"], axis=1), kind="stable")[:MOST]
            for i in order:
                if (values := placed(arrays["x"], arrays["values"][i], size)) is not None:
                    yield f"{name.removesuffix(' by layer')}: {arrays['y'][i]}", values
