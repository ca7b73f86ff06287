"""IoU of boxes whose corners belong to them, against masks that are drawn and counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from naruto_vision.geometry import inclusive_iou_matrix
from naruto_vision.records import Box


def drawn(box: Box, side: int = 24) -> NDArray[np.bool_]:
    canvas = np.zeros((side, side), dtype=np.bool_)
    canvas[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return canvas


@st.composite
def boxes(draw: st.DrawFn, side: int = 24) -> Box:
    x1, y1 = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
    return x1, y1, draw(st.integers(x1, side - 1)), draw(st.integers(y1, side - 1))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0), 1.0),  # one pixel
        ((0, 0, 9, 9), (5, 0, 14, 9), 50 / 150),
        ((0, 0, 9, 9), (9, 9, 18, 18), 1 / 199),  # they share a corner pixel
        ((0, 0, 9, 9), (10, 0, 19, 9), 0.0),  # they touch, and share nothing
        ((0, 0, 9, 9), (0, 0, 9, 4), 0.5),
        ((100, 100, 199, 199), (150, 150, 249, 249), 1 / 7),
    ],
)
def test_worked_cases(first: Box, second: Box, expected: float) -> None:
    assert inclusive_iou_matrix([first], [second])[0, 0] == pytest.approx(expected, abs=1e-15)


@given(st.lists(boxes(), max_size=4), st.lists(boxes(), max_size=4))
def test_equals_counted_pixels(first: list[Box], second: list[Box]) -> None:
    found = inclusive_iou_matrix(first, second)
    assert found.shape == (len(first), len(second))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            shared = (drawn(one) & drawn(other)).sum()
            assert found[row, column] == shared / (drawn(one) | drawn(other)).sum()


def test_large_coordinates_do_not_overflow() -> None:
    side = 2**31 - 1
    assert inclusive_iou_matrix([(0, 0, side, side)], [(0, 0, side, side // 2)])[0, 0] == pytest.approx(0.5)
