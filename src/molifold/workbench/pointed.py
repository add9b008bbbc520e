"""What records say of single atoms and single frames, as values to colour by; FORMAT.md says how they are named."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from molifold.runs import Run
from molifold.workbench.inside import shortened

#: Rows of a map (layers, say) that are offered, those with the largest sums first.
MOST = 24


#: Some frames, by index, and a value of each.
Told = tuple[Int[ndarray, " n"], Float[ndarray, " n"]]


def atom_values(run: Run) -> dict[str, Float[ndarray, " atoms"]]:
    """Values per atom by name, from the last of every record whose name ends in " - atoms"."""
    molecule = run.molecule
    if molecule is None:
        return {}
    found = ((name, placed(*told, molecule.n_atoms)) for name, told in _found(run, "atoms"))
    return {name: values for name, values in found if values is not None}


def frame_values(run: Run, *, frames: int) -> dict[str, Told]:
    """Which frames of the ensemble ``reference`` the records ``where it hurts`` speak of, and with which values.

    A record that speaks of a frame beyond ``frames`` is left out: it is of another ensemble.
    """
    return {
        name: (index.astype(np.int64), values)
        for name, (index, values) in _found(run, "frames")
        if all(str(i).isdigit() and int(i) < frames for i in index)
    }


def _found(run: Run, what: str) -> Iterator[tuple[str, tuple[ndarray, ndarray]]]:
    for record in run.records:
        # Frames of other records are those of a probe's batch, which the run does not keep.
        meant = record.endswith(f" - {what}") and (what == "atoms" or record.startswith("where it hurts"))
        if not meant or not run.records[record]:
            continue
        kind, arrays = run.record(record)
        name = record.removesuffix(f" - {what}")
        if kind == "table":
            numbers = [v for k, v in arrays.items() if k != "name" and v.dtype.kind in "fiu"]
            if numbers:
                yield name, (arrays["name"], numbers[0])
        elif kind == "map":
            order = np.argsort(-np.nansum(arrays["values"], axis=1), kind="stable")[:MOST]
            for i in order:
                yield f"{name.removesuffix(' by layer')}: {arrays['y'][i]}", (arrays["x"], arrays["values"][i])


def placed(index: ndarray, values: ndarray, size: int) -> ndarray | None:
    """Values at their numbers, nan elsewhere; None if a number is none of ``size`` things.

    >>> placed(np.array(["2", "0"]), np.array([5.0, 6.0]), 4)
    array([ 6., nan,  5., nan])
    """
    if len(index) != len(values) or not all(str(i).isdigit() and int(i) < size for i in index):
        return None
    out = np.full(size, np.nan)
    out[index.astype(np.int64)] = values
    return out


def readable(name: str) -> str:
    """The name of such values with the layer that it speaks of in short.

    >>> readable("where it hurts: transform.steps.2.conditioner.network.layers.0.update.weight")
    'where it hurts: steps.2…layers.0.update'
    """
    what, colon, layer = name.partition(": ")
    return f"{what}{colon}{shortened(layer)}"
