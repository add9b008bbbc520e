"""The kernel's side of the widget: questions are answered, mistakes are told, and a selection can be read and set."""

from __future__ import annotations

import numpy as np
import pytest

from molifold import Ensemble, Molecule
from molifold.workbench import view
from molifold.workbench.packing import unpack

BUTANE = Molecule(elements=("C",) * 4, bonds=((0, 1), (1, 2), (2, 3)), name="butane")


@pytest.fixture
def widget():
    x = np.random.default_rng(0).normal(size=(200, 4, 3)).astype(np.float32)
    return view(Ensemble(BUTANE, x, columns={"score": np.linspace(0, 1, 200)}))


def ask(widget, question, **arguments):
    sent = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._handle_custom_msg({"id": 7, "question": question, "args": arguments}, [])
    return sent[0]


def test_questions_are_answered_with_one_block(widget):
    content, (block,) = ask(widget, "items")
    assert content == {"id": 7}
    (ensemble,) = unpack(block)["ensembles"]
    assert (ensemble["name"], ensemble["frames"]) == ("ensemble", 200)


def test_a_mistake_is_told_and_does_not_end_the_widget(widget):
    content, buffers = ask(widget, "column", name="ensemble", column="nothing")
    assert content["error"].startswith("column: got 'nothing', expected one of")
    assert buffers is None
    assert ask(widget, "items")[0] == {"id": 7}


def test_a_selection_crosses_the_border_of_a_torsion(widget):
    assert len(widget.selection()) == 0
    region = {"x": "C2_C3", "y": "score", "points": [[2.5, 0.2], [3.8, 0.2], [3.8, 0.8], [2.5, 0.8]]}
    widget.state = {"ensemble": "ensemble", "polygons": {"trans": region}, "selected": "trans"}
    rows = widget.selection()
    _, (block,) = ask(widget, "column", name="ensemble", column="C2_C3")
    angle, score = unpack(block)["values"], np.linspace(0, 1, 200)
    expected = np.flatnonzero(((angle > 2.5) | (angle < 3.8 - 2 * np.pi)) & (score > 0.2) & (score < 0.8))
    assert len(rows) > 5
    np.testing.assert_array_equal(rows, expected)
