"""Figures: measures, style, looks, and layers that never leave their window."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.synthetic.attributes import CHOICES, Attributes, random_attributes
from naruto_vision.synthetic.body import NECK, build_of, hand_of
from naruto_vision.synthetic.figure import Extent, extent_of, paint, sketch_figure, style_of
from naruto_vision.synthetic.look import Expression, Look, random_look
from naruto_vision.synthetic.raster import Shading, Style, positions, render
from naruto_vision.synthetic.sketch import MAX_INKS, PARTS, Sketch, at, box, turn

_QUICK = settings(max_examples=15, deadline=None, derandomize=True)
_RED, _BLUE = (250, 10, 10), (10, 10, 250)


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


def test_no_figure_needs_too_many_inks() -> None:
    rng = _rng(9)
    most = max(len(sketch_figure(random_attributes(rng), random_look(rng)).colours) for _ in range(300))
    assert most <= MAX_INKS


def test_flipping_mirrors_a_figure() -> None:
    who, look = random_attributes(_rng(5)), Look(facing=0.5, tilt=5.0)
    one, other = sketch_figure(who, look), sketch_figure(who, replace(look, flip=True))
    assert positions(one)[0].min() == pytest.approx(-positions(other)[0].max())
    assert extent_of(one).height == pytest.approx(extent_of(other).height)


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
