"""The look of every picture: colours that colour-blind eyes tell apart, and sizes that fit a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from molifold.analysis.free_energy import POSITIVE_PHI

INK, MUTED, LINE, PAPER = "#1c2733", "#62707f", "#c9d2da", "#ffffff"
#: The three ensembles of every comparison; blue and vermilion are Okabe and Ito's (jfly.uni-koeln.de/color, 2008).
REFERENCE, FILL, RAW, REWEIGHTED = "#4a5866", "#d5dce3", "#d55e00", "#0072b2"
GOOD, FAIR, BAD = "#009e73", "#e69f00", "#cc3311"
#: For series without a meaning of their own, in order.
CYCLE = (REWEIGHTED, RAW, GOOD, "#cc79a7", "#56b4e9", "#e69f00")
#: Low free energy dark, high free energy pale; ordered in lightness, so it also reads in grey.
FREE_ENERGY = "YlGnBu_r"
#: Names of the three ensembles, everywhere.
COLOURS = {"reference": REFERENCE, "raw": RAW, "reweighted": REWEIGHTED}

RC: dict[Any, Any] = {
    "figure.facecolor": PAPER, "axes.facecolor": "none", "savefig.facecolor": PAPER,
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8.5, "legend.frameon": False, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "text.color": INK, "axes.titlecolor": INK, "axes.labelcolor": MUTED, "xtick.color": LINE, "ytick.color": LINE,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.edgecolor": LINE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlepad": 8, "lines.linewidth": 1.5,
    "lines.solid_joinstyle": "round", "figure.constrained_layout.use": True, "axes.prop_cycle": cycler(color=CYCLE),
    "axes.unicode_minus": True, "svg.fonttype": "none", "savefig.dpi": 160,
}  # fmt: skip

P = ParamSpec("P")

_GREEK = {"phi": "φ", "psi": "ψ", "omega": "ω", "chi1": "χ1", "chi2": "χ2", "chi3": "χ3", "chi4": "χ4", "chi5": "χ5"}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function under the style of this module, leaving matplotlib's settings as they were.

    >>> @styled
    ... def draw():
    ...     return Figure()
    >>> draw().get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    True
    """

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return inside


def plain(text: str) -> str:
    r"""Text of a user as it is to be drawn: a dollar sign in it begins no formula.

    >>> plain("a$b")
    'a\\$b'
    """
    return text.replace("$", r"\$")


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


def angle_axis(axes: Axes, which: str = "x", *, name: str = "") -> None:
    """Ticks in degrees on an axis in radians."""
    degrees = np.array([-120, -60, 0, 60, 120])
    axes.set(**{f"{which}lim": (-np.pi, np.pi), f"{which}label": label(name) if name else ""})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(np.radians(degrees), [f"{'−' if d < 0 else ''}{abs(d)}°" for d in degrees])


def signed(value: float, digits: str = ".3g") -> str:
    """A number with a true minus sign.

    >>> signed(-9.994, ".2f")
    '−9.99'
    """
    return f"{value:{digits}}".replace("-", "−")


def note(axes: Axes, text: str, *, x: float = 0.98, y: float = 0.96, right: bool = True) -> None:
    """Small text inside a panel, in axes coordinates."""
    axes.text(
        x, y, text, transform=axes.transAxes, ha="right" if right else "left", va="top", fontsize=7.5, color=MUTED,
        linespacing=1.35,
    )  # fmt: skip
