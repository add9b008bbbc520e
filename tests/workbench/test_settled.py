"""Pictures as the page gets them: nothing left to choose, few kinds of marks."""

from __future__ import annotations

import numpy as np
import pytest

from molifold.plots.marks import Band, Bars, Hatch, Heatmap, Line, Points, Span, Steps, Table, Text
from molifold.plots.picture import Axis, Panel, Picture, grid
from molifold.workbench.settled import settled


def only(*marks, x=None, y=None):
    panel = Panel(marks=marks, x=x or Axis(), y=y or Axis())
    (found,) = settled(Picture(name="p", panels=(panel,), size=(6, 3))).panels
    return found


def test_a_histogram_stands_on_its_base():
    panel = only(
        Steps(edges=[0, 1, 2], values=[1, 3], base=5, filled=True), Steps(edges=[0, 1, 2], values=[1, 3], base=5)
    )
    filled, outline = panel.marks
    np.testing.assert_array_equal(outline.x, [0, 1, 1, 2])
    np.testing.assert_array_equal(outline.y, [6, 6, 8, 8])
    np.testing.assert_array_equal(filled.low, 5)
    np.testing.assert_array_equal(filled.high, outline.y)
    assert panel.y.limits == pytest.approx((5 - 0.15, 8.15))  # 5 % of room


def test_every_axis_has_limits_and_round_ticks():
    panel = only(Line(x=[0, 2500], y=[1e-4, 30]), x=Axis(whole=True), y=Axis(scale="log"))
    assert panel.x.ticks == (
        (0.0, "0"),
        (500.0, "500"),
        (1000.0, "1k"),
        (1500.0, "1.5k"),
        (2000.0, "2k"),
        (2500.0, "2.5k"),
    )
    assert [words for _, words in panel.y.ticks] == ["1e-4", "0.001", "0.01", "0.1", "1", "10"]
    few = only(Line(x=[0, 1], y=[2, 9]), y=Axis(scale="log"))
    assert [words for _, words in few.y.ticks] == ["2", "5", "10"]  # less than two powers of ten
    kept = only(Line(x=[0, 1], y=[0, 1]), x=Axis(limits=(-1, 4), ticks=((0.5, "here"),)))
    assert (kept.x.limits, kept.x.ticks) == ((-1, 4), ((0.5, "here"),))
    nothing = only(x=Axis(scale="log"))
    assert nothing.x.limits == (0.1, 1.0)


def test_bars_reach_beyond_their_places_and_error_bars_are_lines():
    assert only(Bars(at=[1, 2], low=[0, 0], high=[3, 4])).x.limits == (0.6, 2.4)
    assert only(Bars(at=[1, 2], low=[0, 0], high=[3, 4], horizontal=True)).x.limits == (0, 4)
    panel = only(Points(x=[1, 2], y=[5, 6], low=[4, 5], high=[7, 8], values=[0.5, 0.1]))
    bars, points = panel.marks
    np.testing.assert_array_equal(bars.y, [4, 7, np.nan, 5, 8, np.nan])
    assert points.low is None
    assert points.limits == (0.1, 0.5)
    assert panel.y.limits == pytest.approx((3.8, 8.2))


def test_stripes_and_hatches_fill_what_they_should():
    panel = only(
        Line(x=[0, 10], y=[0, 1]), Span(low=2, high=3), Span(low=0.5, high=0.5, along="y", dash=True),
        Hatch(x=[0, 5, 10], y=[0, 1], mask=[[False], [True]]),
    )  # fmt: skip
    _, stripe, rule, hatch = panel.marks
    assert isinstance(stripe, Band)
    np.testing.assert_array_equal(stripe.x, [2, 3])
    np.testing.assert_array_equal([stripe.low[0], stripe.high[0]], panel.y.limits)
    np.testing.assert_array_equal(rule.x, panel.x.limits)
    assert rule.dash
    np.testing.assert_array_equal(hatch.x, [5, 10, np.nan])


def test_of_equal_colour_bars_in_a_row_the_last_stays():
    cells = {"x": [0, 1], "y": [0, 1], "values": [[1.0]], "bar": "kT"}
    maps = [Heatmap(limits=(0, high), **cells) for high in (1, 1, 2)]
    panels, widths, heights = grid([Panel(marks=(m,)) for m in maps], columns=3)
    found = settled(Picture(name="p", panels=panels, size=(9, 3), widths=widths, heights=heights))
    assert [m.bar for m in found.marks(Heatmap)] == ["", "kT", "kT"]


def test_a_table_is_words_rules_and_spots():
    table = Table(
        head=("name", "x"), rows=(("a", "1"), ("b", "2"), ("c", "3")), widths=(3, 1), colours=("good", "bad", "bad")
    )
    panel = only(table)
    words = [m for m in panel.marks if isinstance(m, Text)]
    assert [m.text for m in words] == ["name", "x", "a", "1", "b", "2", "c", "3"]
    assert [m.y for m in words[::2]] == pytest.approx([0.875, 0.625, 0.375, 0.125])
    assert words[1].x - words[0].x == pytest.approx(0.75)
    (spots,) = [m for m in panel.marks if isinstance(m, Bars)]
    assert (spots.colours, spots.at.tolist()) == (table.colours, [0.625, 0.375, 0.125])
    assert (panel.x.ticks, panel.x.line, panel.x.limits) == ((), False, (0, 1))
