import numpy as np
import pytest

from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.decision import Rule, decide, score_regions
from naruto_vision.recognition.heads import Head
from naruto_vision.records import Box, Identity, LabelledBox, Neighbour, Region, ScenePrediction
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay


def region(box: Box) -> Region:
    return Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), dtype=np.bool_))


def scene(*found: tuple[Box, str, float, bool]) -> ScenePrediction:
    regions = tuple(region(box) for box, _, _, _ in found)
    identities = tuple(Identity(label, score, known) for _, label, score, known in found)
    return ScenePrediction("s.png", 100, 100, regions, identities)


ROWS = (Neighbour(0, "a", 0.9), Neighbour(1, "a", 0.8), Neighbour(2, "b", 0.7))


def test_the_nearest_row_names_the_region_and_the_margin_is_to_another_label() -> None:
    identity = decide(ROWS, Thresholds(None))
    assert (identity.label, identity.score, identity.known) == ("a", 0.9, True)
    assert identity.margin == pytest.approx(0.2)


def test_a_score_below_the_threshold_is_unknown_but_keeps_its_label() -> None:
    identity = decide(ROWS, Thresholds(0.95))
    assert (identity.label, identity.name) == ("a", "unknown")


def test_a_score_on_the_threshold_is_known() -> None:
    assert decide(ROWS, Thresholds(0.9)).known


def test_one_label_alone_has_no_margin() -> None:
    assert decide(ROWS[:2], Thresholds(None)).margin is None


def test_near_rows_outvote_the_nearest_one() -> None:
    rows = (Neighbour(0, "a", 0.90), Neighbour(1, "b", 0.89), Neighbour(2, "b", 0.88))
    identity = decide(rows, Thresholds(None))
    assert (identity.label, identity.score) == ("b", 0.89)
    assert identity.margin == pytest.approx(-0.01)


def test_a_crowd_of_far_rows_does_not_outvote_a_near_one() -> None:
    rows = (Neighbour(0, "a", 0.9), *(Neighbour(i, "b", 0.7) for i in range(1, 20)))
    assert decide(rows, Thresholds(None)).label == "a"


def test_equal_votes_go_to_the_first_row() -> None:
    rows = (Neighbour(0, "a", 0.9), Neighbour(1, "b", 0.9))
    assert decide(rows, Thresholds(None)).label == "a"


def test_no_neighbour_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one neighbour"):
        decide((), Thresholds(None))


def test_nms_keeps_the_better_of_two_overlapping_regions() -> None:
    found = scene(
        ((0, 0, 49, 49), "a", 0.7, True), ((5, 5, 49, 49), "b", 0.9, True), ((60, 60, 80, 80), "c", 0.5, True)
    )
    assert choose_for_overlay(found, OverlayConfig()) == (1, 2)


def test_an_unknown_part_never_hides_a_named_figure() -> None:
    found = scene(((0, 0, 49, 49), "a", 0.6, True), ((5, 5, 49, 49), "b", 0.99, False))
    assert choose_for_overlay(found, OverlayConfig()) == (0,)


def test_threshold_top_k_and_unknown_filters() -> None:
    found = scene(((0, 0, 9, 9), "a", 0.9, True), ((20, 0, 29, 9), "b", 0.4, True), ((40, 0, 49, 9), "c", 0.8, False))
    assert choose_for_overlay(found, OverlayConfig(min_score=0.5)) == (0, 2)
    assert choose_for_overlay(found, OverlayConfig(top_k=1)) == (0,)
    assert choose_for_overlay(found, OverlayConfig(show_unknown=False)) == (0, 1)


def test_topk_rows_vote_and_top1_takes_the_nearest() -> None:
    rows = (Neighbour(0, "a", 0.90), Neighbour(1, "b", 0.89), Neighbour(2, "b", 0.88))
    assert decide(rows, Thresholds(None), "vote").label == "b"
    rules: tuple[Rule, ...] = ("top1", "max")
    for rule in rules:
        identity = decide(rows, Thresholds(None), rule)
        assert (identity.label, identity.score) == ("a", 0.90)
        assert identity.margin == pytest.approx(0.01)


def test_mean_and_prototype_of_whole_classes() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    rules: tuple[Rule, ...] = ("mean", "prototype")
    query = np.array([[0.6, 0.8]], dtype=np.float32)
    mean, prototype = (Head.fit(rule, vectors, ["a", "a", "b"]).by_label(query)[0] for rule in rules)
    assert mean == pytest.approx({"a": 0.7, "b": 0.96})  # (0.6 + 0.8) / 2
    assert prototype == pytest.approx({"a": 1.4 / 2**0.5, "b": 0.96})
    assert decide(ROWS, Thresholds(None), "mean", mean).label == "b"
    identity = decide(ROWS, Thresholds(0.95), "prototype", prototype)
    assert (identity.label, identity.known) == ("a", True)
    assert identity.margin == pytest.approx(1.4 / 2**0.5 - 0.96)
    with pytest.raises(ValueError, match="scores of all classes"):
        decide(ROWS, Thresholds(None), "mean")


def test_a_low_cosine_is_called_unknown() -> None:
    assert [decide(ROWS, Thresholds(bar)).name for bar in (0.9, 0.91)] == ["a", "unknown"]


TRUTH = (LabelledBox((10, 10, 49, 89), "a"),)


def judge(box: Box, label: str) -> list[bool]:
    scene = ScenePrediction("s", 100, 100, (region(box),), (Identity(label, 0.5),))
    return [record.right for record in score_regions(scene, TRUTH)]


def test_a_figure_under_its_own_label_is_right_and_under_another_wrong() -> None:
    assert judge((10, 10, 49, 89), "a") == [True]
    assert judge((12, 10, 49, 85), "b") == [False]


def test_background_is_wrong_whatever_its_label() -> None:
    assert judge((60, 10, 90, 40), "a") == [False]


def test_a_part_with_the_figure_s_own_label_says_nothing_but_with_another_it_is_wrong() -> None:
    assert judge((15, 10, 44, 39), "a") == []
    assert judge((15, 10, 44, 39), "b") == [False]
