"""The plots of a tuning run."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from naruto_vision.callbacks.reports import confusion_figure
from naruto_vision.viz.figures import line_figure

RISING = [(1.0, 0.2), (2.0, 0.5), (3.0, 0.6)]


def test_lines_have_their_points_and_axes_their_names() -> None:
    (axes,) = line_figure({"accuracy": RISING, "recall": RISING[:2]}, "epoch", "share right").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "share right")
    first, second = axes.lines
    assert np.asarray(first.get_xydata()).tolist() == [list(point) for point in RISING]
    assert len(np.asarray(second.get_xydata())) == 2
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["accuracy", "recall"]


def test_what_was_never_measured_is_left_out() -> None:
    (axes,) = line_figure({"accuracy": RISING, "zero-shot": []}, "epoch", "share").axes
    assert len(axes.lines) == 1
    assert axes.get_legend() is None  # one line needs none: the axis says what it is
    (empty,) = line_figure({"accuracy": []}, "epoch", "share").axes
    assert len(empty.lines) == 0


def test_the_mark_stands_upright_and_says_what_it_is() -> None:
    (axes,) = line_figure({"loss": RISING}, "epoch", "loss", mark=2.0, note="kept").axes
    assert np.asarray(axes.lines[-1].get_xdata()).tolist() == [2.0, 2.0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["loss", "kept"]


def test_a_mark_at_zero_is_a_mark() -> None:
    (axes,) = line_figure({"share": RISING}, "alpha", "share", mark=0.0, note="chosen").axes
    assert len(axes.lines) == 2


@pytest.mark.parametrize(("count", "dots"), [(60, True), (61, False)])
def test_points_are_dots_until_they_would_run_together(count: int, dots: bool) -> None:
    line = [(float(step), 0.1) for step in range(count)]
    (axes,) = line_figure({"rate": line}, "step", "rate").axes
    assert (axes.lines[0].get_marker() == "o") == dots


def test_figures_belong_to_no_window() -> None:
    line_figure({"loss": RISING}, "epoch", "loss")
    assert plt.get_fignums() == []


def test_class_names_of_any_script_can_be_read_in_the_matrix() -> None:
    figure = confusion_figure(torch.eye(2, dtype=torch.int64), ("ナミ", "Zoë"))
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown[1] == "Zoë"
    assert shown[0] in {"nami", "ナミ"}  # spelt, or with a font of the system
