import numpy as np

from naruto_vision.recognition.calibration import score_regions
from naruto_vision.records import Box, Identity, LabelledBox, Region, ScenePrediction

TRUTH = (LabelledBox((10, 10, 49, 89), "a"),)


def judge(box: Box, label: str) -> list[bool]:
    mask = np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), dtype=np.bool_)
    scene = ScenePrediction("s", 100, 100, (Region(box, mask),), (Identity(label, 0.5),))
    return [record.right for record in score_regions(scene, TRUTH)]


def test_a_figure_under_its_own_label_is_right_and_under_another_wrong() -> None:
    assert judge((10, 10, 49, 89), "a") == [True]
    assert judge((12, 10, 49, 85), "b") == [False]


def test_background_is_wrong_whatever_its_label() -> None:
    assert judge((60, 10, 90, 40), "a") == [False]


def test_a_part_with_the_figure_s_own_label_says_nothing_but_with_another_it_is_wrong() -> None:
    assert judge((15, 10, 44, 39), "a") == []
    assert judge((15, 10, 44, 39), "b") == [False]
