"""Where a run is weak, and how scores agree with what is right."""

import numpy as np
import pytest

from naruto_vision.metrics.evaluation import judge_scene
from naruto_vision.metrics.slices import find_slices, reliability
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import LabelledBox


def box(x: int, side: int, label: str) -> LabelledBox:
    return LabelledBox((x, 0, x + side - 1, side - 1), label, 0.9)


def scenes(small_right: int, of: int = 30) -> list[list[tuple[LabelledBox, bool]]]:
    """One small, one medium and one large object a scene, of which only small ones are missed."""
    return [
        [(box(0, 10, "Koba"), n < small_right), (box(50, 30, "Odran"), True), (box(100, 60, "Koba"), True)]
        for n in range(of)
    ]


def slices_of(found: list[list[tuple[LabelledBox, bool]]]) -> dict[tuple[str, str], "tuple[Rate, Rate, bool]"]:
    verdicts = [judge_scene([one for one, right in scene if right], [one for one, _ in scene]) for scene in found]
    return {(one.by, one.name.split(" (")[0]): (one.right, one.rest, one.weak) for one in find_slices(verdicts)}


def test_small_objects_are_found_to_be_weak_with_their_counts() -> None:
    found = slices_of(scenes(10))
    assert found["size", "small"] == (Rate(10, 30), Rate(60, 60), True)
    assert found["size", "large"] == (Rate(30, 30), Rate(40, 60), False)
    assert not found["label", "Odran"][2]


def test_chance_is_no_weakness() -> None:
    assert not any(weak for *_, weak in slices_of(scenes(28)).values())


def test_overlapping_and_crowded_objects_are_parts() -> None:
    alone = [[(box(0, 20, "Koba"), True)] for _ in range(20)]
    pairs = [[(box(0, 20, "Koba"), False), (box(10, 20, "Odran"), False)] for _ in range(20)]
    found = slices_of(alone + pairs)
    assert found["overlap", "beside or behind another"] == (Rate(0, 40), Rate(20, 20), True)
    assert found["objects in the scene", "2 to 3"][0] == Rate(0, 40)
    assert ("size", "large") not in found or found["size", "large"][0].total < 60


def test_without_objects_there_are_no_parts() -> None:
    assert find_slices([judge_scene([], [])]) == []


def test_names_are_divided_by_score_into_equal_bins() -> None:
    random = np.random.default_rng(0)
    scores = random.random(100).tolist()
    bins = reliability(scores, [score > 0.5 for score in scores])
    assert [one.right.total for one in bins] == [20] * 5
    assert bins[0].right.count == 0
    assert bins[-1].right.count == 20
    assert bins[0].high <= bins[1].low
    assert bins[-1].high == pytest.approx(max(scores))


def test_few_names_have_few_bins() -> None:
    assert [one.right for one in reliability([0.2, 0.1], [True, False])] == [Rate(0, 1), Rate(1, 1)]
    assert reliability([], []) == []
