"""When a region is shown with its surroundings, and when a describer is asked again."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import naruto_vision as nv
from naruto_vision.captioning.protocol import Describer, ImageRegion
from naruto_vision.errors import InputError

IMAGE = np.zeros((50, 50, 3), np.uint8)
MASK = np.eye(10, dtype=bool)


class Scripted(Describer):
    """Gives its answers one after another, and remembers what it was shown."""

    batch_size = 4

    def __init__(self, *answers: nv.Description) -> None:
        self.answers = list(answers)
        self.shown: list[tuple[nv.Region, bool]] = []

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"describer": "scripted"}

    def load(self) -> None:
        self.loaded = True

    def unload(self) -> None:
        self.loaded = False

    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[nv.Description]:
        self.shown += [(region, again) for _, region in items]
        return [self.answers.pop(0) for _ in items]


def region(iou: float = 0.9, stability: float = 0.9) -> nv.Region:
    return nv.Region((20, 20, 29, 29), MASK, iou, stability)


def test_a_good_answer_for_a_good_mask_is_asked_for_once() -> None:
    describer = Scripted(nv.Description("a hat"))
    [found] = nv.describe_regions(describer, [(IMAGE, region())])
    assert (found.description.text, found.asked, found.box_shown) == ("a hat", 1, False)
    assert np.array_equal(describer.shown[0][0].mask, MASK)


@pytest.mark.parametrize("poor", [region(iou=0.5), region(stability=0.5)])
def test_a_poor_mask_is_shown_as_its_box_with_surroundings(poor: nv.Region) -> None:
    describer = Scripted(nv.Description("a hat"))
    [found] = nv.describe_regions(describer, [(IMAGE, poor)])
    assert (found.asked, found.box_shown) == (1, True)
    [(shown, again)] = describer.shown
    assert (shown.box, bool(shown.mask.all()), again) == ((19, 19, 30, 30), True, False)


def test_only_what_is_empty_is_asked_again_with_a_growing_box() -> None:
    empty = nv.Description()
    describer = Scripted(nv.Description("a hat"), empty, empty, nv.Description("a cat"))
    rule = nv.AskingRule(attempts=3)
    good, weak = nv.describe_regions(describer, [(IMAGE, region()), (IMAGE, region())], rule)
    assert (good.asked, weak.asked, weak.description.text, weak.box_shown) == (1, 3, "a cat", True)
    assert [(shown.box, again) for shown, again in describer.shown[2:]] == [
        ((18, 18, 31, 31), True),
        ((16, 16, 33, 33), True),
    ]


def test_the_questions_are_bounded() -> None:
    describer = Scripted(*[nv.Description()] * 10)
    [found] = nv.describe_regions(describer, [(IMAGE, region())], nv.AskingRule(attempts=4))
    assert (found.asked, found.description.text, len(describer.shown)) == (4, "", 4)


def test_the_better_of_two_weak_answers_is_kept() -> None:
    rule = nv.AskingRule(score=0.8)
    for second, kept in ((0.3, "first"), (0.7, "second")):
        describer = Scripted(nv.Description("first", 0.5), nv.Description("second", second))
        [found] = nv.describe_regions(describer, [(IMAGE, region())], rule)
        assert (found.description.text, found.asked) == (kept, 2)


def test_a_failure_is_not_asked_for_again() -> None:
    describer = Scripted(nv.Description(error="the server answered 500"))
    [found] = nv.describe_regions(describer, [(IMAGE, region())])
    assert (found.asked, found.description.error) == (1, "the server answered 500")


def test_a_describer_is_loaded_inside_with_and_freed_after_an_error() -> None:
    describer = Scripted()
    loaded = []
    with suppress(RuntimeError), describer:
        loaded.append(describer.loaded)
        raise RuntimeError
    assert loaded == [True]
    assert not describer.loaded


@pytest.mark.parametrize("values", [{"attempts": 0}, {"attempts": 11}, {"quality": -0.1}, {"grow": -1.0}])
def test_a_rule_has_bounds(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected attempts from 1 to 10"):
        nv.AskingRule(**values)
