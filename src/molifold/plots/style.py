"""The look of every picture: colours that colour-blind eyes tell apart, letters that can be read, words for numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from molifold.analysis.free_energy import POSITIVE_PHI

INK, MUTED, LINE, PAPER = "#1c2733", "#62707f", "#c9d2da", "#ffffff"
#: The three ensembles of every comparison; blue and vermilion are Okabe and Ito's (jfly.uni-koeln.de/color, 2008).
REFERENCE, FILL, RAW, REWEIGHTED = "#4a5866", "#d5dce3", "#d55e00", "#0072b2"
GOOD, FAIR, BAD = "#009e73", "#e69f00", "#cc3311"
#: Every colour of a picture, by the name that the picture uses. The last eight are for series, in this order: six of
#: Okabe and Ito's, and two dark ones of Paul Tol's (personal.sron.nl/~pault, 2021).
PALETTE = {
    "ink": INK, "muted": MUTED, "line": LINE, "paper": PAPER, "fill": FILL,
    "reference": REFERENCE, "raw": RAW, "reweighted": REWEIGHTED, "good": GOOD, "fair": FAIR, "bad": BAD,
    "blue": REWEIGHTED, "vermilion": RAW, "green": GOOD, "purple": "#cc79a7", "sky": "#56b4e9", "orange": FAIR,
    "indigo": "#332288", "wine": "#882255",
}  # fmt: skip
#: For series without a meaning of their own, in order.
CYCLE = tuple(PALETTE)[-8:]
#: Scales of colour by what they show, as matplotlib names them; each is ordered in lightness, so it also reads in grey.
#: Low free energy is dark and high is pale.
COLORMAPS = {"free_energy": "YlGnBu_r", "density": "YlGnBu", "error": "OrRd", "difference": "RdBu_r", "time": "viridis"}

RC: dict[Any, Any] = {
    "figure.facecolor": PAPER, "axes.facecolor": "none", "savefig.facecolor": PAPER,
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8.5, "legend.frameon": False, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "text.color": INK, "axes.titlecolor": INK, "axes.labelcolor": MUTED, "xtick.color": LINE, "ytick.color": LINE,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.edgecolor": LINE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlepad": 8, "lines.linewidth": 1.5,
    "lines.solid_joinstyle": "round", "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.07,
    "hatch.linewidth": 0.6,
    "axes.unicode_minus": True, "svg.fonttype": "none", "savefig.dpi": 160, "svg.hashsalt": "molifold",
}  # fmt: skip

_GREEK = {"phi": "φ", "psi": "ψ", "omega": "ω", "chi1": "χ1", "chi2": "χ2", "chi3": "χ3", "chi4": "χ4", "chi5": "χ5"}


def series(i: int) -> str:
    """Name of the colour of series i; they come round again after eight.

    >>> series(0), series(9)
    ('blue', 'vermilion')
    """
    return CYCLE[i % len(CYCLE)]


def ensemble_colour(name: str) -> str:
    """Colour of an ensemble that is called so: the three of every comparison have their own, others are "ink".

    >>> ensemble_colour("raw"), ensemble_colour("mine")
    ('raw', 'ink')
    """
    return name if name in ("reference", "raw", "reweighted") else "ink"


def label(name: str) -> str:
    """How a torsion is written on an axis.

    >>> label("phi_ALA2"), label("psi"), label("C1_C2"), label("ALA2_CA_ALA2_CB")
    ('φ ALA2', 'ψ', 'C1–C2', 'ALA2 CA–CB')
    """
    kind, *rest = name.split("_")
    if kind in _GREEK:
        return " ".join([_GREEK[kind], *rest])
    if len(rest) == 3:
        left, a, right, b = kind, *rest
        return f"{left} {a}–{b}" if left == right else f"{left} {a}–{right} {b}"
    return "–".join([kind, *rest])


def arc(name: str) -> str:
    """How the arc ``POSITIVE_PHI`` of a torsion is written.

    >>> arc("phi_ALA2")
    '0° < φ ALA2 < 150°'
    """
    low, high = POSITIVE_PHI
    return f"{low}° < {label(name)} < {high}°"


def count(n: float) -> str:
    """A number of things, with thin groups.

    >>> count(123456.7)
    '123,457'
    """
    return f"{round(n):,}"


def sizes(n: float, ess: float) -> str:
    """How many frames, and what they are worth where that is less.

    >>> sizes(1000, 1000), sizes(1000, 400)
    ('n 1,000', 'n 1,000 · ESS 400')
    """
    return f"n {count(n)}" + (f" · ESS {count(ess)}" if ess < 0.999 * n else "")


def kelvin(unit: str, temperature: float | None) -> str:
    """A unit of energy, and the temperature where it is known.

    >>> kelvin("kT", 300), kelvin("kT", None)
    ('kT at 300 K', 'kT')
    """
    return f"{unit} at {temperature:g} K" if temperature else unit


def at(temperature: float | None) -> str:
    """A temperature behind other words; nothing where it is unknown (None or NaN).

    >>> at(300.0), at(None), at(float("nan"))
    (' · 300 K', '', '')
    """
    return f" · {temperature:g} K" if temperature is not None and np.isfinite(temperature) else ""


def signed(value: float, digits: str = ".3g") -> str:
    """A number with a true minus sign.

    >>> signed(-9.994, ".2f")
    '−9.99'
    """
    return f"{value:{digits}}".replace("-", "−")


def angle(label: str = "", *, step: int = 60) -> Mapping[str, Any]:
    """Arguments of an ``Axis`` for an angle in radians: periodic, with ticks in degrees.

    >>> angle("φ")["ticks"][0][1]
    '−120°'
    """
    degrees = range(-180 + step, 180, step)
    ticks = tuple((float(np.radians(d)), f"{signed(d, 'd')}°") for d in degrees)
    return {"label": label, "limits": (-np.pi, np.pi), "period": 2 * np.pi, "ticks": ticks}
