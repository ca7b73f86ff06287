"""Sketches: inks, frames and outlines before any pixel is touched, and outlines as short texts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.synthetic.raster import positions
from naruto_vision.synthetic.sketch import (
    IDENTITY,
    PARTS,
    Frame,
    Part,
    Point,
    Sketch,
    at,
    box,
    inside,
    moved,
    outline,
    turn,
)

_NUMBER = st.floats(-5, 5)
_FRAME = st.builds(turn, _NUMBER, _NUMBER, st.floats(-180, 180), st.sampled_from([1.0, -1.0]))
_POINT = st.tuples(_NUMBER, _NUMBER)
_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_RED = (200, 0, 0)


def _last_shape(sketch: Sketch) -> list[Point]:
    return sketch.points[len(sketch.points) - sketch.shapes[-1][0] :]


def test_inks_count_from_one_and_remember_colour_and_part() -> None:
    sketch = Sketch()
    assert sketch.ink(_RED) == 1
    sketch.part = "head"
    assert sketch.ink((1, 2, 3)) == 2
    assert sketch.colours == [_RED, (1, 2, 3)]
    assert sketch.parts == [PARTS.index("none"), PARTS.index("head")]


def test_an_ink_like_another_joins_its_group_also_through_a_third() -> None:
    sketch = Sketch()
    first, alone = sketch.ink(_RED), sketch.ink(_RED)
    like = sketch.ink(_RED, first)
    sketch.ink(_RED, like)
    assert sketch.groups == [first, alone, first, first]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_stored_as_its_index(part: Part) -> None:
    sketch = Sketch()
    sketch.part = part
    sketch.ink(_RED)
    assert PARTS[sketch.parts[0]] == part


def test_the_value_of_nothing_is_zero_and_parts_are_distinct() -> None:
    assert PARTS[0] == "none"
    assert len(set(PARTS)) == len(PARTS)


def test_shapes_remember_ink_clip_and_the_frame_they_were_drawn_in() -> None:
    sketch = Sketch()
    one, other = sketch.ink(_RED), sketch.ink(_RED)
    sketch.blob(one, [(0, 0), (1, 0), (0, 1)])
    frame = turn(1.0, 2.0)
    sketch.enter(frame)
    sketch.blob(other, [(0, 0), (1, 0), (0, 1), (2, 2)], clip=one)
    assert sketch.shapes == [(3, one, 0, 0), (4, other, one, 1)]
    assert len(sketch.points) == 7


def test_points_lie_where_their_frame_puts_them() -> None:
    sketch, frame = Sketch(), turn(3.0, -1.0, 30.0, -1.0)
    ink, corners = sketch.ink(_RED), [(0.0, 0.0), (1.0, 0.5), (-2.0, 1.0)]
    sketch.blob(ink, corners)
    sketch.enter(frame)
    sketch.blob(ink, corners)
    across, down = positions(sketch)
    expected = [*corners, *(at(frame, x, y) for x, y in corners)]
    assert np.stack([across, down], axis=1) == pytest.approx(np.array(expected))
    assert across.dtype == down.dtype == np.float64


def test_straight_sides_are_doubled_corners() -> None:
    sketch = Sketch()
    sketch.poly(sketch.ink(_RED), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
    assert sketch.points == [(0.0, 0.0)] * 2 + [(1.0, 0.0)] * 2 + [(1.0, 1.0)] * 2


@_QUICK
@given(x=_NUMBER, y=_NUMBER, across=st.floats(0.1, 3), down=st.floats(0.1, 3))
def test_ovals_lie_about_their_centre(x: float, y: float, across: float, down: float) -> None:
    sketch = Sketch()
    sketch.oval(sketch.ink(_RED), x, y, across, down)
    points = np.array(_last_shape(sketch))
    assert len(points) == 8
    assert points.mean(axis=0) == pytest.approx([x, y], abs=1e-4)
    assert np.abs(points[:, 0] - x).max() == pytest.approx(1.07 * across, abs=1e-4)  # its spline lies within
    assert np.abs(points[:, 1] - y).max() == pytest.approx(1.07 * down, abs=1e-4)


@_QUICK
@given(half=st.lists(_POINT, min_size=1, max_size=6))
def test_mirrored_outlines_are_their_own_mirror_image(half: list[Point]) -> None:
    sketch = Sketch()
    sketch.mirrored(sketch.ink(_RED), half)
    points = _last_shape(sketch)
    assert points[: len(half)] == half
    assert [(-x, y) for x, y in reversed(points)] == points


@pytest.mark.parametrize(("taper", "end"), [(True, 0.3), (False, 1.0)])
def test_a_stroke_is_as_wide_as_given_and_thin_at_its_ends(taper: bool, end: float) -> None:
    sketch = Sketch()
    sketch.stroke(sketch.ink(_RED), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)], 0.4, taper=taper)
    points = np.array(_last_shape(sketch))
    for x, width in ((0.0, 0.4 * end), (1.0, 0.4), (2.0, 0.4 * end)):
        rows = points[np.abs(points[:, 0] - x) < 1e-9, 1]
        assert rows.max() - rows.min() == pytest.approx(width)
        assert rows.mean() == pytest.approx(0.0, abs=1e-12)


def test_a_stroke_runs_down_one_side_and_back_on_the_other() -> None:
    sketch = Sketch()
    sketch.stroke(sketch.ink(_RED), [(0.0, 0.0), (0.0, 4.0)], 1.0, taper=False)
    points = _last_shape(sketch)
    assert len(points) == 8
    assert points[0] == points[1]
    assert [x for x, _ in points] == pytest.approx([-0.5] * 4 + [0.5] * 4)
    assert [y for _, y in points] == pytest.approx([0, 0, 4, 4, 4, 4, 0, 0])


def test_a_stroke_of_equal_points_is_finite() -> None:
    sketch = Sketch()
    sketch.stroke(sketch.ink(_RED), [(1.0, 1.0), (1.0, 1.0)], 0.5)
    assert all(math.isfinite(value) for point in sketch.points for value in point)


@pytest.mark.parametrize(
    ("degrees", "side", "point", "expected"),
    [
        (0.0, 1.0, (0.3, 0.7), (0.3, 0.7)),
        (90.0, 1.0, (0.0, 1.0), (1.0, 0.0)),
        (90.0, -1.0, (0.0, 1.0), (-1.0, 0.0)),
        (180.0, 1.0, (0.0, 1.0), (0.0, -1.0)),
        (0.0, -1.0, (0.3, 0.7), (-0.3, 0.7)),
    ],
)
def test_the_downward_axis_swings_outwards(degrees: float, side: float, point: Point, expected: Point) -> None:
    assert at(turn(0.0, 0.0, degrees, side), *point) == pytest.approx(expected)
    x, y = at(turn(2.0, 3.0, degrees, side), *point)
    assert (x - 2.0, y - 3.0) == pytest.approx(expected)


@_QUICK
@given(a=_FRAME, b=_FRAME, c=_FRAME, point=_POINT)
def test_nesting_frames_is_associative_and_the_identity_changes_nothing(
    a: Frame, b: Frame, c: Frame, point: Point
) -> None:
    assert inside(a, inside(b, c)) == pytest.approx(inside(inside(a, b), c), abs=1e-3)
    assert inside(IDENTITY, a) == pytest.approx(a)
    assert inside(a, IDENTITY) == pytest.approx(a)
    assert at(inside(a, b), *point) == pytest.approx(at(a, *at(b, *point)), abs=1e-3)


@_QUICK
@given(frame=_FRAME, one=_POINT, other=_POINT)
def test_turning_and_mirroring_keep_distances(frame: Frame, one: Point, other: Point) -> None:
    assert math.dist(at(frame, *one), at(frame, *other)) == pytest.approx(math.dist(one, other), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("1,2", [(1, 2)]),
        ("1,2!", [(1, 2), (1, 2)]),
        ("1,2!~ -0.5,3~", [(3, 2), (3, 2), (1.5, 3)]),
        ("1,2~!", [(3, 2), (3, 2)]),
    ],
)
def test_outlines_read_marks_in_any_order(text: str, expected: list[Point]) -> None:
    assert outline(text, sway=2.0) == expected


def test_the_mirror_image_sways_to_the_same_side() -> None:
    assert outline("1,0~ 2,0", side=-1.0, sway=0.25) == [(-0.75, 0), (-2, 0)]


def test_reading_an_outline_again_is_not_changed_by_what_was_done_to_the_first() -> None:
    outline("1,2 3,4").clear()
    assert outline("1,2 3,4") == [(1, 2), (3, 4)]


@_QUICK
@given(points=st.lists(_POINT, max_size=5), x=_NUMBER, y=_NUMBER)
def test_moving_there_and_back_changes_nothing(points: list[Point], x: float, y: float) -> None:
    back = moved(moved(points, x, y), -x, -y)
    assert len(back) == len(points)
    for one, other in zip(back, points, strict=True):
        assert one == pytest.approx(other, abs=1e-9)


def test_points_move_to_the_right_and_down() -> None:
    assert moved([(1.0, 2.0)], 3.0) == [(4.0, 2.0)]
    assert moved(iter([(1.0, 2.0)]), 0.0, 5.0) == [(1.0, 7.0)]


def test_a_box_has_its_corners_in_turn() -> None:
    assert box(1.0, 2.0, 3.0, 4.0) == [(1, 2), (4, 2), (4, 6), (1, 6)]
