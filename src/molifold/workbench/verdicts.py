"""Findings as pictures: who could follow the loss, what was gained, which source is missing, splines at limits."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from molifold.plots.marks import Bars, Heatmap, Line, Mark, Points, Text
from molifold.plots.picture import Axis, Panel, Picture
from molifold.workbench.inside import shortened

#: Layers that are drawn, worst first, and the significance below which a source is not told.
LAYERS, TOLD = 16, 4.0
#: Columns of a matrix of latents, and nats below which a dependence is not told (as in the diagnosis).
COLUMNS, WORTHWHILE = 6, 0.002
#: Parts of what the loss asks of a layer: column of the record, words, colour.
PARTS = (
    ("under_trained", "the layer itself", "fair"),
    ("linear", "new units, linear", "bad"),
    ("nonlinear", "nonlinear", "wine"),
    ("irreducible", "nothing offered", "fill"),
)


def expressivity(arrays: dict[str, ndarray]) -> Picture:
    """Who could follow what the loss asks of a layer (worst layers first), and the gain of real steps."""
    names = [str(n) for n in arrays["name"][:LAYERS]]
    n = len(names)
    at = np.arange(n, dtype=float)[::-1]
    foot, marks = np.zeros(n), list[Mark]()
    for column, words, colour in PARTS:
        part = np.nan_to_num(np.clip(arrays[column][:n].astype(float), 0, 1))
        marks.append(Bars(at=at, low=foot, high=foot + part, horizontal=True, colour=colour, label=words))
        foot = foot + part
    kinds = [str(k) for k in arrays["kind"][:n]]
    ticks = tuple((float(y), f"{i + 1}  {shortened(name)}") for i, (y, name) in enumerate(zip(at, names, strict=True)))
    shares = Panel(
        marks=tuple(marks), title="who could follow",
        caption=f"{n} of {len(arrays['name'])} layers, {sum(k != 'sound' for k in kinds)} told",
        x=Axis(label="share of what the loss asks", limits=(0.0, max(1.0, float(foot.max(initial=1.0))))),
        y=Axis(ticks=ticks, line=False, limits=(-0.6, max(n, 1) - 0.4)),
    )  # fmt: skip
    return Picture(
        name="expressivity", panels=(shares, _gains(arrays)), widths=(1.5, 1.0), heights=(1.0,), legend=True,
        size=(8.4, max(3.4, 1.3 + 0.2 * n)),
    )  # fmt: skip


def _gains(arrays: dict[str, ndarray]) -> Panel:
    predicted, measured, error = (arrays[k].astype(float) for k in ("predicted", "measured", "error"))
    done = np.flatnonzero(np.isfinite(predicted) & np.isfinite(measured))
    title, x, y = "gain of a real step", Axis(label="promised", unit="nats"), Axis(label="measured", unit="nats")
    if not len(done):
        words = Text(x=0.5, y=0.5, text="no layer called for a real step", inside="panel", across="center")
        return Panel(
            marks=(words,),
            title=title,
            cell=(0, 1, 1, 1),
            x=Axis(limits=(0, 1), ticks=()),
            y=Axis(limits=(0, 1), ticks=()),
        )
    p, m, e = predicted[done], measured[done], error[done]
    reach = 1.08 * float(max(p.max(), (m + e).max()))
    low = min(0.0, float((m - e).min()))
    kind = arrays["kind"][done]
    groups = [("under-powered", "bad"), ("under-trained", "fair"), ("doubtful", "muted")]
    marks: list[Mark] = [Line(x=np.array([0, reach]), y=np.array([0, reach]), colour="reference", dash=True, width=1.0)]
    for name, colour in groups:
        i = kind == name
        if i.any():
            marks.append(Points(x=p[i], y=m[i], low=(m - e)[i], high=(m + e)[i], colour=colour, label=name))
    marks += [
        Text(x=float(a), y=float(b), text=f"\u00a0\u00a0{row + 1}", up="center", colour="ink")
        for row, a, b in zip(done[:LAYERS], p, m, strict=False)
    ]
    x, y = (Axis(label=a.label, unit=a.unit, limits=(lowest, reach)) for a, lowest in ((x, 0.0), (y, low)))
    caption = "± standard error"
    return Panel(marks=tuple(marks), title=title, caption=caption, x=x, y=y, cell=(0, 1, 1, 1), legend="lower right")


def missing(arrays: dict[str, ndarray]) -> Picture:
    """Significance t of every source (columns) at the layers where the strongest stands out (rows)."""
    t = np.asarray(arrays["values"], dtype=float)
    rows = _strongest(t)
    kept = t[rows]
    finite = np.abs(kept[np.isfinite(kept)])
    top = max(2 * TOLD, float(np.percentile(finite, 98)) if len(finite) else 0.0)
    return _cells(
        "missing", kept, [shortened(str(arrays["y"][r])) for r in rows], [str(name) for name in arrays["x"]],
        limits=(-top, top), colormap="difference", bar="significance t", told=TOLD, digits=".1f",
        title="what a layer does not see", caption=f"{len(rows)} of {len(t)} layers; in figures: t > {TOLD:g}",
    )  # fmt: skip


def dependence(arrays: dict[str, ndarray]) -> Picture:
    """Loss that moving a latent (row) by a function of another (column) would save, where it saves most."""
    nats = np.asarray(arrays["values"], dtype=float)
    rows, columns = _strongest(nats), np.sort(_strongest(nats.T)[:COLUMNS])
    kept = np.clip(nats[np.ix_(rows, columns)], 0, None)
    top = max(2 * WORTHWHILE, float(np.nanmax(kept, initial=0.0)))
    return _cells(
        "dependence", kept, [str(arrays["y"][r]) for r in rows], [str(arrays["x"][c]) for c in columns],
        limits=(0.0, top), colormap="error", bar="nats", told=max(WORTHWHILE, 0.1 * top), digits=".2g",
        title="what one more coupling could remove", caption=f"strongest of {len(nats)} coordinates",
    )  # fmt: skip


def splines(arrays: dict[str, ndarray]) -> Picture:
    """Shares of frames at the limits of a spline (columns), where they are largest (rows)."""
    shares = {k: v.astype(float) for k, v in arrays.items() if k not in ("name", "in_use")}
    values = np.stack(list(shares.values()), axis=1)
    rows = _strongest(values)
    bins = arrays.get("in_use", np.full(len(values), np.nan))
    names = [f"{shortened(str(arrays['name'][r]))} ({bins[r]:.1f} bins)" for r in rows]
    return _cells(
        "splines", values[rows], names, list(shares), limits=(0.0, max(0.1, float(np.nanmax(values, initial=0.0)))),
        colormap="error", bar="share of frames", told=0.02, digits=".0%",
        title="splines at their limits", caption=f"worst {len(rows)} of {len(values)}",
    )  # fmt: skip


def _strongest(values: ndarray) -> ndarray:
    strength = np.nanmax(np.where(np.isfinite(values), values, -np.inf), axis=1, initial=-np.inf)
    return np.argsort(-strength, kind="stable")[:LAYERS]


def _cells(
    name: str, values: ndarray, rows: list[str], columns: list[str], *, limits: tuple[float, float], colormap: str,
    bar: str, told: float, digits: str, title: str, caption: str,
) -> Picture:  # fmt: skip
    """A matrix with the first row on top; values above ``told`` are written, for a number says more than a colour."""
    n, k = values.shape
    heat = Heatmap(
        x=np.arange(k + 1.0), y=np.arange(n + 1.0), values=values[::-1].T, limits=limits, colormap=colormap, bar=bar
    )
    words = tuple(
        Text(
            x=j + 0.5, y=n - i - 0.5, text=f"{values[i, j]:{digits}}", across="center", up="center", bold=True,
            colour="paper" if values[i, j] > 0.6 * limits[1] else "ink",
        )
        for i, j in zip(*np.nonzero(np.nan_to_num(values) > told), strict=True)
    )  # fmt: skip
    panel = Panel(
        marks=(heat, *words), title=title, caption=caption,
        x=Axis(ticks=tuple((j + 0.5, wrapped(c)) for j, c in enumerate(columns)), line=False, limits=(0.0, float(k))),
        y=Axis(ticks=tuple((n - i - 0.5, r) for i, r in enumerate(rows)), line=False, limits=(0.0, float(n))),
    )  # fmt: skip
    return Picture(name=name, panels=(panel,), size=(max(6.2, min(8.4, 3.2 + 0.7 * k)), 1.4 + 0.22 * n))


def wrapped(text: str, width: int = 12) -> str:
    r"""Words on lines of about so many letters.

    >>> wrapped("atoms 2 bonds away")
    'atoms 2\nbonds away'
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
