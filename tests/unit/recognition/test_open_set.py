"""Thresholds for an aim, p-values, thresholds from the gallery alone, and regions that hold what they name."""

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import remove_rows
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Aim, Thresholds, calibrate_thresholds
from naruto_vision.recognition.decision import (
    ScoredRegion,
    check_decision,
    recorded_rule,
    score_names,
    score_regions,
    thresholds_from,
)
from naruto_vision.recognition.open_set import gallery_thresholds, thresholds_of
from naruto_vision.records import Box, Identity, LabelledBox, Region, ScenePrediction

FACE = LabelledBox((20, 10, 39, 29), "a")


def scene(*found: tuple[Box, str, float]) -> ScenePrediction:
    regions = tuple(Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_)) for box, _, _ in found)
    return ScenePrediction("s.png", 100, 100, regions, tuple(Identity(label, score) for _, label, score in found))


@pytest.mark.parametrize(
    ("box", "label", "right"),
    [
        ((10, 5, 60, 95), "a", [True]),  # a figure around the face
        ((10, 5, 60, 95), "b", [False]),
        ((20, 13, 60, 95), "a", [True]),  # a figure that cuts off its forehead
        ((20, 20, 60, 95), "a", [False]),  # half of the face
        ((22, 12, 30, 20), "a", []),  # a part of the face
        ((0, 0, 99, 99), "a", [True]),
    ],
)
def test_a_region_that_holds_a_true_box_of_its_label_is_right(box: Box, label: str, right: list[bool]) -> None:
    assert [one.right for one in score_regions(scene((box, label, 0.5)), [FACE])] == right


def test_the_held_box_must_have_the_label_of_the_region() -> None:
    truth = [FACE, LabelledBox((70, 10, 89, 29), "b")]
    found = scene(((10, 5, 60, 95), "b", 0.5), ((0, 0, 99, 60), "b", 0.4))
    assert [one.right for one in score_regions(found, truth)] == [False, True]


def test_a_name_counts_once_in_a_scene_by_its_best_shown_score() -> None:
    found = scene(
        ((0, 0, 9, 9), "a", 0.4), ((20, 0, 29, 9), "a", 0.7), ((40, 0, 49, 9), "b", 0.6), ((0, 50, 9, 59), "a", 0.9)
    )
    assert score_names(found, [FACE], [0, 1, 2]) == [ScoredRegion("a", 0.7, True), ScoredRegion("b", 0.6, False)]
    assert score_names(found, [FACE], []) == []


SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
RIGHT = [True, True, True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("aim", "threshold"),
    [
        (Aim("precision", 0.8), 0.35),  # 5 of 6; at 0.55 it is 3 of 4
        (Aim("precision", 0.9), 0.65),
        (Aim("coverage", 0.8), 0.45),
        (Aim("coverage", 1.0), 0.35),
        (Aim("false_accept", 0.34), 0.35),
        (Aim("false_accept", 0.0), 0.65),
    ],
)
def test_the_threshold_is_the_one_of_the_aim(aim: Aim, threshold: float) -> None:
    found = calibrate_thresholds(SCORES, RIGHT, ["a"] * 8, aim=aim)
    assert found.default == pytest.approx(threshold)
    assert found.rule.startswith(f"{aim} on names of validation scenes; keeps ")


@pytest.mark.parametrize("aim", [Aim("precision", 0.9), Aim("false_accept", 0.2)])
def test_an_aim_that_is_not_reached_is_said(aim: Aim) -> None:
    found = calibrate_thresholds([0.9, 0.8, 0.7, 0.6], [False, True, True, False], ["a"] * 4, aim=aim)
    assert found.rule == (
        f"{aim} is not reached on names of validation scenes: largest f1 instead; "
        "keeps 2 of 2 right names, lets 1 of 2 wrong ones through"
    )
    assert found.default == pytest.approx(0.65)


def test_one_lucky_name_in_twenty_does_not_reach_an_aim() -> None:
    scores = np.linspace(0.9, 0.1, 40).tolist()
    right = [True, *[False, True] * 19, False]
    assert "is not reached" in calibrate_thresholds(scores, right, ["a"] * 40).rule


def test_an_aim_is_a_fraction() -> None:
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"model\.aim\.value: expected a fraction in \[0, 1\], found"):
            Aim(value=value)


