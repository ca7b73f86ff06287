"""COCO's AP against a loop that shares no code with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.metrics.evaluation import coco_average_precision
from naruto_vision.records import UNKNOWN, LabelledBox

Scenes = dict[str, list[LabelledBox]]


def overlap(one: LabelledBox, other: LabelledBox) -> float:
    pixels = [{(x, y) for x in range(b[0], b[2] + 1) for y in range(b[1], b[3] + 1)} for b in (one.box, other.box)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def class_precision(truth: Scenes, found: Scenes, label: str, threshold: float) -> float:
    """Rank by score, take each object once, and read precision at 101 recalls."""
    objects = {scene: [item for item in items if item.label == label] for scene, items in truth.items()}
    ranked = sorted(
        ((item, scene) for scene, items in found.items() for item in items if item.label == label),
        key=lambda pair: -(pair[0].score or 0.0),
    )
    taken: set[tuple[str, int]] = set()
    hits, curve = 0, []
    for rank, (item, scene) in enumerate(ranked, start=1):
        free = [
            (overlap(item, true), index)
            for index, true in enumerate(objects[scene])
            if (scene, index) not in taken and overlap(item, true) >= threshold
        ]
        if free:
            taken.add((scene, max(free)[1]))
            hits += 1
        curve.append((hits / sum(map(len, objects.values())), hits / rank))
    return sum(max((p for r, p in curve if r >= step / 100 - 1e-12), default=0.0) for step in range(101)) / 101


def oracle(truth: Scenes, found: Scenes, threshold: float) -> float:
    labels = sorted({item.label for items in truth.values() for item in items})
    return sum(class_precision(truth, found, label, threshold) for label in labels) / len(labels)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Scenes, Scenes]:
    """Up to four scenes; scores all differ, so that the ranking is the only one."""
    truth: Scenes = {}
    found: Scenes = {}
    scores = iter(draw(st.permutations(range(1, 40))))
    for scene in range(draw(st.integers(1, 4))):
        places = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        truth[str(scene)] = [LabelledBox((20 * p, 0, 20 * p + 9, 9), draw(st.sampled_from("ab"))) for p in places]
        found[str(scene)] = [
            LabelledBox((20 * p, 0, 20 * p + 9, draw(st.sampled_from([3, 4, 6, 7, 9]))), name, next(scores) / 40)
            for p in draw(st.lists(st.integers(0, 3), max_size=4))
            for name in draw(st.sampled_from(["a", "b", "ab"]))
        ]
    return truth, found


@settings(max_examples=25, deadline=None)
@given(scenes())
def test_average_precision_equals_a_plain_loop(case: tuple[Scenes, Scenes]) -> None:
    truth, found = case
    figures = coco_average_precision(truth, found)
    assert figures["AP50"] == pytest.approx(oracle(truth, found, 0.5), abs=1e-6)
    assert figures["AP75"] == pytest.approx(oracle(truth, found, 0.75), abs=1e-6)
    steps = [0.5 + 0.05 * step for step in range(10)]
    assert figures["AP"] == pytest.approx(
        sum(oracle(truth, found, threshold - 1e-9) for threshold in steps) / 10, abs=1e-6
    )


def test_corners_belong_to_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    """5 of 10 rows are half of the object, where corners that lie outside would make it 4 of 9."""
    truth = {"a": [LabelledBox((0, 0, 9, 9), "a")]}
    assert coco_average_precision(truth, {"a": [LabelledBox((0, 0, 9, 4), "a", 0.5)]})["AP50"] == pytest.approx(1.0)
    assert coco_average_precision(truth, {"a": [LabelledBox((0, 0, 9, 3), "a", 0.5)]})["AP50"] == 0.0
    assert coco_average_precision(truth, {"a": [LabelledBox((0, 0, 4, 9), "a", 0.5)]})["AP50"] == pytest.approx(1.0)
    assert capsys.readouterr().out == ""


def test_unknown_and_foreign_scenes_are_left_out_and_no_score_ranks_last() -> None:
    box = (0, 0, 9, 9)
    truth = {"a": [LabelledBox(box, "a")]}
    found = {"a": [LabelledBox(box, UNKNOWN, 0.9), LabelledBox(box, "a")], "b": [LabelledBox(box, "a", 1.0)]}
    assert coco_average_precision(truth, found)["AP"] == pytest.approx(1.0)
    found["a"].append(LabelledBox((40, 0, 49, 9), "a", 0.1))
    assert coco_average_precision(truth, found)["AP"] == pytest.approx(0.5)


def test_nothing_to_measure() -> None:
    assert coco_average_precision({"a": []}, {}) == {"AP": None, "AP50": None, "AP75": None}
    assert coco_average_precision({"a": [LabelledBox((0, 0, 1, 1), "a")]}, {}) == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
