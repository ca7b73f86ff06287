"""Parts become figures where the union fits one character better, on scores that are set by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from naruto_vision.recognition.merging import MergeConfig, common_pixels, merge_parts, touch, union_of
from naruto_vision.records import Box, Identity, Region


def region(box: Box, prompt: str = "") -> Region:
    return Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), dtype=np.bool_), 0.9, 0.8, prompt)


FACE, COAT, FAR = region((10, 0, 19, 9), "face"), region((5, 10, 24, 39), "coat"), region((60, 0, 69, 9), "far")


class Names:
    """Says of every union what it was told to, and counts how often it is asked."""

    def __init__(self, score: float, label: str = "a") -> None:
        self.score, self.label, self.asked = score, label, 0

    def __call__(self, regions: Sequence[Region]) -> list[Identity]:
        self.asked += 1
        return [Identity(self.label, self.score) for _ in regions]


def merged(names: Names, first: Identity, second: Identity, settings: MergeConfig | None = None) -> list[str]:
    identities = [first, second, Identity("c", 0.2)]
    regions, found = merge_parts([FACE, COAT, FAR], identities, names, settings or MergeConfig())
    assert len(regions) == len(found)
    return [one.prompt.name for one in regions]


def test_a_face_and_a_coat_become_one_figure_when_the_union_fits_better() -> None:
    assert merged(Names(0.8), Identity("a", 0.7), Identity("b", 0.5, known=False)) == ["coat + face", "far"]


def test_parts_stay_apart_when_the_union_fits_worse() -> None:
    assert merged(Names(0.69), Identity("a", 0.7), Identity("a", 0.5)) == ["coat", "face", "far"]
    assert merged(Names(0.74), Identity("a", 0.7), Identity("a", 0.5), MergeConfig(gain=0.05)) == [
        "coat",
        "face",
        "far",
    ]


def test_two_known_characters_are_never_put_together() -> None:
    names = Names(0.99)
    assert merged(names, Identity("a", 0.7), Identity("b", 0.7)) == ["coat", "face", "far"]
    assert names.asked == 0


def test_a_figure_of_three_parts_takes_two_rounds() -> None:
    legs = region((8, 40, 20, 60), "legs")
    scores = {"coat": 0.5, "face": 0.5, "legs": 0.5}

    def identify(regions: Sequence[Region]) -> list[Identity]:
        return [Identity("a", 0.5 + 0.1 * one.prompt.name.count("+")) for one in regions]

    parts = [FACE, COAT, legs]
    identities = [Identity("a", scores[one.prompt.name], known=False) for one in parts]
    whole, found = merge_parts(parts, identities, identify, MergeConfig())
    assert [one.area for one in whole] == [sum(one.area for one in parts)]
    assert found[0].score == pytest.approx(0.7)
    assert len(merge_parts(parts, identities, identify, MergeConfig(rounds=1))[0]) == 2
    assert len(merge_parts(parts, identities, identify, MergeConfig(rounds=0))[0]) == 3


def test_a_nested_part_is_no_candidate_and_goes_only_when_asked() -> None:
    button, names = region((10, 15, 13, 18), "button"), Names(0.99)
    identities = [Identity("a", 0.7), Identity("a", 0.6)]
    assert len(merge_parts([COAT, button], identities, names, MergeConfig())[0]) == 2
    assert names.asked == 0
    assert len(merge_parts([COAT, button], identities, names, MergeConfig(drop_nested=0.05))[0]) == 1
    assert len(merge_parts([COAT, button], identities, names, MergeConfig(drop_nested=0.2))[0]) == 2


def test_a_union_has_the_pixels_of_both() -> None:
    union = union_of(FACE, FAR)
    assert union.box == (10, 0, 69, 9)
    assert union.area == FACE.area + FAR.area
    whole = union.full_mask(50, 80)
    assert (whole == (FACE.full_mask(50, 80) | FAR.full_mask(50, 80))).all()


@pytest.mark.parametrize(("gap", "near"), [(0, False), (1, True), (3, True)])
def test_parts_touch_within_a_gap(gap: int, near: bool) -> None:
    assert touch(FACE, COAT, gap) is near
    assert touch(COAT, FACE, gap) is near
    assert not touch(FACE, FAR, gap)


def test_common_pixels_are_those_of_both_masks() -> None:
    assert common_pixels(COAT, region((20, 30, 40, 50))) == 5 * 10
    assert common_pixels(FACE, FAR) == 0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="merge: expected"):
        MergeConfig(nested=0.0)
