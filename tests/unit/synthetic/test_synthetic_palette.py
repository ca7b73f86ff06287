"""Named colours, what light does to them, and small seeded choices."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.synthetic.attributes import Colour, EyeColour, HairColour, Skin
from naruto_vision.synthetic.palette import (
    CLOTH,
    EYES,
    HAIR,
    SKIN,
    WHITE,
    Rgb,
    any_colour,
    between,
    darker,
    lighter,
    mix,
    rotate_hue,
)

_CHANNEL = st.integers(0, 255)
_COLOUR = st.tuples(_CHANNEL, _CHANNEL, _CHANNEL)
_QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize(
    ("table", "names"),
    [(CLOTH, get_args(Colour)), (HAIR, get_args(HairColour)), (EYES, get_args(EyeColour)), (SKIN, get_args(Skin))],
)
def test_every_named_colour_has_a_value_of_its_own(table: dict[str, Rgb], names: tuple[str, ...]) -> None:
    assert set(table) == set(names)
    assert len(set(table.values())) == len(names)
    assert all(0 <= channel <= 255 for colour in table.values() for channel in colour)


@pytest.mark.parametrize("table", [CLOTH, HAIR, EYES, SKIN])
def test_no_two_colours_of_a_list_are_hard_to_tell_apart(table: dict[str, Rgb]) -> None:
    colours = np.array(list(table.values()), dtype=float)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert apart[~np.eye(len(colours), dtype=bool)].min() >= 40


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, (0, 100, 255)), (1.0, (200, 0, 255)), (0.5, (100, 50, 255)), (0.25, (50, 75, 255))],
)
def test_mixing_goes_from_the_one_to_the_other(share: float, expected: Rgb) -> None:
    assert mix((0, 100, 255), (200, 0, 255), share) == expected


@_QUICK
@given(one=_COLOUR, other=_COLOUR, share=st.floats(0, 1))
def test_a_mix_lies_between_its_colours(one: Rgb, other: Rgb, share: float) -> None:
    for a, b, mixed in zip(one, other, mix(one, other, share), strict=True):
        assert min(a, b) <= mixed <= max(a, b)


@_QUICK
@given(colour=_COLOUR)
def test_lighter_is_lighter_and_darker_ends_in_a_cool_dark(colour: Rgb) -> None:
    assert lighter(colour, 0.0) == darker(colour, 0.0) == colour
    assert lighter(colour, 1.0) == WHITE
    red, green, blue = darker(colour, 1.0)
    assert max(red, green, blue) < 80
    assert blue > red > green
    brighter = lighter(tuple(min(channel, 252) for channel in colour), 0.4)  # type: ignore[arg-type]  # three channels
    assert sum(brighter) >= sum(min(channel, 252) for channel in colour)


def test_shares_that_are_not_given_are_visible_but_not_the_whole_way() -> None:
    grey = (120, 120, 120)
    assert 20 < sum(grey) / 3 - sum(darker(grey)) / 3 < 60
    assert 20 < sum(lighter(grey)) / 3 - sum(grey) / 3 < 60


@_QUICK
@given(colours=st.lists(_COLOUR, min_size=1, max_size=4), degrees=st.floats(-90, 90))
def test_turning_the_hue_back_gives_the_colours_back(colours: list[Rgb], degrees: float) -> None:
    before = np.array(colours, dtype=np.float64)
    after = rotate_hue(rotate_hue(before, degrees), -degrees)
    assert after == pytest.approx(before, abs=0.01)


def test_a_turn_by_nothing_changes_nothing_and_three_thirds_come_round() -> None:
    colours = _rng(1).random((5, 3)) * 255
    assert rotate_hue(colours, 0.0) == pytest.approx(colours)
    third = colours
    for _ in range(3):
        third = rotate_hue(third, 120.0)
    assert third == pytest.approx(colours, abs=0.01)


@pytest.mark.parametrize(("degrees", "expected"), [(120.0, [0, 255, 0]), (240.0, [0, 0, 255]), (-120.0, [0, 0, 255])])
def test_red_turns_to_green_then_blue(degrees: float, expected: list[int]) -> None:
    assert rotate_hue(np.array([[255.0, 0.0, 0.0]]), degrees)[0] == pytest.approx(expected, abs=0.01)


def test_small_turns_keep_every_cloth_nearest_to_its_own_name() -> None:
    cloth = np.array(list(CLOTH.values()), dtype=np.float64)
    for degrees in (-10.0, -8.0, 8.0, 10.0):  # what looks and scenes turn by at most
        turned = rotate_hue(cloth, degrees)
        nearest = np.abs(turned[:, None] - cloth[None]).sum(axis=2).argmin(axis=1)
        assert nearest.tolist() == list(range(len(cloth)))


@_QUICK
@given(seed=st.integers(0, 1000), low=st.floats(-100, 100), width=st.floats(0.001, 50))
def test_between_stays_between(seed: int, low: float, width: float) -> None:
    rng = _rng(seed)
    values = [between(rng, low, low + width) for _ in range(20)]
    assert min(values) >= low
    assert max(values) <= low + width


def test_between_reaches_both_ends_and_moves_the_generator_by_one_number() -> None:
    values = [between(_rng(seed), 10.0, 20.0) for seed in range(200)]
    assert min(values) < 10.5
    assert max(values) > 19.5
    one, other = _rng(4), _rng(4)
    between(one, 0.0, 1.0)
    other.random()
    assert one.random() == other.random()


@pytest.mark.parametrize(("low", "high"), [(60, 245), (0, 2), (250, 255)])
def test_any_colour_keeps_its_bounds_channel_by_channel(low: int, high: int) -> None:
    rng = _rng(2)
    colours = np.array([any_colour(rng, low, high) for _ in range(300)])
    assert colours.min() == low
    assert colours.max() == high - 1
    assert (colours[:, 0] != colours[:, 1]).any()
    assert all(isinstance(channel, int) for channel in any_colour(rng))


def test_any_colour_is_neither_very_dark_nor_very_light_by_default() -> None:
    rng = _rng(3)
    colours = np.array([any_colour(rng) for _ in range(2000)])
    assert colours.min() == 60
    assert colours.max() == 244
