"""One reason for every object and every prediction: drawn cases, and sums that have to agree."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.metrics.evaluation import (
    OBJECT_REASONS,
    PREDICTION_REASONS,
    ReasonCounts,
    count_reasons,
    judge_scene,
)
from naruto_vision.metrics.scene import Matching, count_scene
from naruto_vision.records import UNKNOWN, Box, LabelledBox

FIGURE: Box = (20, 20, 39, 59)  # 20 x 40


def reasons(predictions: list[tuple[Box, str]], truths: list[tuple[Box, str]]) -> tuple[list[str], list[str]]:
    verdict = judge_scene([LabelledBox(*item, 0.5) for item in predictions], [LabelledBox(*item) for item in truths])
    return [item.reason for item in verdict.objects], [item.reason for item in verdict.predictions]


@pytest.mark.parametrize(
    ("predictions", "objects", "regions"),
    [
        ([(FIGURE, "a")], ["right"], ["right"]),
        ([(FIGURE, "b")], ["wrong name"], ["wrong name"]),
        ([(FIGURE, UNKNOWN)], ["unknown"], ["unknown"]),
        ([], ["missed"], []),
        ([((60, 20, 79, 59), "a")], ["missed"], ["background"]),
        ([((60, 20, 79, 59), UNKNOWN)], ["missed"], ["unnamed"]),
        ([((20, 20, 39, 30), "a")], ["missed"], ["part"]),  # a head alone does not make a figure
        ([((20, 20, 39, 38), "a"), ((20, 39, 39, 57), "b")], ["cut in parts"], ["part", "part"]),
        ([((20, 20, 39, 29), "a"), ((20, 30, 39, 38), "b")], ["missed"], ["part", "part"]),  # together below the bar
        ([((0, 0, 99, 99), "a")], ["swallowed"], ["too large"]),
        ([(FIGURE, "a"), ((20, 20, 39, 55), "a")], ["right"], ["right", "duplicate"]),
        ([(FIGURE, "a"), ((20, 20, 39, 55), UNKNOWN)], ["right"], ["right", "unnamed"]),
    ],
)
def test_every_box_gets_its_reason(predictions: list[tuple[Box, str]], objects: list[str], regions: list[str]) -> None:
    assert reasons(predictions, [(FIGURE, "a")]) == (objects, regions)


def test_an_object_whose_region_went_to_its_twin_is_swallowed() -> None:
    assert reasons([(FIGURE, "a")], [(FIGURE, "a"), ((20, 20, 39, 57), "b")]) == (["right", "swallowed"], ["right"])


def test_unknown_in_the_truth_can_be_right_and_can_be_misnamed() -> None:
    assert reasons([(FIGURE, UNKNOWN)], [(FIGURE, UNKNOWN)]) == (["right"], ["right"])
    assert reasons([(FIGURE, "a")], [(FIGURE, UNKNOWN)]) == (["wrong name"], ["wrong name"])


def test_parts_that_are_other_objects_do_not_count_as_parts() -> None:
    """Two children in front of a tall figure are found for themselves; the figure is not cut into them."""
    left, right = (20, 20, 28, 59), (31, 20, 39, 59)
    objects, _ = reasons([(left, "b"), (right, "c")], [(FIGURE, "a"), (left, "b"), (right, "c")])
    assert objects == ["missed", "right", "right"]


def test_a_box_lies_in_another_from_four_fifths_on() -> None:
    assert reasons([((12, 20, 51, 20), "a")], [(FIGURE, "a")])[1] == ["background"]  # 20 of 40 pixels
    assert reasons([((15, 20, 39, 20), "a")], [(FIGURE, "a")])[1] == ["part"]  # 20 of 25
    assert reasons([((14, 20, 39, 20), "a")], [(FIGURE, "a")])[1] == ["background"]  # 20 of 26


@st.composite
def boxes(draw: st.DrawFn) -> LabelledBox:
    x, y = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    box = (x, y, x + draw(st.integers(0, 30)), y + draw(st.integers(0, 30)))
    return LabelledBox(box, draw(st.sampled_from(["a", "b", UNKNOWN])), draw(st.none() | st.floats(0, 1)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(boxes(), max_size=7),
    st.lists(boxes(), max_size=5),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from(["box", "label"]),
)
def test_reasons_add_up_to_the_counts(
    predictions: list[LabelledBox], truths: list[LabelledBox], bar: float, matching: Matching
) -> None:
    verdict = judge_scene(predictions, truths, bar, matching)
    counts, found = count_scene(predictions, truths, bar, matching), count_reasons([verdict])
    assert [item.truth for item in verdict.objects] == truths
    assert [item.prediction for item in verdict.predictions] == predictions
    assert sum(found.objects.values()) == counts.objects == len(truths)
    assert sum(found.predictions.values()) == len(predictions)
    matched = sum(found.objects[reason] for reason in ("right", "wrong name", "unknown"))
    assert (found.objects["right"], matched) == (counts.right, counts.matched)
    silent = found.predictions["unknown"] + found.predictions["unnamed"]
    assert len(predictions) - silent == counts.predictions  # what precision is a share of
    assert Counter(item.answer is None for item in verdict.objects)[False] == matched
    assert all((item.iou > 0) <= (item.answer is not None) for item in verdict.objects)


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes(), max_size=7), st.lists(boxes(), max_size=5), st.sampled_from(["box", "label"]))
def test_reasons_mean_what_they_say(
    predictions: list[LabelledBox], truths: list[LabelledBox], matching: Matching
) -> None:
    """Against pixels that are drawn and counted."""
    pixels = [
        {(x, y) for x in range(b[0], b[2] + 1) for y in range(b[1], b[3] + 1)}
        for b in (item.box for item in [*predictions, *truths])
    ]
    guesses, objects = pixels[: len(predictions)], pixels[len(predictions) :]
    verdict = judge_scene(predictions, truths, 0.5, matching)
    for item, area in zip(verdict.predictions, guesses, strict=True):
        reaches = any(len(area & other) >= 0.5 * len(area | other) for other in objects)
        within = any(len(area & other) >= 0.8 * len(area) for other in objects)
        holds = any(len(area & other) >= 0.8 * len(other) for other in objects)
        facts = {"duplicate": (True,), "part": (False, True), "too large": (False, False, True)}
        facts["background"] = (False, False, False)
        if item.reason in facts:
            assert (reaches, within, holds)[: len(facts[item.reason])] == facts[item.reason]
    for verdict_of, area in zip(verdict.objects, objects, strict=True):
        held = any(
            len(area & other) >= 0.8 * len(area) or 2 * len(area & other) >= len(area | other) for other in guesses
        )
        if verdict_of.reason in {"swallowed", "missed"}:
            assert held == (verdict_of.reason == "swallowed")


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="'right': 1 objects but 0 predictions"):
        ReasonCounts(dict.fromkeys(OBJECT_REASONS, 0) | {"right": 1}, dict.fromkeys(PREDICTION_REASONS, 0))