@pytest.mark.parametrize(("count", "label"), [(20, "a"), (60, "rare"), pytest.param(400, "a", marks=pytest.mark.slow)])
def test_p_values_hold_their_level_over_200_repeats(count: int, label: str) -> None:
    rng = np.random.default_rng(3)
    low = {0.05: 0, 0.1: 0, 0.3: 0}
    for _ in range(200):
        labels = ["a"] * count + ["rare"] * 5  # too few for scores of their own
        seen = [
            ScoredRegion(name, float(score), True)
            for name, score in zip(labels, rng.beta(5, 2, count + 5), strict=True)
        ]
        wrong = [ScoredRegion("a", float(score), False) for score in rng.beta(2, 5, 30)]
        found = thresholds_from(seen + wrong, "vote", regions=seen + wrong)
        values = [found.p_value(label, float(score)) for score in rng.beta(5, 2, 10)]
        assert all(value is not None and 0 < value <= 1 for value in values)
        for level in low:
            low[level] += sum(value is not None and value <= level for value in values)
    for level, number in low.items():
        assert number / 2000 <= level + 3 * (level / 200) ** 0.5  # at most the level, up to chance
    assert low[0.3] / 2000 > 0.2  # and not far below it
    assert all(len(scores) <= 200 for scores in found.scores.values())


def test_classes_with_enough_right_regions_have_p_values_of_their_own() -> None:
    regions = [ScoredRegion("a", 0.5 + number / 100, True) for number in range(20)]
    regions += [ScoredRegion("b", 0.1, True)] * 19 + [ScoredRegion("c", 0.2, False)] * 30
    found = thresholds_from(regions, "vote", regions=regions)
    assert set(found.scores) == {"", "a"}
    assert found.p_value("a", 0.4) == pytest.approx(1 / 21)
    assert found.p_value("b", 0.4) == pytest.approx(20 / 40)
    assert Thresholds().p_value("a", 0.4) is None


def gallery(classes: str, per_class: int = 20, spread: float = 0.25, **kwargs: object) -> Gallery:
    rng = np.random.default_rng(0)
    labels = [name for name in classes for _ in range(per_class)]
    vectors = np.eye(12)[[classes.index(name) for name in labels]] + spread * rng.normal(size=(len(labels), 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [GalleryRow(f"{number}.png", label) for number, label in enumerate(labels)]
    return Gallery.build(vectors, rows, fingerprint="0" * 64, **kwargs)  # type: ignore[arg-type]  # of the test


@pytest.mark.parametrize("rule", ["vote", "centroid", "lda", "logreg"])
def test_a_gallery_alone_chooses_thresholds_and_says_what_they_keep(rule: str) -> None:
    found = gallery_thresholds(gallery("abcd"), rule)  # type: ignore[arg-type]  # one of the rules
    assert (found.source, found.decision) == ("gallery", rule)
    assert found.default is not None
    seen = found.counts[""]
    assert seen["tested"] == 80
    assert f"keeps {int(seen['right_kept'] or 0)} of {int(seen['right'] or 0)} right names" in found.rule
    assert "images of classes left out" in found.rule
    assert int(seen["right_kept"] or 0) >= 60
    assert int(seen["wrong_kept"] or 0) <= 9


@pytest.mark.parametrize(("classes", "count"), [("a", 19), ("ab", 9), ("abcd", 4)])
def test_small_galleries_choose_none(classes: str, count: int) -> None:
    found = gallery_thresholds(gallery(classes, count), "vote")
    assert not found.chosen
    assert "every region counts as known" in found.rule


def test_thresholds_of_the_gallery_follow_the_rule_and_the_rows_and_those_of_scenes_do_not() -> None:
    plain = gallery("abcd")
    own = gallery_thresholds(plain, "vote")
    built = gallery("abcd", thresholds=own)
    assert thresholds_of(built, "vote") is built.thresholds
    assert recorded_rule(built) == "vote"
    check_decision(built.thresholds, "centroid")  # is chosen again
    assert thresholds_of(built, "centroid") == gallery_thresholds(plain, "centroid")
    smaller = built.edited(remove_rows, range(40))
    assert smaller.stale_since is None
    assert thresholds_of(smaller, "vote") == gallery_thresholds(smaller, "vote") != own
    scenes = gallery("abcd", thresholds=Thresholds(0.5, decision="vote"))
    assert thresholds_of(scenes, "vote").default == 0.5
