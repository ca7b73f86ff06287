"""The rasteriser: areas, lines, shade, clipping, parts; and how layers meet images."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.figure import extent_of, paint, sketch_figure
from naruto_vision.synthetic.finish import finish, lay_over
from naruto_vision.synthetic.look import Expression, Look, random_look
from naruto_vision.synthetic.palette import rotate_hue
from naruto_vision.synthetic.raster import Layer, Shading, Style, positions, render
from naruto_vision.synthetic.sketch import IDENTITY, MAX_INKS, PARTS, Sketch, at, box, inside, moved, outline, turn

_PLAIN = Style(line_width=1, shading="flat")
_RED, _BLUE = (250, 10, 10), (10, 10, 250)


def _render(sketch: Sketch, style: Style = _PLAIN, side: int = 80) -> Layer:
    layer = render(sketch, style, 30.0, (side / 2, side / 2), (0, 0, side - 1, side - 1))
    assert layer is not None
    return layer


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_ovals_and_boxes_have_the_right_size_and_place() -> None:
    sketch = Sketch()
    sketch.part = "head"
    sketch.oval(sketch.ink(_RED), 0.0, 0.0, 1.0, 0.5)
    layer = _render(sketch)
    assert (layer.parts > 0).sum() == pytest.approx(math.pi * 30 * 15, rel=0.05)
    rows, columns = np.nonzero(layer.parts)
    assert abs(columns.mean() + layer.x - 40) < 1
    assert abs(rows.mean() + layer.y - 40) < 1
    sketch = Sketch()
    sketch.part = "legs"
    sketch.poly(sketch.ink(_BLUE), box(-0.5, -1.0, 1.0, 2.0))
    layer = _render(sketch)
    assert (layer.parts > 0).sum() == pytest.approx(30 * 60, rel=0.06)
    assert set(np.unique(layer.parts)) <= {0, PARTS.index("legs")}
    assert layer.colour[30, 15].tolist() == list(_BLUE)


def test_later_shapes_cover_earlier_ones_and_clips_stay_inside() -> None:
    sketch = Sketch()
    sketch.part = "torso"
    cloth = sketch.ink(_RED)
    sketch.oval(cloth, 0.0, 0.0, 0.6, 0.6)
    whole = _render(sketch)
    sketch.poly(sketch.ink(_BLUE, cloth), box(-3.0, -0.2, 6.0, 0.4), cloth)
    clipped = _render(sketch, side=80)
    offset = (clipped.y - whole.y, clipped.x - whole.x)
    blue = clipped.colour[:, :, 2] > 200
    assert blue.sum() == pytest.approx(12 * 36, rel=0.15)
    rows, columns = np.nonzero(blue)
    assert (whole.parts[rows + offset[0], columns + offset[1]] > 0).all()


def test_lines_part_groups_but_not_inks_of_one_group() -> None:
    for like, lines in ((0, True), (1, False)):
        sketch = Sketch()
        sketch.poly(sketch.ink((200, 200, 200)), box(-1.2, -1.2, 2.4, 2.4))
        sketch.poly(sketch.ink((220, 220, 220), like), box(-0.4, -0.4, 0.8, 0.8))
        layer = _render(sketch, Style(line_width=3, line_colour=(0, 0, 0), shading="flat"))
        middle = layer.colour[20:-20, 20:-20]
        assert (middle.min() < 60) == lines


@pytest.mark.parametrize("shading", ["cel", "soft", "tone"])
def test_shade_lies_away_from_the_light(shading: str) -> None:
    sketch = Sketch()
    sketch.oval(sketch.ink((200, 200, 200)), 0.0, 0.0, 1.0, 1.0)
    layer = _render(sketch, Style(line_width=1, shading=shading, light=(-8, 0)))  # type: ignore[arg-type]  # a Shading
    solid = np.where(layer.alpha == 255, layer.colour[:, :, 1].astype(float), np.nan)
    half = solid.shape[1] // 2
    assert np.nanmean(solid[:, half:]) < np.nanmean(solid[:, :half]) - 3


def test_nothing_in_the_window_is_no_layer() -> None:
    sketch = Sketch()
    sketch.oval(sketch.ink(_RED), 0.0, 0.0, 1.0, 1.0)
    assert render(sketch, _PLAIN, 10.0, (-50.0, 20.0), (0, 0, 39, 39)) is None


def test_a_layer_is_cut_by_the_window_without_changing() -> None:
    who, look = random_attributes(_rng(3)), random_look(_rng(4))
    sketch = sketch_figure(who, look)
    whole = paint(sketch, look, 12.0, (60.0, 30.0), (0, 0, 119, 119))
    part = paint(sketch, look, 12.0, (60.0, 30.0), (40, 20, 79, 89))
    assert whole is not None
    assert part is not None
    assert (part.x, part.y) == (40, 20)
    height, width = part.parts.shape
    y, x = part.y - whole.y, part.x - whole.x
    same = part.alpha[4:-4, 4:-4] == whole.alpha[y : y + height, x : x + width][4:-4, 4:-4]
    assert same.all()


def test_too_many_inks_are_refused() -> None:
    sketch = Sketch()
    for _ in range(MAX_INKS + 1):
        sketch.oval(sketch.ink(_RED), 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"at most 126 inks, found 127"):
        render(sketch, _PLAIN, 10.0, (20.0, 20.0), (0, 0, 39, 39))


def test_no_figure_needs_too_many_inks() -> None:
    rng = _rng(9)
    most = max(len(sketch_figure(random_attributes(rng), random_look(rng)).colours) for _ in range(300))
    assert most <= MAX_INKS


def test_flipping_mirrors_a_figure() -> None:
    who, look = random_attributes(_rng(5)), Look(facing=0.5, tilt=5.0)
    one, other = sketch_figure(who, look), sketch_figure(who, replace(look, flip=True))
    assert positions(one)[0].min() == pytest.approx(-positions(other)[0].max())
    assert extent_of(one).height == pytest.approx(extent_of(other).height)


def test_a_taller_look_is_taller() -> None:
    who = random_attributes(_rng(6))
    short, tall = (extent_of(sketch_figure(who, Look(height=height))) for height in (0.0, 1.0))
    assert tall.feet > short.feet + 1.5


def test_lay_over_blends_by_alpha() -> None:
    image = np.full((6, 6, 3), 100, np.uint8)
    alpha = np.array([[0, 128, 255]], np.uint8)
    colour = (np.full((1, 3, 3), 200.0) * alpha[:, :, None] / 255).astype(np.uint8)
    lay_over(image, Layer(2, 3, colour, alpha, alpha))
    assert image[3, 2:5, 0].tolist() == [100, 150, 200]
    assert (np.delete(image.reshape(36, 3), [20, 21, 22], axis=0) == 100).all()


def test_finish_keeps_shape_and_is_seeded() -> None:
    image = _rng().integers(0, 256, (40, 50, 3), dtype=np.uint8)
    done = finish(image.copy(), _rng(7))
    assert done.shape == image.shape
    assert done.dtype == np.uint8
    assert np.array_equal(done, finish(image.copy(), _rng(7)))
    changed = [np.abs(finish(image.copy(), _rng(k)).astype(int) - image).mean() for k in range(20)]
    assert 3 < np.mean(changed) < 60


def test_hue_turns_keep_grey_and_brightness() -> None:
    colours = _rng().random((20, 3)) * 255
    assert rotate_hue(colours, 40.0).mean(axis=1) == pytest.approx(colours.mean(axis=1), abs=1e-3)
    assert rotate_hue(np.full((1, 3), 90.0), 77.0)[0] == pytest.approx([90, 90, 90], abs=1e-3)
    assert rotate_hue(np.array([[255.0, 0, 0]]), 120.0)[0] == pytest.approx([0, 255, 0], abs=1e-2)


def test_frames_nest() -> None:
    outer, inner = turn(1.0, 2.0, 30.0), turn(0.5, -1.0, 45.0, -1.0)
    point = (0.3, 0.7)
    assert at(inside(outer, inner), *point) == pytest.approx(at(outer, *at(inner, *point)))
    assert at(IDENTITY, *point) == point
    assert at(turn(0.0, 0.0, 90.0), 0.0, 1.0) == pytest.approx((1.0, 0.0))


def test_outlines_read_corners_sides_and_sway() -> None:
    text = "1,2 -3,0.5! 0,4~"
    assert outline(text) == [(1, 2), (-3, 0.5), (-3, 0.5), (0, 4)]
    assert outline(text, -1.0, 0.5) == [(-1, 2), (3, 0.5), (3, 0.5), (0.5, 4)]
    assert moved([(1.0, 1.0)], 2.0, -1.0) == [(3.0, 0.0)]


def test_looks_vary_in_everything() -> None:
    rng = _rng(2)
    looks = [random_look(rng) for _ in range(200)]
    assert {look.expression for look in looks} == set(get_args(Expression))
    assert {look.shading for look in looks} == set(get_args(Shading))
    assert {look.flip for look in looks} == {True, False}
    for field in ("height", "lean", "tilt", "facing", "line", "line_share", "light", "hue", "sway", "arms", "legs"):
        assert len({getattr(look, field) for look in looks}) > 150


def test_every_expression_changes_the_face() -> None:
    who = replace(random_attributes(_rng(8)), face_mark="none", hair_style="bun", head_wear="none")
    faces = set()
    for expression in get_args(Expression):
        look = Look(expression=expression)
        layer = paint(sketch_figure(who, look), look, 30.0, (50.0, 50.0), (0, 0, 99, 99))
        assert layer is not None
        faces.add(layer.colour.tobytes())
    assert len(faces) == 6
