"""Figures: measures, style, frames of single images, and layers that never leave their window."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.synthetic.attributes import CHOICES, WHOLE, Attributes, Cast, random_attributes
from naruto_vision.synthetic.backdrop import draw_backdrop
from naruto_vision.synthetic.body import NECK, build_of, hand_of
from naruto_vision.synthetic.figure import Extent, extent_of, paint, sketch_figure, style_of
from naruto_vision.synthetic.finish import finish, lay_over
from naruto_vision.synthetic.look import Look, random_look
from naruto_vision.synthetic.raster import Layer, Shading, Style, positions, render
from naruto_vision.synthetic.scene import draw_scene
from naruto_vision.synthetic.sketch import PARTS, Sketch, at, box, turn

_QUICK = settings(max_examples=15, deadline=None, derandomize=True)
_PLAIN = Style(line_width=1, shading="flat")


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _who(seed: int = 0, **changes: str) -> Attributes:
    return replace(random_attributes(_rng(seed)), **changes)  # type: ignore[arg-type]  # the constructor checks


def test_taller_figures_have_longer_measures_everywhere() -> None:
    who = _who()
    short, tall = build_of(who, Look(height=0.0)), build_of(who, Look(height=1.0))
    for name in ("shoulder", "waist", "hip", "torso", "leg", "arm", "thick"):
        assert getattr(tall, name) > getattr(short, name) > 0


def test_legs_begin_where_the_torso_ends() -> None:
    build = build_of(_who(), Look(height=0.5))
    assert build.crotch == pytest.approx(NECK + build.torso)
    assert build.feet == pytest.approx(build.crotch + build.leg + 0.25)


def test_boys_have_broader_shoulders_and_girls_broader_hips() -> None:
    boy, girl = (build_of(_who(person=person, top="shirt", bottom="pants"), Look()) for person in ("boy", "girl"))
    assert boy.shoulder > girl.shoulder
    assert boy.waist > girl.waist
    assert boy.hip < girl.hip
    assert (boy.torso, boy.leg, boy.arm) == (girl.torso, girl.leg, girl.arm)


@pytest.mark.parametrize("side", [1, -1])
def test_things_are_held_upright_however_the_hand_is_turned(side: int) -> None:
    hand, body = turn(2.0, 3.0, 70.0), turn(0.0, 0.0, 5.0)
    frame = hand_of(hand, body, side)
    assert at(frame, 0.0, 0.0) == pytest.approx((2.0, 3.0))
    x, y = at(frame, 0.0, 1.0)
    assert (x - 2.0, y - 3.0) == pytest.approx(at(body, 0.0, 1.0))
    x, _ = at(frame, 1.0, 0.0)
    assert np.sign(x - 2.0) == side


@pytest.mark.parametrize(
    ("line", "scale", "width"),
    [(0.0, 100.0, 1), (0.02, 10.0, 2), (0.02, 40.0, 3), (0.02, 100.0, 8), (0.03, 100.0, 9), (0.03, 500.0, 9)],
)
def test_line_width_follows_the_size_within_bounds(line: float, scale: float, width: int) -> None:
    assert style_of(Look(line=line), scale).line_width == width


def test_style_takes_light_shading_and_hue_of_the_look() -> None:
    style = style_of(Look(light=(-0.05, -0.1), shading="tone", hue=3.0), 50.0)
    assert style.light == (-5, -10)
    assert (style.shading, style.hue) == ("tone", 3.0)
    pale, dark = (style_of(Look(line_share=share), 50.0).line_colour for share in (0.0, 1.0))
    assert sum(pale) > sum(dark)


def test_an_extent_is_as_high_as_from_end_to_end() -> None:
    assert Extent(-2.0, 5.5).height == 7.5


def test_an_extent_holds_every_control_point() -> None:
    sketch = Sketch()
    sketch.poly(sketch.ink((1, 1, 1)), box(-1.0, -2.0, 4.0, 7.0))
    assert extent_of(sketch) == Extent(top=-2.0, feet=5.0)


@_QUICK
@given(seed=st.integers(0, 500))
def test_a_layer_never_leaves_its_window_and_parts_lie_where_it_is_solid(seed: int) -> None:
    rng = _rng(seed)
    look = random_look(rng)
    window = (5, 7, 70, 60)
    origin = (float(rng.integers(0, 80)), float(rng.integers(0, 80)))
    layer = paint(sketch_figure(random_attributes(rng), look), look, 9.0, origin, window)
    if layer is None:
        return
    height, width = layer.parts.shape
    assert layer.alpha.shape == (height, width)
    assert layer.colour.shape == (height, width, 3)
    assert window[0] <= layer.x
    assert layer.x + width - 1 <= window[2]
    assert window[1] <= layer.y
    assert layer.y + height - 1 <= window[3]
    assert (layer.alpha[layer.parts > 0] >= 128).all()
    assert (layer.colour.max(axis=2) <= layer.alpha).all()  # colours are times alpha
    assert layer.parts.max() < len(PARTS)


@pytest.mark.parametrize("origin", [(-500.0, 30.0), (30.0, -500.0), (600.0, 30.0), (30.0, 600.0)])
def test_a_figure_outside_its_window_is_no_layer(origin: tuple[float, float]) -> None:
    look = Look()
    assert paint(sketch_figure(_who(), look), look, 10.0, origin, (0, 0, 60, 60)) is None


def test_nothing_is_drawn_where_no_outline_lies() -> None:
    sketch = Sketch()
    sketch.poly(sketch.ink((200, 100, 50)), box(-0.2, -0.2, 0.4, 0.4))
    layer = render(sketch, _PLAIN, 50.0, (30.0, 30.0), (0, 0, 59, 59))
    assert layer is not None
    assert int(layer.alpha.sum()) == pytest.approx(255 * 400, rel=0.06)  # its edge takes half a fine pixel more
    assert layer.colour[layer.alpha == 255].tolist() == [[200, 100, 50]] * int((layer.alpha == 255).sum())
    assert (layer.colour[layer.alpha == 0] == 0).all()


def test_the_same_sketch_one_pixel_further_gives_the_same_layer_one_pixel_further() -> None:
    look = Look()
    sketch = sketch_figure(_who(3), look)
    one = paint(sketch, look, 8.0, (40.0, 20.0), (0, 0, 119, 119))
    other = paint(sketch, look, 8.0, (47.0, 25.0), (0, 0, 119, 119))
    assert one is not None
    assert other is not None
    assert (other.x - one.x, other.y - one.y) == (7, 5)
    assert np.array_equal(one.colour, other.colour)
    assert np.array_equal(one.parts, other.parts)


@pytest.mark.parametrize("shading", get_args(Shading))
def test_shading_changes_colours_but_not_the_outline(shading: Shading) -> None:
    look = Look()
    sketch = sketch_figure(_who(4), look)
    flat = render(sketch, Style(shading="flat"), 10.0, (40.0, 20.0), (0, 0, 99, 99))
    shaded = render(sketch, Style(shading=shading), 10.0, (40.0, 20.0), (0, 0, 99, 99))
    assert flat is not None
    assert shaded is not None
    assert np.array_equal(flat.alpha, shaded.alpha)
    assert np.array_equal(flat.parts, shaded.parts)
    assert np.array_equal(flat.colour, shaded.colour) == (shading == "flat")
    assert shaded.colour.mean() <= flat.colour.mean()


def test_a_turn_of_the_hue_leaves_the_outline() -> None:
    look = Look()
    sketch = sketch_figure(_who(5), look)
    one, other = (render(sketch, Style(hue=hue), 10.0, (40.0, 20.0), (0, 0, 99, 99)) for hue in (0.0, 8.0))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.parts, other.parts)
    assert not np.array_equal(one.colour, other.colour)


@pytest.mark.parametrize("part", ["head", "torso", "arms", "legs"])
def test_every_figure_has_its_four_parts(part: str) -> None:
    for seed in range(4):
        look = Look()
        layer = paint(sketch_figure(_who(seed), look), look, 12.0, (80.0, 60.0), (0, 0, 159, 159))
        assert layer is not None
        assert (layer.parts == PARTS.index(part)).any()


def test_only_who_holds_something_has_a_held_part() -> None:
    for held in CHOICES["held"]:
        sketch = sketch_figure(_who(6, held=held), Look())
        assert (PARTS.index("held") in sketch.parts) == (held != "none")


def test_a_figure_turns_about_its_feet() -> None:
    who = _who(7, held="none", extra="none", top="shirt", bottom="pants")
    upright, leaning = (sketch_figure(who, Look(lean=lean)) for lean in (0.0, 20.0))
    assert abs(extent_of(leaning).feet - extent_of(upright).feet) < 0.4
    (before, _), (after, _) = positions(upright), positions(leaning)
    assert max(abs(after.min() - before.min()), abs(after.max() - before.max())) > 0.5


@pytest.mark.parametrize("hue", [0.5, 8.0])
def test_looks_keep_their_ranges(hue: float) -> None:
    rng = _rng(1)
    for _ in range(200):
        look = random_look(rng, hue=hue)
        assert 0 <= look.height <= 1
        assert abs(look.lean) <= 9
        assert abs(look.tilt) <= 11
        assert abs(look.facing) <= 1
        assert abs(look.sway) <= 1
        assert abs(look.hue) <= hue
        assert 0.55 <= look.line_share <= 1
        assert look.light[1] < 0  # from above
        assert all(0 <= swing <= 22 for swing in look.legs)


def test_strangers_are_drawn_by_the_rules_of_clothes() -> None:
    rng = _rng(2)
    crowd = [random_attributes(rng) for _ in range(500)]
    for who in crowd:
        assert (who.bottom == "none") == (who.top in WHOLE)
        if who.person == "boy":
            assert who.top != "dress"
            assert who.bottom != "skirt"
    for name, values in CHOICES.items():
        assert {getattr(who, name) for who in crowd} == set(values), name
    assert 0.4 < np.mean([who.pattern == "plain" for who in crowd]) < 0.7


@pytest.mark.parametrize(("changed", "alike"), [(0, True), (1, True), (2, False), (3, False), (4, False)])
def test_two_characters_resemble_each_other_by_three_of_four(changed: int, alike: bool) -> None:
    one = _who(8, hair_colour="red", hair_style="long", top="shirt", top_colour="red", bottom="pants")
    new = {"hair_colour": "blue", "hair_style": "bob", "top": "vest", "top_colour": "black"}
    other = replace(one, **dict(list(new.items())[:changed]))  # type: ignore[arg-type]  # the constructor checks
    assert one.resembles(other) == other.resembles(one) == alike


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


def test_a_chosen_difficulty_leaves_the_rest_of_the_scene_to_the_seed() -> None:
    cast = Cast({"Ann": _who(10)})
    scene = draw_scene(5, cast, size=64)
    assert np.array_equal(draw_scene(5, cast, size=64, difficulty=scene.difficulty).image, scene.image)


def test_a_cast_of_one_fills_scenes_with_strangers() -> None:
    cast = Cast({"Ann": _who(11)})
    labels = [[one.label for one in draw_scene(seed, cast, size=64, difficulty="hard").objects] for seed in range(12)]
    assert max(some.count("Ann") for some in labels) == 1
    assert max(map(len, labels)) >= 3
