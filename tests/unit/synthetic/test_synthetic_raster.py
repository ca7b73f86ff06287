"""Rendering: areas, lines, shade, clipping and parts; backgrounds, wear, and how layers meet images."""

import math

import numpy as np
import pytest

from naruto_vision.synthetic.backdrop import draw_backdrop
from naruto_vision.synthetic.raster import Layer, Style, render
from naruto_vision.synthetic.scene import finish, lay_over
from naruto_vision.synthetic.sketch import MAX_INKS, PARTS, Sketch, box

_PLAIN = Style(line_width=1, shading="flat")
_RED, _BLUE = (250, 10, 10), (10, 10, 250)


def _render(sketch: Sketch, style: Style = _PLAIN, side: int = 80) -> Layer:
    layer = render(sketch, style, 30.0, (side / 2, side / 2), (0, 0, side - 1, side - 1))
    assert layer is not None
    return layer


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_ovals_and_boxes_have_the_right_size_and_position() -> None:
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


def test_too_many_inks_are_refused() -> None:
    sketch = Sketch()
    for _ in range(MAX_INKS + 1):
        sketch.oval(sketch.ink(_RED), 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"at most 126 inks, found 127"):
        render(sketch, _PLAIN, 10.0, (20.0, 20.0), (0, 0, 39, 39))


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


def test_nothing_is_drawn_where_no_outline_lies() -> None:
    sketch = Sketch()
    sketch.poly(sketch.ink((200, 100, 50)), box(-0.2, -0.2, 0.4, 0.4))
    layer = render(sketch, _PLAIN, 50.0, (30.0, 30.0), (0, 0, 59, 59))
    assert layer is not None
    assert int(layer.alpha.sum()) == pytest.approx(255 * 400, rel=0.06)  # its edge takes half a fine pixel more
    assert layer.colour[layer.alpha == 255].tolist() == [[200, 100, 50]] * int((layer.alpha == 255).sum())
    assert (layer.colour[layer.alpha == 0] == 0).all()


def test_a_layer_of_full_alpha_replaces_and_of_none_leaves() -> None:
    image = _rng(3).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    before = image.copy()
    alpha = np.zeros((2, 3), np.uint8)
    alpha[0, 1] = 255
    colour = np.zeros((2, 3, 3), np.uint8)
    colour[0, 1] = (9, 8, 7)
    lay_over(image, Layer(1, 2, colour, alpha, alpha))
    assert image[2, 2].tolist() == [9, 8, 7]
    image[2, 2] = before[2, 2]
    assert np.array_equal(image, before)


@pytest.mark.parametrize("side", [32, 200])
def test_no_wear_changes_nothing(side: int) -> None:
    image = _rng(4).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for seed in range(3):
        assert np.array_equal(finish(image.copy(), _rng(seed), strength=0.0), image)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (40, 90), (90, 40), (33, 35)])
def test_backgrounds_fill_images_of_any_shape(width: int, height: int) -> None:
    for seed in range(8):
        image = draw_backdrop(_rng(seed), width, height)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1
        assert image[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1).min() > 0  # to the very corners
